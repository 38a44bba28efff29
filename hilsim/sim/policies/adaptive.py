"""`sync` with a draft length chosen each round: by a schedule, the draft's confidence or entropy, or the expected gain.

Every rule decides after a token is drafted and submits that token: whether it is sent must not depend on which it is,
or the ratio rule would be biased (`tests/sampling/test_exact.py` has the control that drops it).
"""

from __future__ import annotations

import math

from hilsim.cost.step import Phase
from hilsim.describe.drafting import passes
from hilsim.describe.policy import Adaptive
from hilsim.sampling.proposals import Draft
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.policies.sync import verified
from hilsim.sim.request import Request
from hilsim.sim.steps import decode, draft_step, inform, passes_from
from hilsim.sim.trace import Round

PROBE = 8  # plain tokens after which one is drafted all the same, to see whether drafting pays again


def adaptive(context: RunContext, request: Request, policy: Adaptive) -> Process:
    """Draft until the rule stops, verify, and update the estimates from the verdict."""
    length = policy.draft_tokens
    estimate = 0.7  # the acceptance estimate before the first verdict
    plain = 0
    while request.speculates:
        room = min(policy.most if policy.rule != "schedule" else length, request.room - 1)
        start, cached, executed = context.now, request.draft_cached, passes_from(context, request, max(1, room))
        proposed = Draft(())
        probe = plain >= PROBE
        while len(proposed.tokens) < room and (probe or goes_on(context, request, policy, proposed, estimate, room)):
            probe = False
            if not proposed.tokens:
                yield from inform(context, request)
            more = context.source.draft(request, 1, proposed.tokens)
            place = len(proposed.tokens)
            if place < len(executed):  # a head may have proposed all tokens in its first pass
                rows, logits = executed[place]
                yield from draft_step(context, request, len(request.tokens) + place, cached, rows, logits)
                cached += rows
            proposed = joined(proposed, more)
            if context.source.ends(proposed.tokens[-1]):
                break
        if not proposed.tokens:
            yield from decode(context, request)
            plain += 1
            continue
        plain = 0
        closed: Round = yield from verified(context, request, start, proposed)
        whole = closed.accepted == closed.drafted
        length = min(policy.most, length + 2) if whole else max(1, length - 1)
        tested = closed.accepted + (not whole)
        estimate += (closed.accepted / tested - estimate) * min(0.5, 0.05 * tested)


def goes_on(
    context: RunContext, request: Request, policy: Adaptive, proposed: Draft, estimate: float, room: int
) -> bool:
    """Whether one more token should be drafted."""
    match policy.rule:
        case "confidence":
            return not proposed.tokens or proposed.confidences[-1] >= policy.threshold
        case "entropy":
            # Under this bound the next token is accepted with a chance of at least 1 - sqrt(k H).
            return not proposed.tokens or 1 - math.sqrt(policy.factor * proposed.entropies[-1]) >= policy.threshold
        case "expected":
            return expects_more(context, request, proposed, estimate, room)
        case _:
            return True


def expects_more(context: RunContext, request: Request, proposed: Draft, estimate: float, room: int) -> bool:
    """Whether some longer draft is expected to give more tokens a second than stopping here.

    Tokens of a round: 1 + the running products of the draft's confidences, and of `estimate` for later tokens.
    Time: draft steps, the step of so many rows on the target (a staircase on an NPU), and the link both ways.
    """
    drafted = len(proposed.tokens)
    standing, tokens = 1.0, 1.0
    for confidence in proposed.confidences:
        standing *= confidence
        tokens += standing
    step_ns = context.draft.expected_ns(Phase.DRAFT, 1, len(request.tokens))
    here = tokens / round_ns(context, request, drafted, step_ns)
    for longer in range(drafted + 1, room + 1):
        standing *= estimate
        tokens += standing
        if tokens / round_ns(context, request, longer, step_ns) > here:
            return True
    return False


def round_ns(context: RunContext, request: Request, drafted: int, step_ns: int) -> int:
    """What a round of so many drafted tokens takes where nothing queues and no unit sleeps.

    At least 1 ns, as typed times may be 0.
    """
    cached, target = request.target_cached, context.board.target
    step = (Phase.VERIFY if drafted else Phase.DECODE, len(request.tokens) - cached + drafted, cached)
    target_ns = target.expected_ns(*step) + target.switch_ns(*step)
    draft_ns = len(passes(context.head, drafted, 1)) * step_ns if drafted else 0
    return max(1, draft_ns + target_ns + (context.round_trip_ns(drafted) if drafted else 0))


def joined(first: Draft, more: Draft) -> Draft:
    """A draft and its continuation."""
    return Draft(first.tokens + more.tokens, first.confidences + more.confidences, first.entropies + more.entropies)
