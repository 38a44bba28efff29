"""The placement explorer: what it counts, what it ranks, what it writes, and that events say the same."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilsim.commands.main import main
from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.memory import ledgers
from hilsim.cost.verdict import candidates
from hilsim.describe.policy import Policy
from hilsim.errors import InputError
from hilsim.measure.measures import MEASURED, MEASURES, measured
from hilsim.places import CODE as PROJECT
from hilsim.runs.replay import numbers_of, run_of
from hilsim.show.explore import doubtful
from hilsim.study import explorer
from hilsim.study.answer import Answer
from hilsim.study.explorer import Finalist, Question, narrowed, prepare, question_of
from hilsim.study.placements import AXES, LEAVES, SURE, WITHIN, Ready, TimedConfigurations, TimingJob
from hilsim.study.ranking import OBJECTIVES, Constraint, front, objective
from hilsim.study.remedies import changes
from hilsim.study.screen_space import Screen
from hilsim.study.sensitivity import limits_of, rests_on
from hilsim.study.space import NOWHERE
from hilsim.study.timed_space import BEST, time_space
from tests.pages import assert_self_contained
from tests.scripts.test_scripts_questions import answered

SCENARIO = PROJECT / "scenarios/orin_8295_greedy.yaml"
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


def small(*only: str) -> list[str]:
    """A small space, where `only` stands for the choices of the same key."""
    chosen = {one.partition("=")[0]: one for one in (*ONLY, "target.precision=w4", *only)}
    return [*FEW, "--links", ",".join(LINKS), *(part for one in chosen.values() for part in ("--only", one))]


SMALL = small()


def screened(question: Question) -> tuple[Answer, Ready]:
    ready = prepare(question)
    return time_space(ready, question.rank, 1), ready


@pytest.fixture(scope="module")
def question() -> Question:
    """As SMALL has it, with targets outside the car and such as do not fit."""
    only = (*ONLY, "target.precision=w4,fp16")
    return question_of(SCENARIO, ["networks=[]"], cloud=True, conversations=2, drafts=[DRAFT], links=LINKS, only=only)


@pytest.fixture(scope="module")
def explored(question: Question) -> tuple[Answer, Ready]:
    return screened(question)


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
    assert left_out.total() + len(found) == answer.space.size
    assert min(left_out.values()) > 0
    assert any("does not fit" in reason for reason in left_out)
    assert set(MEASURED) <= set(MEASURES)
    assert found.places.shape[1] == len(AXES)


def test_policies_that_cannot_be_screened_run_by_events_where_others_do_best(explored: tuple[Answer, Ready]) -> None:
    answer, ready = explored
    found = answer.found
    names = [answer.choices(place)["policy"].parts["name"] for place in range(len(found))]
    free = [row[:4] for row, name in zip(found.places.tolist(), names, strict=True) if name in ("async", "pipelined")]
    assert 0 < len(free) <= found.by_events  # pearl on one unit is another
    screen = Screen(ready)
    alone = [screen.of_target(rule, target) for rule, sites in enumerate(ready.sites) for target in range(len(sites))]
    before = TimedConfigurations.joined(alone)
    first = Answer.of(answer.space, before, answer.objective, answer.against, answer.constraints)
    best = [before.places[place].tolist() for place in first.finalists(BEST)]
    assert all(row[:4] in free for row in best if row[1] != NOWHERE)
    assert before.by_events == 0
    assert before.left_out.total() - found.left_out.total() == found.by_events == len(found) - len(before)
    assert min(found.left_out.values()) > 0


@pytest.mark.parametrize("after", [0, 1])
def test_ctrl_c_while_policies_run_by_events_keeps_what_was_screened(
    after: int, question: Question, explored: tuple[Answer, Ready], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, ready = explored
    right, done = Screen.by_events, []

    def interrupted(self: Screen, job: TimingJob, policy: Policy) -> TimedConfigurations:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(job)
        return right(self, job, policy)

    monkeypatch.setattr(Screen, "by_events", interrupted)
    found = time_space(ready, question.rank, 1, keep_partial=True).found
    assert found.interrupted
    assert found.by_events == after
    assert len(found) - after == len(whole.found) - whole.found.by_events
    assert len(found) + found.left_out.total() == len(whole.found) + whole.found.left_out.total()
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        time_space(ready, question.rank, 1)


@pytest.mark.parametrize("after", [0, 1])
def test_ctrl_c_while_finalists_are_confirmed_keeps_the_answer(
    after: int, question: Question, explored: tuple[Answer, Ready], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, ready = explored
    right = explorer.confirm

    def interrupted(*given: Any) -> Finalist:
        if given[3] > after:
            raise KeyboardInterrupt
        return right(*given)

    for name, value in (("prepare", ready), ("time_space", answer)):
        monkeypatch.setattr(explorer, name, lambda *_, value=value, **__: value)
    monkeypatch.setattr(explorer, "confirm", interrupted)
    found = explorer.explore(question, finalists=2, keep_partial=True)
    assert found.answer is answer
    assert len(found.finalists) == after
    assert found.interrupted == explorer.UNCONFIRMED
    with pytest.raises(KeyboardInterrupt):
        explorer.explore(question, finalists=2)


def test_a_target_that_no_process_survives_is_counted(explored: tuple[Answer, Ready]) -> None:
    screen = Screen(explored[1])
    for target in range(len(explored[1].sites[0])):
        whole = screen.of_target(0, target)
        _, lost = screen.lost(TimingJob(0, target), "its process died")
        assert lost.left_out == {"its process died": len(whole) + whole.left_out.total()}


@settings(max_examples=200)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=40))
def test_the_front_is_what_nothing_beats(rows: list[tuple[int, ...]]) -> None:
    costs = np.array(rows, dtype=float)
    ours = {tuple(costs[place]) for place in front(costs)}
    beaten = {tuple(row) for row in costs if any((other <= row).all() and (other < row).any() for other in costs)}
    assert ours == {tuple(row) for row in costs} - beaten
    assert len(ours) == len(front(costs))


def test_constraints_leave_what_keeps_them() -> None:
    found = TimedConfigurations(np.zeros((3, 5), np.int64), {
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


@pytest.mark.slow
def test_a_finalist_runs_live_and_gives_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    told = ["explore", str(SCENARIO), *SMALL, "--workers", "1", "--finalists", "1", "--out", str(tmp_path), "--csv",
            str(tmp_path / "all.csv"), "--plot", str(tmp_path / "all.png"),
            "--only", "target.chip=sa8295p", "--html", str(tmp_path / "page.html")]  # fmt: skip
    assert main(told) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "the same by event simulation" in shown
    assert "Pareto set of request_latency, memory, energy" in shown
    rows = list(csv.DictReader((tmp_path / "all.csv").open(encoding="utf-8", newline="")))
    latencies = [float(row["request_latency_ms.mean"]) for row in rows if row["keeps_constraints"] == "1"]
    assert latencies == sorted(latencies)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    sections = assert_self_contained(text).sections
    assert sections[:4] == ["configurations", "answers", "finalists", "best"]
    assert f"Best whole answer (mean): {latencies[0]:.4g} ms, with" in text
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    command = [sys.executable, "simulate.py", tmp_path / "orin_8295_greedy-1.yaml", "--json"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    live = json.loads(done.stdout)["speculative"]["request_latency_ms"]["mean"]
    assert live == pytest.approx(latencies[0], rel=0.01)


@pytest.mark.slow
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


def test_nothing_that_keeps_the_constraints_is_bad_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    told = ["explore", str(SCENARIO), *SMALL, "--workers", "1", "--only", "target.unit=npu",
            "--latency-target", "1", "--memory-free", "100", "--html", str(page)]  # fmt: skip
    assert main(told) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "No configuration meets the constraints" in shown
    assert "does not meet time_to_first_clause_ms.p90 <= 1" in shown
    assert "time_to_first_clause_ms.p90 <= 1: the nearest is" in shown
    text = page.read_text(encoding="utf-8")
    assert assert_self_contained(text).sections == ["configurations", "left-out", "reproduce"]
    assert "No configuration meets the constraints" in text


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (["--objective", "energie"], "Did you mean 'energy'"),
        (["--against", "memory,speed"], "'speed'"),
        (["--limit", "energy_j"], "MEASURE<=VALUE"),
        (["--limit", "energie_j<=3"], "Did you mean 'energy_j'"),
        (["--only", "target.units=npu"], "target.unit"),
        (["--only", "target.unit=dsp"], "'dsp'"),
        (["--only", "policy.name=sync", "--only", "policy.kind=pearl"], "one --only with all its values"),
        (["--only", "target.unit=cpu", "--only", "target.widths=1-128"], "choices that go together"),
        (["--links", "rope"], "'rope'"),
        (["--chips", "abacus"], "'abacus'"),
        (["--drafts", "draft-68m-llama3"], "MODEL:STAND_IN"),
        (["--latency-target", "-3"], "a number from 1e-06"),
        (["--plot", "out/x.bmp"], ".png"),
        (["--set", "policy.draft_token=3"], "draft_token"),
        (["--out", "/proc/nowhere"], "--out"),
    ],
)
def test_bad_input_is_reported_before_anything_runs(
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


def test_all_faults_are_reported_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", str(SCENARIO), "--objective", "x", "--links", "rope", "--only", "y=z"]) == 2
    shown = capsys.readouterr().err
    assert "--objective" in shown
    assert "'rope'" in shown


def test_a_space_too_large_is_asked_about(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilsim.study.explorer.MOST_UNCONFIRMED", 1000)
    assert main(["explore", str(SCENARIO)]) == 2
    assert "--yes" in capsys.readouterr().err


def test_a_scenario_that_cannot_be_explored_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explore", str(PROJECT / "scenarios/paper_table.yaml")]) == 2
    assert "synthetic logits" in capsys.readouterr().err


def test_only_some_links_are_those_that_are_screened_and_named() -> None:
    """A place in the answer is a place among the links of the space, so both lists are narrowed alike."""
    space = question_of(SCENARIO, ["networks=[]"], only=["link=1000base-t1"]).space
    assert [link.name for link in space.described_links] == [choice.name for choice in space.links] == ["1000base-t1"]


def test_a_space_counts_the_links_that_join_two_places() -> None:
    """Within the car over what is in it, out of it over the cellular link, on one chip over neither."""
    only = [
        "target.chip=sa8295p",
        "target.unit=npu",
        "target.precision=w4",
        "target.widths=1-8-128",
        "policy.kind=sync",
    ]
    space = question_of(SCENARIO, ["networks=[]"], drafts=[DRAFT], links=LINKS, only=only).space
    assert len(space.targets) == len(space.rules) == 1

    def links_each(*chips: str, **narrower: list[str]) -> float:
        mine = [choice.name for choice in space.drafts if choice.parts["chip"] in chips]
        return space.only({"draft": mine, **narrower}).size / len(space.policies) / len(mine)

    (cloud,) = {chip.name for chip in space.chips.values() if chip.place == "cloud"}
    for chip in ("drive-orin-x", "sa8295p", cloud):
        assert links_each(chip) == 1
    assert links_each("drive-orin-x", link=["cellular"]) == links_each(cloud, link=["pcie-gen3-x4"]) == 0
    assert links_each("drive-orin-x", link=["pcie-gen3-x4"]) == links_each(cloud, link=["cellular"]) == 1
    assert links_each("sa8295p", link=["cellular"]) == 1


def test_what_fits_only_under_conditions_is_counted() -> None:
    measures = {SURE: np.array([1.0, 0.0, 0.0]), WITHIN: np.array([1.0, 1.0, 0.0])}
    words = doubtful(measures)
    assert "1 of them fit over the whole range" in words
    assert "2 only under conditions" in words
    assert "1 go beyond a published limit" in words
    assert "published limit" not in doubtful({SURE: np.ones(3), WITHIN: np.ones(3)})


def test_without_cloud_no_role_of_any_configuration_is_outside_the_car() -> None:
    """The same space with and without: nothing in the cloud is left, and only what is in the cloud is missing."""
    only = ("draft.unit=gpu", "target.widths=any,1-8-128", "policy=sync 3,target_only", "target.unit=gpu,npu")
    question = question_of(SCENARIO, ["networks=[]"], conversations=2, drafts=[DRAFT], links=LINKS, only=only)
    near, far = (screened(replace(question, cloud=cloud))[0] for cloud in (False, True))

    def outside(answer: Answer, place: int) -> list[str]:
        choices = answer.choices(place)
        return [role for role in ("target", "draft") if choices[role].parts.get("chip") == "cloud-l4"]

    def inside(answer: Answer) -> set[tuple[int, ...]]:
        places = answer.found.places.tolist()
        return {tuple(row) for place, row in enumerate(places) if not outside(answer, place)}

    assert not any(outside(near, place) for place in range(len(near.found)))
    there = [roles for place in range(len(far.found)) if (roles := outside(far, place))]
    assert {tuple(roles) for roles in there} >= {("target",), ("draft",)}, "a negative control of either kind"
    assert inside(near) == inside(far)
    assert near.found.left_out[LEAVES] >= len(there)
    assert near.found.left_out.total() + len(near.found) == far.found.left_out.total() + len(far.found)


def test_a_scenario_in_the_cloud_is_reported_first_and_stays_behind_the_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    far = ["--set", "draft.chip=cloud-l4", "--set", "draft.precision=fp16", "--set", "link=cellular"]
    chosen = small("policy=sync 3,target_only", "target.chip=sa8295p")
    told = ["explore", str(SCENARIO), *chosen, *far, "--workers", "1", "--finalists", "1"]
    assert main(told) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "CONVERSATIONS LEAVE THE CAR: draft on cloud-l4" in shown
    assert "draft on cloud-l4.gpu" not in shown


def test_no_remedy_moves_anything_outside_the_car() -> None:
    """Even where one role is there: the other stays, and links that reach further are for those who go there."""
    far = ["draft.chip=cloud-l4", "draft.precision=fp16", "link=cellular"]
    setup = load_compiled(SCENARIO, far)
    moves = [change for change, _ in candidates(setup, setup.target) if any("chip=" in one for one in change)]
    assert not [change for change in moves if "target.chip=cloud-l4" in change]
    near = load_compiled(SCENARIO, [])
    offered = [override for group in changes(near) for change in group for override in change.overrides]
    assert any(one.startswith("link=") for one in offered)
    assert not [one for one in offered if "cloud" in one or one in ("link=cellular", "link=ideal")]


def test_a_finalist_says_which_assumed_figures_it_rests_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["explore", str(SCENARIO), *SMALL, "--workers", "1", "--finalists", "2", "--out", str(tmp_path),
            "--only", "policy.kind=sync", "--only", "target.unit=gpu"]  # fmt: skip
    assert main(told) == 0
    shown = " ".join(capsys.readouterr().out.split())
    document = json.loads((tmp_path / "explore.json").read_text())
    first = document["finalists"][0]
    assert f"rests on {len(first['assumptions'])} assumed figures" in shown
    assert all(figure["kind"] == "assumed" and figure["source"] for figure in first["assumptions"])
    swings = [abs(mover["at_high"] - mover["at_low"]) for mover in first["moved_most_by"]]
    assert swings == sorted(swings, reverse=True)
    assert swings[0] > 0
    # The target on what the driving stack leaves: at the low end of that assumption there is no room for it.
    assert "does not fit with drive-orin-x/memory 2 GiB" in shown
    assert {"figure": "drive-orin-x/memory", "value": 2, "unit": "GiB"} in first["does_not_fit_with"]
    assert f"{document['better_than_own']:,} of {document['ranked']:,} configurations are better" in shown
    assert (
        document["own"]
        == numbers_of(load_compiled(SCENARIO, ["networks=[]", "workload.count=2"]))["request_latency_ms.mean"]
    )


def test_what_a_set_up_rests_on_is_found_by_moving_one_figure_at_a_time() -> None:
    setup = load_compiled(SCENARIO, ["networks=[]"])
    path = "drive-orin-x/units.gpu.step_overhead"

    assert rests_on(setup, "link_bytes").movers == (), "no figure of a chip or link changes what crosses it"
    found = rests_on(setup, "request_latency_ms.mean")
    mover = next(mover for mover in found.movers if mover.figure == path)
    nominal = numbers_of(setup)["request_latency_ms.mean"]
    assert nominal is not None
    assert mover.at_low < nominal < mover.at_high
    assert found.ranged > 5
    assert limits_of(setup) == [] or all(limit.figure.endswith(("memory", "reserve")) for limit in limits_of(setup))


@pytest.mark.parametrize("width", [80, 120, 200])
def test_no_name_is_broken_or_cut_at_any_width(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    chosen = small("policy=sync 3,adaptive confidence 0.4", "target.unit=gpu,npu")
    told = ["explore", str(SCENARIO), *chosen, "--workers", "1", "--finalists", "1"]
    assert main(told) == 0
    shown = capsys.readouterr().out
    words = set(shown.split())
    for name in ("drive-orin-x.gpu", "sa8295p.gpu", "draft-68m-llama3", "pcie-gen3-x4"):
        assert name in {word.strip(",;") for word in words}, name
    assert "…" not in shown
    assert max(len(line) for line in shown.split("\n") if "python " not in line) <= width


@pytest.mark.parametrize("name", OBJECTIVES)
def test_ranking_s_order_is_the_explorer_s(
    explored: tuple[Answer, Ready], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contenders of different targets, whose speed-ups are over different baselines, in the explorer's own order."""
    monkeypatch.chdir(PROJECT)
    answer, ready = explored
    wanted = objective(name)
    targets = {str(answer.choices(place)["target"].name): place for place in range(len(answer.found))}
    chosen = list(targets.values())[:5]
    assert len(chosen) > 3
    file = tmp_path / "rows.csv"
    told = [f"--contender={' '.join(map(json.dumps, answer.overrides(place, ready.application)))}" for place in chosen]
    given = ["--set=networks=[]", "--set=workload.count=2", f"--objective={name}", "--draws=2", f"--csv={file}"]
    assert answered("ranking", str(SCENARIO), *given, *told) == 0
    rows = list(csv.DictReader(file.open(encoding="utf-8", newline="")))
    ours = [float(row[wanted.measure]) for row in rows]
    costs = wanted.of(answer.found.measures)
    expected = sorted(float(costs[place]) for place in chosen)
    assert [float(wanted.cost(np.array(value))) for value in ours] == pytest.approx(expected, rel=1e-5)
    gains = [float(row["speedup"]) for row in rows]
    if name == "request_latency":
        assert gains != sorted(gains, reverse=True), "else speed-ups would have given the same order"


