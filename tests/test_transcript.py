"""Transcripts: a replay is the live run, bit for bit; what was recorded otherwise, or not deep enough, is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilsim.app import Sources, replayer
from hilsim.app_record import recorded
from hilsim.cli import main, simulate_main
from hilsim.describe.catalogue import PROJECT
from hilsim.describe.load import Setup
from hilsim.describe.policy import TargetOnly
from hilsim.errors import InputError, TooShallow
from hilsim.logits.ahead import drafted_ahead, grown
from hilsim.logits.live import LiveSource
from hilsim.logits.recording import Listener, one_by_one
from hilsim.logits.transcript import COLUMNS, Transcript, load, save
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.study.remedies import cheapest_remedy
from hilsim.study.variants import Ran, Refused, Variant, tried
from tests.scenes import shipped

# Two conversations of three turns, rounded from float64 so that last bits do not depend on how rows are batched.
SHORT = (
    "workload.count=2", "workload.max_turns=3", "workload.max_new_tokens=12", "logits.dtype=float64", "networks=[]",
    "draft.stand_in=models/draft-0.2m",
)  # fmt: skip
ORIN = PROJECT / "scenarios/orin_8295.yaml"
RULES = {
    "greedy": ("accept=greedy", "payload=token_ids"),
    "ratio": ("accept=ratio", "sampling={temperature: 0.7}", "payload=full_rows"),
    "gumbel": ("accept=gumbel", "sampling={temperature: 0.7}", "payload=token_ids"),
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
        save(recorded(shipped("orin_8295", *SHORT, *changes), 24), files[rule])
    return files


def traces(setup: Setup) -> tuple[Trace, Trace]:
    sources = Sources(setup)
    return simulate(setup, sources.fresh(), TargetOnly(name="target_only")), simulate(setup, sources.fresh())


@pytest.mark.parametrize("way", WAYS, ids=["as shipped", "slow link, other widths", "other chips, two talkers"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rule", RULES)
def test_a_replay_is_the_live_run(rule: str, policy: str, way: tuple[str, ...], transcripts: dict[str, Path]) -> None:
    changes = [*SHORT, *RULES[rule], f"policy={policy}", *way]
    live = traces(shipped("orin_8295", *changes))
    replayed = traces(shipped("orin_8295", *changes, f"logits={{source: transcript, file: {transcripts[rule]}}}"))
    for ours, theirs in zip(live, replayed, strict=True):
        assert ours.spans == theirs.spans
        assert ours.rounds == theirs.rounds
        assert ours.requests == theirs.requests
        assert (ours.end_ns, ours.levels) == (theirs.end_ns, theirs.levels)


@pytest.mark.parametrize("rule", RULES)
def test_drafts_of_all_positions_at_once_are_those_of_one_after_the_other(rule: str) -> None:
    setup = shipped("orin_8295", *SHORT, *RULES[rule], "workload.count=1", "context_tokens=120")
    sources = Sources(setup)
    listener = Listener(sources.fresh())
    simulate(setup, listener, TargetOnly(name="target_only"))
    source = sources.fresh()
    assert isinstance(source, LiveSource)
    talk = listener.heard
    assert len(list(grown(talk))) == 1  # every turn goes on from the last
    expected = [one_by_one(source, one, 9, 120) if one.answer else [] for one in talk]
    assert drafted_ahead(source, talk, 9, 120) == expected
    # A turn that does not go on from the last is a group of its own, and says the same.
    cut = [replace(one, before=one.before[1:]) if place == 1 else one for place, one in enumerate(talk)]
    assert len(list(grown(cut))) > 1
    assert drafted_ahead(source, cut, 9, 120)[0] == expected[0]


def test_another_word_is_another_run(transcripts: dict[str, Path]) -> None:
    """The comparison above can fail: one drafted token changed, and the rounds are others."""
    known = load(transcripts["greedy"])
    drafted = known.drafted.copy()
    going_on = drafted[:, 1] >= 0  # an end of turn stays one
    drafted[going_on, 0] = 3 + drafted[going_on, 0] % 2000
    wrong = transcripts["greedy"].with_name("wrong.npz")
    save(replace(known, drafted=drafted), wrong)
    changes = [*SHORT, *RULES["greedy"]]
    right, other = (
        traces(shipped("orin_8295", *changes, f"logits={{source: transcript, file: {file}}}"))[1]
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
        ("workload.count=1", "conversations"),
        ("draft.stand_in=models/draft-2m", "draft.stand_in"),
        ("accept=gumbel", "accept"),
        ("sampling={temperature: 0.8}", "sampling"),
        ("context_tokens=512", "context_tokens"),
    ],
)
def test_another_setting_is_refused(change: str, place: str, transcripts: dict[str, Path]) -> None:
    setup = shipped(
        "orin_8295", *SHORT, *RULES["ratio"], f"logits={{source: transcript, file: {transcripts['ratio']}}}", change
    )
    with pytest.raises(InputError) as error:
        Sources(setup)
    assert place in [fault.place for fault in error.value.faults]
    assert "recorded with" in str(error.value)


def test_studies_leave_out_what_a_transcript_does_not_know(transcripts: dict[str, Path]) -> None:
    """A variant with other rules or deeper drafts is refused by itself; the others run."""
    logits = f"logits={{source: transcript, file: {transcripts['greedy']}}}"
    base = [*SHORT, *RULES["greedy"], logits]
    _, run = replayer(ORIN, base)
    variants = [Variant("v", change, (change,)) for change in ("policy.draft_tokens=3", "seed=2")]
    found = list(tried(ORIN, base, variants, run))
    assert isinstance(found[0], Ran)
    assert isinstance(found[1], Refused)
    assert "recorded with 1" in found[1].why

    def never_known(changed: Setup) -> float:
        raise TooShallow(16, 17)

    assert cheapest_remedy(shipped("orin_8295", *base), base, never_known, lambda words: None).tried == 0


def test_drafts_beyond_the_depth_are_told(transcripts: dict[str, Path]) -> None:
    known = load(transcripts["greedy"])
    shallow = transcripts["greedy"].with_name("shallow.npz")
    cut = {name: getattr(known, name)[:, :2] for name in ("drafted", "confidence", "entropy", "after", "after_margin")}
    save(replace(known, **cut), shallow)
    changes = [*SHORT, *RULES["greedy"], "policy={name: sync, draft_tokens: 7}"]
    with pytest.raises(TooShallow, match="--depth"):
        traces(shipped("orin_8295", *changes, f"logits={{source: transcript, file: {shallow}}}"))


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
        np.savez(file, header=np.frombuffer(b'{"version": 1}', np.uint8))
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
    assert main(["record", str(PROJECT / "scenarios/orin_8295.yaml"), "--out", str(tmp_path / "t.npz"), *sets]) == 2
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
    assert simulate_main([str(PROJECT / "scenarios/orin_8295.yaml"), *sets]) == 2
    assert "chains of drafts alone" in capsys.readouterr().err


def test_a_replay_does_not_load_torch(transcripts: dict[str, Path]) -> None:
    logits = f"logits={{source: transcript, file: {transcripts['greedy']}}}"
    sets = [f"--set={one}" for one in (*SHORT[:3], *SHORT[4:], logits)]
    code = (
        "import sys; from hilsim.cli import simulate_main\n"
        f"once = simulate_main(['scenarios/orin_8295.yaml', '--json', *{sets!r}])\n"
        "sys.exit(once or ('torch' in sys.modules and 'keep' not in sys.argv))"
    )
    first = [sys.executable, "-c", code, "keep"]  # the compile gate makes its plans once
    assert subprocess.run(first, cwd=PROJECT, capture_output=True, check=False).returncode == 0
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_transcript_is_small(transcripts: dict[str, Path]) -> None:
    known: Transcript = load(transcripts["greedy"])
    assert transcripts["greedy"].stat().st_size < 300 * len(known.answer)
