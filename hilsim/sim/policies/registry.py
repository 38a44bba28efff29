"""The shipped policies by their name in a scenario, and the function of any policy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from hilsim.describe.policy import Own, Policy
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.policies.adaptive import adaptive
from hilsim.sim.policies.asynchronous import asynchronous
from hilsim.sim.policies.cascade import cascade
from hilsim.sim.policies.fallback import PolicyFunction, with_fallback
from hilsim.sim.policies.lookahead import lookahead
from hilsim.sim.policies.own import loaded
from hilsim.sim.policies.pearl import pearl
from hilsim.sim.policies.pipelined import pipelined
from hilsim.sim.policies.prompt_lookup import prompt_lookup, suffix
from hilsim.sim.policies.ssd import ssd
from hilsim.sim.policies.sync import sync
from hilsim.sim.policies.target_only import target_only
from hilsim.sim.policies.tree import tree
from hilsim.sim.request import Request

POLICIES: dict[str, Callable[[RunContext, Request, Any], Process]] = {
    "target_only": target_only,
    "sync": sync,
    "adaptive": adaptive,
    "pearl": pearl,
    "async": asynchronous,
    "pipelined": pipelined,
    "prompt_lookup": prompt_lookup,
    "suffix": suffix,
    "cascade": cascade,
    "tree": tree,
    "lookahead": lookahead,
    "ssd": ssd,
}


def policy_function(policy: Policy, scenario: str) -> PolicyFunction:
    """The generator function of a policy, its parameters bound; watched, where it may fall back.

    `scenario` is the file that names it. Raises `InputError` for a faulty policy of the user's.
    """
    if isinstance(policy, Own):
        bound: PolicyFunction = loaded(policy, scenario)
    else:
        bound = partial(call, POLICIES[policy.name], policy)
    fallback = getattr(policy, "fallback", None)
    return bound if fallback is None else with_fallback(bound, fallback)


def call(
    function: Callable[[RunContext, Request, Any], Process], policy: Policy, context: RunContext, request: Request
) -> Process:
    """Call a shipped policy with its settings."""
    return function(context, request, policy)
