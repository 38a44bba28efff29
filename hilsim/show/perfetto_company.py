"""The events that a scenario with company adds to a Perfetto trace: spoken turns as slices, samples as counters.

A turn is a slice on its passenger's rows, from the first word to the end of playback, with its stages inside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hilsim.measure.trip import courses
from hilsim.measure.turns import STAGE_INSTANTS, times_of
from hilsim.show.numbers import clean
from hilsim.sim.trace import Sample, Trace, TurnRecord
from hilsim.units import ms

Event = dict[str, Any]
PASSENGERS, RATE = "passengers", "memory rate"
MOST_RATES = 20_000  # of a chip's memory
# Counter and unit of a quantity; values of one chip's units and nodes are series of one counter.
COUNTERS = {
    "power": ("power", "W", 1.0),
    "temperature": ("temperature", "C", 1.0),
    "clock": ("clock", "share", 1.0),
    "missed": ("deadlines missed", "of tasks", 1.0),
}


def last_ns(turn: TurnRecord) -> int:
    """The last instant of a turn."""
    return max(
        turn.spoke_ns,
        turn.spoken_ns,
        turn.noticed_ns,
        turn.first_audio_ns,
        turn.finished_ns,
        turn.heard_ns,
        turn.silent_ns,
    )


def parts_of(turn: TurnRecord) -> Iterator[tuple[str, int, int]]:
    """What is inside a turn one after the other: the question, the stages, playback and its gaps."""
    if turn.spoken_ns < 0:
        return
    yield "speaks", turn.spoke_ns, turn.spoken_ns
    for name, ends in STAGE_INSTANTS.items():
        begin, end = (getattr(turn, which) for which in ends)
        if 0 <= begin <= end:
            yield name.replace("_", " "), begin, end
    if turn.first_audio_ns < 0:
        return
    begin, end = turn.first_audio_ns, turn.silent_ns if turn.silent_ns >= 0 else turn.heard_ns
    for start, stop in turn.gaps:
        yield "playback", begin, min(start, end)
        yield "gap", min(start, end), min(stop, end)
        begin = min(stop, end)
    yield "playback", begin, end


def rows_of(turns: list[TurnRecord]) -> list[tuple[str, TurnRecord]]:
    """Each turn with the row that it is drawn on: a passenger has as many as turns at once."""
    free: dict[str, list[int]] = {}
    found = []
    for turn in sorted(turns, key=lambda turn: (turn.spoke_ns, turn.number)):
        rows = free.setdefault(turn.passenger, [])
        row = next((row for row, end in enumerate(rows) if end <= turn.spoke_ns), len(rows))
        if row == len(rows):
            rows.append(0)
        rows[row] = last_ns(turn)
        found.append((turn.passenger if row == 0 else f"{turn.passenger} {row + 1}", turn))
    return found


def arguments(turn: TurnRecord) -> dict[str, Any]:
    """What a turn's slice carries beside its times."""
    found: dict[str, Any] = {"request": turn.request, "outcome": turn.outcome}
    found |= {f"{name}_ms": ms(spent) for name, spent in times_of(turn).items()}
    return found


def counter_of(sample: Sample) -> tuple[str, dict[str, float]]:
    """The counter of a sample and its value, by the unit or node."""
    name, unit, factor = (RATE, "GB/s", 1e-9) if sample.quantity == RATE else COUNTERS[sample.quantity]
    return f"{name}, {unit}", {clean(sample.name) or unit: round(sample.value * factor, 6)}


def samples_in_order(trace: Trace) -> Iterator[tuple[Sample, str, dict[str, float]]]:
    """Every sample with all series of its counter as of then: a viewer takes what is left out as 0."""
    latest: dict[tuple[str, str], dict[str, float]] = {}
    for sample in (*averaged_rates(trace), *(one for one in trace.samples if one.quantity in COUNTERS)):
        name, value = counter_of(sample)
        series = latest.setdefault((sample.chip, name), {})
        series |= value
        yield sample, name, dict(series)


def averaged_rates(trace: Trace) -> Iterator[Sample]:
    """The memory rate of each chip; of a long trip its means over equal parts, as it changes with every step."""
    for chip, by_name in courses(trace.samples, RATE).items():
        course = by_name[""]
        starts, values = course.starts_ns, course.values
        if len(starts) > MOST_RATES:
            edges = np.linspace(0, max(MOST_RATES, trace.end_ns), MOST_RATES + 1).astype(np.int64)
            starts, values = tuple(edges[:-1].tolist()), tuple(course.means(edges).tolist())
        for start, value in zip(starts, values, strict=True):
            yield Sample(chip, start, RATE, "", value)
