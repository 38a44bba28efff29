"""The acceptance of a run: what each round of each request accepted, and the profile that comes to."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hilsim.describe.acceptance_formats.profile_json import written
from hilsim.describe.accepted_lists import AcceptedLists
from hilsim.describe.policy import Sync
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError
from hilsim.measure.metrics import deliveries
from hilsim.sim.trace import Trace


def require_exportable(setup: Setup) -> None:
    """Raises `InputError` where rounds are not those of a model's drafts, or do not all draft as many."""
    faults = []
    if setup.scenario.logits.by_chance:
        found = f"{setup.scenario.logits.source} logits: what is put in would come out"
        faults.append(Fault(setup.file, "logits.source", found, "live or recorded logits"))
    if not isinstance(setup.scenario.policy, Sync) or setup.scenario.policy.fallback is not None:
        expected = "sync without a fallback, whose rounds draft as many and end in the target's own token"
        remedy = "Add --set 'policy={kind: sync, draft_tokens: 5}'."
        faults.append(Fault(setup.file, "policy", setup.scenario.policy.name, expected, remedy))
    if faults:
        raise InputError(faults)


def accepted_lists(trace: Trace) -> AcceptedLists:
    """Accepted and drafted tokens of every round after a request's first token."""
    rounds = deliveries(trace)
    by_request = [[one for one in rounds[record.number] if one.number] for record in trace.requests]
    return AcceptedLists(
        accepted=tuple(tuple(one.accepted for one in some) for some in by_request),
        drafted=tuple(tuple(one.drafted for one in some) for some in by_request),
    )


def whole_rounds(lists: AcceptedLists, drafted: int) -> AcceptedLists:
    """The rounds that draft so many: those at the end of answers and contexts draft fewer."""
    whole = [
        tuple(good for good, of in zip(rounds, lists.drafts_of(request), strict=True) if of == drafted)
        for request, rounds in enumerate(lists.accepted)
    ]
    return AcceptedLists(accepted=tuple(whole), drafted=drafted)


def profile_of(setup: Setup, trace: Trace) -> dict[str, Any]:
    """A `speculation_profile.json` of a run under `sync`."""
    policy, sampling = setup.scenario.policy, setup.scenario.sampling
    assert isinstance(policy, Sync)
    lists = accepted_lists(trace)
    whole = whole_rounds(lists, policy.draft_tokens)
    names = {role: given_by(setup, role) for role in setup.roles}
    return written(
        {
            "method": "draft_model",
            "target_model": {"name": names["target"]},
            "draft_checkpoint": {"name": names["draft"]},
            "measurement_conditions": {
                "dataset": getattr(setup.scenario.workload, "conversations", ""),
                "accept_rule": setup.scenario.accept.rule,
                "temperature": sampling.temperature,
                "scenario": setup.scenario.name,
                "scenario_digest": setup.digest,
                "rounds_left_out": lists.rounds - whole.rounds,
            },
        },
        whole.chances,
        Counter(accepted + 1 for rounds in whole.accepted for accepted in rounds),
    )


def given_by(setup: Setup, role: str) -> str:
    """Whose tokens a role has: its board, or its stand-in."""
    placed = setup.roles[role]
    backend = setup.backends.get(placed.track)
    return backend.backend if backend is not None and backend.gives_tokens else str(placed.placement.stand_in)
