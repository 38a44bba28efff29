"""What policies without lockstep share: the draft's chip, messages and verdicts under way, and who waits for what.

The twins of `sim/lead.py` and `sim/steps.announce`, process by process. Each process is a function that goes on where
it stopped (its stage) until it has to wait again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hilsim.screen.compiled import compiled
from hilsim.screen.costs import Prices
from hilsim.screen.event_queue import NORMAL, URGENT, agenda, due
from hilsim.screen.lead import AHEAD, GOOD, LAST, SENDING, SIZE, TOLD, UNSENT, begin
from hilsim.screen.request import (
    ACCEPTED,
    DOWN_BUSY,
    DOWN_BYTES,
    DRAFTED,
    DRAFTS,
    FAR,
    HEARD,
    LENGTH,
    UP_BUSY,
    UP_BYTES,
    answer_ns,
    answer_size,
    delivered,
    has_last_word,
    occupied,
)
from hilsim.screen.tokens import Words

Ints = npt.NDArray[np.int64]
SLOTS = 64  # messages of a kind under way at once

# Processes, and the ends that others wait for.
MAIN, DRAFTER, DRAFTER_OVER, INTERRUPT, EMPTIER, PARCEL, VERDICT, VERDICT_OVER = range(8)
# Where a message is: to begin, waiting for the wire, on it, on its way; a verdict then goes up again.
BEGIN, QUEUED, ON_WIRE, UNDER_WAY, QUEUED_UP, ON_WIRE_UP, UNDER_WAY_UP, FREE = range(8)
(
    MAIN_STAGE, MAIN_SINCE, FRESH, STANDING, IDLE, MAIN_WAITS, DRAFTER_STAGE, DRAFTER_SINCE, DRAFTER_BEFORE, DREW,
    TICKET, ALIVE, GONE, WAITS_FOR_NEWS, PARCELS, VERDICTS, LATEST, UNSETTLED, NEWEST_TOLD, NEWEST_AHEAD, NEWEST_GOOD,
    NEWEST_LAST, FINAL, OVER_AT, WIRE_END, OVERFULL, HEARD_FIRST, HEARD_LAST, SHIPPED, PRE_VERIFY, FLOW,
) = range(31)  # fmt: skip
# Of a parcel of drafts: the guess it carries, how many of its tokens are new, its stage and since when.
P_TOLD, P_AHEAD, P_GOOD, P_LAST, P_NEW, P_STAGE, P_SINCE, P_SIZE = range(8)
# Of a verdict: what it commits, its stage, when it was decided and delivered, and whether it is over.
V_BEFORE, V_LENGTH, V_DONE, V_DRAFTED, V_ACCEPTED, V_ROWS, V_STAGE, V_SINCE, V_DECIDED, V_OVER, V_SIZE = range(11)
WAY_UP, WAY_DOWN = 0, 1


class Scene(NamedTuple):
    """One request: the draft's lead, the agenda, who is where, messages, and who waits for either way of the link."""

    lead: Ints
    entries: Ints
    flow: Ints
    parcels: Ints
    verdicts: Ints
    lines: Ints  # (2 ways, SLOTS + 1, 2): row 0 is whether the way is taken, and how many wait
    heard: Ints  # (SLOTS, 2): verdicts that the drafter has not looked at: length, done
    shipped: Ints  # (SLOTS,): where each shipment ends


def scene() -> Scene:
    """An empty scene."""
    return Scene(
        np.zeros(SIZE, np.int64),
        agenda(),
        np.zeros(FLOW, np.int64),
        np.zeros((SLOTS, P_SIZE), np.int64),
        np.zeros((SLOTS, V_SIZE), np.int64),
        np.zeros((2, SLOTS + 1, 2), np.int64),
        np.zeros((SLOTS, 2), np.int64),
        np.zeros(SLOTS, np.int64),
    )


@compiled
def set_up(scene: Scene, state: Ints, limit: int) -> None:
    """The scene of a request that was just opened."""
    begin(scene.lead, state, limit)
    scene.entries[0, :] = 0
    scene.lines[:, 0, :] = 0
    scene.parcels[:, P_STAGE] = FREE
    scene.verdicts[:, V_STAGE] = FREE
    scene.verdicts[:, V_OVER] = 1
    flow = scene.flow
    flow[:] = 0
    flow[FINAL], flow[LATEST], flow[UNSETTLED], flow[ALIVE], flow[OVER_AT] = FAR, -1, -1, 1, FAR


@compiled
def soon(scene: Scene, at: int, what: int, which: int) -> None:
    """Something happens at an instant."""
    if not due(scene.entries, at, NORMAL, what, which):
        scene.flow[OVERFULL] = 1


@compiled
def at_once(scene: Scene, now: int, what: int, which: int) -> None:
    """Something happens now, before all else that does."""
    if not due(scene.entries, now, URGENT, what, which):
        scene.flow[OVERFULL] = 1


