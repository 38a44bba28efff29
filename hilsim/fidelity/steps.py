"""Calibration from recorded steps: a chip's constants from what steps of many shapes took on the board.

Steps determine more than published figures do: many numbers of rows, empty and full caches, several models. So every
constant of a step is fitted, and the operation rate at many of the recorded numbers of rows. Constants that the steps
do not separate are put back to the values of the chip's file, the least certain first, until all the rest is known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from statistics import fmean

import numpy as np
import numpy.typing as npt

from hilsim.cost.step import Phase, Step, in_tiles, operation_rate, passes, si, step_costs
from hilsim.describe.chip import Chip, Precision, RatePoint, Unit
from hilsim.describe.figure import Figure
from hilsim.describe.model import Model
from hilsim.errors import Fault, ScenarioError
from hilsim.fidelity.calibrate import LEAST_DEVIATION, require_below_peak
from hilsim.fidelity.constants import digits, span
from hilsim.fidelity.fit import Fitted, fit

OVERHEADS = ("step_overhead", "layer_overhead", "wide_layer_overhead", "prompt_layer_overhead")
RATES = ("memory_rate", "weight_rate", "cache_rate", "attention_rate")
# Operation rates are fitted at numbers of rows at least so far apart; between them the curve is straight.
APART = 4 / 3
# An overhead that the file has not, or as 0, begins at this share of the shortest step.
FIRST_GUESS = 0.05
# Errors that grow by more than this, a share and a little, are worse.
WORSE, LEAST_WORSE = 1.1, 0.002
WORST_SHOWN = 5
# A mean error beyond this is no chip's noise: times and model, unit or number format do not belong together.
TOO_FAR = 0.25
GUESSED = "where a fit begins"
MANY_ROWS = 10**6
Seconds = npt.NDArray[np.float64]
Fills = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RecordedStep:
    """Steps of one shape on the board: the median of `count` of them; widths and context are its model's there."""

    model: Model
    reading: bool
    rows: int
    cached: int
    seconds: float
    count: int
    widths: tuple[int, ...] | None
    context: int

    @property
    def line(self) -> tuple[str, bool, int]:
        """What it shares with steps that differ in the fill of the cache alone."""
        return self.model.name, self.reading, self.rows

    @property
    def kind(self) -> str:
        """What it is summed up under; steps of one kind scatter alike."""
        return "prompt" if self.reading else "one row" if self.rows == 1 else "several rows"

    def __str__(self) -> str:
        what = f"a prompt of {self.rows}" if self.reading else "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{self.model.name}, {what} after {self.cached}"


@dataclass(frozen=True)
class StepCalibration:
    """A chip with its fitted constants, and how well they hold.

    `errors` are predicted over measured less 1 of every shape, `figures` the fitted constants by name, and
    `undetermined` the names of those that the steps leave open.
    """

    record: Chip
    steps: tuple[RecordedStep, ...]
    errors: tuple[float, ...]
    figures: Mapping[str, Figure]
    undetermined: tuple[str, ...]

    @property
    def by_kind(self) -> dict[tuple[str, str], list[float]]:
        """Errors by model and kind of step."""
        found: dict[tuple[str, str], list[float]] = {}
        for step, error in zip(self.steps, self.errors, strict=True):
            found.setdefault((step.model.name, step.kind), []).append(error)
        return found

    @property
    def far_off(self) -> bool:
        """Whether the mean error is too large for a usable calibration."""
        return fmean(map(abs, self.errors)) > TOO_FAR

    @property
    def worst(self) -> list[tuple[RecordedStep, float]]:
        """The shapes that are farthest off, either way."""
        pairs = zip(self.steps, self.errors, strict=True)
        return sorted(pairs, key=lambda pair: -abs(np.log1p(pair[1])))[:WORST_SHOWN]

    @property
    def residuals(self) -> str:
        """One line for the file: shapes, mean and worst error, by kind of step."""
        parts = []
        for kind in sorted({step.kind for step in self.steps}):
            errors = [abs(error) for step, error in zip(self.steps, self.errors, strict=True) if step.kind == kind]
            parts.append(f"{kind} {len(errors)} shapes, mean {fmean(errors):.0%}, worst {max(errors):.0%}")
        return "; ".join(parts)


