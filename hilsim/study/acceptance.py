"""Published acceptance that a scenario's error bars suppose: pairs whose kind of drafter its policy has."""

from __future__ import annotations

from hilsim.describe.acceptance_profile import AcceptanceProfile, library
from hilsim.describe.setup import Setup


def published_pairs(setup: Setup) -> tuple[AcceptanceProfile, ...]:
    """The profiles that error bars suppose; none where acceptance by place is not the policy's measure.

    Trees have several drafts a place, a cascade has both kinds, and the target alone has none.
    """
    policy = setup.scenario.policy
    if policy.trees or policy.name in ("target_only", "cascade"):
        return ()
    lookup = not policy.needs_draft
    return tuple(one for one in library() if one.in_error_bars and (one.drafter == "lookup") == lookup)
