"""Policies in which one chip works at a time: the target alone, sync, adaptive, prompt lookup. See `sim/policies`."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from hilsim.screen.compiled import compiled
from hilsim.screen.costs import StepCosts
from hilsim.screen.request import (
    ACCEPTED,
    DOWN,
    DOWN_BUSY,
    DOWN_BYTES,
    DRAFT,
    DRAFT_BUSY,
    DRAFTED,
    DRAFTS,
    GRAPH,
    INFORMED,
    LENGTH,
    NONE,
    NOW,
    RECEIVED,
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
    delivered,
    draft_end,
    draft_ns,
    noted,
    opened,
    plain,
    switching_ns,
    taken,
    target_end,
    target_ns,
    trouble,
)
from hilsim.screen.tokens import Answers, proposed
from hilsim.sim.policies.adaptive import PROBE

Ints = npt.NDArray[np.int64]
SCHEDULE, CONFIDENCE, ENTROPY, EXPECTED = range(4)


@compiled
def target_only(answers: Answers, costs: StepCosts, state: Ints, out: Ints) -> None:
    """Plain decoding; the answers are those of every policy."""
    for request in range(len(answers.asked)):
        opened(answers, costs, state, out[request], request, False)
        total = answers.asked[request] + answers.length[request]
        while state[LENGTH] < total:
            plain(answers, costs, state, out[request], request)


@compiled
def prompt_lookup(answers: Answers, costs: StepCosts, state: Ints, out: Ints, draft_tokens: int) -> None:
    """Verify what the conversation itself proposes."""
    for request in range(len(answers.asked)):
        mine, asked = out[request], answers.asked[request]
        opened(answers, costs, state, mine, request, False)
        total, limit = asked + answers.length[request], asked + answers.most[request]
        while state[LENGTH] < total:
            before, row = state[LENGTH], answers.row[request] + state[LENGTH] - asked
            drafted = min(answers.looked_up[row], draft_tokens, limit - before - 1)
            if drafted <= 0:
                plain(answers, costs, state, mine, request)
                continue
            accepted = min(answers.looked_right[row], drafted)
            start, cached = state[NOW], state[TARGET]
            end = target_end(costs, before - cached + drafted, cached, state, start)
            mine[TARGET_BUSY] += end - start
            if costs.elsewhere:
                sent = taken(state, DOWN, end, costs.verdict_ns)
                mine[DOWN_BYTES] += costs.verdict_bytes
                mine[DOWN_BUSY] += costs.verdict_ns
                end = sent + costs.verdict_ns + costs.propagation_ns
            state[NOW] = end
            state[LENGTH] = min(before + accepted + 1, total)
            state[TARGET] = min(before + accepted, state[LENGTH] - 1)
            counted(mine, drafted, accepted)
            delivered(answers, state, mine, request, before, state[LENGTH], end)


@compiled
def sync(answers: Answers, costs: StepCosts, state: Ints, out: Ints, draft_tokens: int) -> None:
    """Draft, send, verify, send back."""
    for request in range(len(answers.asked)):
        mine, asked = out[request], answers.asked[request]
        opened(answers, costs, state, mine, request, True)
        total, limit = asked + answers.length[request], asked + answers.most[request]
        while state[LENGTH] < total:
            before = state[LENGTH]
            count = min(draft_tokens, limit - before - 1)
            if count == 0:
                plain(answers, costs, state, mine, request)
                continue
            drafted, accepted = proposed(answers, answers.row[request] + before - asked, count)
            if drafted < 0:
                trouble(state, TOO_DEEP, count)
                return
            informed(costs, state, mine)
            for place in range(drafted):
                drafted_one(costs, state, mine, before + place)
            verified(answers, costs, state, mine, request, drafted, accepted)
        state[NOW] = max(state[NOW], state[SETTLED])


@compiled
def adaptive(
    answers: Answers,
    costs: StepCosts,
    state: Ints,
    out: Ints,
    rule: int,
    draft_tokens: int,
    most: int,
    threshold: float,
    factor: float,
) -> None:
    """`sync` with a draft length chosen each round."""
    for request in range(len(answers.asked)):
        mine, asked = out[request], answers.asked[request]
        opened(answers, costs, state, mine, request, True)
        total, limit = asked + answers.length[request], asked + answers.most[request]
        length, chance, untried = draft_tokens, 0.7, 0
        while state[LENGTH] < total:
            before, row = state[LENGTH], answers.row[request] + state[LENGTH] - asked
            room = min(length if rule == SCHEDULE else most, limit - before - 1)
            probe, ended = untried >= PROBE, False
            drafted = good = 0
            confidence, entropy, standing, tokens = 1.0, 0.0, 1.0, 1.0
            while drafted < room and not ended:
                if not probe and not goes_on(
                    costs, state, rule, threshold, factor, drafted, confidence, entropy, standing, tokens, chance, room
                ):
                    break
                probe = False
                if drafted == 0:
                    informed(costs, state, mine)
                beyond = drafted - good  # tokens since the draft departed from the target's answer
                if beyond >= answers.depth:
                    trouble(state, TOO_DEEP, drafted)
                    return
                if rule != SCHEDULE:
                    confidence = answers.confidence[row + good, beyond]
                    entropy = answers.entropy[row + good, beyond]
                    standing *= confidence
                    tokens += standing
                drafted_one(costs, state, mine, before + drafted)
                right = answers.right[row + good, min(drafted, answers.right.shape[1] - 1)]
                if beyond == 0 and right:
                    ended = answers.end[row + good]
                    good += 1
                else:
                    ended = answers.ends_after[row + good] == beyond + 1
                drafted += 1
            if drafted == 0:
                plain(answers, costs, state, mine, request)
                untried += 1
                continue
            untried = 0
            verified(answers, costs, state, mine, request, drafted, good)
            whole = good == drafted
            length = min(most, length + 2) if whole else max(1, length - 1)
            tested = good + (0 if whole else 1)
            chance += (good / tested - chance) * min(0.5, 0.05 * tested)
        state[NOW] = max(state[NOW], state[SETTLED])


@compiled
def goes_on(
    costs: StepCosts,
    state: Ints,
    rule: int,
    threshold: float,
    factor: float,
    drafted: int,
    confidence: float,
    entropy: float,
    standing: float,
    tokens: float,
    chance: float,
    room: int,
) -> bool:
    """Whether one more token should be drafted, as `sim.policies.adaptive.goes_on` decides."""
    if rule == CONFIDENCE:
        return drafted == 0 or confidence >= threshold
    if rule == ENTROPY:
        return drafted == 0 or 1 - math.sqrt(factor * entropy) >= threshold
    if rule == EXPECTED:
        step = draft_ns(costs, 1, state[LENGTH], state)
        here = tokens / round_ns(costs, state, drafted, step)
        for longer in range(drafted + 1, room + 1):
            standing *= chance
            tokens += standing
            if tokens / round_ns(costs, state, longer, step) > here:
                return True
        return False
    return True


@compiled
def round_ns(costs: StepCosts, state: Ints, drafted: int, step: int) -> int:
    """Nanoseconds of a round of so many drafted tokens."""
    cached = state[TARGET]
    rows = state[LENGTH] - cached + drafted
    target = target_ns(costs, rows, cached, state)
    if costs.target_between.switch_ns > 0 and state[TROUBLE] == NONE:
        switches = costs.graphs[0, rows, 2] + (costs.graphs[0, rows, 0] != state[GRAPH])
        target += switching_ns(costs.target_between, switches)
    if drafted == 0:
        return target
    link = int(costs.up_ns[drafted] + costs.down_ns[drafted + 1, 1]) + 2 * costs.propagation_ns
    return drafted * step + target + link


@compiled
def informed(costs: StepCosts, state: Ints, out: Ints) -> None:
    """The draft's chip receives the tokens that the target has decoded alone."""
    unknown = state[LENGTH] - state[RECEIVED]
    if unknown <= 0:
        return
    noted(state, INFORMED, unknown, 0)
    sent = taken(state, DOWN, state[NOW], costs.prompt_ns[unknown])
    out[DOWN_BYTES] += costs.prompt_bytes[unknown]
    out[DOWN_BUSY] += costs.prompt_ns[unknown]
    state[NOW] = sent + costs.prompt_ns[unknown] + costs.propagation_ns
    state[RECEIVED] = state[LENGTH]


