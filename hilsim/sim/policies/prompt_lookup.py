"""Prompt lookup (Saxena 2023; n-gram speculation in vLLM) and suffix decoding (Oliaro et al. 2411.04975).

Both draft what followed the last tokens earlier: prompt lookup in this conversation, the last time; suffix decoding in
all conversations so far, most often. No draft model and no link: the target's own chip looks the tokens up; next to a
step of the model that costs nothing. With the measured acceptance of a lookup every round proposes: rounds that found
nothing are part of that acceptance.
"""

from __future__ import annotations

from hilsim.describe.policy import PromptLookup, Suffix
from hilsim.sampling.proposals import Draft
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.lookup import Followers, LastPlaces
from hilsim.sim.request import Request
from hilsim.sim.steps import decode, send_verdict, target_step, verify


def prompt_lookup(context: RunContext, request: Request, policy: PromptLookup) -> Process:
    """Verify what the conversation itself proposes; where it proposes nothing, decode."""
    index = LastPlaces(policy.longest_match)
    while request.speculates:
        most = min(policy.draft_tokens, request.room - 1)
        yield from verified_alone(context, request, found_in(index, context, request, most))


def suffix(context: RunContext, request: Request, policy: Suffix) -> Process:
    """Verify what all conversations so far propose; where they propose nothing, decode."""
    past = context.kept.setdefault("suffix", Followers(policy.longest_match, policy.factor, policy.least_share))
    while request.speculates:
        most = min(policy.draft_tokens, request.room - 1)
        yield from verified_alone(context, request, found_in(past, context, request, most))
    past.follow(request, request.begins)


def found_in(index: LastPlaces | Followers, context: RunContext, request: Request, most: int) -> Draft:
    """What an index of the text proposes; where acceptance is drawn, the text does not decide."""
    if context.source.by_chance:
        return context.source.draft(request, max(0, most))
    return Draft(index.proposed(request, request.begins, most))


def verified_alone(context: RunContext, request: Request, proposed: Draft) -> Process:
    """A round of the target's chip alone: verify what it has proposed itself, or decode where that is nothing."""
    if not proposed.tokens:
        yield from decode(context, request)
        return
    start, before = context.now, len(request.tokens)
    verdict, step = verify(context, request, proposed)
    yield from target_step(context, request, step)
    if context.elsewhere:
        yield from send_verdict(context, request)
    opened = context.judge(request, start, proposed, verdict, step.cached)
    context.close(request, opened, delivered_ns=context.now)
    request.after_block(before, len(proposed.tokens), verdict.accepted)
