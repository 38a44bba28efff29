"""Device slots: a role's place on a unit, where steps wait for the unit and occupy it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from heapq import heappush
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, runtime_checkable

import simpy
from simpy.events import NORMAL, EventPriority

from hilsim.cost.between import FAR, Between, Graph, switching_ns, waking_ns
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import StepTimer, between_steps, graphs_of
from hilsim.sim.lock import USUAL_PRIORITY, Claim, Lock
from hilsim.sim.trace import Span, Trace

Process = Generator[simpy.Event, Any, Any]
LAST = EventPriority(2)  # behind all other events of an instant
NEW_TIMEOUT = simpy.Timeout.__new__


# The clock. SimPy types it as a number that may be a float; whole nanoseconds in, whole nanoseconds out.
# What `Environment.now` returns, without a call of a Python function for every look at the clock.
now_ns: Callable[[simpy.Environment], int] = attrgetter("_now")


def elapse(env: simpy.Environment, took_ns: int, priority: EventPriority = NORMAL) -> simpy.Event:
    """What `env.timeout` gives, in fewer calls: most events of a run are these."""
    event = NEW_TIMEOUT(simpy.Timeout)
    event.env, event.callbacks, event._value, event._delay, event._ok = env, [], None, took_ns, True
    heappush(env._queue, (env._now + took_ns, priority, next(env._eid), event))
    return event


def behind_all(env: simpy.Environment) -> simpy.Event:
    """An event that succeeds now, behind everything else that happens at this instant."""
    return elapse(env, 0, LAST)


NO_REQUEST = -1  # what a span of work beside all requests is tagged with


class RequestTag(NamedTuple):
    """The request and round that a span belongs to."""

    request: int
    round: int


class TimedStep(NamedTuple):
    """A step with its time on the slot that runs it, and the graphs that it runs; `kind` is that of its span.

    Where other work runs beside it, also the `step` as it was asked for, the bytes that it moves, and the shares of its
    time after which each of its graphs is over.
    """

    kind: str
    rows: int
    cached: int
    width: int
    ns: int
    graphs: tuple[Graph, ...] = ()
    step: Step | None = None
    nbytes: int = 0
    ends: tuple[float, ...] = (1.0,)


class Divisible(Protocol):
    """What holds a unit and may give it up before it is done."""

    def asked(self, claim: Claim) -> None:
        """Another one waits for the unit."""

    def withdraw(self, owner: Hashable) -> None:
        """Give the unit up for good, where this is the owner's."""


class UnitLock(Lock):
    """A unit's one lock, which all models on it share, with the graph that it ran last and since when it is idle.

    `divisible` is what holds it at the moment, where that may give way.
    """

    __slots__ = ("divisible", "graph", "idle_since_ns")

    def __init__(self, env: simpy.Environment):
        super().__init__(env)
        self.graph: Graph | None = None
        self.idle_since_ns = -FAR
        self.divisible: Divisible | None = None

    def enter(self, claim: Claim) -> None:
        super().enter(claim)
        if self.divisible is not None:
            self.divisible.asked(claim)

    def leave(self, priority: int = USUAL_PRIORITY) -> None:
        """Hand the unit over; where all that wait have lower priority, only after all that happens at this instant.

        So one of higher priority that asks again at once, as for its next step, goes before them.
        """
        if not self.waiting:
            self.taken = False
        elif self.waiting[0].priority > priority:
            later = behind_all(self.env)
            later.callbacks.append(lambda _: super(UnitLock, self).leave())
        else:
            super().leave()

    def withdraw(self, owner: Hashable) -> None:
        super().withdraw(owner)
        if self.divisible is not None:
            self.divisible.withdraw(owner)


