"""A role's place on a unit that has company: its steps share the memory and give the unit up between graphs."""

from __future__ import annotations

from functools import partial

import simpy

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import StepTimer, boundaries_of, bytes_of
from hilsim.sim.device_slot import DeviceSlot, Process, RequestTag, TimedStep, UnitLock, now_ns
from hilsim.sim.lock import USUAL_PRIORITY
from hilsim.sim.place import Company, Yielding
from hilsim.sim.shared_chip import Job, SharedChip
from hilsim.sim.trace import Fellow, Trace
from hilsim.units import NS_PER_S


class CompanySlot(Yielding, DeviceSlot):
    """A device slot on a shared chip.

    Between the graphs of a step it gives the unit up where a request of higher priority waits, or another request of
    its own priority, and queues again for the rest. Requests of one priority take turns only where changing the graph
    costs nothing: where it does, a runtime runs the whole step. `levels` are the timers by level of the chip.
    """

    shared: SharedChip
    most = 1  # sessions whose steps it computes as one

    def __init__(
        self,
        env: simpy.Environment,
        chip: str,
        track: str,
        turn: UnitLock,
        timer: StepTimer,
        trace: Trace,
        shared: SharedChip,
        company: Company,
    ):
        super().__init__(env, chip, track, turn, timer, trace)
        self.shared, self.company = shared, company
        self.unit = track.rpartition(".")[2]
        self.levels: tuple[StepTimer, ...] = (timer,)

    def step(self, phase: Phase, rows: int, cached: int, tree: bool = False, logits: int | None = None) -> TimedStep:
        known = self.timed.get((phase, rows, cached, tree, logits))
        if known is None:
            plain = super().step(phase, rows, cached, tree, logits)
            known = self.with_bytes(plain, Step(phase, rows, self.preface + cached, tree=tree, logits=logits))
            self.timed[phase, rows, cached, tree, logits] = known
        return known

    def with_bytes(self, timed: TimedStep, step: Step) -> TimedStep:
        """A timed step with what it shares and where it may give way.

        In the time that it takes alone it moves no more than the memory can: rates and times are rounded.
        """
        most = int(timed.ns * self.shared.capacities[0] / NS_PER_S)
        ends = tuple(end / timed.ns for end in boundaries_of(self.timer, step)[:-1])
        return timed._replace(step=step, nbytes=min(bytes_of(self.timer, step), most), ends=(*ends, 1.0))

    def ns_at(self, step: TimedStep, level: int) -> int:
        """Nanoseconds of a step at full speed at a level of the chip."""
        if not level or step.step is None or len(self.levels) == 1:
            return step.ns
        return self.levels[min(level, len(self.levels) - 1)].duration_ns(step.step)

    def work(self, step: TimedStep, cause: RequestTag, position: int = -1) -> Process:
        """Wait for the unit and hold it until the step is done, has to give way, or is interrupted; then the rest.

        Of a cancelled request nothing is done, and what is under way ends with its graph.
        """
        if cause.request in self.company.cancelled:
            return
        job = self.job_of(step, cause)
        cancelled = self.company.cancelled
        while job.done < 1 and not (cancelled and self.cancelled(job)):
            asked = now_ns(self.env)
            if not self.turn.take():
                if not (yield from self.turn.wait(job.priority, job.owner)):
                    return
                self.waited(cause.request, asked)
            yield from self.occupy(job, step, asked, position)

    def job_of(self, step: TimedStep, cause: RequestTag) -> Job:
        """A step as a job of its request."""
        request = cause.request
        return Job(
            self.track, self.unit, step.kind, cause, partial(self.ns_at, step), step.nbytes,
            priority=self.company.priorities.get(request, USUAL_PRIORITY), owner=request, ends=step.ends,
        )  # fmt: skip

    def waited(self, request: int, asked_ns: int) -> None:
        """A request has got the unit that it waited for."""
        self.queued_ns[request] = self.queued_ns.get(request, 0) + now_ns(self.env) - asked_ns

    def occupy(self, job: Job, step: TimedStep, asked: int, position: int, fellows: tuple[Fellow, ...] = ()) -> Process:
        """With the unit held: run a job until it is done, has to give way, or is interrupted; then leave the unit.

        Every hold is a span; rows count with the one that completes the step.
        """
        turn, start = self.turn, now_ns(self.env)
        kind, rows, cached, width, _, graphs, *_ = step
        request, number = job.cause
        begun, whole = not self.prepares, True
        try:
            if not begun:
                # Of a step that gave way the last graph is left to change to, where others ran meanwhile.
                asked = yield from self.prepare(graphs[-1:] if job.done else graphs, job.cause, asked)
                start, begun = now_ns(self.env), True
            if self.company.cancelled and self.cancelled(job):
                begun = False
                return
            self.job, turn.divisible = job, self
            whole = (yield from self.shared.run(job, briefly=bool(turn.waiting) and self.gives_way(job))) >= 1
        finally:  # a step that is interrupted has held the unit as well
            self.job = turn.divisible = None
            now = turn.idle_since_ns = now_ns(self.env)
            if begun and self.watched:
                seen = (rows, width) if whole else (0, 0)
                self.add_span(
                    (self.track, kind, start, now, request, number, asked, now, *seen, 0, cached, position, fellows)
                )
            turn.leave(job.priority)

    def spend(self, kind: str, took_ns: int, cause: RequestTag) -> Process:
        return self.shared.run(Job(self.track, self.unit, kind, cause, self.shared.timed(self.unit, took_ns)))
