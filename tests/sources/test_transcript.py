"""Transcripts: a replay is the live run, bit for bit; what was recorded otherwise, or not deep enough, is refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from hilsim.commands.main import main, simulate_main
from hilsim.describe.load import load_setup
from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.errors import InputError, TooShallow
from hilsim.places import CODE as PROJECT
from hilsim.runs.evaluate import Refused, evaluate, load_variant
from hilsim.runs.record import recorded
from hilsim.runs.run import Sources
from hilsim.sampling.proposals import Draft
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.columns import COLUMNS, UNKNOWN, VERSION, Transcript
from hilsim.sources.recorded_with import matches, recorded_with, require_same
from hilsim.sources.recording import AFTER
from hilsim.sources.transcript import TranscriptSource, load, load_header, save
from hilsim.study.remedies import cheapest_remedy
from hilsim.text.tokenizer import load_tokenizer
from scripts.record_transcripts import recordings
from tests.scenes import shipped

# Two conversations of three turns, rounded from float64 so that last bits do not depend on how rows are batched.
SHORT = (
    "workload.count=2", "workload.max_turns=3", "workload.max_new_tokens=12", "logits.dtype=float64", "networks=[]",
    "draft.stand_in=models/draft-0.2m",
)  # fmt: skip
ORIN = PROJECT / "scenarios/orin_8295_greedy.yaml"
RULES = {
    "greedy": ("accept=greedy", "payload=token_ids"),
    "ratio": ("accept=ratio", "sampling={temperature: 0.7}", "payload=full_rows"),
    "gumbel": ("accept=gumbel", "sampling={temperature: 0.7}", "payload=token_ids"),
}
WARM = "sampling={temperature: 0.7, top_k: 40, top_p: 0.95}"
OTHER_RULES = {
    "penalty": ("accept=greedy", "payload=token_ids", "sampling={temperature: 0, repetition_penalty: 1.2}"),
    "one_hot": ("accept=ratio", "payload=one_hot", WARM),
    "top_k": ("accept=ratio", "payload={scheme: top_k, k: 8, format: counts8}", WARM),
    "at the draft": ("accept=ratio", "payload=full_rows", "verify_at=draft", WARM),
    "sample_match": ("accept=sample_match", "payload=token_ids", WARM),
}
POLICIES = (
    "{name: sync, draft_tokens: 3}",
    "{name: sync, draft_tokens: 7}",
    "{name: sync, draft_tokens: 4, fallback: {window: 2, rest_tokens: 4}}",
    "{name: adaptive, rule: schedule}",
    "{name: adaptive, rule: confidence, threshold: 0.4}",
    "{name: adaptive, rule: entropy}",
    "{name: adaptive, rule: expected}",
    "{name: pearl, draft_tokens: 3}",
    "{name: async, min_batch: 1}",
    "{name: pipelined, draft_tokens: 3, blocks_in_flight: 2}",
    "{name: prompt_lookup, draft_tokens: 4}",
)
WAYS = (
    (),
    ("link=1000base-t1", "target.widths=[1, 4, 128]"),
    ("target.chip=sa8255p", "application=drive-orin-x", "workload.talkers=2"),
)


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One recording a rule."""
    folder = tmp_path_factory.mktemp("transcripts")
    files = {}
    for rule, changes in RULES.items():
        files[rule] = folder / f"{rule}.npz"
        save(recorded(shipped("orin_8295_greedy", *SHORT, *changes), 24), files[rule])
    return files


def traces(setup: Setup) -> tuple[Trace, Trace]:
    sources = Sources(setup)
    return simulate(setup, sources.fresh(), TargetOnly(name="target_only")), simulate(setup, sources.fresh())


