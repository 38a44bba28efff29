"""When passengers ask: instants that depend on the seed, the passenger's name and the number of the question alone.

So every policy and every chip meets the same questions at the same time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import blake2b
from itertools import count

from hilsim.describe.cockpit import AtTimes, Pauses, Poisson
from hilsim.sampling.noise import ARRIVALS, PAUSES, uniforms
from hilsim.units import ns


def name_key(name: str) -> int:
    """A number of 63 bits that stands for a name in keyed noise."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest()) >> 1


def instants(arrivals: Poisson | AtTimes, name: str, seed: int) -> Iterator[int]:
    """The instants in ns at which a passenger wants to ask."""
    if isinstance(arrivals, AtTimes):
        yield from (ns(at) for at in arrivals.at_s)
        return
    now, key = 0.0, name_key(name)
    for number in count():
        now -= math.log1p(-uniforms(seed, ARRIVALS, key, number).spare) * 3600 / arrivals.per_hour
        yield ns(now)


def pause_ns(arrivals: Pauses, name: str, seed: int, number: int) -> int:
    """How long a passenger thinks before a question."""
    if not arrivals.spread:
        return ns(arrivals.pause_s)
    drawn = uniforms(seed, PAUSES, name_key(name), number)
    normal = math.sqrt(-2 * math.log1p(-drawn.draft)) * math.cos(2 * math.pi * drawn.accept)
    return ns(arrivals.pause_s * math.exp(arrivals.spread * normal))
