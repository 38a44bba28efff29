"""The draft ahead of the verdict, as numbers: what its chip believes, and how much of that is the target's own.

The twin of `sim/lead.py`. Tokens are counted, not kept: of the `AHEAD` tokens after `TOLD`, the first `GOOD` are the
target's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.screen.compiled import compiled
from hilsim.screen.costs import Prices
from hilsim.screen.request import DRAFT, LENGTH, TOO_DEEP, draft_ns, trouble
from hilsim.screen.tokens import Words

Ints = npt.NDArray[np.int64]

# What the draft's chip knows; the token it is computing: where, whether it is the target's own, whether it ends the
# turn; and the limit of the conversation.
TOLD, AHEAD, GOOD, CACHED, UNSENT, SENDING, ENDED, LAST, OVER, PLACE, RIGHT, ENDS, LIMIT, SIZE = range(14)


@compiled
def begin(lead: Ints, state: Ints, limit: int) -> None:
    """A draft's chip that knows all that is committed."""
    lead[:] = 0
    lead[TOLD], lead[CACHED], lead[LIMIT] = state[LENGTH], state[DRAFT], limit


@compiled
def room(lead: Ints, bonus: int) -> int:
    """Tokens that may still be drafted; one less where the target adds a token of its own."""
    if lead[ENDED] or lead[OVER]:
        return 0
    return int(lead[LIMIT] - bonus - lead[TOLD] - lead[AHEAD])


@compiled
def learn(lead: Ints, length: int) -> bool:
    """Take notice of what is committed up to `length` tokens; True where it contradicts what was drafted."""
    new = max(0, length - lead[TOLD])
    known = min(new, lead[AHEAD])
    contradicted = bool(lead[GOOD] < known)
    if contradicted:
        lead[CACHED] = min(lead[CACHED], lead[TOLD] + lead[GOOD])
        lead[AHEAD] = lead[GOOD] = lead[UNSENT] = lead[ENDED] = 0
    else:
        lead[AHEAD] -= known
        lead[GOOD] -= known
        lead[UNSENT] = min(lead[UNSENT], lead[AHEAD])
        lead[ENDED] = int(lead[ENDED] and lead[AHEAD] > 0)
    lead[TOLD] = max(lead[TOLD], length)
    return contradicted


@compiled
def begin_token(words: Words, prices: Prices, state: Ints, lead: Ints, request: int) -> int:
    """One token more is under way; returns how long the step takes."""
    place, on = lead[TOLD] + lead[AHEAD], lead[TOLD] + lead[GOOD]
    row, beyond = words.row[request] + on - words.asked[request], lead[AHEAD] - lead[GOOD]
    if beyond >= words.depth:
        return trouble(state, TOO_DEEP, beyond + 1)
    lead[PLACE] = place
    right = beyond == 0 and words.right[row, min(lead[AHEAD], words.right.shape[1] - 1)]
    lead[RIGHT] = int(right)
    lead[ENDS] = int(words.end[row] if right else words.ends_after[row] == beyond + 1)
    return draft_ns(prices, place - lead[CACHED], lead[CACHED], state)


@compiled
def end_token(lead: Ints) -> None:
    """The token is there; what was committed meanwhile wins over it."""
    lead[CACHED] = lead[PLACE]
    if lead[TOLD] <= lead[PLACE]:
        lead[GOOD] += lead[RIGHT]
        lead[AHEAD] += 1
        lead[ENDED] = lead[ENDS]
