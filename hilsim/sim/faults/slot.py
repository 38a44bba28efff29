"""A role's place on a unit that may be slow, hang, or restart in the middle of a step."""

from __future__ import annotations

import simpy

from hilsim.cost.timer import StepTimer
from hilsim.sim.device_slot import DeviceSlot, Process, RequestTag, TimedStep, UnitLock, now_ns
from hilsim.sim.faults.groups import Failure
from hilsim.sim.faults.health import RESTART, Broken, Health
from hilsim.sim.faults.state import PHASE_OF_STEP, FaultState
from hilsim.sim.trace import FaultRecord, Span, Trace

FAULT = "fault"  # a span's kind: time of a unit or a wire that came to nothing


class FaultySlot(DeviceSlot):
    """A device slot on a unit with a state of health. What a given-up step has taken is a span of kind `fault`.

    `passes` is how often each step is computed, to compare the results.
    """

    def __init__(
        self,
        state: FaultState,
        health: Health,
        chip: str,
        track: str,
        turn: UnitLock,
        timer: StepTimer,
        trace: Trace,
        passes: int = 1,
    ):
        super().__init__(state.env, chip, track, turn, timer, trace)
        self.state, self.health, self.passes = state, health, passes
        self.differing: list[FaultRecord] = []  # wrong rows that the comparison of the next step's passes shows

    def work(self, step: TimedStep, cause: RequestTag, position: int = -1) -> Process:
        """Wait for the unit and hold it until the step is done, is interrupted or lost.

        A lost step is reported as soon as it is noticed, and never returns.
        """
        health, epoch = self.health, self.health.epoch
        broken: Broken | None = None
        if health.down is not None:
            broken = Broken("", health.causes)
        else:
            asked = start = now_ns(self.env)
            if not self.turn.take():
                yield from self.turn.wait()
                start = now_ns(self.env)
                self.queued_ns[cause.request] = self.queued_ns.get(cause.request, 0) + start - asked
            if health.epoch != epoch:  # it has restarted in between
                self.turn.leave()
                broken = Broken(RESTART, health.emptied_by)
            else:
                broken = yield from self.occupy(step, cause, position, asked, start)
        if broken is not None:
            yield from self.state.lose_step(health, broken.by, broken.records, cause)

    def occupy(self, step: TimedStep, cause: RequestTag, position: int, asked: int, start: int) -> Process:
        """With the unit held: the step, and what the unit does before it. Returns None, or why it is broken."""
        begun, whole, given_up = not self.prepares, False, False
        try:
            if not begun:
                asked = yield from self.prepare(step.graphs, cause, asked)
                start, begun = now_ns(self.env), True
            self.state.enter(self.track, PHASE_OF_STEP[step.kind], cause)
            broken: Broken | None = yield from self.health.run(step.ns * (self.passes + bool(self.differing)))
            whole, given_up = broken is None, broken is not None
            return broken
        except simpy.Interrupt as interrupt:
            given_up = isinstance(interrupt.cause, Failure)
            raise
        except GeneratorExit:
            given_up = True
            raise
        finally:  # a step that is interrupted has held the unit as well
            now = self.turn.idle_since_ns = now_ns(self.env)
            self.state.leave(self.track)
            if begun:
                kind, rows, cached, width, *_ = step
                if given_up:
                    kind, rows, width = FAULT, 0, 0
                request, number = cause
                self.trace.add_span(
                    Span(self.track, kind, start, now, request, number, asked, now, rows, width, 0, cached, position)
                )
            if whole:
                self.note_done(step, cause)
            self.turn.leave()

    def note_done(self, step: TimedStep, cause: RequestTag) -> None:
        """A step is done: one more drafted token, or a pass that was computed again."""
        if step.kind == "draft":
            self.state.drafted[cause.request] = self.state.drafted.get(cause.request, 0) + 1
        if self.differing:
            caught, self.differing = tuple(self.differing), []
            at = now_ns(self.env) - round(step.ns * self.health.factor)
            at = max([at, *(record.hit_ns for record in caught)])
            self.state.noticed(caught, "comparison", at)
            self.state.reacted(caught, "pass computed again", at)
            self.state.recovered(caught)
