"""A predicted figure beside a measured one, its error, and the errors of several of them summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median


@dataclass(frozen=True)
class Comparison:
    """One figure of `what`, predicted and measured, both in `unit`; None where it was not measured."""

    what: str
    predicted: float
    measured: float | None
    unit: str

    @property
    def error(self) -> float | None:
        """Predicted over measured less 1; None where nothing, or zero, was measured."""
        return self.predicted / self.measured - 1 if self.measured else None


@dataclass(frozen=True)
class Summary:
    """Errors of several comparisons, as shares: mean, median and worst absolute error, and the mean with its sign."""

    rows: int
    mean: float
    median: float
    worst: float
    bias: float


def summary(errors: Sequence[float]) -> Summary:
    """At least one error, each with equal weight."""
    sizes = [abs(error) for error in errors]
    return Summary(len(errors), fmean(sizes), median(sizes), max(sizes), fmean(errors))
