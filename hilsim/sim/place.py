"""Work beside the language model's steps: stages of a spoken turn and background tasks, each on some unit."""

from __future__ import annotations

import simpy

from hilsim.cost.between import Between
from hilsim.sim.device_slot import Occupant, Process, RequestTag, UnitLock, now_ns
from hilsim.sim.trace import Span, Trace


class Place(Occupant):
    """Somewhere that work can be done: a unit with its one lock."""

    def __init__(self, env: simpy.Environment, track: str, turn: UnitLock, trace: Trace, between: Between):
        super().__init__(env, track, turn, trace, between)

    def work(self, kind: str, took_ns: int, cause: RequestTag, nbytes: int = 0, priority: int = 1) -> Process:
        """Wait for the unit and hold it for so long; `nbytes` move through the chip's memory meanwhile."""
        asked = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
        start = now_ns(self.env)
        try:
            yield self.env.timeout(took_ns)
        finally:
            now = self.turn.idle_since_ns = now_ns(self.env)
            self.turn.leave()
        self.trace.add_span(Span(self.track, kind, start, now, cause.request, cause.round, asked, now))
