"""Measures of spoken turns: pure functions of `trace.turns`.

| measure       | from                    | to                                                                       |
| waiting       | a question is wanted    | the passenger begins to speak: the turns before are over                 |
| end_of_speech | the end of speech       | it is noticed                                                            |
| recognition   | it is noticed           | the text is there                                                        |
| prompt        | the text is there       | the prompt is there                                                      |
| first_clause  | the prompt is there     | the first clause is complete: waiting, reading, a tool, the first words  |
| synthesis     | the first clause        | the first audio                                                          |
| first_audio   | the end of speech       | the first audio: the sum of the five above                               |
| turn          | the end of speech       | playback has ended                                                       |
| gap           | playback runs dry       | it goes on: a turn's longest, 0 where it has none                        |
| reaction      | the passenger speaks up | playback is silent, of interrupted turns                                 |
| freed         | the passenger speaks up | the language model's units are free of the answer, of interrupted turns  |

A turn counts for a measure where it reached both instants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hilsim.describe.cockpit import OUTCOMES, STAGES, UNHEARD, Budget
from hilsim.measure.metrics import summary
from hilsim.sim.trace import TurnRecord
from hilsim.units import ms

INSTANTS = ("spoken_ns", "noticed_ns", "recognised_ns", "asked_ns", "clause_ns", "first_audio_ns")
STAGE_INSTANTS = dict(zip(STAGES, pairwise(INSTANTS), strict=True))
ENDS = STAGE_INSTANTS | {
    "first_audio": ("spoken_ns", "first_audio_ns"),
    "turn": ("spoken_ns", "heard_ns"),
    "waiting": ("wanted_ns", "spoke_ns"),
    "reaction": ("interrupted_ns", "silent_ns"),
    "freed": ("interrupted_ns", "freed_ns"),
}
MEASURES = ("waiting", *STAGES, "first_audio", "turn", "gap", "reaction", "freed")


def times_of(turn: TurnRecord) -> dict[str, int]:
    """The measures of one turn that it has, in ns."""
    found = {}
    for name, ends in ENDS.items():
        begin, end = (getattr(turn, which) for which in ends)
        if begin >= 0 and end >= 0 and (turn.spoken_ns >= 0 or name != "waiting"):
            found[name] = end - begin
    if turn.first_audio_ns >= 0:
        found["gap"] = max((end - begin for begin, end in turn.gaps), default=0)
    return found


def series(turns: Iterable[TurnRecord]) -> dict[str, list[float]]:
    """Every measure in ms over the turns that have it."""
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for turn in turns:
        for name, spent in times_of(turn).items():
            found[name].append(ms(spent))
    return found


def statistics_of(turns: Iterable[TurnRecord]) -> dict[str, dict[str, float] | None]:
    """Mean, p50, p90 and p99 of every measure in ms; None where no turn has it."""
    return {name: summary(np.array(values, dtype=np.float64)) for name, values in series(turns).items()}


def outcomes_of(turns: Iterable[TurnRecord]) -> dict[str, int]:
    """How many turns ended how."""
    counted = Counter(turn.outcome for turn in turns)
    return {name: counted[name] for name in OUTCOMES}


def gaps_of(turns: Iterable[TurnRecord]) -> dict[str, Any]:
    """Interruptions of playback by a slow answer: how many, in how many turns, and how long in all."""
    with_gaps = [turn.gaps for turn in turns if turn.gaps]
    total = sum(end - begin for gaps in with_gaps for begin, end in gaps)
    return {"count": sum(map(len, with_gaps)), "turns": len(with_gaps), "total_ms": ms(total)}


def by_passenger(turns: Iterable[TurnRecord]) -> dict[str, list[TurnRecord]]:
    """The turns of each passenger, in order of their first."""
    found: dict[str, list[TurnRecord]] = {}
    for turn in turns:
        found.setdefault(turn.passenger, []).append(turn)
    return found


@dataclass(frozen=True)
class Limit:
    """A limit of the budget held against the turns: at its percentile, and how many turns are over it.

    Turns that were refused or given up have no first audio: they count as over the limit of the first audio, and their
    waiting has no end, so that the percentile is None where it falls on one of them.
    """

    measure: str
    limit_ms: float
    percentile: int
    value_ms: float | None
    turns: int
    over: int

    @property
    def broken(self) -> bool:
        """Whether the percentile is over the limit, or has no end."""
        return self.turns > 0 and (self.value_ms is None or self.value_ms > self.limit_ms)


def limits_ms(budget: Budget) -> dict[str, float]:
    """The limits that are set, by measure."""
    found = {name: getattr(budget, f"{name}_ms", None) for name in MEASURES}
    return {name: limit for name, limit in found.items() if limit is not None}


def held_against(budget: Budget, turns: Sequence[TurnRecord]) -> list[Limit]:
    """Every limit that is set against the turns that have its measure."""
    values, found = waits(turns), []
    for name, limit in limits_ms(budget).items():
        at = percentile_of(values[name], budget.percentile)
        over = sum(value > limit for value in values[name])
        found.append(Limit(name, limit, budget.percentile, at, len(values[name]), over))
    return found


def waits(turns: Sequence[TurnRecord]) -> dict[str, list[float]]:
    """`series`, with a first audio that never comes for turns that were refused or given up."""
    found = series(turns)
    found["first_audio"] += [np.inf] * sum(turn.outcome in UNHEARD for turn in turns)
    return found


def percentile_of(values: Sequence[float], percentile: int) -> float | None:
    """A percentile, linear between ranks as in `formulas.statistics`; None where it is not finite or there is none."""
    if not values:
        return None
    ordered = np.sort(np.array(values, dtype=np.float64))
    place = (len(ordered) - 1) * percentile / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1) if place > low else low
    if not np.isfinite(ordered[high]):
        return None
    return float(ordered[low] + (place - low) * (ordered[high] - ordered[low]))


@dataclass(frozen=True)
class Breach:
    """One turn over one limit of the budget: by how much, and the stage that is to blame and when it ran."""

    turn: TurnRecord
    measure: str
    value_ms: float
    limit_ms: float
    stage: str
    begin_ns: int
    end_ns: int


def breaches(budget: Budget, turns: Sequence[TurnRecord]) -> list[Breach]:
    """Turns over a limit, the furthest first.

    A stage is to blame for its own limit. Of the first audio and of a turn it is the stage furthest over its own limit;
    where none is, the one furthest over its median in all turns.
    """
    limits = limits_ms(budget)
    usual = {name: float(np.median(values)) for name, values in series(turns).items() if values}
    found = []
    for turn in turns:
        times = {name: ms(spent) for name, spent in times_of(turn).items()}
        for name, limit in limits.items():
            if name in times and times[name] > limit:
                stage = to_blame(name, times, limits, usual)
                begin, end = window_of(turn, stage)
                found.append(Breach(turn, name, times[name], limit, stage, begin, end))
    return sorted(found, key=lambda one: -one.value_ms / max(one.limit_ms, 1e-9))


def to_blame(measure: str, times: dict[str, float], limits: dict[str, float], usual: dict[str, float]) -> str:
    """The stage of a turn that made a measure exceed its limit."""
    if measure not in ("first_audio", "turn"):
        return measure
    stages = [name for name in STAGES if name in times]
    over = {name: times[name] - limits[name] for name in stages if name in limits and times[name] > limits[name]}
    over = over or {name: times[name] - usual[name] for name in stages}
    return max(over, key=over.__getitem__, default=measure)


def window_of(turn: TurnRecord, name: str) -> tuple[int, int]:
    """When a measure of a turn was going on, in ns: of `gap` its longest."""
    if name == "gap":
        return max(turn.gaps, key=lambda gap: gap[1] - gap[0])
    begin, end = ENDS[name]
    return getattr(turn, begin), getattr(turn, end)
