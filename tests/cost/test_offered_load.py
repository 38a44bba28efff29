"""The load that passengers and background tasks offer to units, by hand; from 1 on a scenario does not run."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hilsim.compiler.compile_check import compiled
from hilsim.cost.offered_load import load_faults, offered_load
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.measure.fairness import utilisation
from hilsim.sim.run import simulate
from tests.scenes import shipped, synthetic, table_setup

# The table scenario's target reads a question in 100 ms and makes 10 further tokens in 50 ms each: 0.6 s a question.
ALONE = ("policy={name: target_only}", "draft=null", "link=null")
TARGET = "paper-target.any"


def asking(folder: Path, per_hour: float, *overrides: str, more: str = "") -> Setup:
    """The table scenario's target alone, and a passenger who asks at random."""
    passenger = f"{{name: Ann, arrivals: {{kind: poisson, per_hour: {per_hour}}}{more}}}"
    return table_setup(folder, *ALONE, f"passengers=[{passenger}]", *overrides)


def task(work_ms: float, period_ms: float) -> str:
    """Background on the target's unit."""
    place = "chip: paper-target, unit: any"
    return f"background=[{{name: camera, {place}, period_ms: {period_ms}, work: {{ms: {work_ms}}}}}]"


def test_utilisation_is_rate_times_work(tmp_path: Path) -> None:
    loads = offered_load(asking(tmp_path, 3000, task(5, 20)), None)
    assert loads == {TARGET: {"camera": 0.25, "Ann": pytest.approx(3000 / 3600 * 0.6)}}


@pytest.mark.parametrize(("per_hour", "served"), [(5990, True), (6010, False)])
def test_the_limit_is_one(tmp_path: Path, per_hour: float, served: bool) -> None:
    setup = asking(tmp_path, per_hour)
    assert (not list(load_faults(setup, None))) == served
    if not served:
        with pytest.raises(InputError, match=r"passengers: found a utilisation of 1.00 of paper-target.any, which can"):
            compiled(setup)


def test_background_alone_and_both_together(tmp_path: Path) -> None:
    (alone,) = load_faults(asking(tmp_path, 60, task(21, 20)), None)
    assert alone.place == "background"
    assert "utilisation of 1.06 of paper-target.any" in alone.found
    assert "(camera 1.05, Ann 0.01)" in alone.found
    (both,) = load_faults(asking(tmp_path, 3600, task(10, 20)), None)
    assert (both.place, "utilisation of 1.10" in both.found) == ("passengers", True)
    assert not list(load_faults(asking(tmp_path, 1800, task(10, 20)), None))


def test_a_memory_is_offered_the_bytes_of_tasks_streams_and_stages(tmp_path: Path) -> None:
    """Of 1000 GB/s: a stream of 400 for 3/4 of the time is 0.3, work of 10 GB every 20 ms 0.5; 0.19 more fit."""

    def beside(megabytes: float) -> Setup:
        place = "chip: paper-target, period_ms: 20"
        return asking(
            tmp_path, 60,
            f"background=[{{name: camera, {place}, gigabytes_per_s: 400, duty: 0.75}},"
            f" {{name: drawing, {place}, unit: any, work: {{ms: 2, megabytes: 10000}}}},"
            f" {{name: map, {place}, unit: any, work: {{ms: 2, megabytes: {megabytes}}}}}]",
        )  # fmt: skip

    loads = offered_load(beside(3800), None)["paper-target.memory"]
    assert loads == pytest.approx({"camera": 0.3, "drawing": 0.5, "map": 0.19})
    assert not list(load_faults(beside(3800), None))
    (fault,) = load_faults(beside(4200), None)
    assert fault.place == "background"
    assert "utilisation of 1.01 of paper-target.memory" in fault.found
    assert "(drawing 0.50, camera 0.30, map 0.21)" in fault.found


@pytest.mark.parametrize("more", [", queue_limit: 3", ", patience_s: 5"])
def test_questions_that_may_be_lost_are_no_load(tmp_path: Path, more: str) -> None:
    assert offered_load(asking(tmp_path, 60_000, more=more), None) == {}


