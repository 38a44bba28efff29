"""Device slots: a role's place on a unit, where steps wait for the unit and occupy it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import simpy

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import StepTimer, network_ns
from hilsim.describe.setup import PlacedNetwork
from hilsim.sim.lock import Lock
from hilsim.sim.trace import Span, Trace

Process = Generator[simpy.Event, Any, Any]


def now_ns(env: simpy.Environment) -> int:
    """The clock. SimPy types it as a float; whole nanoseconds in, whole nanoseconds out."""
    return int(env.now)


class RequestTag(NamedTuple):
    """The request and round that a span belongs to."""

    request: int
    round: int


class TimedStep(NamedTuple):
    """A step with its time on the slot that runs it; `kind` is that of its span."""

    kind: str
    rows: int
    cached: int
    width: int
    ns: int


class DeviceSlot:
    """A role's place on a unit: its timer, and the unit's one lock, which all models on it share."""

    def __init__(self, env: simpy.Environment, chip: str, track: str, turn: Lock, timer: StepTimer, trace: Trace):
        self.env, self.chip, self.track, self.turn, self.timer, self.trace = env, chip, track, turn, timer, trace
        self.timed: dict[tuple[Phase, int, int], TimedStep] = {}
        self.queued_ns: dict[int, int] = {}  # by request: waiting for the unit, until now

    def step(self, phase: Phase, rows: int, cached: int) -> TimedStep:
        """A step of `rows` new positions after `cached` ones; the same step always takes the same time."""
        timed = self.timed.get((phase, rows, cached))
        if timed is None:
            step = Step(phase, rows, cached)
            timed = TimedStep(phase.value, rows, cached, self.timer.width(step), self.timer.duration_ns(step))
            self.timed[phase, rows, cached] = timed
        return timed

    def expected_ns(self, phase: Phase, rows: int, cached: int) -> int:
        """Nanoseconds that a step would take; nothing is executed."""
        return self.step(phase, rows, cached).ns

    def single_ns(self, cached: int) -> int:
        """Nanoseconds of one plain decode step with so many positions in the cache."""
        return self.expected_ns(Phase.DECODE, 1, cached)

    def work(self, step: TimedStep, cause: RequestTag, position: int = -1) -> Process:
        """Wait for the unit, hold it for as long as the step takes, or until interrupted.

        `position` is the place in the conversation that a draft step proposes a token for.
        """
        asked = start = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
            start = now_ns(self.env)
            self.queued_ns[cause.request] = self.queued_ns.get(cause.request, 0) + start - asked
        try:
            yield self.env.timeout(step.ns)
        finally:  # a step that is interrupted has held the unit as well
            now = now_ns(self.env)
            kind, rows, cached, width, _ = step
            request, number = cause
            self.trace.add_span(
                Span(self.track, kind, start, now, request, number, asked, now, rows, width, 0, cached, position)
            )
            self.turn.leave()


@runtime_checkable
class MeasuringTimer(StepTimer, Protocol):
    """A timer that has a chip execute each step and returns how long that took."""

    def expected_ns(self, step: Step) -> int:
        """Nanoseconds that such a step will take, estimated from earlier ones; nothing is executed."""
        ...

    def lost_ns(self) -> int:
        """Nanoseconds lost to faults since the last call."""
        ...


class MeasuredSlot(DeviceSlot):
    """A role's place on a real unit, or on a recording of one."""

    timer: MeasuringTimer

    def step(self, phase: Phase, rows: int, cached: int) -> TimedStep:
        """Have a step executed; repeated, the same step takes another time."""
        step = Step(phase, rows, cached)
        taken = self.timer.duration_ns(step)
        return TimedStep(phase.value, rows, cached, self.timer.width(step), taken)

    def expected_ns(self, phase: Phase, rows: int, cached: int) -> int:
        return self.timer.expected_ns(Step(phase, rows, cached))

    def work(self, step: TimedStep, cause: RequestTag, position: int = -1) -> Process:
        """First the time lost to faults, on the unit's track, then the step."""
        lost = self.timer.lost_ns()
        if lost:
            yield from super().work(TimedStep("fault", 0, step.cached, 0, lost), cause)
        yield from super().work(step, cause, position)


class Watcher:
    """A network beside the language model: it occupies its unit once per question."""

    def __init__(self, env: simpy.Environment, network: PlacedNetwork, turn: Lock, trace: Trace):
        self.env, self.track, self.turn, self.trace = env, network.track, turn, trace
        self.pass_ns = network_ns(network)

    def work(self, cause: RequestTag) -> Process:
        """Wait for the unit and hold it for one pass."""
        asked = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
        start = now_ns(self.env)
        try:
            yield self.env.timeout(self.pass_ns)
        finally:
            self.turn.leave()
        now = now_ns(self.env)
        self.trace.add_span(Span(self.track, "network", start, now, cause.request, cause.round, asked, now, 1, 1))
