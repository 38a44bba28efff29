"""Continuous drafting (AMUSD, McDanel 2410.17375): neither chip waits for the other.

draft chip   ▓d1▓d2▓d3▓d4▓d5▓d6▓d7▓ ...          goes on until a verdict contradicts it, at a step's end
link            ▸  ▸  ▸  ▸  ▸      ◂verdict◂
target chip           ▓verify d1 d2▓verify d3 d4 d5▓   takes what has arrived, `min_batch` at least

With `min_batch` 0 the target never waits: where nothing has arrived it runs one row. With `pre_verify` it does so while
the draft starts again: after a rejection, and where `min_batch` tokens have arrived that rest on a rejected one.
"""

from __future__ import annotations

from hilsim.cost.step import Phase
from hilsim.describe.policy import Async
from hilsim.sampling.proposals import Draft
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.lead import Inbox, Lead, draft_one, ship
from hilsim.sim.request import Request
from hilsim.sim.steps import announce, await_acknowledgement, decode, inform, target_step
from hilsim.units import ns


def asynchronous(context: RunContext, request: Request, policy: Async) -> Process:
    """Verify whatever has arrived, until the request is answered."""
    yield from inform(context, request)
    env = context.board.env
    lead, inbox = Lead.of(context, request), Inbox(env)
    verdicts: list[tuple[int, bool]] = []
    drafter = env.process(draft_on(context, lead, inbox, verdicts, policy))
    announced = None
    idle = False  # one row after a rejection, not one after the other

    def receive(length: int, done: bool) -> None:
        verdicts.append((length, done))
        lead.notify()

    while request.speculates:
        yield from await_acknowledgement(request)
        if request.room == 1:
            yield from decode(context, request)
            verdicts.append((len(request.tokens), request.done))
            continue
        fresh = inbox.fresh(request)
        arrived = inbox.arrived(request) if policy.pre_verify else len(fresh)
        enough = idle or arrived >= min(policy.min_batch, request.room - 1) or (fresh and inbox.newest.last)
        if not enough:
            yield inbox.arrival
            continue
        start, before, cached = context.now, len(request.tokens), request.target_cached
        proposed = Draft(fresh)
        verdict = context.source.verify(request, proposed)
        rows = before - cached + len(fresh)
        step = context.board.target.step(Phase.VERIFY if fresh else Phase.DECODE, rows, cached)
        yield from target_step(context, request, step)
        opened = context.judge(request, start, proposed, verdict, cached)
        request.after_block(before, len(fresh), verdict.accepted)
        idle = policy.pre_verify and verdict.accepted < len(fresh)
        announced = announce(context, request, opened, len(fresh) + 1, receive)
    if announced is not None:
        yield announced
    lead.over = True
    lead.notify()
    yield drafter
    request.draft_cached = min(lead.cached, len(request.tokens) - 1)


def draft_on(context: RunContext, lead: Lead, inbox: Inbox, verdicts: list[tuple[int, bool]], policy: Async) -> Process:
    """Draft and ship token after token; look for verdicts between two steps."""
    while not lead.over:
        room = min(lead.room(bonus=True), policy.max_ahead - len(lead.ahead))
        if room > 0:
            yield from draft_one(context, lead)
        elif not verdicts:
            yield lead.news
        contradicted = False
        while verdicts:
            length, done = verdicts.pop(0)
            contradicted |= lead.learn(length)
            lead.over |= done
        if contradicted:
            yield lead.env.timeout(ns(policy.handshake_ms / 1000))
        elif room > 0 and lead.ahead and not lead.over:
            last = min(lead.room(bonus=True), policy.max_ahead - len(lead.ahead)) <= 0
            ship(context, lead, 1, inbox, last=last)