@pytest.mark.parametrize(
    ("scenario", "overrides", "found"),
    [
        ("eagle3", (), "a draft head (eagle3), whose tokens depend on where rounds end"),
        ("orin_8295", ("logits={source: acceptance, file: eagle-llama-3.1-8b/sharegpt}",), "the acceptance of "),
        ("orin_8295", ("draft=null", "link=null", "policy={name: target_only}"), "no draft"),
    ],
)
def test_what_cannot_be_explored_is_refused_with_its_reason(
    scenario: str, overrides: tuple[str, ...], found: str
) -> None:
    with pytest.raises(InputError) as refused:
        question_of(PROJECT / f"scenarios/{scenario}.yaml", [*overrides, "networks=[]"])
    (fault,) = refused.value.faults
    assert fault.found.startswith(found)
    assert "python -m hilsim study" in fault.remedy


def test_an_axis_of_kinds_is_called_kind_and_its_earlier_word_is_read() -> None:
    space = question_of(SCENARIO, ["networks=[]"]).space
    rules = space.rules[0].group
    for word in ("policy.kind=sync", "policy.name=sync", f"rules.kind={rules}", f"rules.name={rules}"):
        assert 0 < narrowed(space, [word]).size <= space.size, word
    with pytest.raises(InputError) as refused:
        narrowed(space, ["policy.scheme=sync"])
    assert {"policy.kind", "rules.kind"} <= set(re.findall(r"[a-z]+\.[a-z]+", str(refused.value)))
    assert ".name" not in str(refused.value)