class Occupant:
    """What takes turns on a unit, and pays what the unit costs `between` passes."""

    def __init__(self, env: simpy.Environment, track: str, turn: UnitLock, trace: Trace, between: Between):
        self.env, self.track, self.turn, self.trace, self.between = env, track, turn, trace, between
        self.prepares, self.watched, self.add_span = between.costs, trace.watched, trace.add_span

    def prepare(self, graphs: tuple[Graph, ...], cause: RequestTag, asked_ns: int) -> Process:
        """With the unit held: wake it up, and change to each of the graphs that is not the last one run.

        Where a step runs several graphs, all changes are charged before it. Returns since when the step has been
        waiting: now, where anything was paid, which has spans of its own.
        """
        idle_ns = now_ns(self.env) - self.turn.idle_since_ns
        asked_ns = yield from self.hold("wake", waking_ns(self.between, idle_ns), cause, asked_ns)
        for graph in graphs:
            if graph != self.turn.graph:
                asked_ns = yield from self.hold("switch", switching_ns(self.between, 1), cause, asked_ns)
                self.turn.graph = graph
        return asked_ns

    def hold(self, kind: str, took_ns: int, cause: RequestTag, asked_ns: int) -> Process:
        """Occupy the unit for so long; returns when that is over, or `asked_ns` where it takes no time."""
        if not took_ns:
            return asked_ns
        start = now_ns(self.env)
        try:
            yield from self.spend(kind, took_ns, cause)
        finally:
            now = now_ns(self.env)
            self.add_span(Span(self.track, kind, start, now, cause.request, cause.round, asked_ns, now))
        return now

    def spend(self, kind: str, took_ns: int, cause: RequestTag) -> Process:
        """Let so much time of the unit pass."""
        yield elapse(self.env, took_ns)


class DeviceSlot(Occupant):
    """A role's place on a unit: its timer, and the unit's one lock."""

    def __init__(self, env: simpy.Environment, chip: str, track: str, turn: UnitLock, timer: StepTimer, trace: Trace):
        super().__init__(env, track, turn, trace, between_steps(timer))
        self.chip, self.timer = chip, timer
        self.timed: dict[tuple[Phase, int, int, bool, int | None], TimedStep] = {}
        self.queued_ns: dict[int, int] = {}  # by request: waiting for the unit, until now
        self.preface = 0  # positions in the cache before every conversation: system prompt, tools, passages

    def step(self, phase: Phase, rows: int, cached: int, tree: bool = False, logits: int | None = None) -> TimedStep:
        """A step of `rows` new positions after `cached` ones (see `Step`); the same always takes the same time."""
        timed = self.timed.get((phase, rows, cached, tree, logits))
        if timed is None:
            step = Step(phase, rows, self.preface + cached, tree=tree, logits=logits)
            graphs = graphs_of(self.timer, step) if self.prepares else ()
            timed = TimedStep(phase.value, rows, cached, self.timer.width(step), self.timer.duration_ns(step), graphs)
            self.timed[phase, rows, cached, tree, logits] = timed
        return timed

    def expected_ns(self, phase: Phase, rows: int, cached: int) -> int:
        """Nanoseconds that a step would take; nothing is executed."""
        return self.step(phase, rows, cached).ns

    def switch_ns(self, phase: Phase, rows: int, cached: int) -> int:
        """Nanoseconds of changing the graph, were such a step the next on the unit."""
        if not self.between.switch_ns:
            return 0
        graphs = self.step(phase, rows, cached).graphs
        return switching_ns(self.between, len(graphs) - (graphs[0] == self.turn.graph))

    def single_ns(self, cached: int) -> int:
        """Nanoseconds of one plain decode step with so many positions in the cache."""
        return self.expected_ns(Phase.DECODE, 1, cached)

    def work(self, step: TimedStep, cause: RequestTag, position: int = -1) -> Process:
        """Wait for the unit, hold it for as long as the step takes, or until interrupted.

        `position` is the place in the conversation that a draft step proposes a token for.
        """
        env, turn = self.env, self.turn
        asked = start = now_ns(env)
        if not turn.take():
            yield from turn.wait()
            start = now_ns(env)
            self.queued_ns[cause.request] = self.queued_ns.get(cause.request, 0) + start - asked
        begun = not self.prepares
        try:
            if not begun:
                asked = yield from self.prepare(step.graphs, cause, asked)
                start, begun = now_ns(env), True
            yield elapse(env, step.ns)
        finally:  # a step that is interrupted has held the unit as well
            now = turn.idle_since_ns = now_ns(env)
            if begun and self.watched:
                kind, rows, cached, width = step[:4]
                request, number = cause
                self.add_span(
                    (self.track, kind, start, now, request, number, asked, now, rows, width, 0, cached, position, ())
                )
            turn.leave()


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

    def step(self, phase: Phase, rows: int, cached: int, tree: bool = False, logits: int | None = None) -> TimedStep:
        """Have a step executed; repeated, the same step takes another time."""
        step = Step(phase, rows, cached, tree=tree, logits=logits)
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
