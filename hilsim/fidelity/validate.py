"""Predicted against measured, three ways: in-sample, without the row's model, without the row's device.

In-sample is what the shipped constants make of the rows they were fitted to. The other two fit again without every
row of that model, or of that chip, and predict what was left out: what to expect of a model or a chip that has not been
measured yet. A family of which nothing is left borrows its sibling's constants, as one would for a new silicon.

Steps are compared by their time, rounds of speculation by what they cost in plain steps. The errors of the shipped rows
are kept in `errors.csv`, since fitting again for every model and device takes minutes.
"""

from __future__ import annotations

import csv
import io
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pool

from hilsim.describe.family import Family
from hilsim.fidelity.cases import Case
from hilsim.fidelity.families import fitted_families
from hilsim.fidelity.kept_errors import COLUMNS, HEADER, kept_errors
from hilsim.fidelity.speculation import published_round, speed_up

Families = Mapping[str, Family]
Progress = Callable[[str], None]
QUIET = (signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class ComparedCase:
    """One row: what was measured and predicted for it by column; None where nothing was fitted without it.

    Seconds; of speculation the cost of a round in plain steps.
    """

    case: Case
    measured: float
    predicted: tuple[float, float | None, float | None]

    @property
    def errors(self) -> tuple[float | None, ...]:
        """Predicted over measured, less one, by column."""
        return tuple(None if found is None else found / self.measured - 1 for found in self.predicted)


Left = tuple[str, str]  # "model" or "device", and which one


def compared(cases: Sequence[Case], families: Families, without: Mapping[Left, Families] | None) -> list[ComparedCase]:
    """Every case that can be compared. `without` are families fitted without a model or device (`fitted_without`);

    None takes the kept errors of shipped rows, and leaves the columns of other rows empty.
    """
    kept = kept_errors()
    rows = []
    for case in cases:
        measured, shipped = measured_of(case), predicted_by(case, families)
        if measured is None or shipped is None:
            continue
        if without is not None:
            others = [predicted_by(case, without[left]) for left in left_out_of(case)]
        elif case.measurement.case_id in kept and case.measurement.shipped:
            others = [measured * (1 + error) for error in kept[case.measurement.case_id].errors[1:]]
        else:
            others = [None, None]
        rows.append(ComparedCase(case, measured, (shipped, others[0], others[1])))
    return rows


def measured_of(case: Case) -> float | None:
    """Seconds of a step, or plain steps of a round; None where these do not follow from what is published."""
    return case.measured if case.kind != "speculation" else published_round(case.measurement)


def predicted_by(case: Case, families: Families) -> float | None:
    """The same as these families have it."""
    unit = case.unit(families)
    if case.kind != "speculation":
        return case.seconds(unit)
    found = speed_up(case, unit)
    return None if found is None else found.round_steps


def left_out_of(case: Case) -> tuple[Left, Left]:
    """What is left out for a case, one thing a column."""
    return ("model", case.model_group), ("device", case.device)


def fitted_without(
    cases: Sequence[Case], families: Families, basis: Sequence[Case], progress: Progress = lambda _: None
) -> dict[Left, Families]:
    """Families fitted again to the `basis` without each model and each device of the cases, on all processors."""
    wanted = dict.fromkeys(left for case in cases for left in left_out_of(case))
    known: dict[Left, Families] = {}
    jobs: dict[Left, list[Case]] = {}
    for left in wanted:
        remaining = [case for case in basis if left not in left_out_of(case)]
        if len(remaining) == len(basis):
            known[left] = families
        else:
            jobs[left] = remaining
    # A pool ends with its block, whatever ends that: Ctrl-C reaches this process alone, and no fit outlives it.
    with Pool(max(1, min(len(jobs), os.cpu_count() or 1)), initializer=signal.signal, initargs=QUIET) as pool:
        tasks = [(left, remaining, basis, families) for left, remaining in jobs.items()]
        for done, (left, found) in enumerate(pool.imap_unordered(run, tasks), 1):
            known[left] = found
            progress(f"without {left[0]} {left[1].split(' / ')[-1]} ({done} of {len(jobs)})")
    return known


Task = tuple[Left, Sequence[Case], Sequence[Case], Families]


def run(task: Task) -> tuple[Left, dict[str, Family]]:
    """One fit in a process of its own: what was left out, and the families without it."""
    left, remaining, basis, families = task
    return left, without_rows(remaining, basis, families)


def without_rows(remaining: Sequence[Case], basis: Sequence[Case], families: Families) -> dict[str, Family]:
    """Families fitted to the `remaining` rows; those that lost none stay as they are."""
    ids = {case.measurement.case_id for case in remaining}
    touched = {case.family for case in basis if case.measurement.case_id not in ids}
    return fitted_families(remaining, families, only=touched, near=True)


def as_csv(rows: Sequence[ComparedCase]) -> str:
    """Errors to keep, one row a case; to four digits. Only rows with all three."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for row in rows:
        errors = [error for error in row.errors if error is not None]
        if len(errors) == len(COLUMNS):
            case = row.case
            what = (case.measurement.case_id, case.unit_kind, case.kind, case.device, case.model_group)
            writer.writerow((*what, *(f"{error:.4f}" for error in errors)))
    return text.getvalue()
