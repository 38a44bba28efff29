"""Measured units in the simulation: a chip that takes as long as the chip model says leaves the same trace."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.setup import Setup
from hilsim.errors import ChipLost
from hilsim.hardware.measured.rig import Rig, RigUnit
from hilsim.hardware.measured.unit import MeasuredUnit
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, StepRequest, StepResult
from hilsim.runs.run import Sources, run_both
from hilsim.sim.trace import Trace
from hilsim.sources.live import Clock, Passes, StandIns, load_stand_ins
from hilsim.units import NS_PER_MS
from tests.scenes import shipped

FEW = ("networks=[]", "workload.count=1", "workload.max_turns=2", "workload.max_new_tokens=24")
POLICIES = {
    "target_only": "{name: target_only}",
    "sync": "{name: sync, draft_tokens: 4}",
    "expected": "{name: adaptive, rule: expected, draft_tokens: 6}",
    "pearl": "{name: pearl, draft_tokens: 4}",
    "async": "{name: async}",
    "pipelined": "{name: pipelined, draft_tokens: 3}",
    "fallback": "{name: sync, draft_tokens: 4, fallback: {window: 2, margin: 9, rest_tokens: 3}}",
}


class ModelChip:
    """A chip that computes with the stand-ins and takes what `timers` say, `more_ns` beside it; it may break."""

    def __init__(self, setup: Setup, stand_ins: StandIns, more_ns: int = 0):
        context = setup.scenario.context_tokens
        self.timers = {role: timer_for(placed, context) for role, placed in setup.roles.items()}
        self.passes = {role: Passes(net, context, Clock()) for role, net in stand_ins.networks.items()}
        self.widths = {role: placed.widths for role, placed in setup.roles.items()}
        self.held: dict[str, tuple[int, ...]] = {}
        self.more_ns, self.asked = more_ns, 0
        self.breaks: Callable[[StepRequest, int], AgentFault | None] = lambda ask, number: None
        self.closed = False

    def load(self, model: str) -> ModelFacts:
        return ModelFacts(model, 2048, 1024, self.widths[model], ("logits", "tokens"))

    def execute(self, ask: StepRequest) -> StepResult:
        self.asked += 1
        fault = self.breaks(ask, self.asked)
        if fault is not None:
            raise fault
        duration = self.timers[ask.model].duration_ns(Step(Phase(ask.phase), ask.rows, ask.cached)) + self.more_ns
        rows = None
        if ask.want != "nothing":
            held = self.held.get(ask.model, ())
            agreed = next((i for i, (a, b) in enumerate(zip(held, ask.tokens, strict=False)) if a != b), len(held))
            keep = min(agreed, ask.cached, len(ask.tokens))
            rows = np.stack(list(self.passes[ask.model](ask.tokens, keep, ask.wanted) or ()))
            self.held[ask.model] = ask.tokens
        return StepResult(duration, rows)

    def close(self) -> None:
        self.closed = True


@cache
def scene(policy: str, *more: str) -> tuple[Setup, StandIns]:
    """A short talk on the shipped pair of chips."""
    setup = shipped("orin_8295_greedy", f"policy={POLICIES[policy]}", *FEW, *more)
    return setup, load_stand_ins(setup)


def benched(setup: Setup, chip: ModelChip, stand_in: Callable[[], ModelChip | None] = lambda: None) -> Rig:
    """All units of a scenario behind one chip."""
    places = {}
    for name, backend in setup.scenario.units.items():
        placed = next(p for p in setup.roles.values() if name == p.placement.unit)
        facts = {role: chip.load(role) for role, p in setup.roles.items() if p.track == placed.track}
        unit = MeasuredUnit(placed.track, name, backend, chip, facts, lambda *_: None, stand_in)
        places[placed.track] = RigUnit(name, backend, unit, chip, {}, None)
    return Rig(setup, places)


def with_units(*settings: str) -> tuple[str, ...]:
    """Both units behind something, and what else is set for both."""
    return tuple(
        f"units.{unit}.{setting}" for unit in ("npu", "gpu") for setting in ("backend=tcp://127.0.0.1:1", *settings)
    )


def told(trace: Trace) -> tuple[object, ...]:
    """All that a trace says."""
    return (trace.spans, [r._replace(margins=()) for r in trace.rounds], trace.requests, trace.end_ns)


def both(setup: Setup, rig: Rig | None = None) -> tuple[Trace, Trace]:
    outcome = run_both(setup, Sources(setup, rig=rig))
    return outcome.baseline, outcome.speculative or outcome.baseline


@pytest.mark.parametrize("words", ["logits", "stand_in"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_chip_that_takes_the_times_of_the_model_leaves_the_same_trace(policy: str, words: str) -> None:
    setup, stand_ins = scene(policy)
    measured, _ = scene(policy, *with_units(f"words={words}", "warm_up=0"))
    simulated = both(setup)
    chip = ModelChip(measured, stand_ins)
    for ours, theirs in zip(both(measured, benched(measured, chip)), simulated, strict=True):
        assert told(ours) == told(theirs)
    assert chip.asked > 0


def test_a_chip_that_takes_a_nanosecond_more_does_not() -> None:
    setup, stand_ins = scene("sync")
    measured, _ = scene("sync", *with_units("warm_up=0"))
    rig = benched(measured, ModelChip(measured, stand_ins, more_ns=1))
    ours, theirs = both(measured, rig)[1], both(setup)[1]
    steps = [span for span in ours.spans if span.track in ours.units]
    assert sum(span.end_ns - span.start_ns for span in ours.spans if span in steps) == len(steps) + sum(
        span.end_ns - span.start_ns for span in theirs.spans if span.track in theirs.units
    )


def test_most_steps_are_charged_by_the_very_execution_that_spoke() -> None:
    """In a first turn only what nobody speaks in, the draft's reading of the question, is executed for its time."""
    setup, stand_ins = scene("sync", *with_units("warm_up=0"), "workload.max_turns=1")
    rig = benched(setup, ModelChip(setup, stand_ins))
    both(setup, rig)
    uses = [(step.use, step.ask.phase) for place in rig.places.values() for step in place.unit.executed]
    assert [phase for use, phase in uses if use == "timed"] == ["draft prefill"]
    assert len(uses) >= 15


