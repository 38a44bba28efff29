"""What a precision costs in text: perplexity, acceptance and exact match of stand-ins whose numbers are rounded.

Perplexity is over dialogues of the shipped corpus that training never saw, every token after the first. Acceptance and
exact match are over the answers that the target in float32 gives, greedily, to a scenario's conversations. A rounded
target gives the same answer if and only if its likeliest token is the same at every position of it, so that one pass
over the text decides. Ranges of activations are those of other dialogues. Every interval is of 95 %, over conversations
drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hilsim.describe.chip import Precision
from hilsim.describe.cross_checks import require_simulated
from hilsim.describe.decoding import Greedy, Sampling, TokenIds
from hilsim.describe.load import load_setup
from hilsim.describe.policy import TargetOnly
from hilsim.describe.rounding import COMPARED, FLOAT, Rounding, rounding_of
from hilsim.describe.scenario import Conversations, Live
from hilsim.describe.setup import Placed, Setup
from hilsim.errors import Fault, InputError
from hilsim.places import DATA
from hilsim.sampling.distribution import distribution_of
from hilsim.sampling.logits import require_finite

if TYPE_CHECKING:
    from hilsim.networks.fake_quantised import InputStatistics
    from hilsim.networks.network import Network
    from hilsim.sources.live import StandIns

Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]
CORPUS = DATA / "models" / "corpus"
PARTS = ("in", "shift")
DIALOGUES = 12  # of each part, for perplexity
SEEN = 8  # dialogues that ranges of activations come from
DRAWS, SEED = 2000, 1


@dataclass(frozen=True)
class Share:
    """A ratio of sums by conversation, or e to its power, with its interval."""

    above: Floats  # (conversations,)
    below: Floats
    exponential: bool = False

    @property
    def value(self) -> float:
        return float(self.of(self.above.sum(), self.below.sum()))

    @property
    def interval(self) -> tuple[float, float]:
        """The middle 95 % over conversations drawn with replacement."""
        drawn = np.random.default_rng(SEED).integers(len(self.above), size=(DRAWS, len(self.above)))
        found = self.of(self.above[drawn].sum(1), self.below[drawn].sum(1))
        low, high = np.percentile(found, (2.5, 97.5))
        return float(low), float(high)

    def of(self, above: Floats | float, below: Floats | float) -> Floats:
        ratio: Floats = np.asarray(above, np.float64) / np.asarray(below, np.float64)
        found: Floats = np.exp(ratio) if self.exponential else ratio
        return found


@dataclass(frozen=True)
class Quality:
    """One rounding of one role: perplexity, and over that of float32; tokens and whole answers as in float32.

    `acceptance` is of the draft in `draft` (its rounding); None of a draft itself, or where there is no draft model
    over the same tokens.
    """

    role: str
    rounding: Rounding
    deployed: bool
    perplexity: Share
    against_float: Share
    tokens: Share
    answers: Share
    draft: Rounding | None = None
    acceptance: Share | None = None


@dataclass(frozen=True)
class Answered:
    """A conversation in tokens, with the positions of each of the target's answers."""

    tokens: npt.NDArray[np.int64]
    answers: tuple[range, ...]

    @property
    def before(self) -> npt.NDArray[np.int64]:
        """The positions whose logits choose the tokens of answers."""
        return np.array([position - 1 for answer in self.answers for position in answer])


@dataclass(frozen=True)
class Texts:
    """Dialogues for ranges, dialogues for perplexity, and the target's answers."""

    seen: tuple[npt.NDArray[np.int64], ...]
    dialogues: tuple[npt.NDArray[np.int64], ...]
    answered: tuple[Answered, ...]


