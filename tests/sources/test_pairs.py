"""Pairs whose tokenizers or heads differ: shared ids alone are proposed, the target's text and law stay its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from hilsim.describe.decoding import (
    Accept,
    BlockVerification,
    FullRows,
    GumbelMatch,
    Payload,
    RatioTest,
    SampleMatch,
    Sampling,
    Scalar,
    TokenIds,
    TopKRows,
)
from hilsim.describe.policy import TargetOnly
from hilsim.describe.vocabulary import Tokens, compared
from hilsim.errors import CheckpointError
from hilsim.measure.metrics import speculation
from hilsim.networks.config import NetworkConfig
from hilsim.networks.network import Network, load_network, save_network
from hilsim.places import CODE as PROJECT
from hilsim.runs.record import record_stand_ins
from hilsim.sampling.choices import Rules
from hilsim.sampling.logits import Logits
from hilsim.sim.run import simulate
from hilsim.sources.live import LiveSource, StandIns, load_stand_ins
from hilsim.sources.transcript import TranscriptSource
from hilsim.text.pairs import CommonVocabulary, translated
from hilsim.text.tokenizer import load_tokenizer
from hilsim.training.fitting import initialise, round_to_half
from tests.scenes import shipped
from tests.sources.test_live import answers
from tests.toy import DRAFT, TARGET, Quick, Table, alone, counted, enumerated, p_value, told

STANDS, FALLS = 1e-4, 1e-10  # as in test_exact
WARM = Sampling(temperature=1.0)
RULES: list[tuple[Accept, Payload]] = [
    (RatioTest(), FullRows()),
    (RatioTest(), Scalar()),
    (RatioTest(), TopKRows(k=2)),
    (GumbelMatch(), TokenIds()),
    (SampleMatch(), TokenIds()),
    (BlockVerification(), FullRows()),
]
SHAPES = {
    "the last id is not the draft's": CommonVocabulary(3),
    "a hole": CommonVocabulary(4, (1,)),
    "both": CommonVocabulary(3, (0,)),
    "other ids": CommonVocabulary(4, (1,), ids=(3, 0, 0, 2)),
}


class Narrow(Table):
    """A draft that knows less than the target: its rows as a live source hands them out."""

    def __init__(self, columns: CommonVocabulary):
        super().__init__(TARGET, DRAFT)
        self.columns = columns

    def draft_row(self, conversation: int, tokens: Sequence[int], verified: int) -> Logits:
        return self.columns.masked(super().draft_row(conversation, tokens, verified)[: self.columns.width])


CASES = [(*rules, "both") for rules in RULES] + [(*RULES[0], shape) for shape in SHAPES if shape != "both"]


@pytest.mark.parametrize(("accept", "payload", "shape"), CASES)
def test_sequences_follow_the_target_whatever_the_draft_lacks(accept: Accept, payload: Payload, shape: str) -> None:
    decisions = Quick(Rules(accept, payload, WARM), Narrow(SHAPES[shape]))
    counts = counted(decisions, samples=2_500)
    assert p_value(counts, enumerated(decisions.target_after)) > STANDS
    text = decisions.rules.guarantee.level == "text"
    for request in range(30 if text else 0):
        assert told(decisions, request, 2) == alone(decisions, request)


def test_a_target_cut_to_the_shared_ids_would_be_caught() -> None:
    """The negative control: what cutting both rows alike emits is another distribution."""

    class Cut(Narrow):
        def target_rows(self, conversation: int, tokens: Sequence[int], count: int) -> Sequence[Logits]:
            return [row[: self.columns.entries] for row in super().target_rows(conversation, tokens, count)]

    counts = counted(Quick(Rules(RatioTest(), FullRows(), WARM), Cut(CommonVocabulary(3))), samples=2_500)
    whole = Quick(Rules(RatioTest(), FullRows(), WARM), Narrow(CommonVocabulary(3)))
    assert p_value(counts, enumerated(whole.target_after)) < FALLS


# The rule for tokenizers.

MARKS = {4: "<s>", 5: "<end>", 6: "<r0>", 7: "<r1>"}
TEXTS = {0: "a", 1: "b", 2: "c", 3: "d"}
OURS = Tokens(TEXTS | MARKS, frozenset(MARKS))


def theirs(**changes: str | None) -> Tokens:
    """The draft's ids, some with another text or none; underscores stand before numbers."""
    texts = {**OURS.texts, **{int(name[1:]): text for name, text in changes.items()}}
    kept = {token: text for token, text in texts.items() if text is not None}
    return Tokens(kept, frozenset(token for token in kept if token >= 4))


