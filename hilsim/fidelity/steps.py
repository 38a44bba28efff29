"""Calibration from recorded steps: a chip's constants from what steps of many shapes took on the board.

Steps tell more than published figures do: many numbers of rows, empty and full caches, several models. So every constant
of a step is fitted, the operation rate at every third or so more rows that was recorded; whatever the steps do not
tell apart is put back to what the chip's file says, the least certain first, until all that is left is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

import numpy as np
import numpy.typing as npt

from hilsim.cost.step import Phase, Step, in_tiles, operation_rate, passes, step_costs
from hilsim.describe.chip import Chip, Precision, RatePoint, Unit
from hilsim.describe.figure import Figure
from hilsim.describe.figures import figures
from hilsim.describe.model import Model
from hilsim.errors import Fault, ScenarioError
from hilsim.fidelity.calibrate import LEAST_DEVIATION, require_below_peak
from hilsim.fidelity.constants import digits, span
from hilsim.fidelity.fit import Fitted, fit

OVERHEADS = ("step_overhead", "layer_overhead", "prompt_layer_overhead", "graph_overhead")
# Operation rates are fitted at numbers of rows at least so far apart; between them the curve is straight.
APART = 4 / 3
# Where a fit begins that has nothing to begin with: an overhead as this share of the shortest step, a layer of it.
FIRST_GUESS = 0.05
WORST_SHOWN = 5
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
    def kind(self) -> str:
        """What it is summed up under, and what scatters alike."""
        return "prompt" if self.reading else "decode" if self.rows == 1 else "several rows"

    @property
    def name(self) -> str:
        """The shape in words."""
        what = f"a prompt of {self.rows}" if self.reading else "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"{self.model.name}, {what} after {self.cached}"


@dataclass(frozen=True)
class StepCalibration:
    """A chip with its fitted constants, and how well they hold.

    `kept` are constants that the steps leave open, `errors` predicted over measured less 1 of every shape.
    """

    record: Chip
    unit: str
    precision: str
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
        """The shapes that are farthest off."""
        pairs = zip(self.steps, self.errors, strict=True)
        return sorted(pairs, key=lambda pair: -abs(np.log1p(pair[1])))[:WORST_SHOWN]

    @property
    def residuals(self) -> str:
        """One line for the file."""
        parts = []
        for kind in sorted({step.kind for step in self.steps}):
            errors = [abs(error) for step, error in zip(self.steps, self.errors, strict=True) if step.kind == kind]
            parts.append(f"{kind} {len(errors)} shapes, mean {fmean(errors):.0%}, worst {max(errors):.0%}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Line:
    """Recorded steps that differ in the fill of the cache alone, which are reckoned together."""

    first: Recorded
    cached: npt.NDArray[np.int64]

    def seconds(self, unit: Unit, precision: Precision) -> Seconds:
        """What the simulator says, by the same functions that time a simulated step."""
        phase = Phase.PREFILL if self.first.reading else Phase.VERIFY
        step = Step(phase, self.first.rows, self.cached)  # type: ignore[arg-type]  # arithmetic that arrays do as well
        costs = step_costs(self.first.model, unit, precision, step, self.first.widths, self.first.context)
        return np.zeros(len(self.cached)) + sum(cost.added(np.maximum, np.minimum) for cost in costs)


def calibrate_steps(
    chip: Chip, settled: Unit, unit: str, precision: str, steps: Sequence[Recorded], source: str, file: str
) -> StepCalibration:
    """A chip's constants from recorded steps. `settled` is its unit with all that its family says.

    Raises `ScenarioError` where the steps determine nothing, or a rate above what the chip's memory can have.
    """
    steps = in_lines(steps)
    written = chip.units[unit]
    known = settled.precisions[precision]
    begun, free = begin(chip, settled, unit, precision, steps)
    kept: list[str] = []
    lines = lines_of(steps)

    def predict(candidate: Chip) -> list[float]:
        there = candidate.units[unit]
        return np.concatenate([line.seconds(there, there.precisions[precision]) for line in lines]).tolist()

    measured, kinds = [step.seconds for step in steps], [step.kind for step in steps]
    while True:
        if not free:
            found = f"{len(steps)} shapes of steps, which leave every constant open"
            raise ScenarioError([Fault(file, "", found, "steps of several numbers of rows, fills or models")])
        fitted = fit(begun, free, predict, measured, kinds)
        loose = least_certain(fitted) or quicker_when_wider(fitted, free)
        if not loose:
            break
        begun, free = without(fitted.record, loose, free, written, known)
    ...
