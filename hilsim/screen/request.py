"""A request in compiled loops: the clock, the wires and caches, and how it is opened, delivered and accounted for.

The instants are those of `sim/steps.py`; what `sim` waits for is here the larger of two numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.screen.compiled import compiled
from hilsim.screen.costs import ALWAYS, REJECTED, Prices
from hilsim.screen.tokens import Words

Ints = npt.NDArray[np.int64]
FAR = 2**62  # an instant that no run reaches

# The state of a run, one number each: the clock, since when each way of the link is free, tokens cached by the target
# and the draft, tokens that the draft's chip has heard, tokens of the conversation, when the target knows the last
# word of the last round, and what a loop could not go on without.
NOW, UP, DOWN, TARGET, DRAFT, HEARD, LENGTH, SETTLED, TROUBLE, NEEDED, STATE = range(11)
# Troubles: tables too small for a lag or for rows, drafts deeper than recorded.
NONE, SHORT_OF_LAGS, SHORT_OF_TARGET_ROWS, SHORT_OF_DRAFT_ROWS, TOO_DEEP = range(5)
# What is kept of a request: instants, occupied nanoseconds within it, bytes, and counts of rounds and drafts.
(
    ARRIVED, FIRST, CLAUSE, FINISHED, TARGET_BUSY, DRAFT_BUSY, UP_BUSY, DOWN_BUSY, UP_BYTES, DOWN_BYTES, ROUNDS, DRAFTS,
    DRAFTED, ACCEPTED, FIELDS,
) = range(15)  # fmt: skip


@compiled
def occupied(out: Ints, field: int, start: int, end: int, final: int) -> None:
    """A span of a unit or a wire; what lies after the request is over does not count."""
    out[field] += max(0, min(end, final) - start)


@compiled
def trouble(state: Ints, kind: int, needed: int) -> int:
    """Note what is missing; the run is thrown away and made again with it."""
    if state[TROUBLE] == NONE:
        state[TROUBLE], state[NEEDED] = kind, needed
    return 1


@compiled
def step_ns(table: Ints, rows: int, cached: int, state: Ints, kind: int) -> int:
    """A step's time from its table."""
    if rows >= table.shape[0]:
        return trouble(state, kind, rows)
    return int(table[rows, cached if table.shape[1] > 1 else 0])


@compiled
def target_ns(prices: Prices, rows: int, cached: int, state: Ints) -> int:
    """A step of the target that reads no prompt."""
    return step_ns(prices.target_step, rows, cached, state, SHORT_OF_TARGET_ROWS)


@compiled
def draft_ns(prices: Prices, rows: int, cached: int, state: Ints) -> int:
    """A step of the draft that reads no prompt."""
    return step_ns(prices.draft_step, rows, cached, state, SHORT_OF_DRAFT_ROWS)


@compiled
def read_ns(table: Ints, request: int, lag: int, state: Ints) -> int:
    """Reading a question, with `lag` earlier tokens that the cache lacks."""
    if lag >= table.shape[1]:
        return trouble(state, SHORT_OF_LAGS, lag)
    return int(table[request, lag])


@compiled
def taken(state: Ints, way: int, asked: int, wire_ns: int) -> int:
    """A message gets a way of the link when it is free; returns when it begins."""
    start = int(max(asked, state[way]))
    state[way] = start + wire_ns
    return start


@compiled
def delivered(words: Words, out: Ints, request: int, before: int, after: int, instant: int) -> None:
    """Tokens `before` to `after` of the conversation can be spoken."""
    first, answered = before - words.asked[request], after - words.asked[request]
    if first < words.clause[request] <= answered:
        out[CLAUSE] = instant
    if answered == words.length[request]:
        out[FINISHED] = instant
    out[ROUNDS] += 1


