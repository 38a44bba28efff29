"""Checks on the quality of measured step times: scatter, drift, clocks, and times that are impossible.

Pure functions of the measurements. Every warning has a figure, the limit that it crosses, and a sentence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

import numpy as np

from hilsim.hardware.wire.exchange import StepRequest, StepResult
from hilsim.units import ms

WIDE = 0.20  # interquartile range over median
WIDE_SAMPLES = 4  # the fewest whose middle half means something
DRIFT, DRIFT_SAMPLES = 0.10, 9
CLOCK, CLOCK_READINGS = 0.001, 4
FIRST, FIRST_SAMPLES = 3.0, 4
STALL, STALLS, STALL_SHARE, STALL_SAMPLES = 2.0, 3, 0.02, 20
CONFIDENCE = 3.0  # standard errors that a drift must be clear of
CACHED_PER_SHAPE = 256
# Of a normal distribution: the median's standard error over the mean's, and sigma over the median of |x - y| of two
# draws.
MEDIAN_ERROR, SIGMA_PER_STEP = 1.2533, 1 / (0.6745 * 2**0.5)

Kind = Literal[
    "wide scatter", "thermal drift", "speeding up", "clock drift", "clock set back", "longer than the wait",
    "slow first", "contended",
]  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One answer: what was computed (steps of one shape should take one time), and what both clocks showed.

    `at_ns` is our monotonic clock when the answer had come. 0 means that the clock was not read.
    """

    shape: str
    duration_ns: int
    wall_ns: int = 0
    clock_ns: int = 0
    at_ns: int = 0
    temperature_c: float | None = None


@dataclass(frozen=True)
class Reading:
    """The agent's clock, read at some instant of the `wide_ns` before `at_ns` on ours."""

    clock_ns: int
    at_ns: int
    wide_ns: int


@dataclass(frozen=True)
class QualityWarning:
    """A property of the measured times that makes them unreliable. `shape` is empty where it concerns all shapes."""

    kind: Kind
    shape: str
    figure: float
    limit: float
    sentence: str


def shape_of(model: str, rows: int, cached: int) -> str:
    """Steps that should take one time: a model, rows, and a cache filled to within 256 positions."""
    low = cached // CACHED_PER_SHAPE * CACHED_PER_SHAPE
    return f"{model}, {rows} {'row' if rows == 1 else 'rows'} after {low} to {low + CACHED_PER_SHAPE - 1}"


def sample_of(ask: StepRequest, answer: StepResult, *, exact: bool = False) -> Sample:
    """An answer as a sample; `exact` where each shape was asked for again and again, as in a profile."""
    kind = "a prompt of " if ask.rows > ask.wanted else ""
    shape = f"{ask.model}, {kind}{ask.rows} {'row' if ask.rows == 1 else 'rows'} after {ask.cached}"
    return Sample(
        shape=shape if exact else shape_of(ask.model, ask.rows, ask.cached),
        duration_ns=answer.duration_ns,
        wall_ns=answer.wall_ns,
        clock_ns=answer.clock_ns,
        at_ns=answer.at_ns,
        temperature_c=answer.temperature_c,
    )


def quality_warnings(samples: Sequence[Sample], readings: Sequence[Reading] = ()) -> list[QualityWarning]:
    """The warnings about one session: its answers in the order in which they came, and its pings if any."""
    by_shape: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_shape[sample.shape].append(sample)
    each: tuple[Callable[[str, list[int]], QualityWarning | None], ...] = (scatter, slow_first, contended)
    found = [
        check(shape, [one.duration_ns for one in several]) for shape, several in by_shape.items() for check in each
    ]
    clock = sorted([*readings, *map(reading_of, read(samples))], key=lambda reading: reading.at_ns)
    found += [impossible(samples), drift(by_shape), set_back(clock) or clock_drift(clock)]
    return [warning for warning in found if warning is not None]


def unjudged(samples: Sequence[Sample]) -> str:
    """What of these times cannot be judged, as a sentence; or nothing."""
    counts = Counter(sample.shape for sample in samples)
    few = sum(count < WIDE_SAMPLES for count in counts.values())
    if not few:
        return ""
    return (
        f"{few} of {len(counts)} shapes were timed fewer than {WIDE_SAMPLES} times: how widely they scatter is not "
        f"known. Repeat more often (--repeats {2 * WIDE_SAMPLES})."
    )


def scatter(shape: str, took: list[int]) -> QualityWarning | None:
    """Wide scatter: the middle half of the times spans more than 20 % of their median."""
    if len(took) < WIDE_SAMPLES:
        return None
    low, middle, high = np.percentile(took, (25, 50, 75))
    figure = float((high - low) / middle)
    if figure <= WIDE:
        return None
    spans = f"half of {len(took)} steps take {ms(float(low)):.3f} to {ms(float(high)):.3f} ms"
    return QualityWarning("wide scatter", shape, figure, WIDE, f"{shape}: {spans}, {figure:.0%} of their median.")


def slow_first(shape: str, took: list[int]) -> QualityWarning | None:
    """Slow first: the first step of a shape takes more than 3 times the median of the others."""
    if len(took) < FIRST_SAMPLES:
        return None
    figure = took[0] / median(took[1:])
    if figure <= FIRST:
        return None
    sentence = f"{shape}: the first step takes {ms(took[0]):.3f} ms, {figure:.1f} times the others' median. Warm up."
    return QualityWarning("slow first", shape, figure, FIRST, sentence)


