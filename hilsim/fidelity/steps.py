"""Calibration from recorded steps: a chip's constants from what steps of many shapes took on the board.

Steps tell more than published figures do: many numbers of rows, empty and full caches, several models. So every constant
of a step is fitted, and the operation rate at many of the recorded numbers of rows. Whatever the steps do not tell
apart is put back to what the chip's file says, the least certain first, until all that is left is known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import fmean

import numpy as np
import numpy.typing as npt

from hilsim.cost.step import Phase, Step, in_tiles, operation_rate, passes, si, step_costs
from hilsim.describe.chip import Chip, Precision, RatePoint, Unit
from hilsim.describe.figure import Figure
from hilsim.describe.figures import with_figures
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
WORST_SHOWN = 5
GUESSED = "where a fit begins"
Seconds = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recorded:
    """Steps of one shape on the board: the median of `count` of them. `widths` and `context` are the board's model's."""

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

    `errors` are predicted over measured less 1 of every shape, `kept` the constants that the steps leave open.
    """

    record: Chip
    steps: tuple[Recorded, ...]
    errors: tuple[float, ...]
    figures: Mapping[str, Figure]
    kept: tuple[str, ...]

    @property
    def by_kind(self) -> dict[tuple[str, str], list[float]]:
        """Errors by model and kind of step."""
        found: dict[tuple[str, str], list[float]] = {}
        for step, error in zip(self.steps, self.errors, strict=True):
            found.setdefault((step.model.name, step.kind), []).append(error)
        return found

    @property
    def worst(self) -> list[tuple[Recorded, float]]:
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
class Board:
    """Recorded steps in lines, with the chip's unit and precision that they are held against."""

    chip: Chip
    unit: str
    precision: str
    settled: Unit  # the unit with all that its family says
    steps: tuple[Recorded, ...]

    def known(self) -> Precision:
        """The precision as chip and family have it."""
        return self.settled.precisions[self.precision]

    def lines(self) -> list[tuple[Recorded, npt.NDArray[np.int64]]]:
        """Steps that differ in the fill of the cache alone: the first of them, and all fills."""
        groups = groupby(self.steps, key=lambda step: step.line)
        found = [list(group) for _, group in groups]
        return [(line[0], np.array([step.cached for step in line])) for line in found]

    def points(self) -> list[int]:
        """Numbers of rows at which operation rates are fitted: of those really computed, some way apart."""
        computed = {in_tiles(width, self.settled) for step in self.steps for _, width in passes(step.rows, step.widths)}
        chosen: list[int] = []
        for rows in sorted(computed):
            if not chosen or rows >= APART * chosen[-1]:
                chosen.append(rows)
        return chosen

    def begun(self, kept: Collection[str]) -> tuple[dict[str, Figure], Precision]:
        """Overheads and a precision to begin a fit from, `kept` ones as the file has them."""
        known = self.known()
        shortest = min(self.steps, key=lambda step: step.seconds)
        guess = Figure(value=1000 * FIRST_GUESS * shortest.seconds, unit="ms", kind="assumed", source=GUESSED)
        overheads = {}
        for name in OVERHEADS:
            written = getattr(self.settled, name)
            if name not in kept:
                overheads[name] = written if si(written) else guess
        points = [rows for rows in self.points() if rate_name(rows) not in kept]
        rates = tuple(RatePoint(rows=rows, rate=operations(operation_rate(known, rows))) for rows in points)
        largest = operations(max(point.rate.si for point in known.operation_rates))
        missing = {"cache_rate": known.cache_rate or known.memory_rate, "attention_rate": known.attention_rate or largest}
        changed = {name: figure for name, figure in missing.items() if name not in kept}
        return overheads, known.model_copy(update=changed | ({"operation_rates": rates} if rates else {}))

    def with_constants(self, unit: Unit, kept: Collection[str]) -> tuple[Unit, dict[str, tuple[str, Figure]]]:
        """A unit to be fitted, and its free constants: their paths in the chip and where they begin, by name."""
        overheads, precision = self.begun(kept)
        made = unit.model_copy(update={"precisions": unit.precisions | {self.precision: precision}} | overheads)
        here = f"units.{self.unit}"
        free = {name: (f"{here}.{name}", figure) for name, figure in overheads.items()}
        for name in RATES:
            if name not in kept and (figure := getattr(precision, name)) is not None:
                free[name] = f"{here}.precisions.{self.precision}.{name}", figure
        for index, point in enumerate(precision.operation_rates):
            if rate_name(point.rows) not in kept and point.rows in self.points():
                path = f"{here}.precisions.{self.precision}.operation_rates[{index}].rate"
                free[rate_name(point.rows)] = path, point.rate
        return made, free

    def in_chip(self, unit: Unit) -> Chip:
        """The chip with another unit in this one's place."""
        return self.chip.model_copy(update={"units": self.chip.units | {self.unit: unit}})


