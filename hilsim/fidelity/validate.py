"""Predicted against measured, three ways: in-sample, without the row's model, without the row's device.

In-sample is what the shipped constants make of the rows they were fitted to. The other two fit again without every
row of that model, or of that chip, and predict what was left out: what to expect of a model or a chip that nobody has
measured yet. A family of which nothing is left borrows its sibling's constants, as one would for a new silicon.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pool
from statistics import fmean, median

from hilsim.describe.family import Family
from hilsim.describe.figures import figures
from hilsim.fidelity.cases import Case
from hilsim.fidelity.constants import movable
from hilsim.fidelity.fit import Fitted, fit

COLUMNS = ("in-sample", "without its model", "without its device")
Progress = Callable[[str], None]
QUIET = (signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class Comparison:
    """One row and what was predicted for it, in seconds, by column."""

    case: Case
    predicted: tuple[float, float, float]

    @property
    def errors(self) -> tuple[float, ...]:
        """Predicted over measured, less one, by column."""
        return tuple(seconds / self.case.measured - 1 for seconds in self.predicted)


@dataclass(frozen=True)
class Summary:
    """Errors of a set of rows in one column, as shares."""

    rows: int
    mean: float
    median: float
    worst: float
    bias: float


def summary(errors: Sequence[float]) -> Summary:
    """Mean, median and worst absolute error, and the mean with its sign."""
    sizes = [abs(error) for error in errors]
    return Summary(len(errors), fmean(sizes), median(sizes), max(sizes), fmean(errors))


Left = tuple[str, str]  # "model" or "device", and which one


def compared(
    cases: Sequence[Case], families: Mapping[str, Family], basis: Sequence[Case], progress: Progress = lambda _: None
) -> list[Comparison]:
    """Every case three ways. `basis` are the rows that constants may be fitted to (the shipped ones).

    In-sample uses `families` as they are shipped; the other two columns fit again from `basis`, on all processors.
    """
    wanted = dict.fromkeys(left for case in cases for left in (("model", case.model_group), ("device", case.device)))
    known: dict[Left, Mapping[str, Family]] = {}
    jobs: dict[Left, list[Case]] = {}
    for left in wanted:
        kept = [case for case in basis if not concerns(left, case)]
        if len(kept) == len(basis):
            known[left] = families
        else:
            jobs[left] = kept
    # A pool ends with its block, whatever ends that: Ctrl-C reaches this process alone, and no fit outlives it.
    with Pool(max(1, min(len(jobs), os.cpu_count() or 1)), initializer=signal.signal, initargs=QUIET) as pool:
        tasks = [(left, kept, basis, families) for left, kept in jobs.items()]
        for done, (left, found) in enumerate(pool.imap_unordered(run, tasks), 1):
            known[left] = found
            progress(f"without {left[0]} {left[1].split(' / ')[-1]} ({done} of {len(jobs)})")
    rows = []
    for case in cases:
        three = (families, known["model", case.model_group], known["device", case.device])
        shipped, no_model, no_device = (case.seconds(case.unit(constants)) for constants in three)
        rows.append(Comparison(case, (shipped, no_model, no_device)))
    return rows


def concerns(left: Left, case: Case) -> bool:
    """Whether a case is of the model or the device that is left out."""
    column, name = left
    return name == (case.model_group if column == "model" else case.device)


Task = tuple[Left, Sequence[Case], Sequence[Case], Mapping[str, Family]]


def run(task: Task) -> tuple[Left, dict[str, Family]]:
    """One fit in a process of its own: what was left out, and the families without it."""
    left, kept, basis, families = task
    return left, without(kept, basis, families)


def without(kept: Sequence[Case], basis: Sequence[Case], families: Mapping[str, Family]) -> dict[str, Family]:
    """Families fitted to the rows kept; those that lost none stay as they are."""
    ids = {case.measurement.case_id for case in kept}
    touched = {case.family for case in basis if case.measurement.case_id not in ids}
    return fitted_families(kept, families, only=touched, near=True)


def fitted_families(
    cases: Sequence[Case],
    families: Mapping[str, Family],
    only: Iterable[str | None] | None = None,
    *,
    near: bool = False,
) -> dict[str, Family]:
    """Families with their constants fitted to `cases`; those not in `only` stay as they are.

    A family, or one of its precisions, without a single row takes over its sibling's constants.
    """
    done = dict(families)
    wanted = set(families) if only is None else set(only)
    for name in families:
        rows = [case for case in cases if case.family == name]
        if name in wanted and rows:
            done[name] = fit_family(families[name], rows, near=near).record
    for name, family in families.items():
        sibling = done.get(family.sibling or "")
        if name in wanted and sibling is not None:
            done[name] = with_borrowed(done[name], sibling, [case for case in cases if case.family == name])
    return done


def fit_family(family: Family, cases: Sequence[Case], *, near: bool = False) -> Fitted[Family]:
    """One family's constants fitted to its cases; with `near` its present ones were fitted to almost the same."""

    def predict(candidate: Family) -> list[float]:
        known = {candidate.name: candidate}
        units = {}
        seconds = []
        for case in cases:
            key = (case.chip.name, case.unit_name)
            if key not in units:
                units[key] = case.unit(known)
            seconds.append(case.seconds(units[key]))
        return seconds

    free = movable(figures(family))
    return fit(
        family, free, predict, [case.measured for case in cases], [case.kind for case in cases], free if near else None
    )


def with_borrowed(family: Family, sibling: Family, cases: Sequence[Case]) -> Family:
    """The sibling under the family's name where the family has no row; its precisions where those have none."""
    if not cases:
        return sibling.model_copy(update={"name": family.name})
    measured = {case.precision for case in cases}
    theirs = {name: precision for name, precision in sibling.precisions.items() if name in family.precisions}
    return family.model_copy(
        update={
            "precisions": family.precisions
            | {name: precision for name, precision in theirs.items() if name not in measured}
        }
    )
