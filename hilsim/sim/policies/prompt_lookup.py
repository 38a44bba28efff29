"""Prompt lookup (Saxena 2023; n-gram speculation in vLLM): drafts what followed the last tokens earlier.

No draft model and no link: the target's own chip looks the tokens up; next to a step of the model that costs nothing.
With the measured acceptance of a lookup every round proposes: rounds that found nothing are part of that acceptance.
"""

from __future__ import annotations

from collections.abc import Sequence

from hilsim.describe.policy import PromptLookup
from hilsim.sampling.proposals import Draft
from hilsim.sim.device_slot import Process
from hilsim.sim.request import Request
from hilsim.sim.steps import RunContext, decode, send_verdict, target_step, verify


def prompt_lookup(context: RunContext, request: Request, policy: PromptLookup) -> Process:
    """Verify what the conversation itself proposes; where it proposes nothing, decode."""
    while request.speculates:
        most = min(policy.draft_tokens, request.room - 1)
        if context.scenario.logits.by_chance:  # what the text holds is then not what decides
            proposed = context.source.draft(request, max(0, most))
        else:
            proposed = Draft(looked_up(request.tokens, most, policy.longest_match))
        if not proposed.tokens:
            yield from decode(context, request)
            continue
        start, before = context.now, len(request.tokens)
        verdict, step = verify(context, request, proposed)
        yield from target_step(context, request, step)
        if context.elsewhere:
            yield from send_verdict(context, request)
        opened = context.judge(request, start, proposed, verdict, step.cached)
        context.close(request, opened, delivered_ns=context.now)
        request.after_block(before, len(proposed.tokens), verdict.accepted)


def looked_up(tokens: Sequence[int], most: int, longest_match: int) -> tuple[int, ...]:
    """At most `most` tokens that followed the last occurrence of the longest match of the last tokens, or none."""
    if most <= 0:
        return ()
    for size in range(min(longest_match, len(tokens) - 1), 0, -1):
        wanted = list(tokens[-size:])
        for start in range(len(tokens) - size - 1, -1, -1):
            if list(tokens[start : start + size]) == wanted:
                return tuple(tokens[start + size : start + size + most])
    return ()
