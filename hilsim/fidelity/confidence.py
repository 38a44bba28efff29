"""How sure a predicted time is: between what factors of it eight of ten measured ones lie.

A class is a kind of row (decode, prefill, speculation, network) on a kind of unit (GPU, NPU), and what is known of it:
"seen" where rows of that device and model took part in the fit, "unseen model" or "unseen device" where none did. The
factors are the 10 % and 90 % quantiles of measured over predicted among the shipped rows of the class, each predicted
by constants that were fitted without its model, or its device; stretched around their median so that those of all other
models, or devices, hold eight of ten rows of one: a new device may be off by more than rows of one scatter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

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


def interval_of(unit: str, kind: str, device: str, model: str) -> Interval | None:
    """The interval of a row of a device and a model; None where too few rows of its class were measured."""
    return interval(unit, kind, level_of(unit, kind, device, model))


def level_of(unit: str, kind: str, device: str, model: str) -> str:
    """What is known of a device and a model among the rows of a class."""
    rows = rows_of(unit, kind)
    if device.partition("@")[0] not in {row.device for row in rows}:
        return LEVELS[2]
    return LEVELS[0] if model in {row.model for row in rows} else LEVELS[1]


@cache
def interval(unit: str, kind: str, level: str) -> Interval | None:
    """The interval of a class."""
    rows = rows_of(unit, kind)
    factor = stretch(unit, kind, level)
    if factor is None:
        return None
    low, middle, high = quantiles(ratios(rows, level))
    ends = middle * (low / middle) ** factor, middle * (high / middle) ** factor
    return Interval(*ends, len(rows), unit, kind, level)


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
