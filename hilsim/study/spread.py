"""Mean and interval of a few repeats: Student's t over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVEL = 0.90


@dataclass(frozen=True)
class Spread:
    """The mean of `count` numbers; it lies within `half_width` of the true one with 90 % confidence, None for one."""

    mean: float
    half_width: float | None
    count: int


def spread(numbers: Sequence[float]) -> Spread | None:
    """Mean and interval, for numbers that scatter normally; None where there are none."""
    count = len(numbers)
    if not count:
        return None
    mean = math.fsum(numbers) / count
    if count == 1:
        return Spread(mean, None, 1)
    variance = math.fsum((number - mean) ** 2 for number in numbers) / (count - 1)
    return Spread(mean, student_t(count - 1) * math.sqrt(variance / count), count)


def student_t(freedom: int, level: float = LEVEL) -> float:
    """The t within which a share `level` of Student's distribution lies, by bisection."""
    low, high = 0.0, 1.0
    while inside(high, freedom) < level:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle, freedom) < level else (low, middle)
    return high


def inside(t: float, freedom: int) -> float:
    """P(-t < T < t) for whole degrees of freedom: a finite sum (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    square = math.cos(angle) ** 2
    odd = freedom % 2
    term = total = (math.cos(angle) if freedom > 1 else 0.0) if odd else 1.0
    for power in range(3 if odd else 2, freedom - 1, 2):
        term *= square * (power - 1) / power
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
