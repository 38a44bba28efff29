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
    from scipy import stats  # seconds to import, and most commands need none

    return Spread(mean, float(stats.t.ppf((1 + LEVEL) / 2, count - 1)) * math.sqrt(variance / count), count)