@pytest.mark.parametrize("way", WAYS, ids=["as shipped", "slow link, other widths", "other chips, two talkers"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rule", RULES)
def test_a_replay_is_the_live_run(rule: str, policy: str, way: tuple[str, ...], transcripts: dict[str, Path]) -> None:
    changes = [*SHORT, *RULES[rule], f"policy={policy}", *way]
    live = traces(shipped("orin_8295_greedy", *changes))
    replayed = traces(
        shipped("orin_8295_greedy", *changes, f"logits={{source: transcript, file: {transcripts[rule]}}}")
    )
    for ours, theirs in zip(live, replayed, strict=True):
        assert ours.spans == theirs.spans
        assert ours.rounds == theirs.rounds
        assert ours.requests == theirs.requests
        assert (ours.end_ns, ours.levels) == (theirs.end_ns, theirs.levels)


@dataclass(frozen=True)
class Position:
    """A place in a conversation, as a live source is asked about it."""

    index: int
    conversation: int
    tokens: list[int]


@pytest.mark.parametrize("rule", [*RULES, *OTHER_RULES])
def test_what_is_recorded_at_once_is_what_a_live_source_emits_one_by_one(rule: str) -> None:
    """Every answer, what comes after it, and of every position the draft's way: tokens and numbers, to the bit."""
    context, depth = 50, 9  # full after a turn or two
    setup = shipped(
        "orin_8295_greedy", *SHORT, *{**RULES, **OTHER_RULES}[rule], "workload.count=1", f"context_tokens={context}"
    )
    known, live = recorded(setup, depth), Sources(setup).fresh()
    source = TranscriptSource(known, load_tokenizer(setup.target.stand_in or PROJECT))
    assert (known.index == UNKNOWN).any()
    assert len(known.drafted) == len(known.answer)
    for request, one in source.requests.items():
        conversation = int(known.conversation[known.index == request][0])
        for row, position in enumerate(range(one.asked, len(one.tokens)), one.row):
            place = Position(request, conversation, list(one.tokens[:position]))
            assert live.next_token(place) == (one.tokens[position], one.margins[position - one.asked])
            if position < one.answered:
                draft = live.draft(place, min(depth, context - position))
                said = 1 if draft.tokens[0] == one.tokens[position] else len(draft.tokens)
                expected = Draft(draft.tokens[:said], draft.confidences[:said], draft.entropies[:said])
                kept = known.drafted[row] != UNKNOWN
                columns = (getattr(known, name)[row][kept].tolist() for name in ("drafted", "confidence", "entropy"))
                assert Draft(*map(tuple, columns)) == expected
        assert len(one.tokens) - one.answered == min(AFTER, context + 1 - one.answered)


def test_another_word_is_another_run(transcripts: dict[str, Path]) -> None:
    """The comparison above can fail: a draft that is right where it was wrong, and the rounds are others."""
    known = load(transcripts["greedy"])
    drafted = known.drafted.copy()
    drafted[:, 0] = known.answer
    wrong = transcripts["greedy"].with_name("wrong.npz")
    save(replace(known, drafted=drafted), wrong)
    changes = [*SHORT, *RULES["greedy"]]
    right, other = (
        traces(shipped("orin_8295_greedy", *changes, f"logits={{source: transcript, file: {file}}}"))[1]
        for file in (transcripts["greedy"], wrong)
    )
    assert right.rounds != other.rounds
    assert [r.answer for r in right.requests] == [r.answer for r in other.requests]  # the target's words all the same


def test_what_is_saved_is_what_is_loaded(transcripts: dict[str, Path]) -> None:
    known = load(transcripts["ratio"])
    again = transcripts["ratio"].with_name("again.npz")
    save(known, again)
    loaded = load(again)
    assert loaded.header == known.header
    assert all(np.array_equal(getattr(loaded, name), getattr(known, name)) for name in COLUMNS)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("seed=2", "seed"),
        ("workload.max_new_tokens=13", "max_new_tokens"),
        ("workload.count=3", "conversations"),
        ("workload.max_turns=2", "conversations"),
        ("workload.conversations=conversations/in.jsonl", "conversations"),
        ("draft.stand_in=models/draft-2m", "draft.stand_in"),
        ("accept=gumbel", "accept"),
        ("sampling={temperature: 0.8}", "sampling"),
        ("context_tokens=512", "context_tokens"),
    ],
)
def test_another_setting_is_refused(change: str, place: str, transcripts: dict[str, Path]) -> None:
    setup = shipped(
        "orin_8295_greedy",
        *SHORT,
        *RULES["ratio"],
        f"logits={{source: transcript, file: {transcripts['ratio']}}}",
        change,
    )
    with pytest.raises(InputError) as error:
        Sources(setup)
    assert place in [fault.place for fault in error.value.faults]
    assert "recorded with" in str(error.value)


