"""The blocks of a run's document that a scenario with company has: turns, passengers, background, memory rate, heat.

They are of the policy's run; `turns.baseline` is the target alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hilsim.cost.sharing import capacity
from hilsim.describe.cockpit import Budget
from hilsim.describe.setup import Setup
from hilsim.measure.fairness import Share, fairness, shares, utilisation
from hilsim.measure.trip import background, clocks, energies, memory_rates, temperatures, windows
from hilsim.measure.turns import (
    Breach,
    breaches,
    by_passenger,
    gaps_of,
    held_against,
    outcomes_of,
    statistics_of,
)
from hilsim.measure.why import Causes, Reasons
from hilsim.sim.trace import Trace, TurnRecord
from hilsim.units import NS_PER_S, ms

Block = dict[str, Any]
BREACHES_LISTED = 20


def cockpit(setup: Setup, baseline: Trace, speculative: Trace | None) -> Block:
    """The blocks that this run has something to say in; none for a scenario without company."""
    trace = speculative or baseline
    found: Block = {}
    if trace.turns:
        found["turns"] = spoken_turns(setup, trace)
        if speculative is not None:
            found["turns"]["baseline"] = in_ms(baseline.turns)
        found["passengers"] = passengers(trace)
        if (index := fairness(shares(trace))) is not None:
            found["turns"]["fairness"] = index
        if trace.spans:
            found["turns"]["utilisation"] = utilisation(trace)
    if trace.tasks:
        after = {task.name: task.after for task in setup.scenario.background if task.after is not None}
        found["background"] = background(list(trace.tasks.values()), after)
    if rates := memory_rates(trace, {name: capacity(chip) for name, chip in setup.chips.items()}):
        found["memory_rate"] = rates
    if trace.heat or trace.samples:
        heat = {"temperature_c": temperatures(trace), "clock": clocks(trace), "energy": energies(trace)}
        found |= {"heat": heat} if any(heat.values()) else {}
    if found:
        found["windows"] = windows(trace)
    return found


def in_ms(turns: Sequence[TurnRecord]) -> Block:
    """Statistics of every measure, by its name with its unit."""
    return {f"{name}_ms": values for name, values in statistics_of(turns).items()}


def spoken_turns(setup: Setup, trace: Trace) -> Block:
    """The stages of the turns, their budget, and which turns broke it, where and why."""
    speech = setup.scenario.speech
    budget = Budget() if speech is None else speech.budget
    limits = held_against(budget, trace.turns)
    over = breaches(budget, trace.turns)
    reasons = Reasons(trace) if over and trace.spans else None
    return {
        "count": len(trace.turns),
        "outcomes": outcomes_of(trace.turns),
        **in_ms(trace.turns),
        "gaps": gaps_of(trace.turns),
        "budget": [vars(limit) | {"broken": limit.broken} for limit in limits],
        "within_budget": not any(limit.broken for limit in limits),
        "over_a_limit": len(over),
        "furthest_over": [breach_of(breach, reasons) for breach in over[:BREACHES_LISTED]],
    }


def breach_of(breach: Breach, reasons: Reasons | None) -> Block:
    """One turn over a limit: the stage to blame, when it was, and what it was spent on."""
    causes = None
    if reasons is not None and breach.turn.request >= 0:
        causes = reasons.causes(breach.turn.request, breach.begin_ns, breach.end_ns, breach.stage)
    return {
        "turn": breach.turn.number,
        "passenger": breach.turn.passenger,
        "at_s": breach.begin_ns / NS_PER_S,
        "measure": breach.measure,
        "value_ms": breach.value_ms,
        "limit_ms": breach.limit_ms,
        "stage": breach.stage,
        "stage_ms": ms(breach.end_ns - breach.begin_ns),
        "causes": None if causes is None else vars(causes) | {"beside": list(causes.beside)},
        "why": None if causes is None else why(causes),
    }


def why(causes: Causes) -> str:
    """What a stretch was spent on, in a sentence: the longest part first, then what slowed its steps."""
    parts = [
        (sum(causes.waited_ms.values()), f"behind {', '.join(list(causes.waited_ms)[:2])}"),
        (causes.worked_ms, f"its own work, most of it {next(iter(causes.by_kind_ms), '')}"),
        (causes.other_ms, "a fixed wait, a tool, or hardware outside the model"),
    ]
    shown = [f"{spent:.0f} ms {what}" for spent, what in sorted(parts, key=lambda part: -part[0]) if spent >= 1]
    sentence = ", ".join(shown) or "nothing took a millisecond"
    if causes.slower_ms >= 1:
        beside = f", beside {', '.join(causes.beside[:2])}" if causes.beside else ""
        sentence += f"; steps {causes.slower_ms:.0f} ms longer than the fastest of their kind{beside}"
    if causes.slowest_clock < 1:
        sentence += f"; clock at {100 * causes.slowest_clock:.0f} %"
    return sentence


def passengers(trace: Trace) -> Block:
    """Turns, outcomes and waiting of each passenger; what was waited for is known where spans are kept."""
    served = {share.passenger: share for share in shares(trace)} if trace.spans else {}
    return {
        name: {
            "turns": len(ones),
            "outcomes": outcomes_of(ones),
            "first_audio_ms": statistics_of(ones)["first_audio"],
            "turn_ms": statistics_of(ones)["turn"],
            "wait_ms": waited(served.get(name)),
            "served_share": served[name].served_share if name in served else None,
        }
        for name, ones in by_passenger(trace.turns).items()
    }


def waited(share: Share | None) -> Block | None:
    """How long a passenger's answers waited for units and wires, in ms; None where that is not known."""
    return None if share is None or share.wait_ms is None else share.wait_ms._asdict()
