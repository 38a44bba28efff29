"""The model card: what each stand-in is and how often the target accepts its drafts, measured by running them.

Acceptance is measured twice, as the two numbers answer two questions. `sum min(p, q)`, averaged over the positions of
answers that the target itself gave, is the chance that a token drafted there is accepted (Leviathan et al., Corollary
3.6). `accepted / drafted` is what a synchronous run with five drafted tokens really gets: tokens behind a rejection
count as drafted, so it is lower.
"""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hilsim.describe.conversation import Conversation
from hilsim.describe.load import load_setup
from hilsim.errors import CheckpointError, Fault
from hilsim.files import written
from hilsim.measure.metrics import deliveries, speculation
from hilsim.networks.fake_quantised import logits_of
from hilsim.networks.network import Network, load_network, network_of
from hilsim.places import DATA
from hilsim.progress import Notify
from hilsim.sampling.distribution import distribution_of
from hilsim.sampling.logits import require_finite
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.live import LiveSource, load_stand_ins
from hilsim.text.tokenizer import ChatTokenizer, load_tokenizer
from hilsim.training.corpus import CorpusDialogue, Tokens, read_dialogues, stream
from hilsim.training.head_acceptance import HeadAcceptance, measured, table
from hilsim.training.heads import FOLDER, HEADS
from hilsim.training.recipe import DRAFTS, ENTRIES, FULL, TARGET, mean_loss

SCENARIO = DATA / "scenarios" / "orin_8295_greedy.yaml"
TEMPERATURES = (0.0, 0.7)
PARTS = ("in", "shift")
DRAFTED = 5
HEAD_DIALOGUES, HEAD_TEMPERATURES = 12, (0.0, 1.0)


INTRODUCTION = """\
# Stand-in models

Small Llama-architecture networks that make the logits, while the deployed models' shapes (`*.yaml` here) set times
and bytes. Hugging Face folders; `transformers` loads them unchanged. Written by `python -m hilsim card`.

**This corpus is regular, so small drafts are accepted more often than in real use.** Its dialogues were outlined by a
simulator and phrased in writing: real drivers' speech is less predictable, and real pairs of models (68M to 1B
drafting for 3B to 13B) show 0.5 to 0.75 in open chat. Take an acceptance from here as the upper end of the range.

## Size and loss

Validation loss in nats per token over whole dialogues (300 `in`, 300 `shift`). `in`: services seen in training;
`shift`: mostly services that training never saw.
"""
ACCEPTANCE = """
## Acceptance

{dialogues} test dialogues a part; the passenger's words are the corpus', the answers the target's own.
`sum min(p, q)`: mean chance that a drafted token is accepted at a position of those answers.
`accepted / drafted`: of synchronous speculation with {drafted} drafted tokens, where all that was drafted behind a
rejection counts as drafted. `shift` is accepted more often than `in` although its loss is higher: on services that it
never saw the target tends to fall back on stock phrases, which are easy to draft.
"""
HEADED = """
## Draft heads

Small networks over the target's hidden states (`heads/`; hilsim/networks/draft_head.py has the formulas). Conditional
acceptance of the first, second, ... of {drafted} drafted tokens in chains, over {dialogues} test dialogues, part `in`:
greedy at temperature 0, by the ratio rule at 1. One more token a round is the target's own. `eagle3` proposes the
{entries:,} most frequent tokens alone. `medusa` and `block` propose all of a round in one pass.

"""
MADE = """
## How they were made

`python -m hilsim train --out DIR` trains all of it from seed 1: a byte-level BPE tokenizer of {entries:,} entries; the
target on {epochs} passes over the corpus (`corpus/train.jsonl.gz`); then all three drafts at once, on {share} % of the
corpus and {spoken:,} tokens that the target itself wrote, against the target's distributions (forward KL, weight 0.7)
and the tokens (0.3); then all draft heads at once, on the {spoken:,} tokens alone (forward KL at every drafted token,
over their own output as in a round). Loss curves: `training-target.csv`, `training-drafts.csv`, `training-heads.csv`;
the columns `train_i` and `valid_i` are smoothed training loss and validation loss of network i (drafts in the order 2m,
0.8m, 0.2m, their training loss the mixed one; heads in the order {heads}; seconds are wall time).
The shipped run took 46 minutes for the target on two cores that were shared with other work, 2 for its text and 21 for
the drafts on one core, and 18 for the heads on a share of one (4 of its own time); the first 200 of their 511 steps
also saw 4 % of the corpus.

## Licence

Corpus and weights derive from Schema-Guided Dialogue (Rastogi et al., AAAI 2020) and are under CC BY-SA 4.0; see
`corpus/README.md` and `corpus/LICENSE-SGD-CC-BY-SA-4.0.txt`. `corpus/commands.jsonl.gz` derives from CLINC150
(Larson et al., EMNLP-IJCNLP 2019) and is under CC BY 3.0: `corpus/LICENSE-CLINC150-CC-BY-3.0.txt`.
"""


