"""Policies whose chips wait for nobody: continuous drafting and blocks in flight, event by event in compiled code.

The twins of `sim/policies/asynchronous.py` and `pipelined.py`: here the target's side, the draft's in `drafter.py`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.screen.compiled import compiled
from hilsim.screen.costs import Prices
from hilsim.screen.drafter import ASYNC, PIPELINED, draft_on, interrupted
from hilsim.screen.event_queue import next_due
from hilsim.screen.lead import CACHED, OVER, learn
from hilsim.screen.request import (
    CONTENDED,
    DOWN,
    DOWN_BUSY,
    DOWN_BYTES,
    DRAFT,
    FIRST,
    HEARD,
    LENGTH,
    NONE,
    NOW,
    TARGET,
    TARGET_BUSY,
    TROUBLE,
    UP,
    delivered,
    occupied,
    opened,
    target_ns,
    trouble,
)
from hilsim.screen.state import (
    ALIVE,
    DRAFTER,
    EMPTIER,
    FINAL,
    FRESH,
    GONE,
    HEARD_FIRST,
    HEARD_LAST,
    IDLE,
    INTERRUPT,
    LATEST,
    MAIN,
    MAIN_SINCE,
    MAIN_STAGE,
    MAIN_WAITS,
    NEWEST_LAST,
    OVER_AT,
    OVERFULL,
    PARCEL,
    PRE_VERIFY,
    SHIPPED,
    SLOTS,
    STANDING,
    TICKET,
    UNSETTLED,
    V_DONE,
    V_LENGTH,
    V_OVER,
    VERDICT,
    VERDICT_OVER,
    WAY_DOWN,
    WIRE_END,
    Scene,
    announce,
    answer_back,
    at_once,
    carry,
    empty,
    fresh,
    leave,
    news,
    report,
    set_up,
    soon,
    take,
)
from hilsim.screen.tokens import Words

Ints = npt.NDArray[np.int64]
# Where the target's side is.
TOP, FOR_ARRIVAL, IN_STEP, IN_PLAIN, FOR_WIRE, PLAIN_ON_WIRE, PLAIN_UNDER_WAY, FOR_SETTLED, FOR_TOLD, FOR_DRAFTER = (
    range(10)
)


@compiled
def overlapped(
    words: Words,
    prices: Prices,
    state: Ints,
    out: Ints,
    scene: Scene,
    kind: int,
    first: int,
    second: int,
    third: int,
) -> None:
    """A run of async (`min_batch`, `max_ahead`, handshake in ns) or pipelined (`draft_tokens`, blocks, pre-verify)."""
    for request in range(len(words.asked)):
        mine, asked = out[request], words.asked[request]
        opened(words, prices, state, mine, request, True)
        set_up(scene, state, asked + words.most[request])
        flow, lead = scene.flow, scene.lead
        if words.length[request] == 1:
            flow[FINAL] = mine[FIRST]
        flow[IDLE] = flow[PRE_VERIFY] = third if kind == PIPELINED else 0
        at_once(scene, state[NOW], DRAFTER, 0)
        main(words, prices, state, mine, scene, request, state[NOW], kind, first)
        while True:
            now, what, which = next_due(scene.entries)
            if what < 0 or state[TROUBLE] != NONE or flow[OVERFULL]:
                break
            if what == MAIN:
                main(words, prices, state, mine, scene, request, now, kind, first)
            elif what == DRAFTER:
                if which == flow[TICKET] and flow[ALIVE]:
                    draft_on(words, prices, state, mine, scene, request, now, kind, first, second, third)
            elif what == INTERRUPT:
                if flow[ALIVE]:
                    interrupted(words, prices, state, mine, scene, request, now, kind, first, second, third, which)
            elif what == EMPTIER:
                empty(scene, now)
            elif what == PARCEL:
                carry(prices, mine, scene, now, which)
            elif what == VERDICT:
                if report(words, prices, state, mine, scene, request, now, which):
                    hear(scene, now, kind, scene.verdicts[which, V_LENGTH], scene.verdicts[which, V_DONE])
                    answer_back(words, prices, mine, scene, request, now, which)
            elif what == VERDICT_OVER:
                scene.verdicts[which, V_OVER] = 1
                waits = flow[MAIN_STAGE]
                if (waits == FOR_SETTLED and flow[UNSETTLED] == which) or (waits == FOR_TOLD and flow[LATEST] == which):
                    main(words, prices, state, mine, scene, request, now, kind, first)
            else:
                flow[GONE] = 1
                if flow[MAIN_STAGE] == FOR_DRAFTER:
                    main(words, prices, state, mine, scene, request, now, kind, first)
        late = request + 1 < len(words.asked) and flow[WIRE_END] > flow[OVER_AT] + prices.pause_ns
        if flow[OVERFULL] or late:
            trouble(state, CONTENDED, 0)
        if state[TROUBLE] != NONE:
            return
        state[NOW], state[UP], state[DOWN] = flow[OVER_AT], 0, 0
        state[DRAFT] = min(lead[CACHED], state[LENGTH] - 1)


@compiled
def hear(scene: Scene, now: int, kind: int, length: int, done: int) -> None:
    """A verdict reaches the draft's chip."""
    lead, flow = scene.lead, scene.flow
    if kind == ASYNC:
        noted(scene, length, done)
        news(scene, now)
        return
    lead[OVER] = done
    if not flow[ALIVE]:
        return
    contradicted = learn(lead, length)
    if contradicted:
        flow[SHIPPED] = 0
    if contradicted or done:
        at_once(scene, now, INTERRUPT, done)
    else:
        news(scene, now)


