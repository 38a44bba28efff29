"""PEARL, in slots: both chips work at once, and a slot ends when both are ready. See `sim/policies/pearl.py`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.screen.compiled import compiled
from hilsim.screen.costs import Prices
from hilsim.screen.lead import AHEAD, CACHED, GOOD, begin, begin_token, end_token, learn, room
from hilsim.screen.request import (
    DRAFT,
    DRAFT_BUSY,
    LENGTH,
    NONE,
    NOW,
    SETTLED,
    TARGET,
    TARGET_BUSY,
    TROUBLE,
    UP,
    UP_BUSY,
    UP_BYTES,
    announced,
    opened,
    taken,
    target_ns,
)
from hilsim.screen.tokens import Words

Ints = npt.NDArray[np.int64]


@compiled
def pearl(words: Words, prices: Prices, state: Ints, out: Ints, lead: Ints, draft_tokens: int) -> None:
    """Slots of drafting and verifying at once."""
    for request in range(len(words.asked)):
        mine, asked = out[request], words.asked[request]
        opened(words, prices, state, mine, request, True)
        total = asked + words.length[request]
        begin(lead, state, asked + words.most[request])
        pending, heard, over = 0, state[NOW], state[NOW]
        while state[LENGTH] < total:
            start, before, cached = state[NOW], state[LENGTH], state[TARGET]
            begun = max(start, state[SETTLED])
            judged = begun + target_ns(prices, before - cached + pending, cached, state)
            mine[TARGET_BUSY] += judged - begun
            new, drafted_at = block(words, prices, state, mine, lead, request, draft_tokens, heard)
            if state[TROUBLE] != NONE:
                return
            state[NOW] = max(judged, drafted_at)
            drafted = pending + min(1, new)
            accepted = min(lead[GOOD], drafted)
            whole = accepted == drafted
            emitted = drafted if whole and new else accepted + 1
            state[LENGTH] = min(before + emitted, total)
            state[TARGET] = min(before + min(pending, accepted), state[LENGTH] - 1)
            pending = max(0, new - 1) if whole else 0
            ended = state[NOW]
            heard, over = announced(words, prices, state, mine, request, before, ended, drafted, accepted, drafted)
            learn(lead, state[LENGTH])
        state[NOW] = max(over, state[SETTLED])
        state[DRAFT] = min(lead[CACHED], state[LENGTH] - 1)


@compiled
def block(
    words: Words, prices: Prices, state: Ints, out: Ints, lead: Ints, request: int, most: int, heard: int
) -> tuple[int, int]:
    """The draft's half of a slot; returns how many tokens it drafted, and when they have arrived."""
    before, now = lead[AHEAD], heard
    while lead[AHEAD] - before < most and room(lead, 0) > 0:
        took = begin_token(words, prices, state, lead, request)
        if state[TROUBLE] != NONE:
            return 0, now
        end_token(lead)
        now += took
        out[DRAFT_BUSY] += took
    new = lead[AHEAD] - before
    if new:
        sent = taken(state, UP, now, prices.up_ns[new])
        out[UP_BYTES] += prices.up_bytes[new]
        out[UP_BUSY] += prices.up_ns[new]
        now = sent + prices.up_ns[new] + prices.propagation_ns
    return new, now