class QualityMeasurement:
    """The stand-ins of a scenario, rounded one way after the other."""

    def __init__(self, setup: Setup, conversations: int, dialogues: int = DIALOGUES):
        """Raises `InputError` for a scenario without live stand-ins and conversations."""
        require_measurable(setup)
        from hilsim.networks.fake_quantised import inputs_of
        from hilsim.networks.network import network_of
        from hilsim.sources.live import load_stand_ins

        self.setup = replace(setup, conversations=setup.conversations[:conversations])
        self.stand_ins = load_stand_ins(in_float32(self.setup))
        self.texts = texts_of(self.setup, self.stand_ins, dialogues)
        self.networks = {role: network_of(weights) for role, weights in self.stand_ins.networks.items()}
        self.inputs: dict[str, Mapping[str, InputStatistics]] = {
            role: inputs_of(network, [tokens.tolist() for tokens in self.texts.seen])
            for role, network in self.networks.items()
        }
        self.answers = [logits_at(self.networks["target"], one) for one in self.texts.answered]
        self.kept: dict[str, Floats] = {}
        drafted = "draft" in self.networks and same_tokens(self.stand_ins)
        self.drafts = [logits_at(self.networks["draft"], one) for one in self.texts.answered] if drafted else None

    def __len__(self) -> int:
        """How many roundings `measured` gives."""
        return len(COMPARED) + 1 + 2 * ("draft" in self.networks)

    def measured(self) -> Iterator[Quality]:
        """The target in every rounding, then both as they are deployed, then the draft alone."""
        for rounding in COMPARED:
            yield self.of("target", rounding)
        deployed = {role: rounding_of(placed.precision, precision_of(placed)) for role, placed in self.placed.items()}
        yield self.of("target", deployed["target"], draft=deployed.get("draft"), deployed=True)
        if "draft" in self.networks:
            yield self.of("draft", FLOAT)
            yield self.of("draft", deployed["draft"], deployed=True)

    @property
    def placed(self) -> dict[str, Placed]:
        return {role: placed for role, placed in self.setup.roles.items() if role in self.networks}

    def of(self, role: str, rounding: Rounding, *, draft: Rounding | None = None, deployed: bool = False) -> Quality:
        """One rounding; of the target with the acceptance of a draft, in float32 where none is given."""
        network = self.rounded(role, rounding)
        kept = self.networks[role]
        floats = self.answers if role == "target" else [logits_at(kept, one) for one in self.texts.answered]
        rows = [logits_at(network, one) for one in self.texts.answered]
        for number, table in enumerate(rows):
            for row in table:
                require_finite(row, role, number, 0)
        perplexity = self.perplexity(network)
        same = [mine.argmax(1) == theirs.argmax(1) for mine, theirs in zip(rows, floats, strict=True)]
        found = Quality(
            role, rounding, deployed, perplexity, replace(perplexity, above=perplexity.above - self.losses(role)),
            Share(np.array([float(one.sum()) for one in same]), np.array([float(len(one)) for one in same])),
            whole_answers(self.texts.answered, same),
        )  # fmt: skip
        if role != "target" or self.drafts is None:
            return found
        drafts = self.drafts
        if draft is not None:
            other = self.rounded("draft", draft)
            drafts = [logits_at(other, one) for one in self.texts.answered]
        return replace(found, draft=draft or FLOAT, acceptance=self.acceptance(rows, drafts))

    def rounded(self, role: str, rounding: Rounding) -> Network:
        """A role's network, its numbers rounded."""
        from hilsim.networks.fake_quantised import rounded_network

        return rounded_network(self.networks[role], rounding, self.inputs[role])

    def losses(self, role: str) -> Floats:
        """The losses of a role's network in float32, by dialogue."""
        if role not in self.kept:
            self.kept[role] = self.perplexity(self.networks[role]).above
        return self.kept[role]

    def perplexity(self, network: Network) -> Share:
        """Of the dialogues, every token after the first."""
        from hilsim.networks.fake_quantised import logits_of

        losses, counts = [], []
        for tokens in self.texts.dialogues:
            rows = logits_of(network, tokens[:-1]).astype(np.float64)
            largest = rows.max(1, keepdims=True)
            totals = np.log(np.exp(rows - largest).sum(1)) + largest[:, 0]
            losses.append(float((totals - rows[np.arange(len(rows)), tokens[1:]]).sum()))
            counts.append(float(len(rows)))
        return Share(np.array(losses), np.array(counts), exponential=True)

    def acceptance(self, rows: Sequence[Logits], drafts: Sequence[Logits]) -> Share:
        """The mean of sum min(p, q) (Leviathan et al., Corollary 3.6) under the scenario's sampling."""
        sampling, sums, counts = self.setup.scenario.sampling, [], []
        for target, draft in zip(rows, drafts, strict=True):
            p, q = (distribution_of(table, sampling).dense() for table in (target, draft))
            sums.append(float(np.minimum(p, q).sum()))
            counts.append(float(len(target)))
        return Share(np.array(sums), np.array(counts))


