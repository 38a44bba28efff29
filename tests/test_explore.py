"""The placement explorer: what it counts, what it ranks, what it writes, and that events say the same."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilsim.app_explore import ExploreOptions, all_screened, understood
from hilsim.app_replay import run_of
from hilsim.app_transcripts import transcript_for
from hilsim.cli import main
from hilsim.compiler.gate import load_compiled
from hilsim.cost.memory import ledgers
from hilsim.describe.catalogue import PROJECT
from hilsim.show.measures import MEASURES, measured
from hilsim.show.screened import MEASURED
from hilsim.study.answer import Answer
from hilsim.study.placements import AXES, Found, Ready, got_ready
from hilsim.study.ranking import Constraint, front, objective

SCENARIO = PROJECT / "scenarios/orin_8295.yaml"
DRAFT = "draft-68m-llama3:models/draft-0.8m"
ONLY = (
    "draft.precision=w4",
    "draft.unit=gpu",
    "target.widths=any,1-8-128",
    "policy=sync 3,adaptive expected,adaptive confidence 0.4,pearl 3,async 2 of 8,pipelined 3 x 1,target_only,"
    "prompt_lookup 3",
)
LINKS = ("pcie-gen3-x4", "cellular")
FEW = ["--set", "networks=[]", "--conversations", "2", "--drafts", DRAFT]
SMALL = [
    *FEW,
    "--links",
    ",".join(LINKS),
    *(part for one in (*ONLY, "target.precision=w4") for part in ("--only", one)),
]


def options() -> ExploreOptions:
    """As SMALL has them, with targets outside the car and such as do not fit."""
    only = (*ONLY, "target.precision=w4,fp16")
    return ExploreOptions(
        SCENARIO, ["networks=[]"], cloud=True, conversations=2, drafts=[DRAFT], links=LINKS, only=only
    )  # fmt: skip


@pytest.fixture(scope="module")
def explored() -> tuple[Answer, Ready]:
    given = options()
    asked = understood(given)
    ready = got_ready(SCENARIO, asked.overrides, asked.space, asked.links, asked.base, transcript_for,
                      lambda words: None, cloud=True)  # fmt: skip
    found = all_screened(ready, 1)
    return Answer.of(asked.space, found, asked.objective, asked.against, asked.constraints), ready


def test_every_measure_is_that_of_the_event_simulation(explored: tuple[Answer, Ready]) -> None:
    answer, ready = explored
    # One configuration of every policy and target, a cloud target among them: loaded as a user would load it.
    kinds = {(int(places[0]), int(places[4])): row for row, places in enumerate(answer.found.places)}
    chosen = list(kinds.values())[::3]
    assert any("cloud" in answer.named(place)["target on"] for place in chosen)
    for place in chosen:
        overrides = ["networks=[]", "workload.count=2", *answer.overrides(place, ready.application)]
        setup = load_compiled(SCENARIO, overrides)
        told = measured(setup, ledgers(setup), *run_of(setup))
        ours = answer.numbers(place)
        for name in MEASURED:
            mine = None if np.isnan(ours[name]) else ours[name]
            assert mine == told[name], (name, answer.named(place))


def test_everything_is_counted_once(explored: tuple[Answer, Ready]) -> None:
    answer, _ = explored
    left_out, found = answer.found.left_out, answer.found
    places = {tuple(row) for row in found.places.tolist()}
    assert len(places) == len(found)
    assert 0 < left_out.total() + len(found) <= answer.space.size
    assert any("does not fit" in reason for reason in left_out)
    assert set(MEASURED) <= set(MEASURES)
    assert found.places.shape[1] == len(AXES)


@settings(max_examples=200)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=40))
def test_the_front_is_what_nothing_beats(rows: list[tuple[int, ...]]) -> None:
    costs = np.array(rows, dtype=float)
    ours = {tuple(costs[place]) for place in front(costs)}
    beaten = {tuple(row) for row in costs if any((other <= row).all() and (other < row).any() for other in costs)}
    assert ours == {tuple(row) for row in costs} - beaten
    assert len(ours) == len(front(costs))


def test_constraints_leave_what_keeps_them() -> None:
    found = Found(np.zeros((3, 5), np.int64), {
        "request_latency_ms.mean": np.array([1.0, 2.0, 3.0]), "memory_bytes": np.array([3.0, 2.0, 1.0]),
        "energy_j": np.array([1.0, np.nan, 1.0]),
    })  # fmt: skip
    wanted = objective("request_latency"), (objective("memory"),)
    free = Answer.of(None, found, *wanted, ())  # type: ignore[arg-type]
    assert list(free.ranked) == [0, 1, 2]
    assert list(free.pareto) == [0, 1, 2]
    bound = Answer.of(None, found, *wanted, (Constraint("energy_j", True, 2.0), Constraint("memory_bytes", True, 2.0)))  # type: ignore[arg-type]
    assert list(bound.ranked) == [2]
    assert sorted(bound.broken.values()) == [1, 1]


def test_a_finalist_runs_live_and_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    told = ["explore", str(SCENARIO), *SMALL, "--workers", "1", "--finalists", "1", "--out", str(tmp_path), "--csv",
            str(tmp_path / "all.csv"), "--plot", str(tmp_path / "all.png"),
            "--only", "target.chip=sa8295p"]  # fmt: skip
    assert main(told) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the same by events" in shown
    assert "Pareto set of request_latency, memory, energy" in shown
    rows = list(csv.DictReader((tmp_path / "all.csv").open(encoding="utf-8", newline="")))
    latencies = [float(row["request_latency_ms.mean"]) for row in rows if row["keeps_constraints"] == "1"]
    assert latencies == sorted(latencies)
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    command = [sys.executable, "simulate.py", tmp_path / "orin_8295-1.yaml", "--json"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    live = json.loads(done.stdout)["speculative"]["request_latency_ms"]["mean"]
    assert live == pytest.approx(latencies[0], rel=0.01)


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    files = [tmp_path / "1.csv", tmp_path / "2.csv"]
    for workers, file in zip(("1", "2"), files, strict=True):
        narrow = ["--workers", workers, "--only", "target.unit=npu,gpu", "--only", "policy.name=sync"]
        done = subprocess.run(
            [sys.executable, "-m", "hilsim", "explore", SCENARIO, *SMALL, *narrow, "--finalists", "0", "--csv", file],
            cwd=PROJECT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert files[0].read_bytes() == files[1].read_bytes()


def test_nothing_that_keeps_the_constraints_is_bad_news(capsys: pytest.CaptureFixture[str]) -> None:
    told = ["explore", str(SCENARIO), *SMALL, "--workers", "1", "--only", "target.unit=npu",
            "--latency-target", "1", "--memory-free", "100"]  # fmt: skip
    assert main(told) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "No configuration keeps the constraints" in shown
    assert "does not keep time_to_first_clause_ms.p90 <= 1" in shown
    assert "time_to_first_clause_ms.p90 <= 1: the nearest is" in shown


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (["--objective", "energie"], "Did you mean 'energy'"),
        (["--against", "memory,speed"], "'speed'"),
        (["--limit", "energy_j"], "MEASURE<=VALUE"),
        (["--limit", "energie_j<=3"], "Did you mean 'energy_j'"),
        (["--only", "target.units=npu"], "target.unit"),
        (["--only", "target.unit=dsp"], "'dsp'"),
        (["--only", "target.unit=cpu", "--only", "target.widths=1-128"], "choices that go together"),
        (["--links", "rope"], "'rope'"),
        (["--chips", "abacus"], "'abacus'"),
        (["--drafts", "draft-68m-llama3"], "MODEL:STAND_IN"),
        (["--latency-target", "-3"], "above 0"),
        (["--plot", "out/x.bmp"], ".png"),
        (["--set", "policy.draft_token=3"], "draft_token"),
        (["--out", "/proc/nowhere"], "--out"),
    ],
)
def test_bad_input_is_told_before_anything_runs(
    told: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["explore", str(SCENARIO), *told])
    except SystemExit as stop:  # argparse
        status = stop.code  # type: ignore[assignment]
    shown = capsys.readouterr().err
    assert status == 2
    assert expected in shown
    assert "Traceback" not in shown


def test_without_any_draft_the_target_is_placed_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = ["--only", "draft.chip=drive-orin-x", "--only", "draft.unit=npu,gpu", "--only", "draft.place=sa8295p.gpu"]
    told = [*FEW, *nobody, "--only", "target.widths=1-8-128", "--only", "target.precision=w4", "--workers", "1"]
    assert main(["explore", str(SCENARIO), *told]) == 0
    assert "prompt_lookup" in " ".join(capsys.readouterr().out.split())


def test_a_draft_that_the_scenario_s_own_transcript_does_not_know_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logits = "logits={source: transcript, file: transcripts/shift-draft-0.8m-greedy.npz}"
    drafts = f"{DRAFT},draft-160m-llama3:models/draft-2m"
    told = ["--set", "networks=[]", "--set", logits, "--conversations", "2", "--drafts", drafts, "--workers", "1"]
    only = [
        part
        for one in (*ONLY, "target.precision=w4", "draft.chip=sa8295p", "target.unit=npu")
        for part in ("--only", one)
    ]
    assert main(["explore", str(SCENARIO), *told, *only]) == 0
    assert "nothing is recorded of it" in " ".join(capsys.readouterr().out.split())


def test_all_faults_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", str(SCENARIO), "--objective", "x", "--links", "rope", "--only", "y=z"]) == 2
    shown = capsys.readouterr().err
    assert "--objective" in shown
    assert "'rope'" in shown


def test_a_space_too_large_is_asked_about(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilsim.app_explore.MOST_UNASKED", 1000)
    assert main(["explore", str(SCENARIO)]) == 2
    assert "--yes" in capsys.readouterr().err


def test_a_scenario_that_cannot_be_explored_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", str(PROJECT / "scenarios/paper_table.yaml")]) == 2
    assert "synthetic logits" in capsys.readouterr().err