@pytest.mark.parametrize("rule", RULES)
def test_a_transcript_of_more_serves_its_first_conversations(rule: str, transcripts: dict[str, Path]) -> None:
    changes = [*SHORT, *RULES[rule], "workload.count=1", "policy={name: adaptive, rule: entropy}"]
    setup = shipped("orin_8295_greedy", *changes)
    header = load_header(transcripts[rule])
    assert matches(header, recorded_with(setup))
    assert not matches(header, recorded_with(shipped("orin_8295_greedy", *changes, "workload.count=3")))
    assert not matches(header, recorded_with(shipped("orin_8295_greedy", *changes, "workload.max_turns=2")))
    live = traces(setup)
    replayed = traces(
        shipped("orin_8295_greedy", *changes, f"logits={{source: transcript, file: {transcripts[rule]}}}")
    )
    assert [trace.rounds for trace in live] == [trace.rounds for trace in replayed]


@pytest.mark.parametrize("rule", RULES)
def test_payloads_are_all_the_same_at_temperature_0_alone(rule: str, transcripts: dict[str, Path]) -> None:
    """Greedy drafts and verdicts never look at a law that crosses the link."""
    setup = shipped("orin_8295_greedy", *SHORT, *RULES[rule], "payload={scheme: full_rows, format: fp32}")
    assert matches(load_header(transcripts[rule]), recorded_with(setup)) == (rule == "greedy")
    if rule == "greedy":
        known, other = load(transcripts[rule]), recorded(setup, 24)
        assert all(np.array_equal(getattr(other, name), getattr(known, name)) for name in COLUMNS)


def test_a_header_is_read_alone(transcripts: dict[str, Path], tmp_path: Path) -> None:
    """From a file that has nothing else, so whoever searches a folder pays for no columns."""
    with np.load(transcripts["greedy"]) as columns:
        np.savez(tmp_path / "bare.npz", header=columns["header"])
    assert load_header(tmp_path / "bare.npz")["recorded_with"] == load(transcripts["greedy"]).header["recorded_with"]
    with pytest.raises(InputError, match="no column ways"):
        load(tmp_path / "bare.npz")
    with pytest.raises(InputError, match="no such file"):
        load_header(tmp_path / "none.npz")


def test_shipped_transcripts_are_of_todays_scenarios_and_models() -> None:
    """Each loads, fits its scenario whole and as shipped, and is one that the script makes."""
    folder = PROJECT / "scenarios" / "transcripts"
    assert {file.name for file in folder.glob("*.npz")} == {name for name, _, _ in recordings()}
    for name, scenario, overrides in recordings():
        known = load(folder / name)
        assert (known.depth, known.header["dtype"]) == (16, "float64")
        require_same(known, load_setup(scenario, overrides), folder / name)
        require_same(known, load_setup(scenario, [*overrides, "workload.count=4"]), folder / name)
        assert (folder / name).stat().st_size < 200 * 2**10


def test_studies_leave_out_what_a_transcript_does_not_know(transcripts: dict[str, Path]) -> None:
    """A variant with other rules or deeper drafts is refused by itself; the others run."""
    logits = f"logits={{source: transcript, file: {transcripts['greedy']}}}"
    base = [*SHORT, *RULES["greedy"], logits]
    known, other = (evaluate(load_variant(ORIN, [*base, change])) for change in ("policy.draft_tokens=3", "seed=2"))
    assert not isinstance(known, Refused)
    assert isinstance(other, Refused)
    assert "recorded with 1" in other.found


