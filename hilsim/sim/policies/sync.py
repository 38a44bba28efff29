"""Synchronous speculation (Leviathan et al. 2211.17192, Chen et al. 2302.01318) with a link between the chips.

draft chip   ▓draft▓            wait            ▓draft▓
link               ▸drafts▸        ◂verdict◂
target chip                ▓verify▓
"""

from __future__ import annotations

from hilsim.sim.board import Process
from hilsim.sim.request import Request
from hilsim.sim.steps import (
    Desk,
    cause_of,
    decode,
    deliver,
    draft,
    prefill_draft,
    prefill_target,
    send_drafts,
    send_verdict,
    verify,
)


def sync(desk: Desk, request: Request, *, draft_tokens: int) -> Process:
    """Draft on one chip, verify on the other, until the request is answered."""
    yield from open_both(desk, request)
    while not request.done:
        # The target adds a token of its own, so the last round must not draft more than what is then left.
        count = min(draft_tokens, request.room - 1)
        if count == 0:
            yield from decode(desk, request)
            continue
        start, before = desk.now, len(request.tokens)
        proposed, steps = draft(desk, request, count)
        for step in steps:
            yield from desk.draft.work(step, cause_of(request))
        yield from send_drafts(desk, request, proposed)
        verdict, step = verify(desk, request, proposed)
        yield from desk.board.target.work(step, cause_of(request))
        verified = desk.now
        yield from send_verdict(desk, request)
        deliver(
            desk,
            request,
            start,
            verdict.tokens(proposed),
            verdict.margins,
            drafted=len(proposed.tokens),
            accepted=verdict.accepted,
            delivered_ns=desk.now if desk.elsewhere else verified,
            single_ns=desk.board.target.single_ns(step.cached),
        )
        request.after_verdict(before, proposed, verdict)


def open_both(desk: Desk, request: Request) -> Process:
    """Both chips read the question at once; the target's last row is the first token, which the draft is told."""
    start = desk.now
    token, margin = desk.source.next_token(request)
    reading = desk.board.env.process(prefill_draft(desk, request))
    yield from prefill_target(desk, request)
    read = desk.now
    yield from send_verdict(desk, request)
    yield reading
    deliver(
        desk,
        request,
        start,
        (token,),
        (margin,),
        delivered_ns=desk.now if desk.elsewhere else read,
    )
