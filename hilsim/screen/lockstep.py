"""Policies in which one chip works at a time: the target alone, sync, adaptive, prompt lookup. See `sim/policies`."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hilsim.screen.compiled import compiled
from hilsim.screen.costs import Prices
from hilsim.screen.request import (
    ACCEPTED,
    DOWN,
    DOWN_BUSY,
    DOWN_BYTES,
    DRAFT,
    DRAFT_BUSY,
    DRAFTED,
    DRAFTS,
    HEARD,
    LENGTH,
    NOW,
    SETTLED,
    TARGET,
    TARGET_BUSY,
    TOO_DEEP,
    UP,
    UP_BUSY,
    UP_BYTES,
    announced,
    delivered,
    draft_ns,
    opened,
    plain,
    taken,
    target_ns,
    trouble,
)
from hilsim.screen.tokens import Words, proposed
from hilsim.sim.policies.adaptive import PROBE

Ints = npt.NDArray[np.int64]
SCHEDULE, CONFIDENCE, ENTROPY, EXPECTED = range(4)


@compiled
def target_only(words: Words, prices: Prices, state: Ints, out: Ints) -> None:
    """Plain decoding; the answers are those of every policy."""
    for request in range(len(words.asked)):
        opened(words, prices, state, out[request], request, False)
        total = words.asked[request] + words.length[request]
        while state[LENGTH] < total:
            plain(words, prices, state, out[request], request)


@compiled
def prompt_lookup(words: Words, prices: Prices, state: Ints, out: Ints, draft_tokens: int) -> None:
    """Verify what the conversation itself proposes."""
    for request in range(len(words.asked)):
        mine, asked = out[request], words.asked[request]
        opened(words, prices, state, mine, request, False)
        total, limit = asked + words.length[request], asked + words.most[request]
        while state[LENGTH] < total:
            before, row = state[LENGTH], words.row[request] + state[LENGTH] - asked
            drafted = min(words.looked_up[row], draft_tokens, limit - before - 1)
            if drafted <= 0:
                plain(words, prices, state, mine, request)
                continue
            accepted = min(words.looked_right[row], drafted)
            start, cached = state[NOW], state[TARGET]
            end = start + target_ns(prices, before - cached + drafted, cached, state)
            mine[TARGET_BUSY] += end - start
            if prices.elsewhere:
                sent = taken(state, DOWN, end, prices.verdict_ns)
                mine[DOWN_BYTES] += prices.verdict_bytes
                mine[DOWN_BUSY] += prices.verdict_ns
                end = sent + prices.verdict_ns + prices.propagation_ns
            state[NOW] = end
            state[LENGTH] = min(before + accepted + 1, total)
            state[TARGET] = min(before + accepted, state[LENGTH] - 1)
            counted(mine, drafted, accepted)
            delivered(words, mine, request, before, state[LENGTH], end)


@compiled
def sync(words: Words, prices: Prices, state: Ints, out: Ints, draft_tokens: int) -> None:
    """Draft, send, verify, send back."""
    for request in range(len(words.asked)):
        mine, asked = out[request], words.asked[request]
        opened(words, prices, state, mine, request, True)
        total, limit = asked + words.length[request], asked + words.most[request]
        while state[LENGTH] < total:
            before = state[LENGTH]
            count = min(draft_tokens, limit - before - 1)
            if count == 0:
                plain(words, prices, state, mine, request)
                continue
            drafted, accepted = proposed(words, words.row[request] + before - asked, count)
            if drafted < 0:
                trouble(state, TOO_DEEP, count)
                return
            informed(prices, state, mine)
            for place in range(drafted):
                drafted_one(prices, state, mine, before + place)
            verified(words, prices, state, mine, request, drafted, accepted)
        state[NOW] = max(state[NOW], state[SETTLED])


@compiled
def adaptive(
    words: Words,
    prices: Prices,
    state: Ints,
    out: Ints,
    rule: int,
    draft_tokens: int,
    most: int,
    threshold: float,
    factor: float,
) -> None:
    """Sync with a draft that knows when to stop."""
    for request in range(len(words.asked)):
        mine, asked = out[request], words.asked[request]
        opened(words, prices, state, mine, request, True)
        total, limit = asked + words.length[request], asked + words.most[request]
        length, sure, untried = draft_tokens, 0.7, 0
        while state[LENGTH] < total:
            before, row = state[LENGTH], words.row[request] + state[LENGTH] - asked
            room = min(length if rule == SCHEDULE else most, limit - before - 1)
            probe, ended = untried >= PROBE, False
            drafted = good = 0
            confidence, entropy, standing, tokens = 1.0, 0.0, 1.0, 1.0
            while drafted < room and not ended:
                if not probe and not goes_on(
                    prices, state, rule, threshold, factor, drafted, confidence, entropy, standing, tokens, sure, room
                ):
                    break
                probe = False
                if drafted == 0:
                    informed(prices, state, mine)
                beyond = drafted - good  # tokens since the draft left the target's way
                if beyond >= words.depth:
                    trouble(state, TOO_DEEP, drafted)
                    return
                if rule != SCHEDULE:
                    confidence = words.confidence[row + good, beyond]
                    entropy = words.entropy[row + good, beyond]
                    standing *= confidence
                    tokens += standing
                drafted_one(prices, state, mine, before + drafted)
                right = words.right[row + good, min(drafted, words.right.shape[1] - 1)]
                if beyond == 0 and right:
                    ended = words.end[row + good]
                    good += 1
                else:
                    ended = words.ends_after[row + good] == beyond + 1
                drafted += 1
            if drafted == 0:
                plain(words, prices, state, mine, request)
                untried += 1
                continue
            untried = 0
            verified(words, prices, state, mine, request, drafted, good)
            whole = good == drafted
            length = min(most, length + 2) if whole else max(1, length - 1)
            tested = good + (0 if whole else 1)
            sure += (good / tested - sure) * min(0.5, 0.05 * tested)
        state[NOW] = max(state[NOW], state[SETTLED])


@compiled
def goes_on(
    prices: Prices,
    state: Ints,
    rule: int,
    threshold: float,
    factor: float,
    drafted: int,
    confidence: float,
    entropy: float,
    standing: float,
    tokens: float,
    sure: float,
    room: int,
) -> bool:
    """Whether one more token should be drafted, as `sim.policies.adaptive.goes_on` says."""
    if rule == CONFIDENCE:
        return drafted == 0 or confidence >= threshold
    if rule == ENTROPY:
        return drafted == 0 or 1 - math.sqrt(factor * entropy) >= threshold
    if rule == EXPECTED:
        step = draft_ns(prices, 1, state[LENGTH], state)
        here = tokens / round_ns(prices, state, drafted, step)
        for longer in range(drafted + 1, room + 1):
            standing *= sure
            tokens += standing
            if tokens / round_ns(prices, state, longer, step) > here:
                return True
        return False
    return True


@compiled
def round_ns(prices: Prices, state: Ints, drafted: int, step: int) -> int:
    """What a round of so many drafted tokens takes."""
    cached = state[TARGET]
    target = target_ns(prices, state[LENGTH] - cached + drafted, cached, state)
    if drafted == 0:
        return target
    link = int(prices.up_ns[drafted] + prices.down_ns[drafted + 1, 1]) + 2 * prices.propagation_ns
    return drafted * step + target + link


@compiled
def informed(prices: Prices, state: Ints, out: Ints) -> None:
    """The draft's chip is told what the target has said alone."""
    untold = state[LENGTH] - state[HEARD]
    if untold <= 0:
        return
    sent = taken(state, DOWN, state[NOW], prices.prompt_ns[untold])
    out[DOWN_BYTES] += prices.prompt_bytes[untold]
    out[DOWN_BUSY] += prices.prompt_ns[untold]
    state[NOW] = sent + prices.prompt_ns[untold] + prices.propagation_ns
    state[HEARD] = state[LENGTH]


