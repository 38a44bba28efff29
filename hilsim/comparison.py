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

    @property
    def excess(self) -> float | None:
        """Measured over predicted less 1; None where nothing was measured, or zero predicted."""
        return None if self.measured is None or not self.predicted else self.measured / self.predicted - 1


def medians(several: Sequence[Comparison]) -> Comparison:
    """The medians of what was predicted and measured in several runs of one thing."""
    measured = [one.measured for one in several if one.measured is not None]
    first = several[0]
    middle = median(measured) if measured else None
    return Comparison(first.what, median(one.predicted for one in several), middle, first.unit)


def mean_error(several: Sequence[Comparison], counts: Sequence[int]) -> float:
    """The mean absolute error, each comparison weighed by what was measured as often as it occurred."""
    pairs = [(one, count * one.measured) for one, count in zip(several, counts, strict=True) if one.measured]
    return sum(abs(one.error or 0.0) * weight for one, weight in pairs) / sum(weight for _, weight in pairs)


def bias(several: Sequence[Comparison], counts: Sequence[int]) -> float:
    """Predicted over measured less 1 of the sums, each comparison as often as it occurred."""
    pairs = list(zip(several, counts, strict=True))
    measured = fmean(count * (one.measured or 0.0) for one, count in pairs)
    return fmean(count * one.predicted for one, count in pairs) / measured - 1


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
