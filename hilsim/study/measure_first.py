"""Which measurement on a board would narrow a headline number most, and by how much: first-order shares of variance.

Under every draw of the uncertain figures there is a headline number Y, and what a measurement would give, Z: a number,
or those of one session (`board_readings.py`). The share of a measurement is its first-order index, also called the
correlation ratio:

    S = Var(E[Y | Z]) / Var(Y)        Saltelli et al., Global Sensitivity Analysis (2008), section 1.2.5

the part of Y's variance that is expected to go once Z, alone, is known. E[Y | Z] is a polynomial of second degree
through the draws (least squares), and S is corrected for what it explains by chance (Ezekiel's adjusted R^2). What Z
cannot explain, Y - E[Y | Z], stays: its middle 90 % about the mean is the interval expected after the measurement.

Measurements share figures, so shares overlap and need not add up to 1. A curve that the polynomial misses counts as
unexplained. The draws are those of rank stability: of steps by their class, of all else by the ranges of figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import numpy.typing as npt

from hilsim.describe.cross_checks import require_simulated
from hilsim.describe.names import key_hint
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError
from hilsim.measure.measures import MEASURES
from hilsim.progress import counting
from hilsim.runs.evaluate import Refused, evaluate
from hilsim.runs.replay import forget_costs
from hilsim.study.board_readings import BoardReading, board_readings
from hilsim.study.rank_stability import drawn_for
from hilsim.study.step_classes import StepClass, step_classes
from hilsim.study.uncertainty import Ends, at_ends, in_use, roomy

Floats = npt.NDArray[np.float64]
MOST = 10
# Of a Z without effect k terms explain k/N of the variance by chance, +- sqrt(2 k)/N (chi-square). So many of these,
# which one Z in 400 exceeds at k = 2: some twenty are tried.
SURE = 5.0
MEMORY = tuple(name for name in MEASURES if "memory" in name)  # sizes are not drawn here


@dataclass(frozen=True)
class Share:
    """The share of variance that one reading explains, its standard error, and the interval that is left."""

    value: float
    error: float
    then: Ends


@dataclass(frozen=True)
class Worth:
    """A measurement: what the chip model expects of it (middle 90 %), the figures that it rests on, what it brings."""

    reading: BoardReading
    expected: tuple[Ends, ...]
    figures: tuple[str, ...]
    share: Share


@dataclass(frozen=True)
class MeasureFirst:
    """The measurements that narrow a measure, the best first; `now` is its middle 90 % over the draws.

    `nominal` is the run's own number, `ranged` are the figures drawn and `classes` the kinds of steps, `tried` is how
    many measurements were considered.
    """

    measure: str
    draws: int
    seed: int
    ranged: tuple[str, ...]
    classes: tuple[StepClass, ...]
    nominal: float
    now: Ends
    tried: int
    ranked: tuple[Worth, ...]


def measure_first(setup: Setup, measure: str, draws: int, seed: int) -> MeasureFirst:
    """Rank at most ten measurements.

    Raises `InputError` for a measure that there is not or that the run does not have, without a figure that has a
    range, and where boards execute steps.
    """
    require_measure(measure)
    require_simulated(setup, "measure-first")
    setup = roomy(setup)
    ranged, classes = {path: one for path, one in in_use(setup).items() if one.range is not None}, step_classes(setup)
    if not ranged and not classes.found:
        found = "no figure with a range among those that its times and energy rest on"
        remedy = "Give figures of its chips or link a range, or place the models on units without typed times."
        raise InputError([Fault(setup.file, "", found, "at least one, as there is nothing to draw", remedy)])
    nominal, readings = number_of(setup, measure), board_readings(setup)
    headline, read = [], []
    for (changed,) in counting("draws", drawn_for((setup,), draws, seed).setups(), draws):
        headline.append(number_of(changed, measure))
        read.append([reading.of(changed) for reading in readings])
        forget_costs()
    values = np.array(headline)
    columns = [np.array(numbers) for numbers in zip(*read, strict=True)]  # a reading (draws, numbers)
    shares = [share_of(values, column) for column in columns]
    order = sorted((place for place, share in enumerate(shares) if share.value > 0), key=lambda at: -shares[at].value)
    changes = dict(at_ends(classes, ranged))
    ranked = [
        Worth(
            readings[place],
            tuple(map(middle, columns[place].T)),
            tuple(path for path, both in changes.items() if len({readings[place].of(one) for one in both}) > 1),
            shares[place],
        )
        for place in order[:MOST]
    ]
    return MeasureFirst(
        measure, draws, seed, tuple(ranged), classes.found, nominal, middle(values), len(readings), tuple(ranked)
    )


def share_of(headline: Floats, readings: Floats) -> Share:
    """What readings (draws, numbers) explain of a headline number (draws,); 0 where chance alone could do that much.

    The standard error is that of a squared correlation, 2 sqrt(S) (1 - S) / sqrt(draws).
    """
    count, total = len(headline), float(headline.var())
    terms = terms_of(readings)
    freedom = count - 1 - terms.shape[1]
    nothing = Share(0.0, 0.0, middle(headline))
    if total == 0 or not terms.shape[1] or freedom < 1:
        return nothing
    left = headline - headline.mean()
    left = left - terms @ np.linalg.lstsq(terms, left)[0]
    unexplained = float(left.var()) / total * (count - 1) / freedom
    share = 1 - unexplained
    if share <= SURE * math.sqrt(2 * terms.shape[1]) / count:
        return nothing
    error = 2 * math.sqrt(share) * (1 - share) / math.sqrt(count)
    return Share(share, error, middle(left * math.sqrt((count - 1) / freedom) + headline.mean()))


def terms_of(readings: Floats) -> Floats:
    """Standardised readings that vary, their squares and products, each less its mean: (draws, terms)."""
    moving = readings[:, np.ptp(readings, axis=0) > 0]
    one = (moving - moving.mean(axis=0)) / moving.std(axis=0)
    pairs = [one[:, a] * one[:, b] for a, b in combinations_with_replacement(range(one.shape[1]), 2)]
    terms = np.column_stack([one, *pairs])
    centred: Floats = terms - terms.mean(axis=0)
    return centred


def middle(values: Floats) -> Ends:
    """The middle 90 %."""
    low, high = np.quantile(values, (0.05, 0.95))
    return float(low), float(high)


def require_measure(measure: str) -> None:
    """Raise `InputError` for a measure that is not known, or that sizes decide, which are not drawn here."""
    known = [name for name in MEASURES if name not in MEMORY]
    if measure in MEMORY:
        found = f"{measure}, which sizes decide and not times"
        raise InputError([Fault("--measure", "", found, "a measure of times, tokens or energy",
                                "`hilsim check` says which sizes decide whether it fits.")])  # fmt: skip
    if measure not in known:
        raise InputError(
            [Fault("--measure", "", repr(measure), f"one of {', '.join(known)}", key_hint(measure, known))]
        )


def number_of(setup: Setup, measure: str) -> float:
    """A measure of a run, by fast timing where that has it. Raises `InputError` where the run does not have it."""
    found = evaluate(setup, every=not MEASURES[measure].screened)
    if isinstance(found, Refused):
        raise found.error
    value = found[measure]
    if value is None:
        raise InputError([Fault("--measure", "", f"{measure}, which this run does not have", "another measure")])
    return value