@compiled
def drafted_one(prices: Prices, state: Ints, out: Ints, known: int) -> None:
    """One step of the draft after `known` tokens; it also reads what the cache lacks."""
    took = draft_ns(prices, known - state[DRAFT], state[DRAFT], state)
    state[NOW] += took
    out[DRAFT_BUSY] += took
    state[DRAFT] = known


@compiled
def verified(words: Words, prices: Prices, state: Ints, out: Ints, request: int, drafted: int, accepted: int) -> None:
    """The rest of a round: drafts up, one verify, verdict down."""
    before, cached = state[LENGTH], state[TARGET]
    sent = taken(state, UP, state[NOW], prices.up_ns[drafted])
    out[UP_BYTES] += prices.up_bytes[drafted]
    out[UP_BUSY] += prices.up_ns[drafted]
    arrived = sent + prices.up_ns[drafted] + prices.propagation_ns
    start = max(arrived, state[SETTLED])
    end = start + target_ns(prices, before - cached + drafted, cached, state)
    out[TARGET_BUSY] += end - start
    total = words.asked[request] + words.length[request]
    state[LENGTH] = min(before + accepted + 1, total)
    standing, last = before + accepted, state[LENGTH] - 1
    state[TARGET] = min(standing, last)
    state[DRAFT] = min(standing, before + drafted - 1, last)
    state[NOW], _ = announced(words, prices, state, out, request, before, end, drafted, accepted, drafted + 1)


@compiled
def counted(out: Ints, drafted: int, accepted: int) -> None:
    """A round's drafts."""
    out[DRAFTS] += 1
    out[DRAFTED] += drafted
    out[ACCEPTED] += accepted