@dataclass(frozen=True)
class RecordedBoard:
    """Recorded steps, and the unit and number format of a chip that are held against them."""

    chip: Chip
    unit: str
    precision: str
    complete: Unit  # the unit with its family's constants
    steps: tuple[RecordedStep, ...]

    @property
    def known(self) -> Precision:
        """The number format as chip and family have it."""
        return self.complete.precisions[self.precision]

    @property
    def lines(self) -> list[tuple[RecordedStep, Fills]]:
        """Steps that differ in the fill of the cache alone: the first of them, and all fills."""
        found = [list(group) for _, group in groupby(self.steps, key=lambda step: step.line)]
        return [(line[0], np.array([step.cached for step in line])) for line in found]

    @property
    def points(self) -> list[int]:
        """Numbers of rows at which operation rates are fitted: of those really computed, some way apart."""
        widths = {width for step in self.steps for _, width in passes(step.rows, step.widths)}
        computed = {in_tiles(width, self.complete) for width in widths}
        chosen: list[int] = []
        for rows in sorted(computed):
            if not chosen or rows >= APART * chosen[-1]:
                chosen.append(rows)
        return chosen

    def constants(self, without: Collection[str]) -> dict[str, Figure]:
        """Every constant of a step by name, as the file has it, or a guess where it has none; without those named."""
        shortest_s = min(step.seconds for step in self.steps)
        guess = Figure(value=1000 * FIRST_GUESS * shortest_s, unit="ms", kind="assumed", source=GUESSED)
        found = {name: getattr(self.complete, name) for name in OVERHEADS}
        found = {name: figure if si(figure) else guess for name, figure in found.items()}
        rates = {name: getattr(self.known, name) for name in RATES}
        rates["cache_rate"] = rates["cache_rate"] or self.known.memory_rate
        rates["attention_rate"] = rates["attention_rate"] or operations(operation_rate(self.known, MANY_ROWS))
        found |= {name: figure for name, figure in rates.items() if figure is not None}
        found |= {rate_at(rows): operations(operation_rate(self.known, rows)) for rows in self.points}
        return {name: figure for name, figure in found.items() if name not in without}

    def with_constants(self, unit: Unit, found: Mapping[str, Figure]) -> Unit:
        """A unit with these constants; what is not among them stays as it is."""
        points = [RatePoint(rows=rows, rate=found[rate_at(rows)]) for rows in self.points if rate_at(rows) in found]
        changed: dict[str, object] = {name: found[name] for name in RATES if name in found}
        changed |= {"operation_rates": tuple(points)} if points else {}
        precisions = unit.precisions | {self.precision: self.known.model_copy(update=changed)}
        overheads = {name: found[name] for name in OVERHEADS if name in found}
        return unit.model_copy(update={"precisions": precisions} | overheads)

    def in_chip(self, unit: Unit) -> Chip:
        """The chip with another unit in this one's place."""
        return self.chip.model_copy(update={"units": self.chip.units | {self.unit: unit}})

    def paths(self, found: Mapping[str, Figure]) -> dict[str, str]:
        """Where in the chip these constants stand."""
        here = f"units.{self.unit}"
        inside = f"{here}.precisions.{self.precision}"
        paths = {name: f"{here}.{name}" if name in OVERHEADS else f"{inside}.{name}" for name in found}
        fitted = [rate_at(rows) for rows in self.points if rate_at(rows) in found]
        return paths | {name: f"{inside}.operation_rates[{index}].rate" for index, name in enumerate(fitted)}

    def fitted(self, free: Mapping[str, Figure], near: Mapping[str, Figure] | None) -> Fitted[Chip]:
        """The free constants moved so that all steps are met."""
        lines, paths = self.lines, self.paths(free)

        def predict(candidate: Chip) -> list[float]:
            unit = candidate.units[self.unit]
            precision = unit.precisions[self.precision]
            return [second for first, fills in lines for second in seconds_of(first, fills, unit, precision)]

        return fit(
            self.in_chip(self.with_constants(self.complete, free)),
            {paths[name]: figure for name, figure in free.items()},
            predict,
            [step.seconds for step in self.steps],
            [step.kind for step in self.steps],
            None if near is None else {paths[name]: near[name] for name in free},
        )


