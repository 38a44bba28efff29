"""What a configuration rests on: the assumed figures that would move its objective most, and those at which it is none.

Each figure alone goes to the two ends of its range; nothing else moves.
"""

from __future__ import annotations

from dataclasses import dataclass

from hilsim.cost.fit import fits_of
from hilsim.describe.figure import Figure
from hilsim.describe.setup import Setup
from hilsim.runs.replay import numbers_of
from hilsim.study.uncertainty import FigureEffect, ends, in_use, with_values

SIZES = ("memory", "reserve")  # figures that decide whether it fits, not how long it takes


@dataclass(frozen=True)
class Limit:
    """An assumed figure and the end of its range at which the models do not fit any more."""

    figure: str
    value: float
    unit: str


@dataclass(frozen=True)
class Sensitivity:
    """`movers`, the strongest first, of `ranged` assumed figures with a range that enter the times; `limits`."""

    ranged: int
    movers: tuple[FigureEffect, ...]
    limits: tuple[Limit, ...]


def rests_on(setup: Setup, measure: str) -> Sensitivity:
    """Try every assumed figure with a range at its ends, and see what that does to one measure of the run."""
    found = {path: figure for path, figure in in_use(setup).items() if assumed(figure)}
    movers = []
    for path, figure in found.items():
        low, high = (numbers_of(with_values(setup, {path: (figure, end)}))[measure] or 0.0 for end in ends(figure))
        movers.append(FigureEffect(path, low, high))
    movers.sort(key=lambda mover: -mover.swing)
    return Sensitivity(len(found), tuple(mover for mover in movers if mover.swing), tuple(limits_of(setup)))


def assumed(figure: object) -> bool:
    """Whether it is not measured, and has a range."""
    return isinstance(figure, Figure) and figure.kind == "assumed" and figure.range is not None


def limits_of(setup: Setup) -> list[Limit]:
    """Assumed sizes of chips in use, each at the end of its range at which something does not fit any more."""
    return [
        Limit(one.name.replace(".", "/", 1), ends(one.figure)[0 if one.at_least else 1], one.figure.unit)
        for fit in fits_of(setup).values()
        for one in fit.conditions
        if fit.ledger.fits and isinstance(one.figure, Figure) and assumed(one.figure) and one.name.endswith(SIZES)
    ]
