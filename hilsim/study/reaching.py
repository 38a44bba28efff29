"""Where a rising function reaches a level, in few evaluations, as each may be a replayed run."""

from __future__ import annotations

from collections.abc import Callable

MOST_SECANTS = 12


def reaching(value: Callable[[float], float], level: float, low: float, high: float, close: float) -> float:
    """A place between `low`, where `value` is below the level, and `high`, where it is not, with `close` to the level.

    By secants that keep the level between their ends (regula falsi): a straight function is met at once. An end that
    stays counts half from then on (the Illinois rule), so that a bent one is met soon. At a jump over the level the
    place is beside it.
    """
    under, over = value(low) - level, value(high) - level
    place, kept = high, 0
    for _ in range(MOST_SECANTS):
        place = low - under * (high - low) / (over - under)
        found = value(place) - level
        if abs(found) <= close:
            break
        if found < 0:
            low, under = place, found
            over, kept = (over / 2, -1) if kept == -1 else (over, -1)
        else:
            high, over = place, found
            under, kept = (under / 2, 1) if kept == 1 else (under, 1)
    return place
