"""What a unit costs between two passes: to wake up after a while without work, and to change to another graph.

    before a pass = wake (where the unit was idle for longer than `idle_after`) + switch (where it ran another graph)
    wake          = power-up + acquisition of the vector memory (VTCM)

A graph is a model's at one compiled width, so a unit that takes any number of rows never switches. A step of several
passes runs their graphs one after another. A unit begins a run asleep and with no graph.
"""

from __future__ import annotations

from typing import NamedTuple

from hilsim.cost.step import si
from hilsim.describe.chip import Unit
from hilsim.units import ns

FAR = 2**62  # nanoseconds that no run lasts


class Graph(NamedTuple):
    """What a unit switches between."""

    model: str
    precision: str
    width: int


class Between(NamedTuple):
    """Whole nanoseconds of one unit."""

    switch_ns: int = 0
    wake_ns: int = 0
    idle_after_ns: int = FAR

    @property
    def costs(self) -> bool:
        """Whether anything takes time between passes."""
        return self.switch_ns > 0 or self.wake_ns > 0


def between_of(unit: Unit) -> Between:
    """What a unit costs between passes; nothing where its description has no figures of it."""
    switch_ns = ns(si(unit.graph_switch)) if unit.widths is not None else 0
    wake_ns = ns(si(unit.power_up) + si(unit.vtcm_acquire))
    return Between(switch_ns, wake_ns, ns(unit.idle_after.si) if unit.idle_after is not None else FAR)


def waking_ns(between: Between, idle_ns: int) -> int:
    """Nanoseconds of waking up after so many without work."""
    return between.wake_ns if idle_ns > between.idle_after_ns else 0


def switching_ns(between: Between, switches: int) -> int:
    """Nanoseconds of so many changes of the graph."""
    return switches * between.switch_ns
