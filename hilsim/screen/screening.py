"""Fast timing (screening): a run without an event queue, equal to the event simulation to the nanosecond.

For one conversation at a time, no jitter, no fallback, policies whose rounds are sums and maxima (all shipped ones
except `async`, `pipelined`, `cascade` and those of token trees), and draft heads that run a pass a token on the
target's chip. For anything else `refusal` gives the reason; `sim.run.simulate` runs it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from hilsim.cost.between import FAR, between_of
from hilsim.describe.drafting import ONE_PASS
from hilsim.describe.policy import Adaptive, Pearl, Policy, PromptLookup, Suffix, Sync
from hilsim.describe.setup import Setup
from hilsim.errors import TooShallow
from hilsim.screen import lockstep, slots
from hilsim.screen.costs import LAGS, ROWS, StepCosts, Tables, costs_of
from hilsim.screen.request import (
    ENTRY,
    FIELDS,
    GRAPH,
    IDLE,
    NEEDED,
    NONE,
    SHORT_OF_DRAFT_ROWS,
    SHORT_OF_LAGS,
    SHORT_OF_TAPE,
    SHORT_OF_TARGET_ROWS,
    STATE,
    TAPE,
    TOO_DEEP,
    TROUBLE,
)
from hilsim.screen.tokens import Answers

Ints = npt.NDArray[np.int64]
Loop = Callable[[Answers, StepCosts, Ints, Ints], None]
RULES = {
    "schedule": lockstep.SCHEDULE,
    "confidence": lockstep.CONFIDENCE,
    "entropy": lockstep.ENTROPY,
    "expected": lockstep.EXPECTED,
}
TAPE_ENTRIES = 8  # a token of the answers, for a first try


class Unscreenable(Exception):
    """A run that needs the event simulation; the message is the reason."""


@dataclass(frozen=True)
class Screened:
    """One run: of every request the fields of `request.py`, (requests, fields) of whole nanoseconds, bytes, counts."""

    policy: str
    answers: Answers
    costs: StepCosts
    requests: Ints


def refusal(setup: Setup, policy: Policy) -> str:
    """Why a run cannot be screened, or ""."""
    crossing = policy.needs_draft or setup.application != setup.target.chip.name
    return refusal_of_setup(setup, crossing) or refusal_of_policy(setup, policy)


def refusal_of_setup(setup: Setup, crossing: bool) -> str:
    """Why no run of a setup can be screened, or ""; `crossing`: anything crosses its link."""
    scenario = setup.scenario
    if scenario.company:
        return f"{', '.join(scenario.company_keys)}: what runs at once shares units, memory and heat"
    if setup.fails:
        return "injected faults, to which the runtime reacts in time"
    if setup.compares_rows:
        return "faults.reaction.compare_rows: the target computes each pass twice"
    if scenario.workload.talkers > 1:
        return f"{scenario.workload.talkers} concurrent sessions, which wait for each other"
    if setup.link is not None and setup.link.jitter is not None and setup.link.jitter.si > 0 and crossing:
        return f"the jitter of {setup.link.name}"
    for network in setup.networks:
        if between_of(network.unit).costs:
            return f"network {network.placement.name} on {network.track}, which wakes up and changes graphs"
    if setup.guarantee.level != "text":
        return f"accept {scenario.accept.rule}: {setup.guarantee.why}"
    return ""


def refusal_of_policy(setup: Setup, policy: Policy) -> str:
    """Why a policy cannot be screened in a setup whose other runs can, or "". The same over every link between chips,
    under every payload.
    """
    scenario = setup.scenario
    if getattr(policy, "fallback", None) is not None:
        return "a fallback, which depends on measured times"
    if scenario.logits.by_chance and isinstance(policy, Adaptive) and policy.rule != "schedule":
        return f"a draft length chosen by confidence, which {scenario.logits.source} logits do not have"
    if loop_of(policy) is None:
        return f"policy {policy.name}, which needs the event simulation"
    if policy.needs_draft and setup.draft is not None and (head := setup.draft.head_kind) is not None:
        if head in ONE_PASS:
            return f"a {head} head, which proposes a round's tokens in one pass"
        if setup.link is not None:
            return f"a draft head, whose hidden states cross {setup.link.name}"
    same = setup.draft is not None and setup.draft.track == setup.target.track
    if same and policy.name == "pearl":
        return f"policy {policy.name} with both models on {setup.target.track}"
    return ""


def loop_of(policy: Policy) -> tuple[Loop, int] | None:
    """The compiled loop of a policy with its parameters bound, and the most tokens that it verifies at once."""

    def bound(loop: Callable[..., None], *parameters: Any) -> Loop:
        return lambda answers, costs, state, out: loop(answers, costs, state, out, *parameters)

    match policy:
        case Sync():
            return bound(lockstep.sync, policy.draft_tokens), policy.draft_tokens
        case Adaptive():
            rule, length = RULES[policy.rule], policy.draft_tokens
            return bound(lockstep.adaptive, rule, length, policy.most, policy.threshold, policy.factor), policy.most
        case PromptLookup() | Suffix():
            return bound(lockstep.prompt_lookup, policy.draft_tokens), policy.draft_tokens
        case Pearl():
            return bound(slots.pearl, np.zeros(slots.SIZE, np.int64), policy.draft_tokens), 2 * policy.draft_tokens
        case _ if policy.name == "target_only":
            return lockstep.target_only, 1
    return None


def screened(setup: Setup, policy: Policy, answers: Answers, tables: Tables) -> Screened:
    """Run `policy` over the answers. Raises `Unscreenable`, or `TooShallow` for drafts deeper than were recorded."""
    if why := refusal(setup, policy):
        raise Unscreenable(why)
    return ran(setup, policy, answers, tables, 0)[0]


def taped(setup: Setup, policy: Policy, answers: Answers, tables: Tables) -> tuple[Screened, Ints]:
    """The same of a policy that `refusal` has nothing against, and the entries (entries, 3) of its tape."""
    return ran(setup, policy, answers, tables, ENTRY * TAPE_ENTRIES * (answers.requests + len(answers.end)))


def ran(setup: Setup, policy: Policy, answers: Answers, tables: Tables, tape: int) -> tuple[Screened, Ints]:
    """A run with a tape of so many numbers at first, and its entries."""
    found = loop_of(policy)
    assert found is not None
    loop, widest = found
    # Whole multiples, so that policies of one setup share their tables.
    lags, target_rows, draft_rows = LAGS, ROWS * ceil((widest + 2) / ROWS), ROWS
    while True:
        costs = costs_of(setup, policy, answers, tables, lags=lags, target_rows=target_rows, draft_rows=draft_rows)
        state, out = np.zeros(STATE + tape, np.int64), np.zeros((answers.requests, FIELDS), np.int64)
        state[GRAPH:IDLE], state[IDLE:TAPE] = -1, -FAR  # no unit has run anything
        state[TAPE] = STATE if tape else 0
        loop(answers, costs, state, out)
        trouble, needed = int(state[TROUBLE]), int(state[NEEDED])
        if trouble == NONE:
            entries = state[STATE : state[TAPE]] if tape else state[:0]
            return Screened(policy.name, answers, costs, out), entries.reshape(-1, ENTRY)
        if trouble == SHORT_OF_LAGS:
            lags = max(needed + 1, 2 * lags)
        elif trouble == SHORT_OF_TARGET_ROWS:
            target_rows = max(needed + 1, 2 * target_rows)
        elif trouble == SHORT_OF_DRAFT_ROWS:
            draft_rows = max(needed + 1, 2 * draft_rows)
        elif trouble == SHORT_OF_TAPE:
            tape *= 2
        else:
            assert trouble == TOO_DEEP
            raise TooShallow(answers.depth, needed)
