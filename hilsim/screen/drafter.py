"""The draft's side of policies whose chips wait for nobody: step by step, until it is interrupted or all is over."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.screen.compiled import compiled
from hilsim.screen.costs import Prices
from hilsim.screen.lead import AHEAD, OVER, TOLD, begin_token, end_token, learn, room
from hilsim.screen.request import DRAFT_BUSY, occupied
from hilsim.screen.state import (
    ALIVE,
    DRAFTER,
    DRAFTER_BEFORE,
    DRAFTER_OVER,
    DRAFTER_SINCE,
    DRAFTER_STAGE,
    DREW,
    FINAL,
    HEARD_FIRST,
    HEARD_LAST,
    SHIPPED,
    SLOTS,
    TICKET,
    WAITS_FOR_NEWS,
    Scene,
    ship,
    soon,
    unanswered,
)
from hilsim.screen.tokens import Words

Ints = npt.NDArray[np.int64]
ASYNC, PIPELINED = 0, 1
# Where the draft's side is; at the top it begins anew.
TOP, IN_DRAFT, FOR_NEWS, IN_HANDSHAKE, STOPPED = range(5)


@compiled
def draft_on(
    words: Words,
    prices: Prices,
    state: Ints,
    out: Ints,
    scene: Scene,
    request: int,
    now: int,
    kind: int,
    first: int,
    second: int,
    third: int,
) -> None:
    """The draft's side, from where it stopped to where it waits next."""
    if scene.flow[DRAFTER_STAGE] == IN_DRAFT:
        occupied(out, DRAFT_BUSY, scene.flow[DRAFTER_SINCE], now, scene.flow[FINAL])
        end_token(scene.lead)
    if kind == ASYNC:
        draft_continuously(words, prices, state, scene, request, now, second, third)
    else:
        draft_blocks(words, prices, state, scene, request, now, first, second)


@compiled
def step(words: Words, prices: Prices, state: Ints, scene: Scene, request: int, now: int) -> None:
    """Begin to draft one token."""
    flow = scene.flow
    flow[DRAFTER_STAGE], flow[DRAFTER_SINCE] = IN_DRAFT, now
    soon(scene, now + begin_token(words, prices, state, scene.lead, request), DRAFTER, flow[TICKET])


@compiled
def draft_continuously(
    words: Words, prices: Prices, state: Ints, scene: Scene, request: int, now: int, max_ahead: int, handshake_ns: int
) -> None:
    """Draft and ship token after token; look for verdicts between two steps."""
    flow, lead = scene.flow, scene.lead
    resumed = flow[DRAFTER_STAGE]
    while True:
        if resumed in (IN_DRAFT, FOR_NEWS):
            contradicted = False
            while flow[HEARD_FIRST] < flow[HEARD_LAST]:
                place = flow[HEARD_FIRST] % SLOTS
                flow[HEARD_FIRST] += 1
                contradicted |= learn(lead, scene.heard[place, 0])
                lead[OVER] |= scene.heard[place, 1]
            if contradicted:
                flow[SHIPPED], flow[DRAFTER_STAGE] = 0, IN_HANDSHAKE
                soon(scene, now + handshake_ns, DRAFTER, flow[TICKET])
                return
            if flow[DREW] and lead[AHEAD] > 0 and not lead[OVER]:
                ship(scene, now, 1, min(room(lead, 1), max_ahead - lead[AHEAD]) <= 0)
        if lead[OVER]:
            stop(scene, now)
            return
        flow[DREW] = int(min(room(lead, 1), max_ahead - lead[AHEAD]) > 0)
        if flow[DREW]:
            step(words, prices, state, scene, request, now)
            return
        if flow[HEARD_FIRST] == flow[HEARD_LAST]:
            flow[DRAFTER_STAGE], flow[WAITS_FOR_NEWS] = FOR_NEWS, 1
            return
        resumed = FOR_NEWS


@compiled
def draft_blocks(
    words: Words, prices: Prices, state: Ints, scene: Scene, request: int, now: int, most: int, blocks: int
) -> None:
    """Draft and ship blocks; begin again where a verdict contradicts what was drafted."""
    flow, lead = scene.flow, scene.lead
    resumed = flow[DRAFTER_STAGE]  # IN_DRAFT: in a block; FOR_NEWS: a block waits to be sent, or nothing is left to do
    while True:
        if resumed == TOP:
            if lead[OVER]:
                stop(scene, now)
                return
            flow[DRAFTER_BEFORE], flow[DREW] = lead[TOLD] + lead[AHEAD], 0
            resumed = IN_DRAFT
        if resumed == IN_DRAFT:
            if lead[TOLD] + lead[AHEAD] - flow[DRAFTER_BEFORE] < most and room(lead, 0) > 0:
                step(words, prices, state, scene, request, now)
                return
            resumed = FOR_NEWS
        if flow[DREW]:  # it waited because there was nothing left to draft
            resumed = TOP
            continue
        if unanswered(scene) >= blocks:
            flow[DRAFTER_STAGE], flow[WAITS_FOR_NEWS] = FOR_NEWS, 1
            return
        new = lead[TOLD] + lead[AHEAD] - max(flow[DRAFTER_BEFORE], lead[TOLD])
        if new > 0:
            ship(scene, now, new, False)
        elif room(lead, 0) <= 0:
            flow[DRAFTER_STAGE], flow[WAITS_FOR_NEWS], flow[DREW] = FOR_NEWS, 1, 1
            return
        resumed = TOP


@compiled
def interrupted(
    words: Words,
    prices: Prices,
    state: Ints,
    out: Ints,
    scene: Scene,
    request: int,
    now: int,
    kind: int,
    first: int,
    second: int,
    third: int,
    over: int,
) -> None:
    """The drafter is told that its guess does not stand, or that all is over."""
    flow = scene.flow
    flow[TICKET] += 1  # what it waited for will find nobody
    flow[WAITS_FOR_NEWS] = 0
    if flow[DRAFTER_STAGE] == IN_DRAFT:
        occupied(out, DRAFT_BUSY, flow[DRAFTER_SINCE], now, flow[FINAL])
    flow[DRAFTER_STAGE] = TOP
    if over:
        stop(scene, now)
    else:
        draft_on(words, prices, state, out, scene, request, now, kind, first, second, third)


@compiled
def stop(scene: Scene, now: int) -> None:
    """The drafter has stopped."""
    scene.flow[ALIVE], scene.flow[DRAFTER_STAGE] = 0, STOPPED
    soon(scene, now, DRAFTER_OVER, 0)
