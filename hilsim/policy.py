"""What the author of a policy needs, and the only module to import it from: see docs/tutorials/policy.md.

A policy is a generator function `(context: RunContext, request: Request, **parameters) -> Process`. It runs steps
one after the other, each with `yield from`, until the answer is complete.
"""

from hilsim.cost.step import Phase
from hilsim.describe.policy import Policy
from hilsim.describe.tree_shape import BestNodes, Branches
from hilsim.errors import HilsimError, InputError
from hilsim.sampling.proposals import Draft, TokenTree, Verdict
from hilsim.sim.board import Board
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import DeviceSlot, Process, RequestTag, TimedStep
from hilsim.sim.policies.sync import verified
from hilsim.sim.request import Request
from hilsim.sim.steps import (
    announce,
    decode,
    deliver,
    draft,
    draft_step,
    inform,
    prefill_draft,
    prefill_target,
    send_drafts,
    send_verdict,
    target_step,
    tell,
    verify,
)
from hilsim.sim.trace import Round
from hilsim.sources.source import LogitsSource

__all__ = [
    "BestNodes",
    "Board",
    "Branches",
    "DeviceSlot",
    "Draft",
    "HilsimError",
    "InputError",
    "LogitsSource",
    "Phase",
    "Policy",
    "Process",
    "Request",
    "RequestTag",
    "Round",
    "RunContext",
    "TimedStep",
    "TokenTree",
    "Verdict",
    "announce",
    "decode",
    "deliver",
    "draft",
    "draft_step",
    "inform",
    "prefill_draft",
    "prefill_target",
    "send_drafts",
    "send_verdict",
    "target_step",
    "tell",
    "verified",
    "verify",
]