def contended(shape: str, took: list[int]) -> QualityWarning | None:
    """Contended: beside the first at least 3 steps, and 2 %, take over twice the median, which others may cause."""
    rest = took[1:]
    if len(rest) < STALL_SAMPLES:
        return None
    slow = sum(time > STALL * median(rest) for time in rest)
    least = max(STALLS, STALL_SHARE * len(rest))
    if slow < least:
        return None
    sentence = f"{shape}: {slow} of {len(took)} steps take over twice the median. Does something else use the chip?"
    return QualityWarning("contended", shape, slow, least, sentence)


def drift(by_shape: dict[str, list[Sample]]) -> QualityWarning | None:
    """Drift: last thirds against first thirds by their medians, weighted by samples, beyond 10 % and beyond chance.

    Chance is three standard errors of that ratio, sigma being estimated from how much successive times differ, which
    a slow drift does not change.
    """
    long = [several for several in by_shape.values() if len(several) >= DRIFT_SAMPLES]
    total = sum(map(len, long))
    figure, variance = 0.0, 0.0
    for several in long:
        took, weight, third = [one.duration_ns for one in several], len(several) / total, len(several) // 3
        figure += weight * (median(took[-third:]) / median(took[:third]) - 1)
        sigma = median(np.abs(np.diff(took)).tolist()) * SIGMA_PER_STEP / median(took)
        variance += weight**2 * 2 * (MEDIAN_ERROR * sigma) ** 2 / third
    limit = max(DRIFT, CONFIDENCE * variance**0.5)
    if abs(figure) <= limit:
        return None
    change = f"steps take {abs(figure):.0%} {'more' if figure > 0 else 'less'} at the end than at the beginning"
    warmth = warming(long)
    if figure > 0:
        return QualityWarning(
            "thermal drift", "", figure, limit, f"{change}{warmth}. Cool the board, or fix its clocks."
        )
    return QualityWarning("speeding up", "", figure, limit, f"{change}{warmth}. Warm up longer, or fix its clocks.")


def warming(long: Iterable[list[Sample]]) -> str:
    """How much warmer the last thirds were than the first, where the chip reports temperatures."""
    first, last = [], []
    for several in long:
        known = [one.temperature_c for one in several if one.temperature_c is not None]
        first += known[: len(known) // 3]
        last += known[len(known) - len(known) // 3 :]
    return f", at {median(last):.0f} after {median(first):.0f} degrees Celsius" if first and last else ""


def impossible(samples: Sequence[Sample]) -> QualityWarning | None:
    """Longer than the wait: a step that took longer than we waited for its answer was not timed right."""
    waited = [one for one in samples if one.wall_ns > 0]
    count = sum(one.duration_ns > one.wall_ns for one in waited)
    if not count:
        return None
    worst = max(one.duration_ns / one.wall_ns for one in waited)
    long = f"{count} of {len(waited)} steps took longer than the wait for their answers, up to {worst:.2f} times"
    return QualityWarning("longer than the wait", "", worst, 1.0, f"{long}. The chip's times must be wrong.")


def read(samples: Sequence[Sample]) -> Iterable[Sample]:
    """The answers that have readings of both clocks."""
    return (one for one in samples if one.clock_ns > 0 and one.at_ns > 0 and one.wall_ns > 0)


def reading_of(sample: Sample) -> Reading:
    """An answer as a reading of the clock: it was read after the step, so its uncertainty is the rest of the wait."""
    return Reading(sample.clock_ns, sample.at_ns, max(0, sample.wall_ns - sample.duration_ns))


def set_back(readings: Sequence[Reading]) -> QualityWarning | None:
    """Clock set back: a later reading is lower, so the clock is none that only goes on, or the agent a new one."""
    apart = ((one, two) for one, two in pairwise(readings) if two.at_ns - two.wide_ns >= one.at_ns)
    falls = [one.clock_ns - two.clock_ns for one, two in apart]
    back_ns = max(falls, default=0)
    if back_ns <= 0:
        return None
    sentence = f"the agent's clock goes back by {ms(back_ns):.3f} ms: it was started again, or its clock was set."
    return QualityWarning("clock set back", "", back_ns, 0.0, sentence)


def clock_drift(readings: Sequence[Reading]) -> QualityWarning | None:
    """Clock drift: the agent's clock runs more than 0.1 % fast or slow, and by more than round trips explain.

    The most certain readings of the first and of the last quarter are compared; each may lie anywhere in its round
    trip.
    """
    if len(readings) < CLOCK_READINGS:
        return None
    quarter = len(readings) // 4
    first = min(readings[:quarter], key=lambda reading: reading.wide_ns)
    last = min(readings[-quarter:], key=lambda reading: reading.wide_ns)
    ours_ns = (last.at_ns - last.wide_ns / 2) - (first.at_ns - first.wide_ns / 2)
    if ours_ns <= 0:
        return None
    figure = (last.clock_ns - first.clock_ns) / ours_ns - 1
    bound = (first.wide_ns + last.wide_ns) / 2 / ours_ns
    limit = max(CLOCK, bound)
    if abs(figure) <= limit:
        return None
    runs = f"{abs(figure):.2%} {'fast' if figure > 0 else 'slow'}"
    sentence = f"the agent's clock runs {runs} against ours (round trips explain {bound:.2%}), and so do its times."
    return QualityWarning("clock drift", "", figure, limit, sentence)
