"""Energy and heat of a run with a climate, from what was counted of each chip: by unit and cause, an answer, an hour.

Joules are those that chips draw from their supply; what converters between battery and chip lose is not described.

| key            | definition                                                                                      |
| drawn_j        | all joules drawn from the start of the run to its end                                           |
| watts          | drawn_j over the run's seconds: watt hours an hour                                              |
| per_answer_j   | drawn_j / answers: what the car pays for an answer, idle time between answers included          |
| of_answers_j   | joules of target, draft and stages / answers: what would not have been drawn without the answer |
| by_cause_j     | drawn_j by cause: idle, target, draft, stages and background tasks by name                      |
| throttled      | share of the run's time that a chip was below full speed                                        |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from hilsim.describe.thermal import IDLE
from hilsim.sim.trace import HeatTally, Trace
from hilsim.units import NS_PER_S

CHIP = "chip"  # in place of a unit: what is drawn whether anything runs or not


def summed(tallies: Iterable[HeatTally], place: int) -> dict[str, float]:
    """Joules of all accounts by unit (place 0) or by cause (place 1), the most first."""
    found: dict[str, float] = defaultdict(float)
    for tally in tallies:
        for entry, joules in tally.joules.items():
            found[entry[place] or CHIP] += joules
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def energy(trace: Trace) -> dict[str, Any] | None:
    """Joules drawn in all, by cause, an answer and an hour, and the account of each chip; None without a climate."""
    tallies = list(trace.heat.values())
    if not tallies:
        return None
    drawn = sum(tally.drawn_j for tally in tallies)
    by_cause = summed(tallies, 1)
    beside = {IDLE, *trace.tasks}
    answering = sum(joules for cause, joules in by_cause.items() if cause not in beside)
    answers = len(trace.requests)
    return {
        "drawn_j": drawn,
        "watts": drawn * NS_PER_S / trace.end_ns if trace.end_ns else 0.0,
        "per_answer_j": drawn / answers if answers else None,
        "of_answers_j": answering / answers if answers else None,
        "by_cause_j": by_cause,
        "chips": {tally.chip: of_chip(tally, trace.end_ns) for tally in tallies},
    }


def of_chip(tally: HeatTally, end_ns: int) -> dict[str, Any]:
    """The account of one chip: where its joules came from and went to, how hot it was, and how long it was slower."""
    return {
        "drawn_j": tally.drawn_j,
        "stored_j": tally.stored_j,
        "to_ambient_j": tally.to_ambient_j,
        "by_unit_j": summed([tally], 0),
        "throttled": tally.throttled_ns / end_ns if end_ns else 0.0,
        "levels": [held / end_ns if end_ns else 0.0 for held in tally.level_ns],
        "level_changes": tally.changes,
        "max_temperature_c": tally.hottest_c,
        "critical_c": tally.critical_c,
        "shut_down": max(tally.hottest_c.values(), default=0.0) >= tally.critical_c > 0,
    }