def test_no_remedy_is_tried_that_a_transcript_does_not_know(
    transcripts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = f"logits={{source: transcript, file: {transcripts['greedy']}}}"
    base = [*SHORT, *RULES["greedy"], logits]
    setup = shipped("orin_8295_greedy", *base)
    sources = Sources(setup)

    def too_shallow(changed: Setup) -> Sources:
        raise TooShallow(16, 17)

    monkeypatch.setattr(sources, "replaying", too_shallow)
    assert cheapest_remedy(setup, base, sources).tried == 0


def test_drafts_beyond_the_depth_are_reported(transcripts: dict[str, Path]) -> None:
    known = load(transcripts["greedy"])
    shallow = transcripts["greedy"].with_name("shallow.npz")
    cut = {name: getattr(known, name)[:, :2] for name in ("drafted", "confidence", "entropy", "after", "after_margin")}
    save(replace(known, **cut), shallow)
    changes = [*SHORT, *RULES["greedy"], "policy={name: sync, draft_tokens: 7}"]
    with pytest.raises(TooShallow, match="--depth"):
        traces(shipped("orin_8295_greedy", *changes, f"logits={{source: transcript, file: {shallow}}}"))


@pytest.mark.parametrize("damage", ["missing", "cut", "noise", "version", "columns", "lengths"])
def test_damaged_transcripts_are_refused(damage: str, transcripts: dict[str, Path], tmp_path: Path) -> None:
    good, file = transcripts["greedy"].read_bytes(), tmp_path / "bad.npz"
    known = load(transcripts["greedy"])
    if damage == "cut":
        file.write_bytes(good[: len(good) // 2])
    elif damage == "noise":
        file.write_bytes(b"not a transcript at all")
    elif damage == "version":
        save(replace(known, header={**known.header, "version": 99}), file)
    elif damage == "columns":
        np.savez(file, header=np.frombuffer(b'{"version": %d}' % VERSION, np.uint8))
    elif damage == "lengths":
        save(replace(known, margin=known.margin[:-1]), file)
    with pytest.raises(InputError) as error:
        load(file)
    assert "hilsim record" in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["accept=block", "sampling={temperature: 0.7}", "payload=full_rows"], "Run such rules live"),
        (
            ["accept={rule: lenient, lenience: 0.5}", "sampling={temperature: 0.7}", "payload=full_rows"],
            "Run such rules live",
        ),
    ],
)
def test_rules_that_hang_on_more_than_the_position_are_not_recorded(
    overrides: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [f"--set={one}" for one in overrides]
    assert (
        main(["record", str(PROJECT / "scenarios/orin_8295_greedy.yaml"), "--out", str(tmp_path / "t.npz"), *sets]) == 2
    )
    assert words in capsys.readouterr().err
    assert not (tmp_path / "t.npz").exists()


def test_a_scenario_of_synthetic_logits_has_nothing_to_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(PROJECT / "scenarios/paper_table.yaml")
    assert main(["record", file, "--out", str(tmp_path / "t.npz")]) == 2
    assert "logits.source" in capsys.readouterr().err


def test_a_tree_needs_live_logits(transcripts: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    logits = f"logits={{source: transcript, file: {transcripts['greedy']}}}"
    sets = [f"--set={one}" for one in (*SHORT, logits, "policy={name: tree, branches: [2, 1]}")]
    assert simulate_main([str(PROJECT / "scenarios/orin_8295_greedy.yaml"), *sets]) == 2
    assert "chains of drafts alone" in capsys.readouterr().err


def test_the_transcript_is_small(transcripts: dict[str, Path]) -> None:
    known: Transcript = load(transcripts["greedy"])
    assert transcripts["greedy"].stat().st_size < 300 * len(known.answer)
