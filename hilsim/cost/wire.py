"""How long a message holds one way of a link: overhead + bytes / rate, each part in whole nanoseconds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.describe.link import Link
from hilsim.units import NS_PER_S, ns, whole_ns


def wire_ns(link: Link, nbytes: int) -> int:
    """Nanoseconds from the first byte to the last; the delay after that is not in it."""
    return ns(link.message_overhead.si) + ns(nbytes / (link.rate.si / NS_PER_S) / NS_PER_S)


def wires_ns(link: Link, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """`wire_ns` of many messages at once, equal to the nanosecond."""
    return ns(link.message_overhead.si) + whole_ns(sizes / (link.rate.si / NS_PER_S) / NS_PER_S)