def calibrate_steps(
    chip: Chip, complete: Unit, unit: str, precision: str, steps: Sequence[RecordedStep], source: str, file: str
) -> StepCalibration:
    """A chip's constants from recorded steps. `complete` is its unit with its family's constants.

    Raises `ScenarioError` where the steps determine nothing, or a rate above what the chip's memory can have.
    """
    board = RecordedBoard(
        chip, unit, precision, complete, tuple(sorted(steps, key=lambda step: (*step.line, step.cached)))
    )
    solved, free, undetermined = determined(board, file)
    paths = board.paths(free)
    figures = {}
    for name, path in paths.items():
        figure = solved.figures[path]
        value, deviation = digits(figure.value), max(solved.deviations[path], LEAST_DEVIATION)
        low_high = span(value, deviation)
        figures[name] = Figure(value=value, unit=figure.unit, kind="fitted", source=source, range=low_high)
    require_below_peak(figures, chip, file)
    record = board.in_chip(board.with_constants(chip.units[unit], figures))
    errors = tuple(float(np.expm1(residual)) for residual in solved.residuals)
    made = StepCalibration(record, board.steps, errors, figures, tuple(undetermined))
    return replace(made, record=record.model_copy(update={"residuals": made.residuals}))


def determined(board: RecordedBoard, file: str) -> tuple[Fitted[Chip], dict[str, Figure], list[str]]:
    """The fit of all constants that the steps determine, those constants, and the names of those left open.

    A constant left open stays as the file has it, unless the steps are then predicted worse: they do not determine
    it well, but they show that the file is wrong.
    """
    undetermined: list[str] = []
    firm: set[str] = set()
    free = board.constants(undetermined)
    solved = board.fitted(free, None)
    best = typical(solved)
    while True:
        needless = idle(solved, board, free)
        loose = needless or least_certain(solved, board.paths(free), firm)
        if not loose:
            return solved, free, undetermined
        fewer = board.constants([*undetermined, *loose])
        if not fewer:
            found = f"{len(board.steps)} shapes of steps, which leave every constant open"
            raise ScenarioError([Fault(file, "", found, "steps of several numbers of rows, fills or models")])
        near = {name: solved.figures[path] for name, path in board.paths(free).items()}
        again = board.fitted(fewer, near)
        if needless or typical(again) <= best * WORSE + LEAST_WORSE:
            solved, free, undetermined = again, fewer, [*undetermined, *loose]
        else:
            firm |= set(loose)


def typical(solved: Fitted[Chip]) -> float:
    """The mean size of a fit's errors."""
    return float(np.mean(np.abs(solved.residuals)))


def seconds_of(first: RecordedStep, fills: Fills, unit: Unit, precision: Precision) -> Seconds:
    """The predicted seconds of steps like `first` at these fills, by the functions that time a simulated step."""
    phase = Phase.PREFILL if first.reading else Phase.VERIFY
    step = Step(phase, first.rows, fills)  # type: ignore[arg-type]  # arithmetic that arrays do as well
    costs = step_costs(first.model, unit, precision, step, first.widths, first.context)
    seconds: Seconds = np.zeros(len(fills)) + sum(cost.added(np.maximum, np.minimum) for cost in costs)
    return seconds


def idle(solved: Fitted[Chip], board: RecordedBoard, free: Mapping[str, Figure]) -> list[str]:
    """Constants on which no step depends, and an operation rate with which more rows would be quicker than fewer."""
    paths = board.paths(free)
    if untouched := [name for name, path in paths.items() if path in solved.untouched]:
        return untouched
    points = [rows for rows in board.points if rate_at(rows) in free]
    takes = {rows: rows / digits(solved.figures[paths[rate_at(rows)]].value) for rows in points}
    return [rate_at(rows) for rows, wider in pairwise(points) if takes[wider] < takes[rows]][:1]


def least_certain(solved: Fitted[Chip], paths: Mapping[str, str], firm: Collection[str]) -> list[str]:
    """Of the constants that the steps leave open the least certain one; those that are `firm` stay."""
    loose = [name for name, path in paths.items() if path in solved.undetermined and name not in firm]
    return sorted(loose, key=lambda name: -solved.deviations[paths[name]])[:1]


def rate_at(rows: int) -> str:
    """What the operation rate at so many rows is called."""
    return f"operation_rate at {rows} rows" if rows > 1 else "operation_rate at 1 row"


def operations(rate_si: float) -> Figure:
    """An operation rate to begin from."""
    return Figure(value=rate_si / 1e9, unit="GFLOPS", kind="assumed", source=GUESSED)