@pytest.mark.parametrize(
    ("draft", "shared", "words"),
    [
        (theirs(), range(8), []),
        (theirs(_7="<pad>"), range(7), ["7 ('<r1>' to the target, '<pad>' to the draft)"]),
        (theirs(_6=None, _7=None), range(6), ["the draft lacks, and never proposes: 6 ('<r0>'), 7 ('<r1>')"]),
        (theirs(_8="<think>"), range(8), ["the target lacks, and is never sent: 8 ('<think>')"]),
        (theirs(_6="<r1>", _7="<r0>"), range(6), ["6 ('<r0>' to the target, '<r1>' to the draft)"]),
    ],
    ids=["alike", "a reserved name", "a longer target", "a longer draft", "reserved names swapped"],
)
def test_what_nothing_uses_may_differ_and_is_named(draft: Tokens, shared: Sequence[int], words: list[str]) -> None:
    pair = compared(OURS, draft)
    assert not pair.faults("file", "place", {4, 5})
    assert [token for token, both in enumerate(pair.shared(9)) if both] == list(shared)
    assert pair.same == (not words) == (not pair.notes())
    assert all(any(word in note for note in pair.notes()) for word in words)


@pytest.mark.parametrize(
    ("draft", "words"),
    [
        (theirs(_2="C"), "2 ('c' to the target, 'C' to the draft)"),
        (theirs(_5="<r1>", _7="<end>"), "'<end>' is 5 to the target and 7 to the draft"),
        (theirs(_7="<pad>"), "7 ('<r1>' to the target"),
        (Tokens({9: "z"}, frozenset()), "none of them the target's"),
    ],
    ids=["a piece of text", "the end moved", "a mark that prompts have", "nothing shared"],
)
def test_what_is_in_use_may_not_differ(draft: Tokens, words: str) -> None:
    (fault,) = compared(OURS, draft).faults("file", "place", {4, 5, 7})
    assert words in fault.found


# Networks.


def speaker(folder: Path, vocab_size: int, layers: int, marks: dict[int, str]) -> Path:
    """A random network of the shipped tokenizer with marks added at its end."""
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "heads": 4, "kv_heads": 2, "head_dim": 8}
    network = Network(NetworkConfig(vocab_size=vocab_size, layers=layers, max_positions=512, **sizes))
    network.eval().requires_grad_(False)
    initialise(network, vocab_size)
    for parameter in network.parameters():
        parameter.mul_(4.0)
    round_to_half(network)
    end = json.loads((PROJECT / "models/target/config.json").read_text())["eos_token_id"]
    save_network(network, folder, end_token=end, begin_token=1, pad_token=0)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(PROJECT / "models/target" / name, folder / name)
    document = json.loads((folder / "tokenizer.json").read_text())
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document["added_tokens"] += [{"id": token, "content": text, **plain} for token, text in marks.items()]
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


def pair_of(folder: Path, target: tuple[int, dict[int, str]], draft: tuple[int, dict[int, str]]) -> list[str]:
    """Overrides of a run with two random networks: sizes of vocabulary, and marks."""
    places = {"target": speaker(folder / "t", target[0], 2, target[1])}
    places["draft"] = speaker(folder / "d", draft[0], 1, draft[1])
    few = ["networks=[]", "workload.count=2", "workload.max_turns=2", "workload.max_new_tokens=12"]
    told = [f"{role}.stand_in={place}" for role, place in places.items()]
    return [*few, *told, "context_tokens=256", "logits.dtype=float64"]


LONGER = {2048 + number: f"<mark {number}>" for number in range(400)}
PAIRS = {
    "a longer target": ((2560, LONGER), (2048, {})),
    "a longer draft": ((2048, {}), (2448, LONGER)),
    "padded heads": ((2496, {}), (2064, {})),
    "a reserved name": ((2056, {2048: "<|reserved|>"}), (2056, {2048: "<|vacant|>"})),
    "a padding id beyond the head": ((2048, {2048: "[PAD]"}), (2048, {})),
}
RATIO = ["accept=ratio", "payload=full_rows", "sampling={temperature: 1.5}"]


