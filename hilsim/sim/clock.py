"""The clock of a simulated run: SimPy's environment, with short ways to what every event needs."""

from __future__ import annotations

from operator import attrgetter

import simpy


class Clock(simpy.Environment):
    """Whole nanoseconds of simulated time; events happen in the order of SimPy's queue."""

    now = property(attrgetter("_now"))