def require_measurable(setup: Setup) -> None:
    """Raise `InputError` unless a scenario's text comes from stand-ins that run here."""
    require_simulated(setup, "quality")
    faults = []
    if setup.scenario.logits.source != "live":
        found, expected = f"{setup.scenario.logits.source} logits", "live logits of stand-ins, which can be rounded"
        faults.append(Fault(setup.file, "logits.source", found, expected))
    if not isinstance(setup.scenario.workload, Conversations):
        faults.append(Fault(setup.file, "workload", "requests by their lengths alone", "conversations to answer"))
    if faults:
        raise InputError(faults)


def load_measurable(file: Path, overrides: Sequence[str], conversations: int, dialogues: int) -> QualityMeasurement:
    """The measurement of a scenario over all conversations of its file, at most so many. Raises `InputError`."""
    setup = load_setup(file, overrides)
    require_measurable(setup)
    return QualityMeasurement(load_setup(file, [*overrides, "workload.count=null"]), conversations, dialogues)


def in_float32(setup: Setup) -> Setup:
    """The scenario with its stand-ins in float32 and caches of their own format."""
    roles = {
        role: replace(placed, placement=placed.placement.model_copy(update={"kv_cache": None}))
        for role, placed in setup.roles.items()
    }
    scenario = setup.scenario.model_copy(update={"logits": Live(source="live")})
    return replace(setup, scenario=scenario, target=roles["target"], draft=roles.get("draft"))


def precision_of(placed: Placed) -> Precision:
    return placed.unit.precisions[placed.precision]


def same_tokens(stand_ins: StandIns) -> bool:
    """Whether target and draft have rows over the same tokens."""
    return stand_ins.networks["target"].config.vocab_size == stand_ins.networks["draft"].config.vocab_size and all(
        columns.ids is None for columns in stand_ins.columns.values()
    )


def logits_at(network: Network, one: Answered) -> Logits:
    """Logits that choose the tokens of a conversation's answers, (tokens, vocabulary)."""
    from hilsim.networks.fake_quantised import logits_of

    return logits_of(network, one.tokens)[one.before]


def whole_answers(answered: Sequence[Answered], same: Sequence[npt.NDArray[np.bool_]]) -> Share:
    """The share of answers of which every token is the same."""
    above, below = [], []
    for one, tokens in zip(answered, same, strict=True):
        ends = np.cumsum([len(answer) for answer in one.answers])
        above.append(float(sum(bool(part.all()) for part in np.split(tokens, ends[:-1]))))
        below.append(float(len(one.answers)))
    return Share(np.array(above), np.array(below))


def texts_of(setup: Setup, stand_ins: StandIns, dialogues: int) -> Texts:
    """Everything that is measured on."""
    from hilsim.training.corpus import read_dialogues, stream

    most = min(network.config.max_positions for network in stand_ins.networks.values())

    def read(name: str, count: int) -> tuple[npt.NDArray[np.int64], ...]:
        both = [one for part in PARTS for one in read_dialogues(CORPUS / f"{name}.jsonl.gz", part)[:count]]
        return tuple(tokens[:most] for tokens in stream(both, stand_ins.tokenizer))

    return Texts(read("valid", SEEN // len(PARTS)), read("test", dialogues), answered_by(setup, stand_ins))


def answered_by(setup: Setup, stand_ins: StandIns) -> tuple[Answered, ...]:
    """The greedy answers of the target in float32, by conversation, cut where earlier turns are read again."""
    from hilsim.networks.packed import packed
    from hilsim.runs.record import conversations_of
    from hilsim.sampling.choices import Choices, Rules
    from hilsim.sources.answers import Answering, Limits

    scenario = setup.scenario
    assert isinstance(scenario.workload, Conversations)
    rules = Rules(Greedy(), TokenIds(), Sampling(temperature=0), "target")
    limits = Limits(scenario.context_tokens, scenario.workload.max_new_tokens, stand_ins.tokenizer.end_tokens)
    alone = replace(setup, scenario=scenario.model_copy(update={"policy": TargetOnly(name="target_only")}))
    conversations = conversations_of(alone, stand_ins.tokenizer)
    target = packed(stand_ins.target, scenario.context_tokens, 0, stand_ins.columns["target"])
    Answering([target], Choices(rules, scenario.seed, cached_positions=None), conversations, limits).answer(
        lambda: None
    )
    return tuple(
        Answered(
            np.array(piece.tokens, np.int64),
            tuple(range(len(one.before), len(one.before) + len(one.answer)) for one in piece.answered),
        )
        for conversation in conversations
        for piece in conversation.segments()
        if piece.answered
    )
