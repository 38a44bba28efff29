"""A role's place on a unit that has company: its steps share the memory and give the unit up between graphs."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial

import simpy

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import StepTimer, boundaries_of, bytes_of
from hilsim.sim.device_slot import DeviceSlot, Process, RequestTag, TimedStep, UnitLock, now_ns
from hilsim.sim.lock import USUAL_PRIORITY, Claim
from hilsim.sim.place import Company
from hilsim.sim.shared_chip import Job, SharedChip
from hilsim.sim.trace import Span, Trace
from hilsim.units import NS_PER_S


class CompanySlot(DeviceSlot):
    """A device slot on a shared chip.

    Between the graphs of a step it gives the unit up where a request of higher priority waits, or another request of
    its own priority, and queues again for the rest. Requests of one priority take turns only where changing the graph
    costs nothing: where it does, a runtime runs the whole step. `levels` are the timers by level of the chip.
    """

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
        self.job: Job | None = None  # what it runs, until it has to give way

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

        Of a cancelled request nothing is done, and what is under way ends with its graph. Every hold is a span; rows
        count with the one that completes the step.
        """
        request, number = cause
        cancelled = self.company.cancelled
        if request in cancelled:
            return
        priority = self.company.priorities.get(request, USUAL_PRIORITY)
        kind, rows, cached, width, _, graphs, *_ = step
        job = Job(
            self.track, self.unit, kind, cause, partial(self.ns_at, step), step.nbytes,
            priority=priority, owner=request, ends=step.ends,
        )  # fmt: skip
        turn = self.turn
        while job.done < 1 and request not in cancelled:
            asked = start = now_ns(self.env)
            if not turn.take():
                if not (yield from turn.wait(priority, request)):
                    return
                start = now_ns(self.env)
                self.queued_ns[request] = self.queued_ns.get(request, 0) + start - asked
            begun, whole = not self.prepares, True
            try:
                if not begun:
                    asked = yield from self.prepare(graphs, cause, asked)
                    start, begun = now_ns(self.env), True
                    graphs = graphs[-1:]  # what is left to change to, where others ran meanwhile
                if request in cancelled:
                    begun = False
                    return
                self.job, turn.divisible = job, self
                whole = (yield from self.shared.run(job, briefly=self.gives_way(job))) >= 1
            finally:  # a step that is interrupted has held the unit as well
                self.job = turn.divisible = None
                now = turn.idle_since_ns = now_ns(self.env)
                if begun:
                    seen = (rows, width) if whole else (0, 0)
                    self.trace.add_span(
                        Span(self.track, kind, start, now, request, number, asked, now, *seen, 0, cached, position)
                    )
                turn.leave()

    def spend(self, kind: str, took_ns: int, cause: RequestTag) -> Process:
        return self.shared.run(Job(self.track, self.unit, kind, cause, self.shared.timed(self.unit, took_ns)))

    def gives_way(self, job: Job) -> bool:
        """Whether one waits already that goes before a job which begins."""
        return any(self.goes_before(claim, job) for claim in self.turn.waiting)

    def goes_before(self, claim: Claim, job: Job) -> bool:
        """Whether a waiting claim gets the unit at the next boundary of a job."""
        if claim.priority == job.priority:
            return claim.owner != job.owner and not self.between.switch_ns
        return claim.priority < job.priority

    def asked(self, claim: Claim) -> None:
        if self.job is not None and self.goes_before(claim, self.job):
            self.shared.give_way(self.job)

    def withdraw(self, owner: Hashable) -> None:
        if self.job is not None and self.job.owner == owner:
            self.shared.give_way(self.job)