@compiled
def noted(scene: Scene, length: int, done: int) -> None:
    """A verdict that the drafter will look at after its step."""
    flow = scene.flow
    if flow[HEARD_LAST] - flow[HEARD_FIRST] == SLOTS:
        flow[OVERFULL] = 1
        return
    place = flow[HEARD_LAST] % SLOTS
    scene.heard[place, 0], scene.heard[place, 1] = length, done
    flow[HEARD_LAST] += 1


@compiled
def main(
    words: Words,
    prices: Prices,
    state: Ints,
    out: Ints,
    scene: Scene,
    request: int,
    now: int,
    kind: int,
    min_batch: int,
) -> None:
    """The target's side, from where it stopped to where it waits next."""
    flow = scene.flow
    total = words.asked[request] + words.length[request]
    limit = words.asked[request] + words.most[request]
    stage = flow[MAIN_STAGE]
    if stage == IN_STEP:
        judge(words, prices, state, out, scene, request, now, kind)
    elif stage == IN_PLAIN:
        occupied(out, TARGET_BUSY, flow[MAIN_SINCE], now, flow[FINAL])
        state[TARGET] = state[LENGTH]
        if not prices.elsewhere:
            said_alone(words, state, out, scene, request, now)
        elif take(scene, WAY_DOWN, MAIN, 0):
            flow[MAIN_STAGE], flow[MAIN_SINCE] = PLAIN_ON_WIRE, now
            soon(scene, now + prices.verdict_ns, MAIN, 0)
            return
        else:
            flow[MAIN_STAGE] = FOR_WIRE
            return
    elif stage == FOR_WIRE:
        flow[MAIN_STAGE], flow[MAIN_SINCE] = PLAIN_ON_WIRE, now
        soon(scene, now + prices.verdict_ns, MAIN, 0)
        return
    elif stage == PLAIN_ON_WIRE:
        occupied(out, DOWN_BUSY, flow[MAIN_SINCE], now, flow[FINAL])
        out[DOWN_BYTES] += prices.verdict_bytes
        leave(scene, now, WAY_DOWN)
        flow[MAIN_STAGE] = PLAIN_UNDER_WAY
        soon(scene, now + prices.propagation_ns, MAIN, 0)
        return
    elif stage == PLAIN_UNDER_WAY:
        said_alone(words, state, out, scene, request, now)
        state[HEARD] = state[LENGTH]
    elif stage in (FOR_TOLD, FOR_DRAFTER):
        finish(scene, now, kind)
        return

    if state[LENGTH] == total:
        finish(scene, now, kind)
        return
    if flow[UNSETTLED] >= 0:
        if not scene.verdicts[flow[UNSETTLED], V_OVER]:
            flow[MAIN_STAGE] = FOR_SETTLED
            return
        flow[UNSETTLED] = -1
    before, cached = state[LENGTH], state[TARGET]
    if kind == ASYNC and limit - before == 1:
        flow[MAIN_STAGE], flow[MAIN_SINCE] = IN_PLAIN, now
        soon(scene, now + target_ns(prices, before - cached, cached, state), MAIN, 0)
        return
    count, standing = fresh(state, scene)
    if kind == ASYNC:
        ready = count >= min(min_batch, limit - before - 1) or (count > 0 and flow[NEWEST_LAST] != 0)
        rows = count
    else:
        ready = count > 0 or flow[IDLE] != 0
        rows = max(0, count - 1)  # the last drafted token is judged by the row before it
    if not ready:
        flow[MAIN_STAGE], flow[MAIN_WAITS] = FOR_ARRIVAL, 1
        return
    flow[FRESH], flow[STANDING] = count, standing
    flow[MAIN_STAGE], flow[MAIN_SINCE] = IN_STEP, now
    soon(scene, now + target_ns(prices, before - cached + rows, cached, state), MAIN, 0)