def test_warm_up_runs_are_thrown_away_and_of_repeats_the_median_counts() -> None:
    setup, stand_ins = scene("target_only", *with_units("warm_up=2", "repeats=3"))
    chip, times = ModelChip(setup, stand_ins), iter([900, 800, 5, 50, 7] + [6] * 10_000)
    execute = chip.execute

    def timed(ask: StepRequest) -> StepResult:
        return StepResult(next(times) * 1000, execute(ask).rows)

    chip.execute = timed  # type: ignore[method-assign]
    trace, _ = both(setup, benched(setup, chip))
    first = next(span for span in trace.spans if span.kind == "prefill")
    assert first.end_ns - first.start_ns == 7000


STALL = AgentFault("stalled", "nothing for 50 ms")
CHOICES = ("retries=1", "on_fault=simulated")


@pytest.mark.parametrize("choice", CHOICES)
def test_a_stall_costs_its_timeout_once_and_nothing_else(choice: str) -> None:
    setup, stand_ins = scene("sync")
    measured, _ = scene("sync", *with_units("warm_up=0", "timeout_ms=50", choice))
    chip = ModelChip(measured, stand_ins)
    chip.breaks = lambda ask, number: STALL if ask.phase == "verify" and number == stalls_at else None
    stalls_at = next(number for number, phase in asked(measured, stand_ins) if phase == "verify")
    rig = benched(measured, chip)
    baseline, ours = both(measured, rig)
    plain, theirs = both(setup)
    assert told(baseline) == told(plain)
    assert [r.answer for r in ours.requests] == [r.answer for r in theirs.requests]
    assert ours.end_ns - theirs.end_ns == 50 * NS_PER_MS
    (fault,) = [span for span in ours.spans if span.kind == "fault"]
    assert fault.end_ns - fault.start_ns == 50 * NS_PER_MS
    (trouble,) = [t for place in rig.places.values() for t in place.unit.troubles]
    assert (trouble.kind, trouble.cost_ns) == ("stalled", 50 * NS_PER_MS)


def asked(setup: Setup, stand_ins: StandIns) -> list[tuple[int, str]]:
    """What a run without faults asks, in order."""
    chip, found = ModelChip(setup, stand_ins), []

    def listens(ask: StepRequest, number: int) -> None:
        found.append((number, ask.phase))

    chip.breaks = listens  # type: ignore[assignment]
    both(setup, benched(setup, chip))
    return found


@pytest.mark.parametrize("kind", ["died", "garbage", "unreachable", "engine", "version", "refused"])
def test_a_fault_that_nothing_mends_ends_the_run_with_what_was_answered(kind: str) -> None:
    setup, stand_ins = scene("sync", *with_units("warm_up=0"))
    chip = ModelChip(setup, stand_ins)
    last = asked(setup, stand_ins)[-1][0]
    chip.breaks = lambda ask, number: AgentFault(kind, "so it is") if number == last - 2 else None  # type: ignore[arg-type]
    rig = benched(setup, chip)
    outcome = run_both(setup, Sources(setup, rig=rig))
    assert outcome.baseline.lost is None
    assert outcome.speculative is not None
    lost = outcome.speculative.lost
    assert isinstance(lost, ChipLost)
    assert lost.args[1:3] == (kind, "so it is")
    assert len(outcome.speculative.requests) == len(outcome.baseline.requests) - 1
    assert chip.closed is False  # the rig closes what it has opened


def test_refusals_are_not_tried_again() -> None:
    setup, stand_ins = scene("sync", *with_units("warm_up=0", "retries=5"))
    chip = ModelChip(setup, stand_ins)
    chip.breaks = lambda ask, number: AgentFault("refused", "no") if number >= 4 else None
    run_both(setup, Sources(setup, rig=benched(setup, chip)))
    assert chip.asked == 4


def test_a_chip_that_breaks_again_and_again_is_tried_so_often_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hilsim.hardware.measured.unit.time.sleep", lambda seconds: None)
    setup, stand_ins = scene("sync", *with_units("warm_up=0", "retries=3"))
    chip = ModelChip(setup, stand_ins)
    chip.breaks = lambda ask, number: AgentFault("died", "gone") if number >= 4 else None
    rig = benched(setup, chip)
    run_both(setup, Sources(setup, rig=rig))
    assert chip.asked == 4 + 3
    thens = [t.then for place in rig.places.values() for t in place.unit.troubles]
    assert thens == ["tried again"] * 3 + ["the run ended"]


def test_another_chip_goes_on_where_one_stands_by() -> None:
    """The same words from the second chip, and its own times."""
    setup, stand_ins = scene("sync")
    measured, _ = scene("sync", *with_units("warm_up=0", "on_fault=recording://other.jsonl"))
    chip, other = ModelChip(measured, stand_ins), ModelChip(measured, stand_ins)
    chip.breaks = lambda ask, number: AgentFault("died", "gone") if number >= 30 else None
    rig = benched(measured, chip, lambda: other)
    for ours, theirs in zip(both(measured, rig), both(setup), strict=True):
        assert told(ours) == told(theirs)
    assert chip.closed
    assert other.asked > 0
