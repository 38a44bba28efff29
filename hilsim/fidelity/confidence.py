"""How sure a predicted time is: between what factors of it eight of ten measured ones lie.

A class is a kind of row (decode, prefill, speculation, network) on a kind of unit (GPU, NPU), and what is known of it:
"seen" where rows of that device and model took part in the fit, "unseen model" or "unseen device" where none did. The
factors are the 10 % and 90 % quantiles of measured over predicted among the shipped rows of the class, each predicted
by constants that were fitted without its model, or its device; stretched around their median so that those of all other
models, or devices, hold eight of ten rows of one: a new device may be off by more than rows of one scatter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from hilsim.describe.chip import Chip, Unit
from hilsim.fidelity.kept_errors import KeptErrors, kept_errors

LEVELS = ("seen", "unseen model", "unseen device")
SHARE = 0.8
LEAST_ROWS = 8  # fewer tell nothing of their tails


@dataclass(frozen=True)
class Interval:
    """Factors of a predicted time between which SHARE of measured ones lie, and the class that they are of."""

    low: float
    high: float
    rows: int
    unit: str
    kind: str
    level: str

    def __str__(self) -> str:
        return f"{self.rows} {self.kind} rows on {self.unit.upper()}s, {self.level}"


def interval_of(unit: str, kind: str, device: str, model: str, *, fitted: bool = False) -> Interval | None:
    """The interval of a row of a device and a model; None where too few rows of its class were measured."""
    return interval(unit, kind, level_of(unit, kind, device, model, fitted=fitted))


def level_of(unit: str, kind: str, device: str, model: str, *, fitted: bool = False) -> str:
    """What is known of a device and a model among the rows of a class; `fitted` where constants are a device's own."""
    rows = rows_of(unit, kind)
    if not fitted and device.partition("@")[0] not in {row.device for row in rows}:
        return LEVELS[2]
    return LEVELS[0] if model in {row.model for row in rows} else LEVELS[1]


def interval_on(chip: Chip, unit: Unit, precision: str, kind: str, model: str) -> Interval | None:
    """The interval of a kind of row on a unit as a chip's file has it.

    A chip of which no row is shipped is no unseen device where the rates of this kind were measured or fitted on it
    (`calibrate`): a family leaves figures of kind "assumed" to chips that it was not fitted on.
    """
    rates = unit.precisions[precision]
    rate = rates.memory_rate if kind in ("decode", "speculation") else rates.operation_rates[-1].rate
    return interval_of(unit.kind, kind, chip.name, model, fitted=rate.kind in ("measured", "fitted"))


@cache
def interval(unit: str, kind: str, level: str) -> Interval | None:
    """The interval of a class."""
    found = residuals(unit, kind, level)
    if found is None:
        return None
    low, high = found.at([(1 - SHARE) / 2, (1 + SHARE) / 2])
    return Interval(low, high, len(found.ratios), unit, kind, level)


@dataclass(frozen=True)
class Residuals:
    """Measured over predicted of a class's rows, to be stretched by a power around their median."""

    ratios: tuple[float, ...]
    power: float

    def at(self, shares: Sequence[float]) -> list[float]:
        """The factors of a predicted time that these shares of measured ones lie below."""
        middle, *ends = np.quantile(np.asarray(self.ratios), (0.5, *shares), method="weibull")
        return [float(middle * (end / middle) ** self.power) for end in ends]


def residuals(unit: str, kind: str, level: str) -> Residuals | None:
    """Those of a class; None where it has too few rows."""
    power = stretch(unit, kind, level)
    return None if power is None else Residuals(tuple(ratios(rows_of(unit, kind), level)), power)


def correlation(unit: str, kind: str, level: str) -> float:
    """How the errors of a kind of rows go with those of decode steps of the same device and model.

    Of normal scores: Pearson's of normal ones that have the rank correlation r of the mean errors, 2 sin(pi r / 6); 0
    where there are too few pairs to tell.
    """
    means = [
        {key: float(np.mean(some)) for key, some in by_device_and_model(rows_of(unit, one), level).items()}
        for one in ("decode", kind)
    ]
    both = sorted(means[0].keys() & means[1].keys())
    if len(both) < LEAST_ROWS:
        return 0.0
    decode, other = (np.argsort(np.argsort([mean[key] for key in both])) for mean in means)
    return 2 * math.sin(math.pi / 6 * float(np.corrcoef(decode, other)[0, 1]))


def by_device_and_model(rows: Sequence[KeptErrors], level: str) -> dict[tuple[str, str], list[float]]:
    """Logarithms of measured over predicted."""
    found: dict[tuple[str, str], list[float]] = {}
    for row, ratio in zip(rows, ratios(rows, level), strict=True):
        found.setdefault((row.device, row.model), []).append(math.log(ratio))
    return found


def stretch(unit: str, kind: str, level: str) -> float | None:
    """By what power an interval is stretched around its median, so that it holds SHARE of the rows it leaves out."""
    found = strays(unit, kind, level)
    return None if not found else float(np.quantile(found, SHARE, method="weibull"))


def coverage(unit: str, kind: str, level: str) -> float | None:
    """The share of rows inside the stretched interval that others give: other rows, models or devices."""
    found, factor = strays(unit, kind, level), stretch(unit, kind, level)
    return None if factor is None else sum(stray <= factor for stray in found) / len(found)


@cache
def strays(unit: str, kind: str, level: str) -> list[float]:
    """How far each row is from the median of others, in units of the way to their quantile; none where they are few."""
    rows, found = rows_of(unit, kind), []
    for index, row in enumerate(rows):
        others = ratios(
            (other for place, other in enumerate(rows) if apart(other, row, level) and place != index), level
        )
        if len(others) < LEAST_ROWS:
            return []
        low, middle, high = quantiles(others)
        (ratio,) = ratios([row], level)
        end = high if ratio > middle else low
        found.append(float(np.log(ratio / middle) / np.log(end / middle)) if ratio != middle else 0.0)
    return found


def apart(other: KeptErrors, row: KeptErrors, level: str) -> bool:
    """Whether another row may speak for one: of another model or device, where that is what is not seen."""
    if level == LEVELS[1]:
        return other.model != row.model
    return other.device != row.device if level == LEVELS[2] else True


def classes() -> list[tuple[str, str]]:
    """Kinds of unit and of row that are measured often enough."""
    found = sorted({(row.unit, row.kind) for row in kept_errors().values()})
    return [(unit, kind) for unit, kind in found if len(rows_of(unit, kind)) >= LEAST_ROWS]


def rows_of(unit: str, kind: str) -> Sequence[KeptErrors]:
    """The kept errors of a class."""
    return [row for row in kept_errors().values() if (row.unit, row.kind) == (unit, kind)]


def ratios(rows: Iterable[KeptErrors], level: str) -> list[float]:
    """Measured over predicted."""
    return [1 / (1 + row.errors[LEVELS.index(level)]) for row in rows]


def quantiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The ends of the middle SHARE, and the median between: the k-th of n values stands for k / (n + 1) of all."""
    tail = (1 - SHARE) / 2
    low, middle, high = np.quantile(np.asarray(values), (tail, 0.5, 1 - tail), method="weibull")
    return float(low), float(middle), float(high)