def source_of(stand_ins: StandIns, overrides: list[str]) -> LiveSource:
    scenario = shipped("orin_8295_greedy", *overrides).scenario
    rules = (scenario.sampling, scenario.context_tokens, scenario.seed, scenario.accept, scenario.payload)
    return LiveSource(stand_ins, *rules)


@pytest.mark.parametrize("sizes", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("rules", [[], RATIO], ids=["greedy", "ratio"])
def test_runs_tell_the_targets_text_and_draft_shared_ids_alone(
    sizes: tuple[tuple[int, dict[int, str]], tuple[int, dict[int, str]]], rules: list[str], tmp_path: Path
) -> None:
    overrides = [*pair_of(tmp_path, *sizes), *rules]
    setup = shipped("orin_8295_greedy", *overrides)
    stand_ins = load_stand_ins(setup)
    columns, differs = stand_ins.columns, sizes[0][1] != sizes[1][1]
    assert bool(stand_ins.notes) == differs
    assert columns["target"].entries == min(sizes[0][0], 2048 + len(sizes[0][1]))
    assert columns["draft"].entries == 2048
    proposed: set[int] = set()

    class Watched(LiveSource):
        def draft(self, *asked: Any) -> Any:
            found = super().draft(*asked)
            proposed.update(found.tokens)
            return found

    source = source_of(stand_ins, overrides)
    source.__class__ = Watched
    spoken = answers(simulate(setup, source))
    assert spoken == answers(simulate(setup, source_of(stand_ins, overrides), TargetOnly(name="target_only")))
    assert max(proposed) < 2048
    if sizes[0][1] == LONGER and rules:  # random networks say ids of the tail as often as others
        assert max(max(answer) for answer in spoken) >= 2048


def test_a_recording_tells_what_the_live_pair_tells(tmp_path: Path) -> None:
    overrides = [*pair_of(tmp_path, *PAIRS["a longer target"]), *RATIO]
    setup = shipped("orin_8295_greedy", *overrides)
    stand_ins = load_stand_ins(setup)
    transcript = record_stand_ins(setup, stand_ins, 8)
    live = simulate(setup, source_of(stand_ins, overrides))
    replayed = simulate(setup, TranscriptSource(transcript, stand_ins.tokenizer))
    assert answers(replayed) == answers(live)
    assert replayed.spans == live.spans


def test_a_prompt_of_an_id_beyond_the_head_is_refused(tmp_path: Path) -> None:
    overrides = pair_of(tmp_path, *PAIRS["a padding id beyond the head"])
    config = tmp_path / "t" / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    settings["chat_template"] = "[PAD]" + settings["chat_template"]
    config.write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=r"id 2048 \('\[PAD\]'\) in a prompt"):
        load_stand_ins(shipped("orin_8295_greedy", *overrides))


# Another vocabulary: token-level intersection.


def test_tokens_are_matched_by_text_and_marks_by_marks() -> None:
    """Spaces as both kinds of tokenizer mark them; an id of the draft stands for one of the target alone."""
    ours = Tokens({0: "\u0120go", 1: "a", 2: "b", 3: "</s>", 4: "c", 5: "\u2581go"}, frozenset({3}))
    theirs = Tokens({0: "b", 1: "\u2581go", 2: "</s>", 3: "a", 9: "c"}, frozenset())
    pair = compared(ours, theirs)
    assert pair.faults("file", "place", ())
    assert pair.by_text(6, 9) == {0: 1, 1: 3, 2: 0}
    columns = translated(pair.by_text(6, 9), unknown=2)
    assert (columns.entries, columns.width, columns.never) == (3, 4, ())
    assert columns.masked(np.array([5, 6, 7, 8], np.float32)).tolist() == [6, 8, 5]
    assert list(columns.read([0, 1, 2, 3, 4])) == [1, 3, 0, 2, 2]


