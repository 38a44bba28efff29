"""Places of work beside the language model's steps: stages of a spoken turn, background tasks and networks."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import simpy

from hilsim.cost.between import Between, Graph
from hilsim.cost.timer import network_bytes, network_ns
from hilsim.describe.setup import PlacedNetwork
from hilsim.sim.device_slot import Occupant, Process, RequestTag, UnitLock, elapse, now_ns
from hilsim.sim.lock import USUAL_PRIORITY, Claim
from hilsim.sim.shared_chip import Job, SharedChip
from hilsim.sim.trace import Trace


@dataclass(frozen=True)
class Company:
    """What is known of the requests on a board: their priorities, where not the usual one, and those cancelled."""

    priorities: dict[int, int] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)


ALONE = Company()


class Yielding:
    """What gives a unit up between the graphs of its `job`, to those that go before it, or for good."""

    turn: UnitLock
    between: Between
    company: Company
    shared: SharedChip | None
    job: Job | None = None  # what it runs, until it has to give way

    def cancelled(self, job: Job) -> bool:
        """Whether nothing more is to be done of a job."""
        return job.owner in self.company.cancelled

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
            self.give_way(self.job)

    def withdraw(self, owner: Hashable) -> None:
        if self.job is not None and self.cancelled(self.job):
            self.give_way(self.job)

    def give_way(self, job: Job) -> None:
        """End a job that runs at its next boundary."""
        assert self.shared is not None, "a job runs on a shared chip"
        self.shared.give_way(job)


class Place(Yielding, Occupant):
    """A unit with its one lock, and the chip whose memory it shares: None where nothing else runs meanwhile.

    A pass holds the unit to its end, unless it has graphs of `graph_ns` at most.
    """

    def __init__(
        self,
        env: simpy.Environment,
        track: str,
        turn: UnitLock,
        trace: Trace,
        between: Between,
        shared: SharedChip | None = None,
        company: Company = ALONE,
    ):
        super().__init__(env, track, turn, trace, between)
        self.shared, self.company = shared, company
        self.unit = track.rpartition(".")[2]

    def work(
        self,
        kind: str,
        took_ns: int,
        cause: RequestTag,
        nbytes: int = 0,
        priority: int = USUAL_PRIORITY,
        *,
        requester: str | None = None,
        graph: Graph | None = None,
        graph_ns: int | None = None,
    ) -> Process:
        """Wait for the unit and hold it for one pass; `nbytes` move through the chip's memory meanwhile.

        Of a cancelled request nothing is done. `requester` is whose weight counts, the unit by default; `graph` what
        the unit changes to, one of that kind by default.
        """
        if cause.request in self.company.cancelled:
            return
        job = None if self.shared is None else self.job_of(kind, took_ns, cause, nbytes, requester)
        if job is not None and graph_ns is not None and graph_ns < took_ns:
            job.priority, job.owner = priority, cause.request
            job.ends = (*(end / took_ns for end in range(graph_ns, took_ns, graph_ns)), 1.0)
        whole = False
        while not whole:
            asked = start = now_ns(self.env)
            if not self.turn.take():
                if not (yield from self.turn.wait(priority, cause.request)):
                    return
                start = now_ns(self.env)
            begun = not self.prepares
            try:
                if not begun:
                    asked = yield from self.prepare((graph or Graph(kind, "", 1),), cause, asked)
                    start, begun = now_ns(self.env), True
                whole = (yield from self.go_on(job, took_ns)) >= 1
            finally:
                self.job = self.turn.divisible = None
                now = self.turn.idle_since_ns = now_ns(self.env)
                if (
                    self.watched and begun and (now > start or not took_ns)
                ):  # the end of a run may cut it off as it begins
                    seen = (1, 1) if whole else (0, 0)
                    self.add_span((self.track, kind, start, now, *cause, asked, now, *seen, 0, 0, -1, ()))
                self.turn.leave(priority)
            if self.company.cancelled and job is not None and self.cancelled(job):
                return

    def go_on(self, job: Job | None, took_ns: int) -> Process:
        """With the unit held: let a pass run until it is done or has to give way; returns the share that is done."""
        if self.shared is None or job is None:
            return self.alone(took_ns)
        briefly = False
        if len(job.ends) > 1:
            self.job, self.turn.divisible = job, self
            briefly = self.gives_way(job)
        return self.shared.run(job, briefly=briefly)

    def alone(self, took_ns: int) -> Process:
        """A pass with nothing else on the chip."""
        yield elapse(self.env, took_ns)
        return 1.0

    def job_of(self, kind: str, took_ns: int, cause: RequestTag, nbytes: int = 0, requester: str | None = None) -> Job:
        """A pass as a job with its part of the memory."""
        assert self.shared is not None, "a job runs on a shared chip"
        return Job(self.track, requester or self.unit, kind, cause, self.shared.timed(self.unit, took_ns), nbytes)

    def spend(self, kind: str, took_ns: int, cause: RequestTag) -> Process:
        if self.shared is None:
            return self.alone(took_ns)
        return self.shared.run(self.job_of(kind, took_ns, cause))


class Outside:
    """Hardware that the model does not have: work passes there, occupies nothing and moves bytes through a memory."""

    def __init__(self, shared: SharedChip, company: Company):
        self.shared, self.company = shared, company

    def work(
        self,
        kind: str,
        took_ns: int,
        cause: RequestTag,
        nbytes: int = 0,
        priority: int = USUAL_PRIORITY,
        *,
        requester: str | None = None,
        graph_ns: int | None = None,
    ) -> Process:
        """As a place's, without a unit: it begins at once and has no span, as several may overlap."""
        if cause.request in self.company.cancelled:
            return
        chip = self.shared
        yield from chip.run(Job(chip.chip.name, requester or kind, kind, cause, lambda _: took_ns, nbytes))


class Watcher:
    """A network beside the language model: it occupies its unit once per question."""

    def __init__(self, place: Place, network: PlacedNetwork):
        self.place = place
        self.pass_ns, self.pass_bytes = network_ns(network), network_bytes(network)
        self.graph = Graph(network.placement.name, network.precision, 1)

    def work(self, cause: RequestTag) -> Process:
        """Wait for the unit with the priority of the request, and hold it for one pass."""
        priority = self.place.company.priorities.get(cause.request, USUAL_PRIORITY)
        return self.place.work("network", self.pass_ns, cause, self.pass_bytes, priority, graph=self.graph)
