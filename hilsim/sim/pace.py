"""Real-time pacing: SimPy's events are held back until the wall clock has come as far; how well is recorded.

Simulated time does not depend on the wall clock: a paced run has the same trace as any other, and a `Pace` besides.
"""

from __future__ import annotations

from time import monotonic, sleep

import simpy.rt
from simpy.core import Infinity

from hilsim.sim.trace import Pace
from hilsim.units import NS_PER_S

LATE_LIMIT_MS = 10


class Paced(simpy.rt.RealtimeEnvironment):
    """Events at `factor` wall seconds per simulated second: 1 is real time, 0.1 ten times as fast.

    Each event is due at an instant counted from the start of the run, not from the event before: a late event does
    not delay later ones, and rounding does not add up. A late event is processed at once, never left out.
    """

    def __init__(self, factor: float):
        super().__init__(factor=factor / NS_PER_S, strict=False)
        self.asked = factor
        self.events = self.overruns = 0
        self.max_late_s = 0.0

    def step(self) -> None:
        """Wait until the next event is due, note how late it is by then, and process it."""
        at = self.peek()
        if at != Infinity:
            due = self.real_start + (at - self.env_start) * self.factor
            while (early := due - monotonic()) > 0:
                sleep(early)
            self.events += 1
            self.overruns += -early * 1000 > LATE_LIMIT_MS
            self.max_late_s = max(self.max_late_s, -early)
        super().step()

    def pace(self) -> Pace:
        """The figures of the run so far."""
        return Pace(
            self.asked,
            self.events,
            self.overruns,
            LATE_LIMIT_MS,
            self.max_late_s * 1000,
            (self.now - self.env_start) / NS_PER_S,
            monotonic() - self.real_start,
        )
