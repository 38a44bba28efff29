"""Published acceptance as a policy meets it: the chance at each place of a draft, from either published form."""

from __future__ import annotations

from functools import partial

from hilsim.describe.acceptance import least
from hilsim.describe.catalogue import described
from hilsim.describe.published_acceptance import PublishedAcceptance
from hilsim.describe.setup import Setup


def published_pairs(setup: Setup) -> tuple[PublishedAcceptance, ...]:
    """The pairs whose kind of drafter the scenario's policy has; none where acceptance by place is not its measure.

    Trees have several drafts a place, a cascade has both kinds, and the target alone has none.
    """
    policy = setup.scenario.policy
    if policy.trees or policy.name in ("target_only", "cascade"):
        return ()
    drafter = "model" if policy.needs_draft else "lookup"
    return tuple(pair for pair in described("acceptance", PublishedAcceptance) if pair.drafter == drafter)


def conditional_acceptance(pair: PublishedAcceptance) -> tuple[float, ...]:
    """The chance at each place, given that all earlier ones were accepted.

    Of tokens a round the steps between two numbers of drafts: as many places share one chance, the one that makes
    their sum. Beyond the last published place the last chance goes on.
    """
    if pair.conditional:
        return pair.conditional
    found: list[float] = []
    reached, tokens, drafts = 1.0, 1.0, 0  # chance that a place is reached, tokens up to it
    for more_drafts, more_tokens in pair.by_drafts:
        places, gain = more_drafts - drafts, (more_tokens - tokens) / reached if reached else 0.0
        chance = least(partial(accepted_of, places), gain)
        found += [1.0 if chance is None else chance] * places
        reached, tokens, drafts = reached * found[-1] ** places, more_tokens, more_drafts
    return tuple(found)


def accepted_of(places: int, share: float) -> float:
    """Drafts accepted of so many, each by the same chance once the earlier ones were."""
    return sum(share**place for place in range(1, places + 1))
