"""How what runs at once on a chip shares the rate of its memory: weighted max-min fairness.

    rate of a job = the smaller of its demand and weight x level

where the level is as high as the capacity allows. So nothing is left over while a job wants more, and a job that wants
less than its part gets all that it wants. A job's demand is its bytes over its time at full speed.
"""

from __future__ import annotations

from collections.abc import Sequence

from hilsim.cost.step import si
from hilsim.describe.chip import Chip


def capacity(chip: Chip) -> float:
    """Bytes/s that all that runs on a chip shares: never less than the fastest of its units alone is described to read.

    A unit's own rate is what it reaches with nothing else running, so the memory gives at least that.
    """
    own = [
        rate.si
        for unit in chip.units.values()
        for precision in unit.precisions.values()
        for rate in (precision.memory_rate, precision.cache_rate)
        if rate is not None
    ]
    return max(si(chip.shared_memory_rate, chip.peak_memory_rate.si), *own)


def fair_rates(demands: Sequence[float], weights: Sequence[float], capacity: float) -> list[float]:
    """The rate of each demand, in its unit. With one weight for all, every demand that is not met gets the same."""
    if sum(demands) <= capacity:
        return list(demands)
    rates = [0.0] * len(demands)
    left, weight = capacity, float(sum(weights))
    # Those that want least for their weight are met first; from the first that is not met on, the rest is divided.
    for place in sorted(range(len(demands)), key=lambda one: demands[one] / weights[one]):
        rates[place] = min(demands[place], left * weights[place] / weight)
        left -= rates[place]
        weight -= weights[place]
    return rates