@compiled
def take(scene: Scene, way: int, what: int, which: int) -> bool:
    """Get a way of the link, or stand in line for it."""
    line = scene.lines[way]
    if line[0, 0] == 0:
        line[0, 0] = 1
        return True
    if line[0, 1] == SLOTS:
        scene.flow[OVERFULL] = 1
        return False
    line[0, 1] += 1
    line[line[0, 1], 0], line[line[0, 1], 1] = what, which
    return False


@compiled
def leave(scene: Scene, now: int, way: int) -> None:
    """Hand a way of the link to the first in line, or free it."""
    line, scene.flow[WIRE_END] = scene.lines[way], now
    waiting = line[0, 1]
    if waiting == 0:
        line[0, 0] = 0
        return
    soon(scene, now, line[1, 0], line[1, 1])
    for place in range(1, waiting):
        line[place, 0], line[place, 1] = line[place + 1, 0], line[place + 1, 1]
    line[0, 1] = waiting - 1


@compiled
def ship(scene: Scene, now: int, count: int, last: bool) -> None:
    """Send the last `count` drafted tokens on their way; what is drafted while the wire is taken goes together."""
    lead, flow = scene.lead, scene.flow
    kept = 0
    for place in range(flow[SHIPPED]):
        if scene.shipped[place] > lead[TOLD]:
            scene.shipped[kept] = scene.shipped[place]
            kept += 1
    if kept == SLOTS:
        flow[OVERFULL] = 1
        return
    scene.shipped[kept] = lead[TOLD] + lead[AHEAD]
    flow[SHIPPED] = kept + 1
    lead[UNSENT] += count
    lead[LAST] = int(last)
    if not lead[SENDING]:
        lead[SENDING] = 1
        at_once(scene, now, EMPTIER, 0)


@compiled
def unanswered(scene: Scene) -> int:
    """Shipments whose last token has no verdict yet."""
    found = 0
    for place in range(scene.flow[SHIPPED]):
        found += scene.shipped[place] > scene.lead[TOLD]
    return found


@compiled
def empty(scene: Scene, now: int) -> None:
    """The next message of drafts, if there is anything to send."""
    lead, flow = scene.lead, scene.flow
    if not (lead[UNSENT] and lead[AHEAD]):
        lead[SENDING] = 0
        return
    slot = flow[PARCELS] % SLOTS
    parcel = scene.parcels[slot]
    if parcel[P_STAGE] != FREE:
        flow[OVERFULL] = 1
        return
    flow[PARCELS] += 1
    parcel[P_TOLD], parcel[P_AHEAD], parcel[P_GOOD] = lead[TOLD], lead[AHEAD], lead[GOOD]
    parcel[P_LAST], parcel[P_NEW], parcel[P_STAGE] = lead[LAST], min(lead[UNSENT], lead[AHEAD]), BEGIN
    lead[UNSENT] = 0
    at_once(scene, now, PARCEL, slot)


@compiled
def carry(prices: Prices, out: Ints, scene: Scene, now: int, slot: int) -> None:
    """One message from the draft's chip into the target's inbox."""
    parcel, flow = scene.parcels[slot], scene.flow
    stage, new = parcel[P_STAGE], parcel[P_NEW]
    if stage == BEGIN and not take(scene, WAY_UP, PARCEL, slot):
        parcel[P_STAGE] = QUEUED
    elif stage in (BEGIN, QUEUED):
        parcel[P_STAGE], parcel[P_SINCE] = ON_WIRE, now
        soon(scene, now + prices.up_ns[new], PARCEL, slot)
    elif stage == ON_WIRE:
        occupied(out, UP_BUSY, parcel[P_SINCE], now, flow[FINAL])
        out[UP_BYTES] += prices.up_bytes[new]
        leave(scene, now, WAY_UP)
        soon(scene, now, EMPTIER, 0)
        soon(scene, now + prices.propagation_ns, PARCEL, slot)
        parcel[P_STAGE] = UNDER_WAY
    else:
        flow[NEWEST_TOLD], flow[NEWEST_AHEAD] = parcel[P_TOLD], parcel[P_AHEAD]
        flow[NEWEST_GOOD], flow[NEWEST_LAST] = parcel[P_GOOD], parcel[P_LAST]
        parcel[P_STAGE] = FREE
        if flow[MAIN_WAITS]:
            flow[MAIN_WAITS] = 0
            soon(scene, now, MAIN, 0)


@compiled
def fresh(state: Ints, scene: Scene) -> tuple[int, int]:
    """Tokens in the inbox that follow what is committed, and how many of them are the target's own."""
    flow = scene.flow
    known = state[LENGTH] - flow[NEWEST_TOLD]
    if flow[NEWEST_GOOD] < known or flow[NEWEST_AHEAD] <= known:
        return 0, 0
    return flow[NEWEST_AHEAD] - known, flow[NEWEST_GOOD] - known


