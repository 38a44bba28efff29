"""Units and conversions: bytes, whole nanoseconds, rates. Convert once, here, rounding durations up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
KIB, MIB, GIB = 2**10, 2**20, 2**30
MEGA, GIGA = 10**6, 10**9


def ns(seconds: float) -> int:
    """Seconds as whole nanoseconds, rounded up: a duration is never shorter than computed."""
    # A hair below the ceiling so that 0.001 s, which no float holds exactly, is 1,000,000 ns and not one more.
    return max(0, math.ceil(seconds * NS_PER_S - 1e-6))


def whole_ns(seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """`ns` of many durations."""
    import numpy as np  # here, as most commands need none

    return np.maximum(0, np.ceil(seconds * NS_PER_S - 1e-6)).astype(np.int64)


def ms(nanoseconds: float) -> float:
    """Nanoseconds as milliseconds, for showing only."""
    return nanoseconds / NS_PER_MS


def gib(size_bytes: float) -> float:
    """Bytes as GiB (2^30), for showing only."""
    return size_bytes / GIB