def test_pauses_wait_for_the_answer_and_instants_are_a_rate_over_the_trip(tmp_path: Path) -> None:
    closed = table_setup(tmp_path, *ALONE, "passengers=[{name: Ann, arrivals: {kind: pauses, pause_s: 0}}]")
    assert offered_load(closed, None) == {}
    given = "passengers=[{name: Ann, arrivals: {kind: times, at_s: [0, 1, 2, 3, 4]}}]"
    assert offered_load(table_setup(tmp_path, *ALONE, given), None) == {}
    listed = table_setup(tmp_path, *ALONE, given, "trip={minutes: 0.1}")
    assert offered_load(listed, None) == {TARGET: {"Ann": pytest.approx(5 * 0.6 / 6)}}


def test_speculation_counts_with_the_acceptance_that_is_known(tmp_path: Path) -> None:
    """All of 4 drafts accepted: 10 tokens are two rounds of a verify of 60 ms and four drafts of 5 ms."""
    asks = "passengers=[{name: Ann, arrivals: {kind: poisson, per_hour: 3600}}]"
    loads = offered_load(table_setup(tmp_path, asks), None)
    assert loads[TARGET]["Ann"] == pytest.approx(0.1 + 2 * 0.06)
    assert loads["paper-draft.any"]["Ann"] == pytest.approx(0.02 + 2 * 4 * 0.005)
    never = offered_load(table_setup(tmp_path, asks, "logits.acceptance=0"), None)
    assert never[TARGET]["Ann"] == pytest.approx(0.1 + 10 * 0.06)


def test_a_passenger_has_one_turn_after_another(tmp_path: Path) -> None:
    """At 1.25 tokens a word and 2 words a second: 10 tokens of the question 4 s, a wait of 0.5 s, 11 tokens 4.4 s."""
    speech = "speech={playback: {words_per_s: 2, tokens_per_word: 1.25}}"
    (fault,) = load_faults(asking(tmp_path, 500, speech), None)
    assert (fault.place, "utilisation of 1.24 of Ann" in fault.found) == ("passengers[0].arrivals", True)
    assert "8.9 s" in fault.found
    assert not list(load_faults(asking(tmp_path, 400, speech), None))


def test_the_units_of_a_run_are_as_busy_as_was_offered(tmp_path: Path) -> None:
    """600 questions at random; within four standard errors of their number."""
    setup = asking(tmp_path, 3000, "workload.requests=600")
    trace = simulate(setup, synthetic(setup))
    offered, busy = sum(offered_load(setup, None)[TARGET].values()), sum(utilisation(trace)[TARGET].values())
    assert len(trace.requests) == 600
    assert busy == pytest.approx(offered, rel=4 / math.sqrt(600))
    assert busy == pytest.approx(600 * 0.6e9 / trace.end_ns)


def test_a_batch_shares_its_steps(tmp_path: Path) -> None:
    """A GPU reads weights once for all sessions of a batch, so that many passengers are less than as many times one."""
    gpu = ("target.chip=drive-orin-x", "target.unit=gpu", "target.precision=w4", "target.head=logits", *ALONE,
           "networks=[]", "logits={source: synthetic, acceptance: 0.5}",
           "workload={requests: 4, prompt_tokens: 20, output_tokens: 100}")  # fmt: skip

    def load(count: int, *overrides: str) -> float:
        asks = ", ".join(f"{{name: p{n}, arrivals: {{kind: poisson, per_hour: 60}}}}" for n in range(count))
        setup = shipped("orin_8295_greedy", *gpu, f"passengers=[{asks}]", *overrides)
        return sum(offered_load(setup, None)["drive-orin-x.gpu"].values())

    assert load(4, "target.batch=1") == pytest.approx(4 * load(1))
    assert load(4) < 2 * load(1)


def test_recorded_answers_have_a_length_and_live_ones_are_not_guessed(tmp_path: Path) -> None:
    asks = "passengers=[{name: Ann, arrivals: {kind: poisson, per_hour: 60}}]"
    live = shipped("orin_8295_greedy", asks)
    track = live.target.track
    few, many = (offered_load(live, tokens)[track]["Ann"] for tokens in (None, 40.0))
    assert few < many


def test_a_deadline_below_the_work_alone_is_a_fault_and_one_above_is_none(tmp_path: Path) -> None:
    def found(deadline_ms: float) -> list[str]:
        task = f"{{name: camera, unit: any, period_ms: 100, deadline_ms: {deadline_ms}, work: {{ms: 20}}}}"
        return [fault.place for fault in load_faults(table_setup(tmp_path, f"background=[{task}]"), None)]

    assert found(19.9) == ["background[0].deadline_ms"]
    assert found(20) == []
