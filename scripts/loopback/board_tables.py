"""Predicted against measured requests of this computer: as tables, with remarks on their quality."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from statistics import fmean
from typing import Any

from hilsim.fidelity.steps import StepCalibration
from hilsim.hardware.agent.machine import processor
from hilsim.hardware.measured.quality import QualityWarning
from hilsim.show.fidelity import percent
from hilsim.show.table import Table
from scripts.loopback.board import Answered


def by_run(found: Sequence[Answered]) -> dict[str, list[Answered]]:
    """The requests of each run."""
    runs: dict[str, list[Answered]] = {}
    for answer in found:
        runs.setdefault(answer.run, []).append(answer)
    return runs


def rows_table(found: Sequence[Answered]) -> Table:
    """A row a request, as the CSV has it."""
    rows = [[one.run, one.request, one.tokens, one.measured_ms, one.predicted_ms, one.error] for one in found]
    return Table(["run", "request", "tokens", "measured_ms", "predicted_ms", "error"], rows)


def times_table(found: Sequence[Answered]) -> Table:
    """A row a request: measured, predicted and how far off, by run."""
    runs = by_run(found)
    by_place = {(answer.run, answer.request): answer for answer in found}
    rows: list[list[Any]] = []
    for request, tokens in sorted({(answer.request, answer.tokens) for answer in found}):
        rows.append([request, tokens])
        for run in runs:
            one = by_place.get((run, request))
            cells = ["", "", ""] if one is None else [f"{one.measured_ms:.1f}", f"{one.predicted_ms:.1f}"]
            rows[-1] += cells if one is None else [*cells, percent(one.error, 4)]
    heads = [head for run in runs for head in (f"{run}\nmeasured", "\npredicted", "\noff")]
    return Table(["\nno.", "\ntokens", *heads], rows, left=0)


def errors_table(found: Sequence[Answered]) -> Table:
    """A row a run: how far off the times of single requests are, and that of all of them together."""
    rows = []
    for run, several in by_run(found).items():
        measured, predicted = fmean(one.measured_ms for one in several), fmean(one.predicted_ms for one in several)
        errors = [abs(one.error) for one in several]
        shares = (f"{fmean(errors):.1%}", f"{max(errors):.0%}", f"{predicted / measured - 1:+.1%}")
        rows.append([run, len(several), f"{measured:.1f}", f"{predicted:.1f}", *shares])
    heads = ("requests", "measured, ms", "predicted, ms", "mean absolute error", "worst", "all")
    return Table(["request time", *heads], rows)


def facts(load_before: float, doubted: Sequence[QualityWarning], made: StepCalibration) -> list[str]:
    """Lines on the machine, its load, and the warnings about the measured times."""
    cores, load_after = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    packages = f"Python {platform.python_version()}, PyTorch {version('torch')}"
    found = [
        f"\nSteps of the recording: {made.residuals}.",
        f"On {processor()}, {cores} cores, {platform.system()} {platform.release()}, {packages}, one thread.",
        f"Load {load_before:.1f} before, {load_after:.1f} after, with {cores} cores: more is others' work.",
    ]
    if kinds := Counter(doubt.kind for doubt in doubted):
        named = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        found.append(f"Doubtful about the profile's times: {named}.")
    return found