@dataclass(frozen=True)
class MeasuredAcceptance:
    """One draft on one part at one temperature."""

    sum_min: float
    accepted_over_drafted: float
    tokens: int


def write_card(models: Path, dialogues: int, notify: Notify) -> None:
    """Measure every stand-in under `models` and write `models`/README.md."""
    tokenizer = load_tokenizer(models / TARGET)
    networks = {name: load_network(models / name) for name in (TARGET, *DRAFTS)}
    losses: dict[tuple[str, str], float] = {}
    for part in PARTS:
        sequences = stream(read_dialogues(DATA / "models/corpus/valid.jsonl.gz", part), tokenizer)
        for name, network in networks.items():
            losses[name, part] = mean_loss(network, sequences)
            if not math.isfinite(losses[name, part]):
                found_loss = f"a validation loss of {losses[name, part]} on part {part}"
                raise CheckpointError([Fault(str(models / name), "", found_loss, "a finite one", "Train it again.")])
            notify(f"{name}, {part}: validation loss {losses[name, part]:.3f}")
    found: dict[tuple[str, str, float], MeasuredAcceptance] = {}
    for part in PARTS:
        asked = read_dialogues(DATA / "models/corpus/test.jsonl.gz", part)[:dialogues]
        for temperature in TEMPERATURES:
            for name in DRAFTS:
                found[name, part, temperature] = measure(models, name, asked, temperature)
                notify(f"{name}, {part}, temperature {temperature:g}: {found[name, part, temperature]}")
    heads = measured_heads(models, networks[TARGET], tokenizer, notify)
    with written(models / "README.md") as path:
        path.write_text(card(networks, losses, found, heads, dialogues), encoding="utf-8")


def measured_heads(models: Path, target: Network, tokenizer: ChatTokenizer, notify: Notify) -> list[HeadAcceptance]:
    """Every draft head under `models`, at both temperatures."""
    dialogues = read_dialogues(DATA / "models/corpus/test.jsonl.gz", "in")[:HEAD_DIALOGUES]
    asked = [Conversation(one.id, tuple(turn.text for turn in one.turns if turn.role == "user")) for one in dialogues]
    found = []
    for kind in HEADS:
        for temperature in HEAD_TEMPERATURES:
            one = measured(models / FOLDER / kind, target, tokenizer, asked, temperature, DRAFTED)
            found.append(one)
            notify(f"{kind} head, temperature {temperature:g}: {one.tokens_a_round:.2f} tokens a round")
    return found


