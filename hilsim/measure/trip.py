"""Measures over the time of a trip, from its samples and rounds: memory rate, temperature, clock, and times with them.

A sample holds until the next of the same quantity and name. Where a trace is not kept there are none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hilsim.describe.thermal import IDLE
from hilsim.measure.metrics import deliveries, summary
from hilsim.measure.turns import series
from hilsim.sim.trace import Sample, TaskTally, Trace
from hilsim.units import NS_PER_S, ms

MOST_WINDOWS = 60
WINDOW_NS = 60 * NS_PER_S


@dataclass(frozen=True)
class Course:
    """A sampled quantity over time: its values, and from when on each holds."""

    starts_ns: tuple[int, ...]
    values: tuple[float, ...]

    def within(self, begin_ns: int, end_ns: int) -> Course:
        """The part from `begin_ns` to `end_ns`, with the value that held at its begin."""
        first = max(0, int(np.searchsorted(self.starts_ns, begin_ns, side="right")) - 1)
        last = int(np.searchsorted(self.starts_ns, end_ns, side="left"))
        starts = [max(begin_ns, start) for start in self.starts_ns[first:last]]
        return Course(tuple(starts), self.values[first:last])

    def weights_ns(self, end_ns: int) -> list[int]:
        """How long each value held, up to the end."""
        return [later - start for start, later in pairwise((*self.starts_ns, max(end_ns, self.starts_ns[-1])))]

    def mean(self, end_ns: int) -> float:
        """The mean over time."""
        weights = self.weights_ns(end_ns)
        return float(np.average(self.values, weights=weights)) if sum(weights) else self.values[-1]

    def means(self, edges_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """The means between neighbouring instants; it is 0 before its first value."""
        starts, values = np.array(self.starts_ns, dtype=np.float64), np.array(self.values, dtype=np.float64)
        # The integral up to each start; between two of them it grows in a straight line.
        total = np.concatenate([[0.0], np.cumsum(values[:-1] * np.diff(starts))])
        place = np.clip(np.searchsorted(starts, edges_ns, side="right") - 1, 0, None)
        until = np.where(edges_ns < starts[0], 0.0, total[place] + values[place] * (edges_ns - starts[place]))
        return np.asarray(np.diff(until) / np.maximum(1, np.diff(edges_ns)))

    def share(self, end_ns: int, below: float) -> float:
        """The share of the time in which it was below a value."""
        weights = self.weights_ns(end_ns)
        less = sum(held for held, value in zip(weights, self.values, strict=True) if value < below)
        return less / sum(weights) if sum(weights) else 0.0

    def share_at(self, limit: Course, end_ns: int) -> float:
        """The share of the time from its start in which it was at a limit that changes."""
        starts = [start for start in limit.starts_ns if start > self.starts_ns[0]]
        edges = [self.starts_ns[0], *starts, max(end_ns, self.starts_ns[0], *starts)]
        reached_ns = 0.0
        for begin, end in pairwise(edges):
            if begin == end:
                continue
            (most,) = limit.within(begin, begin + 1).values
            reached_ns += (end - begin) * (1 - self.within(begin, end).share(end, most * (1 - 1e-9)))
        return reached_ns / max(1, edges[-1] - edges[0])


def courses(samples: Iterable[Sample], quantity: str) -> dict[str, dict[str, Course]]:
    """A quantity by chip and by name (of a unit or node; "" of the chip)."""
    found: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.quantity == quantity:
            found[sample.chip, sample.name].append(sample)
    by_chip: dict[str, dict[str, Course]] = {}
    for (chip, name), ones in found.items():
        course = Course(tuple(one.at_ns for one in ones), tuple(one.value for one in ones))
        by_chip.setdefault(chip, {})[name] = course
    return by_chip


def memory_rates(trace: Trace, capacities: dict[str, float]) -> dict[str, dict[str, float]]:
    """By chip, bytes/s through its memory: mean, most, and the share of the time in which it had no more to give.

    `capacities` are those at full speed; what a hot chip's memory gives is sampled as it changes.
    """
    found, lower = {}, courses(trace.samples, "memory capacity")
    for chip, by_name in courses(trace.samples, "memory rate").items():
        course, capacity = by_name[""], capacities[chip]
        limit = Course((0,), (capacity,))
        if chip in lower:
            changed = lower[chip][""]
            limit = Course((0, *changed.starts_ns), (capacity, *changed.values))
        found[chip] = {
            "capacity": capacity,
            "mean": course.mean(trace.end_ns),
            "max": max(course.values),
            "full": course.share_at(limit, trace.end_ns),
        }
    return found


def temperatures(trace: Trace) -> dict[str, dict[str, dict[str, float]]]:
    """By chip and node, in degrees Celsius: at the start, at the end, and the most."""
    return {
        chip: {
            node: {"start": course.values[0], "end": course.values[-1], "max": max(course.values)}
            for node, course in nodes.items()
        }
        for chip, nodes in courses(trace.samples, "temperature").items()
    }


def clocks(trace: Trace) -> dict[str, dict[str, dict[str, float]]]:
    """By chip and unit, as shares of the full clock: the mean, the least, and `throttled`, the time below it."""
    return {
        chip: {
            unit: {
                "mean": course.mean(trace.end_ns),
                "min": min(course.values),
                "throttled": course.share(trace.end_ns, 1.0),
            }
            for unit, course in units.items()
        }
        for chip, units in courses(trace.samples, "clock").items()
    }


def energies(trace: Trace) -> dict[str, dict[str, Any]]:
    """By chip, the joules that it drew from the battery: in all, an answer, an hour, by unit and by cause.

    An answer is a request with one; the hour is of the whole run, idle time included. `caused_per_answer_j` leaves out
    what is drawn without answers as well: idle power, and background tasks. `throttled` is the share of the time below
    full speed, `levels_s` the seconds at each level of the governor. What converters between battery and chip lose is
    not described.
    """
    answers = sum(1 for record in trace.requests if record.output_tokens)
    found = {}
    for chip, tally in trace.heat.items():
        both = {f"{unit or 'chip'}, {cause}": joules for (unit, cause), joules in tally.joules.items()}
        by_unit: dict[str, float] = defaultdict(float)
        by_cause: dict[str, float] = defaultdict(float)
        for (unit, cause), joules in tally.joules.items():
            by_unit[unit or "chip"] += joules
            by_cause[cause] += joules
        drawn, length = tally.drawn_j, max(trace.end_ns, 1)
        caused = sum(joules for cause, joules in by_cause.items() if cause != IDLE and cause not in trace.tasks)
        found[chip] = {
            "drawn_j": drawn,
            "per_answer_j": drawn / answers if answers else None,
            "caused_per_answer_j": caused / answers if answers else None,
            "per_hour_j": drawn * 3600 * NS_PER_S / length,
            "by_unit_j": dict(by_unit),
            "by_cause_j": dict(by_cause),
            "by_unit_and_cause_j": both,
            "stored_j": tally.stored_j,
            "to_ambient_j": tally.to_ambient_j,
            "throttled": tally.throttled_ns / length,
            "levels_s": [held / NS_PER_S for held in tally.level_ns],
            "level_changes": tally.changes,
            "hottest_c": dict(tally.hottest_c),
            "critical_c": tally.critical_c,
        }
    return found


def windows(trace: Trace) -> list[dict[str, Any]]:
    """The trip minute by minute, or in so many longer windows: times of turns and rounds, temperature and clock.

    A turn belongs to the window in which its question ended, or was wanted where it was never asked; a round to that of
    its delivery.
    """
    width = WINDOW_NS * max(1, -(-trace.end_ns // (WINDOW_NS * MOST_WINDOWS)))
    turns, gaps = defaultdict(list), defaultdict(list)
    for turn in trace.turns:
        turns[max(turn.spoke_ns, turn.spoken_ns) // width].append(turn)
    for rounds in deliveries(trace).values():
        for before, closed in pairwise(rounds):
            gaps[closed.delivered_ns // width].append(ms(closed.delivered_ns - before.delivered_ns))
    heat, clock = courses(trace.samples, "temperature"), courses(trace.samples, "clock")
    found = []
    for place in range(-(-trace.end_ns // width)):
        begin, end = place * width, min(trace.end_ns, (place + 1) * width)
        found.append(
            {
                "from_s": begin / NS_PER_S,
                "to_s": end / NS_PER_S,
                "turns": len(turns[place]),
                "first_audio_ms": summary(np.array(series(turns[place])["first_audio"], dtype=np.float64)),
                "round_gap_ms": summary(np.array(gaps[place], dtype=np.float64)),
                "max_temperature_c": {chip: extreme(nodes, begin, end, max) for chip, nodes in heat.items()},
                "min_clock": {chip: extreme(units, begin, end, min) for chip, units in clock.items()},
            }
        )
    return found


def extreme(by_name: dict[str, Course], begin_ns: int, end_ns: int, which: Any) -> float | None:
    """The most or least of several courses within a time."""
    values = [value for course in by_name.values() for value in course.within(begin_ns, end_ns).values]
    return float(which(values)) if values else None


def background(tasks: Sequence[TaskTally], after: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What became of each background task; `after` has those that follow another, by name.

    `frames` of these are the releases of the first of their chain: one that is skipped there, or on the way, never
    comes to them.
    """
    released = {task.name: task.released for task in tasks}
    return {
        task.name: {
            "track": task.track,
            "period_ms": ms(task.period_ns),
            "deadline_ms": ms(task.deadline_ns),
            **({"frames": released[first_of(task.name, after)]} if task.name in after else {}),
            "released": task.released,
            "finished": task.finished,
            "missed": task.missed,
            "mean_ms": ms(task.total_ns) / task.finished if task.finished else None,
            "worst_ms": ms(task.worst_ns) if task.finished else None,
        }
        for task in tasks
    }


def first_of(name: str, after: Mapping[str, str]) -> str:
    """The first task of a chain."""
    while name in after:
        name = after[name]
    return name
