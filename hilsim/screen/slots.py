"""Fast timing of PEARL: both chips work at once, and a slot ends when both are ready. See `sim/policies/pearl.py`.

The state of the draft's chip is `sim/lead.py` in numbers. Tokens are counted, not stored: of the `AHEAD` tokens after
`KNOWN`, the first `GOOD` are the target's own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.screen.compiled import compiled
from hilsim.screen.costs import StepCosts
from hilsim.screen.request import (
    DRAFT,
    DRAFT_BUSY,
    LENGTH,
    NONE,
    NOW,
    SENT,
    SETTLED,
    TARGET,
    TARGET_BUSY,
    TOO_DEEP,
    TROUBLE,
    UP,
    UP_BUSY,
    UP_BYTES,
    announced,
    draft_end,
    noted,
    opened,
    taken,
    target_end,
    trouble,
)
from hilsim.screen.tokens import Answers

Ints = npt.NDArray[np.int64]
# Tokens that the draft's chip knows to be committed, tokens drafted after them, how many of those the target would
# commit, tokens in the draft's cache, whether the draft has ended the turn, and the limit of the conversation.
KNOWN, AHEAD, GOOD, CACHED, ENDED, LIMIT, SIZE = range(7)


@compiled
def pearl(answers: Answers, costs: StepCosts, state: Ints, out: Ints, lead: Ints, draft_tokens: int) -> None:
    """Slots of drafting and verifying at once."""
    for request in range(len(answers.asked)):
        mine, asked = out[request], answers.asked[request]
        opened(answers, costs, state, mine, request, True)
        total = asked + answers.length[request]
        lead[:] = 0
        lead[KNOWN], lead[CACHED], lead[LIMIT] = state[LENGTH], state[DRAFT], asked + answers.most[request]
        pending, received, concluded = 0, state[NOW], state[NOW]
        while state[LENGTH] < total:
            start, before, cached = state[NOW], state[LENGTH], state[TARGET]
            begun = max(start, state[SETTLED])
            judged = target_end(costs, before - cached + pending, cached, state, begun)
            mine[TARGET_BUSY] += judged - begun
            new, drafted_at = block(answers, costs, state, mine, lead, request, draft_tokens, received)
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
            received, concluded = announced(
                answers, costs, state, mine, request, before, ended, drafted, accepted, drafted
            )
            learn(lead, state[LENGTH])
        state[NOW] = max(concluded, state[SETTLED])
        state[DRAFT] = min(lead[CACHED], state[LENGTH] - 1)


@compiled
def block(
    answers: Answers, costs: StepCosts, state: Ints, out: Ints, lead: Ints, request: int, most: int, received: int
) -> tuple[int, int]:
    """The draft's half of a slot; returns how many tokens it drafted, and when they have arrived."""
    before, now = lead[AHEAD], received
    while lead[AHEAD] - before < most and not lead[ENDED] and lead[KNOWN] + lead[AHEAD] < lead[LIMIT]:
        end = draft_token(answers, costs, state, lead, request, now)
        if state[TROUBLE] != NONE:
            return 0, now
        out[DRAFT_BUSY] += end - now
        now = end
    new = lead[AHEAD] - before
    if new:
        noted(state, SENT, new, 0)
        sent = taken(state, UP, now, costs.up_ns[new])
        out[UP_BYTES] += costs.up_bytes[new]
        out[UP_BUSY] += costs.up_ns[new]
        now = sent + costs.up_ns[new] + costs.propagation_ns
    return new, now


@compiled
def draft_token(answers: Answers, costs: StepCosts, state: Ints, lead: Ints, request: int, now: int) -> int:
    """Draft one more token; returns when the step ends."""
    place, on = lead[KNOWN] + lead[AHEAD], lead[KNOWN] + lead[GOOD]
    row, beyond = answers.row[request] + on - answers.asked[request], lead[AHEAD] - lead[GOOD]
    if beyond >= answers.depth:
        return trouble(state, TOO_DEEP, beyond + 1)
    right = beyond == 0 and answers.right[row, min(lead[AHEAD], answers.right.shape[1] - 1)]
    end = draft_end(costs, place - lead[CACHED], lead[CACHED], state, now)
    lead[CACHED] = place
    lead[GOOD] += int(right)
    lead[AHEAD] += 1
    lead[ENDED] = int(answers.end[row] if right else answers.ends_after[row] == beyond + 1)
    return end


@compiled
def learn(lead: Ints, length: int) -> None:
    """Take over the committed tokens up to `length`; drafted tokens that contradict them are dropped."""
    new = max(0, length - lead[KNOWN])
    known = min(new, lead[AHEAD])
    if lead[GOOD] < known:
        lead[CACHED] = min(lead[CACHED], lead[KNOWN] + lead[GOOD])
        lead[AHEAD] = lead[GOOD] = lead[ENDED] = 0
    else:
        lead[AHEAD] -= known
        lead[GOOD] -= known
        lead[ENDED] = int(lead[ENDED] and lead[AHEAD] > 0)
    lead[KNOWN] = max(lead[KNOWN], length)
