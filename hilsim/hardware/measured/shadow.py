"""The chip model compared with the chip, step by step: errors by kind of step, width and fill of the cache."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from hilsim.comparison import Comparison, bias, mean_error
from hilsim.hardware.measured.timer import StepPair

FIRST_FILL = 128  # groups of cache fills: up to here, to twice that, and so on


@dataclass(frozen=True)
class StepComparison:
    """Steps of one kind: their medians compared, in nanoseconds, and the `worst` error of any one step.

    `scatter` is the interquartile range of what was measured, as a share of its median; 0 of a single step.
    """

    track: str
    role: str
    phase: str
    width: int
    fill: tuple[int, int]  # cached positions, from and up to
    steps: int
    medians: Comparison
    scatter: float
    worst: float


def compared(pairs: Sequence[StepPair]) -> list[StepComparison]:
    """Every kind of step that occurred, by unit, role, phase, width and fill."""
    groups: dict[tuple[str, str, str, int, tuple[int, int]], list[StepPair]] = defaultdict(list)
    for pair in pairs:
        groups[pair.track, pair.role, pair.phase, pair.width, fill_of(pair.cached)].append(pair)
    return [of_one_kind(*key, group) for key, group in sorted(groups.items())]


def of_one_kind(
    track: str, role: str, phase: str, width: int, fill: tuple[int, int], group: Sequence[StepPair]
) -> StepComparison:
    """What the steps of a group come to."""
    measured = [pair.measured_ns for pair in group]
    middle = median(measured)
    scatter = 0.0
    if len(measured) > 1:
        low, _, high = quantiles(measured, n=4, method="inclusive")
        scatter = (high - low) / middle
    errors = [pair.predicted_ns / pair.measured_ns - 1 for pair in group]
    medians = Comparison(phase, median(pair.predicted_ns for pair in group), middle, "ns")
    return StepComparison(track, role, phase, width, fill, len(group), medians, scatter, max(errors, key=abs))


def errors_of(found: Sequence[StepComparison]) -> tuple[float, float]:
    """The mean absolute error over kinds, each weighed by the time of its steps; the bias of all steps together."""
    medians, counts = [kind.medians for kind in found], [kind.steps for kind in found]
    return mean_error(medians, counts), bias(medians, counts)


def fill_of(cached: int) -> tuple[int, int]:
    """The class of a fill: 0 to 127, 128 to 255, 256 to 511 and so on."""
    low, high = 0, FIRST_FILL
    while cached >= high:
        low, high = high, 2 * high
    return low, high - 1
