"""The target alone, one token a step: the baseline of every speedup."""

from __future__ import annotations

from hilsim.describe.policy import TargetOnly
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.request import Request
from hilsim.sim.steps import decode


def target_only(context: RunContext, request: Request, policy: TargetOnly) -> Process:
    """Plain decoding until the request is answered."""
    while request.speculates:
        yield from decode(context, request)