@compiled
def said_alone(words: Words, state: Ints, out: Ints, scene: Scene, request: int, now: int) -> None:
    """A token of the target alone is delivered; the drafter looks at it by and by."""
    before = state[LENGTH]
    state[LENGTH] = before + 1
    done = state[LENGTH] == words.asked[request] + words.length[request]
    if done:
        scene.flow[FINAL] = now
    delivered(words, out, request, before, before + 1, now)
    noted(scene, state[LENGTH], int(done))


@compiled
def judge(
    words: Words, prices: Prices, state: Ints, out: Ints, scene: Scene, request: int, now: int, kind: int
) -> None:
    """A verify has ended: commit, and let the draft's chip know."""
    flow = scene.flow
    occupied(out, TARGET_BUSY, flow[MAIN_SINCE], now, flow[FINAL])
    before, drafted, accepted = state[LENGTH], flow[FRESH], flow[STANDING]
    total = words.asked[request] + words.length[request]
    stands = drafted > 0 and accepted == drafted
    if kind == ASYNC:
        emitted, fed, rows = accepted + 1, drafted, drafted + 1
    else:
        emitted, fed, rows = (drafted if stands else accepted + 1), max(0, drafted - 1), drafted
        flow[IDLE] = int(flow[PRE_VERIFY] and drafted > 0 and not stands)
    state[LENGTH] = min(before + emitted, total)
    state[TARGET] = min(before + min(fed, accepted), state[LENGTH] - 1)
    announce(words, prices, out, scene, request, now, before, state[LENGTH], drafted, accepted, rows)


@compiled
def finish(scene: Scene, now: int, kind: int) -> None:
    """The answer is complete: wait until the draft's chip knows, and for an async drafter until it has stopped."""
    flow, lead = scene.flow, scene.lead
    if flow[MAIN_STAGE] != FOR_DRAFTER:
        if flow[LATEST] >= 0 and not scene.verdicts[flow[LATEST], V_OVER]:
            flow[MAIN_STAGE] = FOR_TOLD
            return
        if kind == PIPELINED:
            if flow[ALIVE]:
                at_once(scene, now, INTERRUPT, 1)
        else:
            lead[OVER] = 1
            news(scene, now)
            if not flow[GONE]:
                flow[MAIN_STAGE] = FOR_DRAFTER
                return
    flow[OVER_AT] = now
