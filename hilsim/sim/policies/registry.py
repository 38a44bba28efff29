"""The policies by the name that a scenario gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hilsim.describe.scenario import Policy
from hilsim.sim.board import Process
from hilsim.sim.policies.sync import sync
from hilsim.sim.policies.target_only import target_only
from hilsim.sim.request import Request
from hilsim.sim.steps import Desk

PolicyFunction = Callable[[Desk, Request], Process]
POLICIES: dict[str, Callable[..., Process]] = {
    "target_only": target_only,
    "sync": sync,
}


def policy_function(policy: Policy) -> PolicyFunction:
    """The generator function of a scenario's policy, its parameters bound."""
    return partial(POLICIES[policy.name], **policy.model_dump(exclude={"name"}))
