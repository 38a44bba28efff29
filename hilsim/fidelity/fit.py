"""The fit of a record's constants to measurements: robust least squares over logarithms of predicted / measured.

Constants are moved on a logarithmic scale, residuals are logarithms too, so a factor counts alike either way;
`soft_l1` (SciPy's least_squares) keeps outliers - other releases, other clocks - from deciding. Each constant has a
weak prior (constants.py), which only decides what the data leave open.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from hilsim.describe.figure import Figure, Record
from hilsim.describe.figures import with_figures
from hilsim.fidelity.constants import PRIOR_FACTOR, prior

R = TypeVar("R", bound=Record)
Vector = npt.NDArray[np.float64]
# Residuals beyond this (20 %, what releases of one runtime differ by) count linearly instead of squared.
SCALE = 0.2
STARTS = 4
# Data that narrow a constant to less than this share of its prior's width determine it.
DETERMINED = 0.5


@dataclass(frozen=True)
class Fitted(Generic[R]):
    """A record with its constants fitted, and how well the data hold them.

    `deviations` are standard deviations of each constant's logarithm. `undetermined` are constants that the data
    narrow to no less than half of what was assumed beforehand; `untouched` those on which no row depends at all.
    """

    record: R
    figures: dict[str, Figure]
    deviations: dict[str, float]
    residuals: Vector
    undetermined: tuple[str, ...]
    untouched: tuple[str, ...]


def fit(
    record: R,
    free: Mapping[str, Figure],
    predict: Callable[[R], Sequence[float]],
    measured: Sequence[float],
    near: Mapping[str, Figure] | None = None,
) -> Fitted[R]:
    """Move the `free` figures of `record` so that `predict(record)` meets `measured` (seconds).

    Their present values play no part: starts are drawn around the priors. `near` is the solution of almost the same
    rows; it takes the place of the random starts, as it lies in the right valley more often than they do.
    """
    target = np.log(np.asarray(measured, dtype=np.float64))
    paths = list(free)
    centre = np.log([prior(path, free[path]) for path in paths])

    def placed(logs: Vector) -> dict[str, Figure]:
        return {
            path: free[path].model_copy(update={"value": float(np.exp(log)), "range": None})
            for path, log in zip(paths, logs, strict=True)
        }

    def errors(logs: Vector) -> Vector:
        return np.log(np.asarray(predict(with_figures(record, placed(logs))), dtype=np.float64)) - target

    width = np.log(PRIOR_FACTOR)

    def objective(logs: Vector) -> Vector:
        # The prior's residuals are scaled so that one of its widths weighs as much as one SCALE of one row.
        return np.concatenate([errors(logs), SCALE * (logs - centre) / width])

    touched = touching(errors, centre)
    # The longer of two times decides, so the objective has kinks and more than one valley: several starts, fixed.
    chance = np.random.Generator(np.random.Philox(0))
    if near is None:
        starts = [centre, *(centre + chance.uniform(-width, width, len(paths)) for _ in range(STARTS - 1))]
    else:
        starts = [centre, np.log([near[path].value for path in paths])]
    solutions = [
        least_squares(objective, begin, loss="soft_l1", f_scale=SCALE, bounds=(centre - 5, centre + 5))
        for begin in starts
    ]
    solved = min(solutions, key=lambda solution: solution.cost)
    figures = placed(solved.x)
    residuals = errors(solved.x)
    # Of the data alone, at the solution: how well each constant would be known without the prior.
    slopes = jacobian(errors, solved.x)
    spread = max(float(np.median(np.abs(residuals))) * 1.4826, 0.01)
    information = slopes.T @ slopes / spread**2 + np.eye(len(paths)) / width**2
    deviations = np.sqrt(np.diag(np.linalg.inv(information)))
    undetermined = tuple(
        path
        for path, deviation, touch in zip(paths, deviations, touched, strict=True)
        if touch and deviation > DETERMINED * width
    )
    return Fitted(
        record=with_figures(record, figures),
        figures=figures,
        deviations=dict(zip(paths, map(float, deviations), strict=True)),
        residuals=residuals,
        undetermined=undetermined,
        untouched=tuple(path for path, touch in zip(paths, touched, strict=True) if not touch),
    )


def jacobian(errors: Callable[[Vector], Vector], at: Vector, step: float = 1e-4) -> Vector:
    """Central differences of every row's error by every constant's logarithm; [rows, constants]."""
    columns = []
    for index in range(len(at)):
        nudge = np.zeros_like(at)
        nudge[index] = step
        columns.append((errors(at + nudge) - errors(at - nudge)) / (2 * step))
    return np.stack(columns, axis=1) if columns else np.zeros((0, 0))


def touching(errors: Callable[[Vector], Vector], at: Vector) -> list[bool]:
    """Whether any row moves at all when a constant moves, slightly or by a factor of e^2 either way."""
    here = errors(at)
    moved = []
    for index in range(len(at)):
        nudge = np.zeros_like(at)
        nudge[index] = 2.0
        moved.append(bool(np.any(errors(at + nudge) != here) or np.any(errors(at - nudge) != here)))
    return moved
