"""A cascade: look the next tokens up, else have the draft model propose them, and let the target verify either.

Looked-up tokens are on the target's chip already; the draft's chip is sent them before it drafts again.
"""

from __future__ import annotations

from hilsim.describe.policy import Cascade
from hilsim.sampling.proposals import Draft
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.lookup import LastPlaces
from hilsim.sim.policies.prompt_lookup import verified_alone
from hilsim.sim.policies.sync import round_of
from hilsim.sim.request import Request


def cascade(context: RunContext, request: Request, policy: Cascade) -> Process:
    """Verify what was looked up, or drafted where too little was, until the request is answered."""
    index = LastPlaces(policy.longest_match)
    while request.speculates:
        found = index.proposed(request, request.begins, min(policy.lookup_tokens, request.room - 1))
        if len(found) >= policy.least:
            yield from verified_alone(context, request, Draft(found))
        else:
            yield from round_of(context, request, policy.draft_tokens)