def calibrate_steps(
    chip: Chip, settled: Unit, unit: str, precision: str, steps: Sequence[Recorded], source: str, file: str
) -> StepCalibration:
    """A chip's constants from recorded steps. `settled` is its unit with all that its family says.

    Raises `ScenarioError` where the steps determine nothing, or a rate above what the chip's memory can have.
    """
    ordered = tuple(sorted(steps, key=lambda step: (*step.line, step.cached)))
    board = Board(chip, unit, precision, settled, ordered)
    kept: list[str] = []
    near: dict[str, Figure] | None = None
    while True:
        made, free = board.with_constants(settled, kept)
        if not free:
            found = f"{len(steps)} shapes of steps, which leave every constant open"
            raise ScenarioError([Fault(file, "", found, "steps of several numbers of rows, fills or models")])
        fitted = fitted_to(board, made, free, near)
        loose = least_certain(fitted, free) or quicker_when_wider(fitted, free, board.points())
        if not loose:
            break
        kept += loose
        near = {name: fitted.figures[path] for name, (path, _) in free.items()}
    constants: dict[str, Figure] = {}
    for path, figure in fitted.figures.items():
        value = digits(figure.value)
        low_high = span(value, max(fitted.deviations[path], LEAST_DEVIATION))
        constants[path] = Figure(value=value, unit=figure.unit, kind="fitted", source=source, range=low_high)
    require_below_peak(constants, chip, file)
    record = with_figures(board.in_chip(board.with_constants(chip.units[unit], kept)[0]), constants)
    errors = tuple(float(np.expm1(residual)) for residual in fitted.residuals)
    done = StepCalibration(record, ordered, errors, constants, tuple(kept))
    return StepCalibration(record.model_copy(update={"residuals": done.residuals}), ordered, errors, constants, tuple(kept))


def fitted_to(
    board: Board, unit: Unit, free: Mapping[str, tuple[str, Figure]], near: Mapping[str, Figure] | None
) -> Fitted[Chip]:
    """The free constants moved so that all steps are met."""
    lines = board.lines()

    def predict(candidate: Chip) -> list[float]:
        there = candidate.units[board.unit]
        number_format = there.precisions[board.precision]
        return [second for first, cached in lines for second in seconds_of(first, cached, there, number_format)]

    fitted_figures = {path: figure.model_copy(update={"kind": "fitted"}) for path, figure in free.values()}
    begins = None if near is None else {path: near[name] for name, (path, _) in free.items()}
    measured, kinds = [step.seconds for step in board.steps], [step.kind for step in board.steps]
    return fit(board.in_chip(unit), fitted_figures, predict, measured, kinds, begins)


def seconds_of(first: Recorded, cached: npt.NDArray[np.int64], unit: Unit, precision: Precision) -> Seconds:
    """What the simulator says of a line of steps, by the same functions that time a simulated step."""
    phase = Phase.PREFILL if first.reading else Phase.VERIFY
    step = Step(phase, first.rows, cached)  # type: ignore[arg-type]  # arithmetic that arrays do as well
    costs = step_costs(first.model, unit, precision, step, first.widths, first.context)
    seconds: Seconds = np.zeros(len(cached)) + sum(cost.added(np.maximum, np.minimum) for cost in costs)
    return seconds


def least_certain(fitted: Fitted[Chip], free: Mapping[str, tuple[str, Figure]]) -> list[str]:
    """Constants on which no step depends; else the one that the steps tell least of, of those that they leave open."""
    paths = fitted.untouched or sorted(fitted.undetermined, key=lambda path: -fitted.deviations[path])[:1]
    return [name for name, (path, _) in free.items() if path in paths]


def quicker_when_wider(fitted: Fitted[Chip], free: Mapping[str, tuple[str, Figure]], points: Sequence[int]) -> list[str]:
    """The first rate that would make more rows quicker than fewer: a point too many for what is between the two."""
    fitted_points = [rows for rows in points if rate_name(rows) in free]
    takes = {rows: rows / digits(fitted.figures[free[rate_name(rows)][0]].value) for rows in fitted_points}
    return next(([rate_name(low)] for low, high in pairwise(fitted_points) if takes[high] < takes[low]), [])


def rate_name(rows: int) -> str:
    """What the operation rate at so many rows is called."""
    return f"operation_rate at {rows} rows" if rows > 1 else "operation_rate at 1 row"


def operations(si_value: float) -> Figure:
    """A rate to begin from, in GFLOPS."""
    return Figure(value=si_value / 1e9, unit="GFLOPS", kind="assumed", source=GUESSED)
