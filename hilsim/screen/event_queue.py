"""What is due: a small agenda of instants for policies whose chips wait for nobody.

Entries come out in the order in which SimPy would process them: by instant, urgent before normal, then as they were
put in. So even where instants coincide, the twin of a policy does what the policy does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.screen.compiled import compiled

Ints = npt.NDArray[np.int64]
MOST = 256  # entries at once
URGENT, NORMAL = -(2**40), 0  # added to the order in which entries are put in
AT, ORDER, WHAT, WHICH, WIDTH = range(5)


def agenda() -> Ints:
    """An empty agenda: row 0 counts entries and orders, the rest are entries."""
    return np.zeros((MOST + 1, WIDTH), np.int64)


@compiled
def due(entries: Ints, at: int, urgency: int, what: int, which: int) -> bool:
    """Put in that something happens at an instant; False where the agenda is full."""
    count = entries[0, 0]
    if count == MOST:
        return False
    entries[0, 1] += 1
    entry = entries[count + 1]
    entry[AT], entry[ORDER], entry[WHAT], entry[WHICH] = at, urgency + entries[0, 1], what, which
    entries[0, 0] = count + 1
    return True


@compiled
def next_due(entries: Ints) -> tuple[int, int, int]:
    """Take out what comes next: instant, what, which. What is -1 where nothing is left."""
    count = entries[0, 0]
    if count == 0:
        return 0, -1, 0
    best = 1
    for place in range(2, count + 1):
        at, least = entries[place, AT], entries[best, AT]
        if at < least or (at == least and entries[place, ORDER] < entries[best, ORDER]):
            best = place
    at, what, which = entries[best, AT], entries[best, WHAT], entries[best, WHICH]
    if best != count:
        for column in range(WIDTH):
            entries[best, column] = entries[count, column]
    entries[0, 0] = count - 1
    return at, what, which
