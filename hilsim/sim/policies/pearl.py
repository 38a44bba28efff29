"""PEARL (Liu et al. 2408.11850): the draft writes the next block while the target verifies the last one.

              pre               post                     post
draft chip   ▓block 1▓         ▓block 2▓                ▓block 3▓
target chip  ▓1 row: its first ▓verify: rest of block 1, ▓rest of block 2, first of block 3 ...
                     token?▓    first of block 2▓

Each slot ends when both are ready. No bonus token: the row after the last pending token judges the first of the next
block. Slots without a link: a rejection gives 1 token and goes to pre; see `study/closed_forms.py`.
"""

from __future__ import annotations

from functools import partial

import simpy

from hilsim.cost.step import Phase
from hilsim.describe.policy import Pearl
from hilsim.sampling.proposals import Draft
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.lead import Lead, draft_one
from hilsim.sim.request import Request
from hilsim.sim.steps import announce, inform, send_drafts, target_step


def pearl(context: RunContext, request: Request, policy: Pearl) -> Process:
    """Slots of drafting and verifying at once, until the request is answered."""
    yield from inform(context, request)
    env = context.board.env
    lead = Lead.of(context, request)
    pending: tuple[int, ...] = ()
    announced: simpy.Event = env.timeout(0)
    received = announced
    while request.speculates:
        start, before, cached = context.now, len(request.tokens), request.target_cached
        drafting = env.process(block(context, lead, policy.draft_tokens, received))
        rows = before - cached + len(pending)
        step = context.board.target.step(Phase.VERIFY if pending else Phase.DECODE, rows, cached)
        yield from target_step(context, request, step)
        new: tuple[int, ...] = yield drafting
        proposed = Draft((*pending, *new[:1]))
        verdict = context.source.verify(request, proposed)
        all_accepted = verdict.accepted == len(proposed.tokens)
        # Where the draft had nothing to add, the last row is free to be the target's own token.
        opened = context.judge(request, start, proposed, verdict, cached, bonus=not new)
        request.after_block(before, len(pending), verdict.accepted)
        pending = new[1:] if all_accepted else ()
        received = env.event()
        announced = announce(context, request, opened, len(proposed.tokens), partial(receive, lead, received))
    yield announced
    request.draft_cached = min(lead.cached, len(request.tokens) - 1)


def block(context: RunContext, lead: Lead, count: int, received: simpy.Event) -> Process:
    """The draft's half of a slot: wait for the last verdict, draft a block, send it."""
    yield received
    before = lead.length
    while lead.length - before < count and lead.room(bonus=False) > 0:
        yield from draft_one(context, lead)
    new = tuple(lead.ahead[before - lead.confirmed :])
    if new:
        yield from send_drafts(context, lead.request, Draft(new))
    return new


def receive(lead: Lead, received: simpy.Event, length: int, done: bool) -> None:
    """The verdict has reached the draft's chip."""
    lead.learn(length)
    received.succeed()
