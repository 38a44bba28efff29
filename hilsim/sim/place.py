"""Places of work beside the language model's steps: stages of a spoken turn, background tasks and networks."""

from __future__ import annotations

from dataclasses import dataclass, field

import simpy

from hilsim.cost.between import Between, Graph
from hilsim.cost.timer import network_bytes, network_ns
from hilsim.describe.setup import PlacedNetwork
from hilsim.sim.device_slot import Occupant, Process, RequestTag, UnitLock, now_ns
from hilsim.sim.lock import USUAL_PRIORITY
from hilsim.sim.shared_chip import Job, SharedChip
from hilsim.sim.trace import Span, Trace


@dataclass(frozen=True)
class Company:
    """What is known of the requests on a board: their priorities, where not the usual one, and those cancelled."""

    priorities: dict[int, int] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)


ALONE = Company()


class Place(Occupant):
    """A unit with its one lock, and the chip whose memory it shares: None where nothing else runs meanwhile.

    A pass is one graph, so it holds the unit to its end.
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
        self.watched = trace.watched

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
    ) -> Process:
        """Wait for the unit and hold it for one pass; `nbytes` move through the chip's memory meanwhile.

        Of a cancelled request nothing is done. `requester` is whose weight counts, the unit by default; `graph` what
        the unit changes to, one of that kind by default.
        """
        if cause.request in self.company.cancelled:
            return
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
            yield from self.spend(kind, took_ns, cause, nbytes, requester)
        finally:
            now = self.turn.idle_since_ns = now_ns(self.env)
            if self.watched and begun and (now > start or not took_ns):  # the end of a run may cut it off as it begins
                self.trace.add_span(Span(self.track, kind, start, now, cause.request, cause.round, asked, now, 1, 1))
            self.turn.leave(priority)

    def spend(
        self, kind: str, took_ns: int, cause: RequestTag, nbytes: int = 0, requester: str | None = None
    ) -> Process:
        """Let a pass run, with its part of the memory."""
        shared, unit = self.shared, self.unit
        if shared is None:
            return super().spend(kind, took_ns, cause)
        return shared.run(Job(self.track, requester or unit, kind, cause, shared.timed(unit, took_ns), nbytes))


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
