"""Predicted against measured, three ways: in-sample, without the row's model, without the row's device.

In-sample is what the shipped constants make of the rows they were fitted to. The other two fit again without every
row of that model, or of that chip, and predict what was left out: what to expect of a model or a chip that has not been
measured yet. A family of which nothing is left borrows its sibling's constants, as one would for a new silicon.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pool

from hilsim.describe.family import Family
from hilsim.fidelity.cases import Case
from hilsim.fidelity.families import fitted_families

COLUMNS = ("in-sample", "without its model", "without its device")
Progress = Callable[[str], None]
QUIET = (signal.SIGINT, signal.SIG_IGN)


@dataclass(frozen=True)
class ComparedCase:
    """One row and what was predicted for it, in seconds, by column."""

    case: Case
    predicted: tuple[float, float, float]

    @property
    def errors(self) -> tuple[float, ...]:
        """Predicted over measured, less one, by column."""
        return tuple(seconds / self.case.measured - 1 for seconds in self.predicted)


Left = tuple[str, str]  # "model" or "device", and which one


def compared(
    cases: Sequence[Case], families: Mapping[str, Family], basis: Sequence[Case], progress: Progress = lambda _: None
) -> list[ComparedCase]:
    """Every case three ways. `basis` are the rows that constants may be fitted to (the shipped ones).

    In-sample uses `families` as they are shipped; the other two columns fit again from `basis`, on all processors.
    """
    wanted = dict.fromkeys(left for case in cases for left in (("model", case.model_group), ("device", case.device)))
    known: dict[Left, Mapping[str, Family]] = {}
    jobs: dict[Left, list[Case]] = {}
    for left in wanted:
        remaining = [case for case in basis if not concerns(left, case)]
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
    rows = []
    for case in cases:
        three = (families, known["model", case.model_group], known["device", case.device])
        shipped, no_model, no_device = (case.seconds(case.unit(constants)) for constants in three)
        rows.append(ComparedCase(case, (shipped, no_model, no_device)))
    return rows


def concerns(left: Left, case: Case) -> bool:
    """Whether a case is of the model or the device that is left out."""
    column, name = left
    return name == (case.model_group if column == "model" else case.device)


Task = tuple[Left, Sequence[Case], Sequence[Case], Mapping[str, Family]]


def run(task: Task) -> tuple[Left, dict[str, Family]]:
    """One fit in a process of its own: what was left out, and the families without it."""
    left, remaining, basis, families = task
    return left, without(remaining, basis, families)


def without(remaining: Sequence[Case], basis: Sequence[Case], families: Mapping[str, Family]) -> dict[str, Family]:
    """Families fitted to the `remaining` rows; those that lost none stay as they are."""
    ids = {case.measurement.case_id for case in remaining}
    touched = {case.family for case in basis if case.measurement.case_id not in ids}
    return fitted_families(remaining, families, only=touched, near=True)