@compiled
def announce(
    words: Words, prices: Prices, out: Ints, scene: Scene, request: int, now: int, before: int, length: int,
    drafted: int, accepted: int, rows: int,
) -> None:  # fmt: skip
    """A verdict sets out for the draft's chip."""
    flow = scene.flow
    slot = flow[VERDICTS] % SLOTS
    verdict = scene.verdicts[slot]
    if verdict[V_STAGE] != FREE:
        flow[OVERFULL] = 1
        return
    flow[VERDICTS] += 1
    done = length == words.asked[request] + words.length[request]
    verdict[V_BEFORE], verdict[V_LENGTH], verdict[V_DONE] = before, length, int(done)
    verdict[V_DRAFTED], verdict[V_ACCEPTED], verdict[V_ROWS] = drafted, accepted, rows
    verdict[V_STAGE], verdict[V_DECIDED], verdict[V_OVER] = BEGIN, now, 0
    word = has_last_word(prices, drafted, accepted)
    flow[LATEST] = slot
    if word:
        flow[UNSETTLED] = slot
    elif done and not prices.elsewhere:
        flow[FINAL] = now
    out[DRAFTS] += drafted > 0
    out[DRAFTED] += drafted
    out[ACCEPTED] += accepted
    at_once(scene, now, VERDICT, slot)


@compiled
def report(
    words: Words, prices: Prices, state: Ints, out: Ints, scene: Scene, request: int, now: int, slot: int
) -> bool:
    """A verdict goes on; True at the instant at which the draft's chip hears it."""
    verdict, flow = scene.verdicts[slot], scene.flow
    stage, drafted, accepted = verdict[V_STAGE], verdict[V_DRAFTED], verdict[V_ACCEPTED]
    down_ns = answer_ns(prices, drafted, accepted, verdict[V_ROWS])
    if stage == BEGIN and not take(scene, WAY_DOWN, VERDICT, slot):
        verdict[V_STAGE] = QUEUED
    elif stage in (BEGIN, QUEUED):
        verdict[V_STAGE], verdict[V_SINCE] = ON_WIRE, now
        soon(scene, now + down_ns, VERDICT, slot)
    elif stage == ON_WIRE:
        occupied(out, DOWN_BUSY, verdict[V_SINCE], now, flow[FINAL])
        out[DOWN_BYTES] += answer_size(prices, drafted, accepted, verdict[V_ROWS])
        leave(scene, now, WAY_DOWN)
        soon(scene, now + prices.propagation_ns, VERDICT, slot)
        verdict[V_STAGE] = UNDER_WAY
    elif stage == UNDER_WAY:
        if prices.elsewhere:
            verdict[V_DECIDED] = now
            if verdict[V_DONE]:
                flow[FINAL] = now
        state[HEARD] = max(state[HEARD], verdict[V_LENGTH])
        return True
    elif stage == QUEUED_UP:
        ascend(prices, scene, now, slot)
    elif stage == ON_WIRE_UP:
        occupied(out, UP_BUSY, verdict[V_SINCE], now, flow[FINAL])
        out[UP_BYTES] += prices.verdict_bytes
        leave(scene, now, WAY_UP)
        soon(scene, now + prices.propagation_ns, VERDICT, slot)
        verdict[V_STAGE] = UNDER_WAY_UP
    elif stage == UNDER_WAY_UP:
        if not prices.elsewhere:
            verdict[V_DECIDED] = now
        close(words, out, scene, request, now, slot)
    return False


@compiled
def answer_back(words: Words, prices: Prices, out: Ints, scene: Scene, request: int, now: int, slot: int) -> None:
    """After the draft's chip has heard: its last word goes up, or the round is closed."""
    verdict = scene.verdicts[slot]
    if not has_last_word(prices, verdict[V_DRAFTED], verdict[V_ACCEPTED]):
        close(words, out, scene, request, now, slot)
    elif take(scene, WAY_UP, VERDICT, slot):
        ascend(prices, scene, now, slot)
    else:
        verdict[V_STAGE] = QUEUED_UP


@compiled
def ascend(prices: Prices, scene: Scene, now: int, slot: int) -> None:
    """The last word is put on the wire."""
    scene.verdicts[slot, V_STAGE], scene.verdicts[slot, V_SINCE] = ON_WIRE_UP, now
    soon(scene, now + prices.verdict_ns, VERDICT, slot)


@compiled
def close(words: Words, out: Ints, scene: Scene, request: int, now: int, slot: int) -> None:
    """Both chips know how a round ended."""
    verdict = scene.verdicts[slot]
    if verdict[V_DONE]:
        scene.flow[FINAL] = verdict[V_DECIDED]
    delivered(words, out, request, verdict[V_BEFORE], verdict[V_LENGTH], verdict[V_DECIDED])
    soon(scene, now, VERDICT_OVER, slot)
    verdict[V_STAGE] = FREE


@compiled
def news(scene: Scene, now: int) -> None:
    """Wake up the drafter, if it waits for news."""
    if scene.flow[WAITS_FOR_NEWS]:
        scene.flow[WAITS_FOR_NEWS] = 0
        soon(scene, now, DRAFTER, scene.flow[TICKET])