@compiled
def drafted_one(costs: StepCosts, state: Ints, out: Ints, known: int) -> None:
    """One step of the draft after `known` tokens; it also reads what the cache lacks."""
    end = draft_end(costs, known - state[DRAFT], state[DRAFT], state, state[NOW])
    out[DRAFT_BUSY] += end - state[NOW]
    state[NOW] = end
    state[DRAFT] = known


@compiled
def verified(
    answers: Answers, costs: StepCosts, state: Ints, out: Ints, request: int, drafted: int, accepted: int
) -> None:
    """The rest of a round: drafts up, one verify, verdict down."""
    before, cached = state[LENGTH], state[TARGET]
    noted(state, SENT, drafted, 0)
    sent = taken(state, UP, state[NOW], costs.up_ns[drafted])
    out[UP_BYTES] += costs.up_bytes[drafted]
    out[UP_BUSY] += costs.up_ns[drafted]
    arrived = sent + costs.up_ns[drafted] + costs.propagation_ns
    start = max(arrived, state[SETTLED])
    end = target_end(costs, before - cached + drafted, cached, state, start)
    out[TARGET_BUSY] += end - start
    total = answers.asked[request] + answers.length[request]
    state[LENGTH] = min(before + accepted + 1, total)
    standing, last = before + accepted, state[LENGTH] - 1
    state[TARGET] = min(standing, last)
    state[DRAFT] = before if costs.head else min(standing, before + drafted - 1, last)
    state[NOW], _ = announced(answers, costs, state, out, request, before, end, drafted, accepted, drafted + 1)


@compiled
def counted(out: Ints, drafted: int, accepted: int) -> None:
    """Count a round's drafts."""
    out[DRAFTS] += 1
    out[DRAFTED] += drafted
    out[ACCEPTED] += accepted
