"""Figures that the compile check adds to a placement: extra work a step beyond the plain decoder, and memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """So many operator launches, numbers read and written, multiplications and additions."""

    launches: int = 0
    numbers: int = 0
    operations: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.launches + other.launches, self.numbers + other.numbers, self.operations + other.operations)

    def __sub__(self, other: Work) -> Work:
        return self + other * -1

    def __mul__(self, times: int) -> Work:
        return Work(self.launches * times, self.numbers * times, self.operations * times)


@dataclass(frozen=True)
class Extra:
    """What one pass costs beyond the plain decoder: work `here`, work done `away`, and `crossings` there and back."""

    here: Work = Work()
    away: Work = Work()
    crossings: int = 0


NO_WORK, NO_EXTRA = Work(), Extra()


@dataclass(frozen=True)
class NetworkLoad:
    """One pass of a network: multiply-accumulates in 10^9, parameters read in 10^9, operators (layers as compiled).

    `slow_s` are seconds that slow patterns take beyond what these count, such as copies made by vector arithmetic.
    """

    gmacs: float
    params_b: float
    operators: int
    slow_s: float = 0.0


ACTIVATIONS, WORKING_SET = "activations", "working set of rewrites"  # items that are no weights


@dataclass(frozen=True)
class Compiled:
    """After the compile check: extras by rows of the graph, rising; memory as (what, bytes); a network's load."""

    profile: str
    extras: tuple[tuple[int, Extra], ...] = ()
    items: tuple[tuple[str, int], ...] = ()
    load: NetworkLoad | None = None
    rows: int = 1  # of the graph that the load is of
