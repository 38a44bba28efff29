"""Synchronous speculation (Leviathan et al. 2211.17192, Chen et al. 2302.01318) with a link between the chips.

draft chip   ▓draft▓            wait            ▓draft▓
link               ▸drafts▸        ◂verdict◂
target chip                ▓verify▓
"""

from __future__ import annotations

from hilsim.describe.policy import Sync
from hilsim.sampling.proposals import Draft
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.request import Request
from hilsim.sim.steps import decode, draft, send_drafts, target_step, tell, verify


def sync(context: RunContext, request: Request, policy: Sync) -> Process:
    """Draft on one chip, verify on the other, until the request is answered."""
    while request.speculates:
        yield from round_of(context, request, policy.draft_tokens)


def round_of(context: RunContext, request: Request, draft_tokens: int) -> Process:
    """Draft so many tokens, or as many as are of use, and verify them."""
    # The target adds a token of its own, so the last round must not draft more than what is then left.
    count = min(draft_tokens, request.room - 1)
    if count == 0:
        yield from decode(context, request)
        return
    start = context.now
    proposed = yield from draft(context, request, count)
    yield from verified(context, request, start, proposed)


def verified(context: RunContext, request: Request, start_ns: int, proposed: Draft) -> Process:
    """The rest of a round in step: drafts up, one verify, verdict down. Returns the `Round`."""
    before, drafted = len(request.tokens), len(proposed.tokens)
    yield from send_drafts(context, request, proposed)
    verdict, step = verify(context, request, proposed)
    yield from target_step(context, request, step)
    opened = context.judge(request, start_ns, proposed, verdict, step.cached)
    request.after_verdict(before, drafted, verdict.accepted, context.head)
    yield from tell(context, request, opened, drafted + 1)
    return opened