def measure(models: Path, draft: str, asked: list[CorpusDialogue], temperature: float) -> MeasuredAcceptance:
    """Let the target answer `asked` with `draft` drafting, then compare both distributions along the answers."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for dialogue in asked:
            questions = [turn.text for turn in dialogue.turns if turn.role == "user"]
            file.write(json.dumps({"id": dialogue.id, "turns": questions}) + "\n")
        file.flush()
        setup = load_setup(  # acceptance alone: no time is measured, so nothing has to compile
            SCENARIO,
            [
                f"target.stand_in={(models / TARGET).resolve()}",
                f"draft.stand_in={(models / draft).resolve()}",
                f"workload.conversations={file.name}",
                f"workload.count={len(asked)}",
                f"policy.draft_tokens={DRAFTED}",
                f"sampling.temperature={temperature}",
                f"accept={'greedy' if temperature == 0 else 'ratio'}",
                f"payload={'token_ids' if temperature == 0 else 'full_rows'}",
            ],
        )
    stand_ins = load_stand_ins(setup)
    assert stand_ins.draft is not None
    networks = [network_of(weights) for weights in (stand_ins.target, stand_ins.draft)]
    source = LiveSource(stand_ins, setup.scenario.sampling, setup.scenario.context_tokens, setup.scenario.seed)
    trace = simulate(setup, source)
    total = count = 0.0
    for number, (tokens, answered) in enumerate(conversations_of(trace, source)):
        p_rows, q_rows = (logits_of(network, tokens) for network in networks)
        for position in answered:
            for role, rows in (("target", p_rows), ("draft", q_rows)):
                require_finite(rows[position - 1], role, number, position)
            p, q = (distribution_of(rows[position - 1], setup.scenario.sampling).dense() for rows in (p_rows, q_rows))
            total += float(np.minimum(p, q).sum())
            count += 1
    return MeasuredAcceptance(total / count, speculation(trace)["draft_acceptance_rate"], int(count))


def conversations_of(trace: Trace, source: LiveSource) -> list[tuple[Tokens, list[int]]]:
    """Every conversation of a run in tokens, and the positions at which the target chose."""
    rounds = deliveries(trace)
    found: dict[int, tuple[list[int], list[int]]] = {}
    for request in trace.requests:
        tokens, answered = found.setdefault(request.conversation, ([], []))
        prompt = source.prompt(request.conversation, request.turn, tokens)
        tokens[prompt.prefix_length :] = prompt.tokens
        answered[:] = [position for position in answered if position < prompt.prefix_length]
        for closed in rounds[request.number]:
            answered += range(len(tokens), len(tokens) + closed.emitted)
            tokens += closed.tokens
    return [(np.array(tokens), answered) for tokens, answered in found.values()]


def card(
    networks: dict[str, Network],
    losses: dict[tuple[str, str], float],
    found: dict[tuple[str, str, float], MeasuredAcceptance],
    heads: list[HeadAcceptance],
    dialogues: int,
) -> str:
    """The card as Markdown."""
    lines = [
        INTRODUCTION,
        "| model | parameters | layers x width | loss `in` | loss `shift` |",
        "| --- | ---: | --- | ---: | ---: |",
    ]
    for name, network in networks.items():
        shape = f"{network.config.layers} x {network.config.hidden_size}"
        both = " | ".join(f"{losses[name, part]:.3f}" for part in PARTS)
        lines.append(f"| `{name}` | {network.parameter_count:,} | {shape} | {both} |")
    lines += [
        ACCEPTANCE.format(dialogues=dialogues, drafted=DRAFTED),
        "| draft | part | temperature | mean of sum min(p, q) | accepted / drafted | answer tokens |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for (name, part, temperature), acceptance in found.items():
        lines.append(
            f"| `{name}` | `{part}` | {temperature:g} | {acceptance.sum_min:.3f} "
            f"| {acceptance.accepted_over_drafted:.3f} | {acceptance.tokens:,} |"
        )
    share = round(100 * FULL.distilled_corpus_share)
    spoken = FULL.spoken_rows * FULL.spoken_tokens
    lines += [*head_lines(heads), MADE.format(
        entries=ENTRIES, epochs=FULL.target.epochs, share=share, spoken=spoken, heads=", ".join(HEADS),
    )]  # fmt: skip
    return "\n".join(lines)


def head_lines(heads: list[HeadAcceptance]) -> list[str]:
    """The card's part on draft heads."""
    entries = HEADS["eagle3"].entries or ENTRIES
    return [HEADED.format(drafted=DRAFTED, dialogues=HEAD_DIALOGUES, entries=entries).rstrip("\n"), "", *table(heads)]
