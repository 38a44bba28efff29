"""The shipped trips: whether their budget holds, that nothing is lost on the way, and how long a run takes."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from hilsim.cost.verdict import check
from hilsim.measure.turns import held_against, outcomes_of
from hilsim.runs.run import Sources
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.study.budget import keep_budget, over_limits
from tests.scenes import shipped

TRIPS = ("trip", "trip_over_budget", "voice_orin_nano")
MOST_S = 20.0  # of one core, for half an hour


def ran(name: str, *overrides: str, keep: bool = True) -> Trace:
    setup = shipped(name, *overrides)
    return simulate(setup, Sources(setup).fresh("policy"), keep=keep)


@pytest.mark.parametrize("name", TRIPS)
def test_trips_fit(name: str) -> None:
    check(shipped(name)).require()


@pytest.mark.parametrize("name", ["trip", "trip_over_budget"])
def test_nothing_is_lost_in_the_first_minutes(name: str) -> None:
    """Every turn has an outcome, every release is finished, missed or under way, no unit does two things at once."""
    trace = ran(name, "trip.minutes=3")
    assert len(trace.turns) == sum(outcomes_of(trace.turns).values()) > 0
    assert sorted(turn.number for turn in trace.turns) == list(range(len(trace.turns)))
    asked = [turn.request for turn in trace.turns if turn.request >= 0]
    assert sorted(asked) == sorted({record.number for record in trace.requests})
    for task in trace.tasks.values():
        assert task.finished <= task.released <= task.finished + task.missed + 1
        assert abs(task.released * task.period_ns - trace.end_ns) <= 2 * task.period_ns
    for track in trace.units:
        spans = sorted((span for span in trace.spans if span.track == track), key=lambda span: span.start_ns)
        assert all(before.end_ns <= after.start_ns for before, after in pairwise(spans)), track


def test_the_same_luck_whatever_the_policy() -> None:
    """Questions that come at random, or at given times, come at the same instants without a draft."""
    calm = ("trip.minutes=3", "speech.barge_in=null", "speech.budget.reaction_ms=null")
    with_draft = ran("trip", *calm, keep=False)
    without = ran("trip", *calm, "policy={name: target_only}", keep=False)

    def wanted(trace: Trace) -> list[tuple[int, str]]:
        return sorted((turn.wanted_ns, turn.passenger) for turn in trace.turns if turn.passenger in ("driver", "front"))

    assert wanted(with_draft) == wanted(without) != []


@pytest.mark.slow
def test_half_an_hour_keeps_its_budget_and_takes_seconds() -> None:
    setup = shipped("trip")
    sources = Sources(setup)
    began = time.process_time()
    trace = simulate(setup, sources.fresh("policy"), keep=False)
    assert time.process_time() - began < MOST_S
    assert trace.end_ns >= 30 * 60 * 10**9
    assert over_limits(setup, trace) == 0
    assert {passenger.name for passenger in setup.scenario.passengers} == {turn.passenger for turn in trace.turns}
    assert outcomes_of(trace.turns)["interrupted"] >= 1
    assert all(task.missed == 0 for task in trace.tasks.values())


@pytest.mark.slow
def test_the_trip_over_budget_is_told_what_keeps_it() -> None:
    """Made as `--set`, the changes keep it; each of them is needed."""
    setup = shipped("trip_over_budget")
    trace = simulate(setup, Sources(setup).fresh("policy"), keep=False)
    assert setup.scenario.speech is not None
    assert any(limit.broken for limit in held_against(setup.scenario.speech.budget, trace.turns))
    assert trace.tasks["driver_monitor"].missed > 0
    remedy = keep_budget(setup, trace, Sources(setup))
    assert remedy is not None
    assert remedy.holds
    arguments = [override for change in remedy.changes for override in change.overrides]
    changed = shipped("trip_over_budget", *arguments)
    assert over_limits(changed, simulate(changed, Sources(changed).fresh("policy"), keep=False)) == 0