def renumbered(folder: Path, dropped: int = 0) -> Path:
    """The same network and tokenizer with its ordinary ids in reverse; the texts of some are others in the draft."""
    twin = speaker(folder, 2048, 2, {})
    first, new = 300, list(range(2048))
    new[first:] = reversed(new[first:])
    tensors = load_file(twin / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors[name][new].contiguous()
    save_file(tensors, twin / "model.safetensors", metadata={"format": "pt"})
    document = json.loads((twin / "tokenizer.json").read_text())
    vocabulary = document["model"]["vocab"]
    document["model"]["vocab"] = {text: new[token] for text, token in vocabulary.items()}
    if dropped:
        marks = {f"<other {number}>": number for number in range(2048 - dropped, 2048)}
        kept = {text: token for text, token in document["model"]["vocab"].items() if token < 2048 - dropped}
        document["model"]["vocab"] = kept | marks
        pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in document["model"]["merges"]]
        whole = [pair for pair in pairs if {*pair, "".join(pair)} <= {*kept}]
        document["model"]["merges"] = whole
    (twin / "tokenizer.json").write_text(json.dumps(document))
    return twin


def twins(folder: Path, dropped: int) -> list[str]:
    places = {"target": speaker(folder / "t", 2048, 2, {}), "draft": renumbered(folder / "d", dropped)}
    few = ["networks=[]", "workload.count=2", "workload.max_turns=2", "workload.max_new_tokens=12"]
    told = [f"{role}.stand_in={place}" for role, place in places.items()]
    return [*few, *told, "context_tokens=256", "logits.dtype=float64"]


def test_the_target_itself_under_other_ids_is_always_accepted(tmp_path: Path) -> None:
    overrides = twins(tmp_path, 0)
    setup = shipped("orin_8295", *overrides)
    stand_ins = load_stand_ins(setup)
    assert "2048 of its 2048 tokens are also the target's" in " ".join(stand_ins.notes)
    trace = simulate(setup, source_of(stand_ins, overrides))
    assert speculation(trace)["draft_acceptance_rate"] == 1.0


@pytest.mark.parametrize("rules", [[], RATIO], ids=["greedy", "ratio"])
def test_a_draft_of_another_vocabulary_tells_the_targets_text(rules: list[str], tmp_path: Path) -> None:
    overrides = [*twins(tmp_path, 900), *rules]
    setup = shipped("orin_8295", *overrides)
    stand_ins = load_stand_ins(setup)
    lacking = set(stand_ins.columns["draft"].never) | set(range(stand_ins.columns["draft"].entries, 2048))
    assert len(lacking) == 900
    proposed: set[int] = set()

    class Watched(LiveSource):
        def draft(self, *asked: Any) -> Any:
            found = super().draft(*asked)
            proposed.update(found.tokens)
            return found

    source = source_of(stand_ins, overrides)
    source.__class__ = Watched
    spoken = answers(simulate(setup, source))
    assert spoken == answers(simulate(setup, source_of(stand_ins, overrides), TargetOnly(name="target_only")))
    assert not proposed & lacking
    assert {token for answer in spoken for token in answer} & lacking


def test_a_recording_of_another_vocabulary_tells_what_the_live_pair_tells(tmp_path: Path) -> None:
    overrides = [*twins(tmp_path, 900), *RATIO]
    setup = shipped("orin_8295", *overrides)
    stand_ins = load_stand_ins(setup)
    replayed = simulate(setup, TranscriptSource(record_stand_ins(setup, stand_ins, 8), stand_ins.tokenizer))
    assert answers(replayed) == answers(simulate(setup, source_of(stand_ins, overrides)))


def test_a_vocabulary_without_a_token_in_common_is_refused() -> None:
    pair = compared(Tokens({0: "a", 1: "b"}, frozenset()), Tokens({0: "x", 1: "y"}, frozenset()))
    assert pair.by_text(2, 2) == {}
    assert "2 ids in use" in pair.faults("file", "draft.stand_in", ())[0].found


def test_a_draft_reads_what_it_lacks_as_its_unknown() -> None:
    assert list(CommonVocabulary(4, limit=4, unknown=2).read([0, 3, 4, 9])) == [0, 3, 2, 2]
    assert list(CommonVocabulary(4).read([0, 9])) == [0, 9]


def test_shipped_pairs_share_every_id() -> None:
    """Nothing is masked, cut or noted, so what they say is what it always was."""
    setup = shipped("orin_8295_greedy")
    stand_ins = load_stand_ins(setup)
    assert stand_ins.columns == {"target": CommonVocabulary(2048), "draft": CommonVocabulary(2048)}
    assert not stand_ins.notes
    assert load_tokenizer(PROJECT / "models/target").vocab_size == 2048
    assert not load_network(PROJECT / "models/target").notes
    row = np.zeros(2048, np.float32)
    assert stand_ins.columns["draft"].masked(row) is row
