"""Evaluates one run with an injected fault: against the target alone, and against the same run without the fault."""

from __future__ import annotations

from collections.abc import Iterator

from hilsim.describe.faults import Faults, InjectedFault, Trigger, WrongRow
from hilsim.describe.setup import Setup
from hilsim.errors import HilsimError
from hilsim.measure.injected import injected_numbers, latencies_ms, wrong_tokens
from hilsim.runs.evaluate import Numbers, Refused
from hilsim.runs.replay import run_with_fault
from hilsim.sim.faults.state import PHASE_OF_STEP
from hilsim.sim.trace import FaultRecord, Trace
from hilsim.units import ms

IDLE = "idle"


def evaluate_injected(variant: Setup | Refused) -> tuple[Numbers, str] | Refused:
    """The measures of a run with one fault, and a remark: what was lost to it, or why it never began."""
    if isinstance(variant, Refused):
        return variant
    try:
        alone, clean, ours = run_with_fault(variant)
    except HilsimError as error:
        return Refused(error, variant.file)
    faults = variant.scenario.faults or Faults()
    exact = variant.guarantee.level == "text"
    numbers = injected_numbers(alone, clean, ours, faults.tolerance_ms, exact=exact)
    if ours.faults:
        return numbers, "; ".join(lost_in(alone, clean, ours, ours.faults[0], exact=exact))
    return numbers, " and ".join(dict.fromkeys(why_not_hit(fault, clean) for fault in faults.inject))


def lost_in(alone: Trace, clean: Trace, ours: Trace, record: FaultRecord, *, exact: bool) -> Iterator[str]:
    """Which tokens and answers were lost to a fault."""
    unnoticed = f"noticed by {record.by}" if record.caught else "unnoticed"
    by_place = {(one.request, one.place): one for one in record.corrupted}
    for request, place in wrong_tokens(alone, ours) if exact else by_place:
        one = by_place.get((request, place))
        swapped = "" if one is None or one.token < 0 else f" ({one.delivered} in place of {one.token})"
        yield f"token {place} of request {request} is not the target's{swapped}, {unnoticed}"
    for number in sorted(latencies_ms(clean).keys() - latencies_ms(ours).keys()):
        yield f"request {number} was not answered"
    if not record.survived and latencies_ms(clean).keys() == latencies_ms(ours).keys():
        yield "the run did not survive it"


def why_not_hit(fault: InjectedFault, clean: Trace) -> str:
    """Why a fault never began in a run that is `clean` without it."""
    if fault.on is None:
        return f"the run was over after {ms(clean.end_ns):.0f} ms"
    on, requests = fault.on, len(clean.requests)
    if on.request is not None and on.request >= requests:
        return f"the run has {requests} request{'' if requests == 1 else 's'}"
    there = set(phases_of(clean))
    if on.phase not in {phase for phase, *_ in there}:
        return f"{clean.policy} has no {on.phase} phase here"
    if not any(matches(on, one) for one in there):
        rounds = "" if on.round is None else f"round {on.round} of "
        return f"{rounds}request {on.request} has no {on.phase} phase under {clean.policy}"
    if isinstance(fault, WrongRow):
        return f"no row of logits is computed then at {fault.where}"
    return f"the phase {on.phase} never came"


def phases_of(trace: Trace) -> Iterator[tuple[str, int, int]]:
    """Every phase of a run as faults wait for it: its name, request and round."""
    yield from ((IDLE, one.number, 0) for one in trace.requests)
    for span in trace.spans:
        if span.track in trace.directions:
            way = span.track.rpartition(".")[2]
            yield ("prefill" if span.kind == "prompt" or not span.round else way), span.request, span.round
        elif span.kind in PHASE_OF_STEP:
            yield PHASE_OF_STEP[span.kind], span.request, span.round


def matches(on: Trigger, phase: tuple[str, int, int]) -> bool:
    """Whether a trigger waits for a phase."""
    name, request, of_round = phase
    return on.phase == name and on.request in (None, request) and on.round in (None, of_round)
