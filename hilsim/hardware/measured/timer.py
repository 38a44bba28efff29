"""The timer of a role whose unit is measured: the chip's durations, with the chip model's predictions beside them."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from statistics import median

from hilsim.cost.step import Step, passes
from hilsim.cost.timer import StepTimer
from hilsim.hardware.measured.unit import MeasuredUnit


@dataclass(frozen=True)
class StepPair:
    """One step as the chip took it and as the chip model has it."""

    track: str
    role: str
    phase: str
    rows: int
    width: int
    cached: int
    measured_ns: int
    predicted_ns: int


class MeasuredTimer:
    """`StepTimer` that returns the chip's durations, and the chip model's once the chip is lost."""

    def __init__(self, unit: MeasuredUnit, role: str, model: StepTimer):
        self.unit, self.role, self.model = unit, role, model
        self.pairs: list[StepPair] = []
        self.ratios: dict[int, list[float]] = {}  # by rows, measured over predicted

    def duration_ns(self, step: Step) -> int:
        charged, predicted = self.unit.charged(self.role, step), self.model.duration_ns(step)
        if charged is None:
            return predicted
        measured = charged.duration_ns
        if charged.interpolated or self.unit.fallen:  # no time of this board's
            return measured
        shape = (step.phase.value, step.rows, self.width(step), step.cached)
        self.pairs.append(StepPair(self.unit.track, self.role, *shape, measured, predicted))
        self.ratios.setdefault(step.rows, []).append(measured / max(1, predicted))
        return measured

    def width(self, step: Step) -> int:
        """Rows computed: padded to the chip's own graphs while it executes."""
        if not self.unit.present:
            return self.model.width(step)
        return sum(width for _, width in passes(step.rows, self.unit.lines[self.role].facts.widths))

    def expected_ns(self, step: Step) -> int:
        """The chip model's prediction in ns, scaled by its error on steps with the nearest number of rows."""
        predicted = self.model.duration_ns(step)
        if not self.ratios or not self.unit.present:
            return predicted
        rows = min(self.ratios, key=lambda known: abs(log(known / step.rows)))
        return round(predicted * median(self.ratios[rows]))

    def lost_ns(self) -> int:
        return self.unit.lost_ns(self.role)