@compiled
def opened(words: Words, prices: Prices, state: Ints, out: Ints, request: int, drafting: bool) -> None:
    """Both chips read the question, or the target alone; its first token is delivered."""
    if words.first[request]:
        state[TARGET] = state[DRAFT] = state[HEARD] = 0
    carried, prompt, asked = words.carried[request], words.prompt[request], words.asked[request]
    for cache in (TARGET, DRAFT, HEARD):  # what no longer stands of earlier turns is read again
        state[cache] = min(state[cache], carried)
    state[NOW] += prices.pause_ns
    out[ARRIVED] = state[NOW]
    begin = state[NOW] + prices.networks_ns

    heard_at = begin
    if prices.elsewhere:
        heard_at = taken(state, UP, begin, prices.prompt_ns[prompt]) + prices.prompt_ns[prompt] + prices.propagation_ns
        out[UP_BYTES] += prices.prompt_bytes[prompt]
        out[UP_BUSY] += prices.prompt_ns[prompt]
    read = heard_at + read_ns(prices.target_read, request, carried - state[TARGET], state)
    out[TARGET_BUSY] += read - heard_at

    known = told = read
    untold = asked - state[HEARD]
    asking = drafting_from = begin
    if drafting:
        if prices.draft_far:
            asking = taken(state, DOWN, begin, prices.prompt_ns[untold])
            drafting_from = asking + prices.prompt_ns[untold] + prices.propagation_ns
            out[DOWN_BYTES] += prices.prompt_bytes[untold]
        if prices.same_unit:
            drafting_from = max(drafting_from, read)  # the target asked first
        known = drafting_from + read_ns(prices.draft_read, request, carried - state[DRAFT], state)
    if drafting or prices.elsewhere:
        sent = taken(state, DOWN, read, prices.verdict_ns)
        told = sent + prices.verdict_ns + prices.propagation_ns
        out[DOWN_BYTES] += prices.verdict_bytes
    out[FIRST] = told if prices.elsewhere else read
    final = out[FIRST] if words.length[request] == 1 else FAR
    if drafting or prices.elsewhere:
        occupied(out, DOWN_BUSY, sent, sent + prices.verdict_ns, final)
    if drafting:
        if prices.draft_far:
            occupied(out, DOWN_BUSY, asking, asking + prices.prompt_ns[untold], final)
        occupied(out, DRAFT_BUSY, drafting_from, known, final)
        state[DRAFT], state[HEARD] = asked, asked + 1
    state[TARGET], state[LENGTH] = asked, asked + 1
    state[NOW] = max(told, known)
    state[SETTLED] = 0
    delivered(words, out, request, asked, asked + 1, out[FIRST])


@compiled
def plain(words: Words, prices: Prices, state: Ints, out: Ints, request: int) -> None:
    """One token by the target alone."""
    before, start = state[LENGTH], max(state[NOW], state[SETTLED])
    end = start + target_ns(prices, before - state[TARGET], state[TARGET], state)
    out[TARGET_BUSY] += end - start
    state[TARGET], state[LENGTH] = before, before + 1
    if prices.elsewhere:
        sent = taken(state, DOWN, end, prices.verdict_ns)
        out[DOWN_BYTES] += prices.verdict_bytes
        out[DOWN_BUSY] += prices.verdict_ns
        end = sent + prices.verdict_ns + prices.propagation_ns
        state[HEARD] = before + 1
    state[NOW] = end
    delivered(words, out, request, before, before + 1, end)


@compiled
def has_last_word(prices: Prices, drafted: int, accepted: int) -> bool:
    """Whether the draft's chip decides how a round ends (`cost.payload.draft_decides`)."""
    if drafted == 0:
        return False
    return prices.last_word == ALWAYS or (prices.last_word == REJECTED and accepted < drafted)


@compiled
def answer_ns(prices: Prices, drafted: int, accepted: int, rows: int) -> int:
    """How long a verdict holds the wire."""
    return int(prices.down_ns[rows, int(accepted == drafted)]) if drafted else prices.verdict_ns


@compiled
def answer_size(prices: Prices, drafted: int, accepted: int, rows: int) -> int:
    """Bytes of a verdict."""
    return int(prices.down_bytes[rows, int(accepted == drafted)]) if drafted else prices.verdict_bytes


@compiled
def announced(
    words: Words,
    prices: Prices,
    state: Ints,
    out: Ints,
    request: int,
    before: int,
    decided: int,
    drafted: int,
    accepted: int,
    rows: int,
) -> tuple[int, int]:
    """The verdict of `decided` on its way to the draft's chip, and its answer where it has the last word.

    Returns when the draft's chip has heard, and when all is over.
    """
    done = state[LENGTH] == words.asked[request] + words.length[request]
    down_ns, word = answer_ns(prices, drafted, accepted, rows), has_last_word(prices, drafted, accepted)
    sent = taken(state, DOWN, decided, down_ns)
    heard = sent + down_ns + prices.propagation_ns
    over = heard
    if word:
        answered = taken(state, UP, heard, prices.verdict_ns)
        over = answered + prices.verdict_ns + prices.propagation_ns
    instant = heard if prices.elsewhere else over if word else decided
    final = instant if done else FAR
    occupied(out, DOWN_BUSY, sent, sent + down_ns, final)
    out[DOWN_BYTES] += answer_size(prices, drafted, accepted, rows)
    if word:
        occupied(out, UP_BUSY, answered, answered + prices.verdict_ns, final)
        out[UP_BYTES] += prices.verdict_bytes
        state[SETTLED] = over
    state[HEARD] = max(state[HEARD], state[LENGTH])
    out[DRAFTS] += drafted > 0
    out[DRAFTED] += drafted
    out[ACCEPTED] += accepted
    delivered(words, out, request, before, state[LENGTH], instant)
    return heard, over
