"""Notes of a run on company: what passengers could not do, which sessions are one step, what its times do not have."""

from __future__ import annotations

from hilsim.describe.scenario import Scenario
from hilsim.describe.setup import Setup
from hilsim.sim.trace import Trace
from hilsim.units import NS_PER_S


def passenger_notes(scenario: Scenario, trace: Trace) -> list[str]:
    """What a run could not do as its passengers wanted: ask on, or go on from what was heard."""
    found = []
    if trace.exhausted_ns >= 0:
        minutes = trace.exhausted_ns / NS_PER_S / 60
        found.append(f"The workload was used up after {minutes:.3g} minutes: later questions were not asked.")
    if scenario.logits.source != "live" and any(turn.heard_tokens >= 0 for turn in trace.turns):
        found.append(
            "Recorded text does not depend on interruptions: after an answer that was cut short the conversation "
            "goes on as recorded, and the rest of that answer is read with the next question."
        )
    return found


def batch_notes(setup: Setup) -> list[str]:
    """How many sessions are computed together where there are several, and why so many."""
    found, sessions = [], setup.scenario.sessions
    for placed in setup.roles.values() if setup.scenario.company and sessions > 1 else ():
        if placed.batch > 1:
            why = "the least of the runtimes described for such a unit"
            if placed.placement.batch is not None:
                why = "as the scenario has it"
            elif placed.placement.runtime is not None:
                why = f"as runtime {placed.placement.runtime} does"
            most = min(placed.batch, sessions)
            found.append(f"Steps of up to {most} sessions of the {placed.role} on {placed.track} are one: {why}.")
    return found


def not_in_it(scenario: Scenario) -> str | None:
    """Which of speech, other work and heat a scenario's times do not have; None where they have all."""
    missing = []
    if scenario.speech is None:
        missing.append("speech recognition before a question, speech synthesis after a clause is ready")
    others = "other models" if scenario.passengers else "other models, a second passenger"
    if not scenario.background:
        missing.append(f"load of other work on these units and memories ({others})")
    if scenario.climate is None:
        missing.append("heat")
    if not missing:
        return None
    *before, last = missing
    return f"Not in these times: {', '.join(before)}{', and ' if before else ''}{last}."
