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
from scipy.optimize import OptimizeResult, least_squares

from hilsim.describe.figure import Figure, Record
from hilsim.describe.figures import with_figures
from hilsim.fidelity.constants import PRIOR_FACTOR, priors

R = TypeVar("R", bound=Record)
Vector = npt.NDArray[np.float64]
# Residuals beyond this (20 %, what releases of one runtime differ by) count linearly instead of squared.
SCALE = 0.2
# One width away from its prior a constant weighs as much as one standard deviation of a row; as long as that is not
# known, as much as an error of this size.
PRIOR_WEIGHT = 0.2
# Before anything is known of a kind of rows they are taken to scatter by this much, with the weight of so many rows.
PRIOR_SCATTER, PRIOR_ROWS = 0.10, 4
FARTHEST = 5.0
IDLE = 0.3
# Data that narrow a constant to less than this share of its prior's width determine it.
DETERMINED = 2 / 3


@dataclass(frozen=True)
class Fitted(Generic[R]):
    """A record with its constants fitted, and how well the data hold them.

    `deviations` are standard deviations of each constant's logarithm. `undetermined` are constants that the data
    narrow to no less than two thirds of what was assumed beforehand; `untouched` those on which no row depends at all.
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
    kinds: Sequence[str],
    near: Mapping[str, Figure] | None = None,
) -> Fitted[R]:
    """Move the `free` figures of `record` so that `predict(record)` meets `measured` (seconds).

    `kinds` names what each row measures: rows of one kind scatter alike, those of another may scatter more. The solver
    starts at the priors, and where given at `near`, the solution of almost the same rows.
    """
    target = np.log(np.asarray(measured, dtype=np.float64))
    paths = list(free)
    centre = np.log(list(priors(free).values()))

    def placed(logs: Vector) -> dict[str, Figure]:
        return {
            path: free[path].model_copy(update={"value": float(np.exp(log)), "range": None})
            for path, log in zip(paths, logs, strict=True)
        }

    def errors(logs: Vector) -> Vector:
        return np.log(np.asarray(predict(with_figures(record, placed(logs))), dtype=np.float64)) - target

    width = np.log(PRIOR_FACTOR)

    def weighed(spread: float | Vector) -> Callable[[Vector], Vector]:
        return lambda logs: np.concatenate([errors(logs), spread * (logs - centre) / width])

    touched = touching(errors, centre)
    begin = None if near is None else np.log([near[path].value for path in paths])
    # How far a constant's prior may pull depends on how far its rows scatter, which the first solution shows.
    first = lowest(weighed(PRIOR_WEIGHT), centre, begin, alone=near is not None)
    spread = scatter_of_each(jacobian(errors, first.x), scatter(errors(first.x), kinds))
    solved = lowest(weighed(spread), centre, first.x, alone=near is not None)
    figures = placed(solved.x)
    residuals = errors(solved.x)
    # Of the data alone, at the solution: how well each constant would be known without the prior.
    slopes = jacobian(errors, solved.x) / scatter(residuals, kinds)[:, None]
    information = slopes.T @ slopes + np.eye(len(paths)) / width**2
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


def lowest(
    objective: Callable[[Vector], Vector], centre: Vector, near: Vector | None, *, alone: bool = False
) -> OptimizeResult:
    """The lowest valley found from the priors, from `near` or `alone` from it, and from where a constant matters.

    The longer of two times decides a step, so a rate may lie where it decides nothing and its slope is zero. From
    there no solver finds back: each such constant is moved to where it does decide, and the solver starts again
    (not where a solution `near` by is known, whose valley is right already).
    """

    def solve(begin: Vector) -> OptimizeResult:
        inside = np.clip(begin, centre - FARTHEST, centre + FARTHEST)
        bounds = (centre - FARTHEST - 1e-9, centre + FARTHEST + 1e-9)
        return least_squares(objective, inside, loss="soft_l1", f_scale=SCALE, bounds=bounds)

    found = [solve(begin) for begin in ((near,) if alone else (centre, near)) if begin is not None]
    best = min(found, key=lambda solution: solution.cost)
    for index in range(len(centre) if near is None else 0):
        # The prior alone gives a slope of PRIOR_WEIGHT / width; data that matter give far more.
        if np.linalg.norm(best.jac[:, index]) < IDLE:
            for shift in (-1.5, -3.0):
                begin = best.x.copy()
                begin[index] += shift
                again = solve(begin)
                best = again if again.cost < best.cost * (1 - 1e-6) else best
    return best


def scatter(residuals: Vector, kinds: Sequence[str]) -> Vector:
    """Each row's standard deviation: that of its kind, from the median so that outliers do not decide.

    Few rows fitted by as many constants seem not to scatter at all, so a kind begins with rows that do.
    """
    names = np.asarray(kinds)
    found = {}
    for kind in set(kinds):
        here = np.abs(residuals[names == kind])
        squares = len(here) * (1.4826 * float(np.median(here))) ** 2 + PRIOR_ROWS * PRIOR_SCATTER**2
        found[kind] = (squares / (len(here) + PRIOR_ROWS)) ** 0.5
    return np.asarray([found[kind] for kind in kinds])


def scatter_of_each(slopes: Vector, deviations: Vector) -> Vector:
    """The scatter of the rows that depend on each constant: the median over those that move with it."""
    found = [deviations[np.abs(column) > 1e-3] for column in slopes.T]
    return np.asarray([float(np.median(of)) if len(of) else PRIOR_WEIGHT for of in found])


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
