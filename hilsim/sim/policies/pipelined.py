"""Blocks in flight (PicoSpec): the draft ships a block and drafts the next at once, assuming the first accepted.

draft chip   ▓block 1▓▓block 2▓ wait ▓block 3▓╳ interrupted   ▓new block▓
link                 ▸1▸      ◂accept◂▸2▸    ◂rejected◂                  ▸ ...
target chip             ▓verify 1▓      ▓verify 2▓▓one row▓

No bonus token: the next block is on its way already. After a rejection the idle target runs one row (`pre_verify`).
"""

from __future__ import annotations

import simpy

from hilsim.cost.step import Phase
from hilsim.describe.policy import Pipelined
from hilsim.sampling.proposals import Draft
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.lead import Inbox, Lead, draft_one, ship
from hilsim.sim.request import Request
from hilsim.sim.steps import announce, await_acknowledgement, inform, target_step


def pipelined(context: RunContext, request: Request, policy: Pipelined) -> Process:
    """Verify block after block, until the request is answered."""
    yield from inform(context, request)
    env = context.board.env
    lead, inbox = Lead.of(context, request), Inbox(env)
    drafter = env.process(draft_blocks(context, lead, inbox, policy))
    announced = None

    def receive(length: int, done: bool) -> None:
        """The verdict reaches the draft's chip, and stops it where it contradicts what was drafted."""
        lead.over = done
        if not drafter.is_alive:
            return
        if lead.learn(length) or done:
            drafter.interrupt("over" if done else "rejected")
        else:
            lead.notify()

    idle = policy.pre_verify  # one row while the draft starts (again), not one after the other
    while request.speculates:
        yield from await_acknowledgement(request)
        fresh = inbox.fresh(request)
        if not fresh and not idle:
            yield inbox.arrival
            continue
        start, before, cached = context.now, len(request.tokens), request.target_cached
        proposed = Draft(fresh)
        verdict = context.source.verify(request, proposed)
        # The last drafted token is judged by the row before it; its own row would only make a bonus token.
        rows = before - cached + max(0, len(fresh) - 1)
        step = context.board.target.step(Phase.VERIFY if fresh else Phase.DECODE, rows, cached)
        yield from target_step(context, request, step)
        all_accepted = bool(fresh) and verdict.accepted == len(fresh)
        opened = context.judge(request, start, proposed, verdict, cached, bonus=not fresh)
        request.after_block(before, max(0, len(fresh) - 1), verdict.accepted)
        idle = policy.pre_verify and bool(fresh) and not all_accepted
        announced = announce(context, request, opened, len(fresh), receive)
    if announced is not None:
        yield announced
    if drafter.is_alive:
        drafter.interrupt("over")
    request.draft_cached = min(lead.cached, len(request.tokens) - 1)


def draft_blocks(context: RunContext, lead: Lead, inbox: Inbox, policy: Pipelined) -> Process:
    """Draft and ship blocks; start again where a verdict contradicts what was drafted."""
    while not lead.over:
        try:
            before = lead.length
            while lead.length - before < policy.draft_tokens and lead.room(bonus=False) > 0:
                yield from draft_one(context, lead)
            while lead.unanswered >= policy.blocks_in_flight:
                yield lead.news
            new = lead.length - max(before, lead.confirmed)
            if new > 0:
                ship(context, lead, new, inbox, last=False)
            elif lead.room(bonus=False) <= 0:
                yield lead.news
        except simpy.Interrupt as interrupt:
            if interrupt.cause == "over":
                return
