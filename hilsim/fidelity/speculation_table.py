"""Every published row of speculation: predicted round cost, speed-up and sign, and why a row is not predicted.

No constant is fitted to such a row (`from_file.fitting`). But how a method is executed was written down with rows in
view: all but those whose ids begin with `LATER`, which were added after a commit had fixed the constants, and are blind
in every respect (docs/fidelity/README.md has the dates).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from hilsim.errors import Fault, InputError
from hilsim.fidelity.cases import LeftOut
from hilsim.fidelity.from_file import Skipped, cases_of, families, from_here
from hilsim.fidelity.measurements import SHIPPED, Measurement, read_figures
from hilsim.fidelity.speculation import SpeedUp, speed_ups

LATER = "r3"


@dataclass(frozen=True)
class RoundErrors:
    """Absolute errors of the predicted cost of a round, over rows of one batch or all."""

    rows: int
    median: float
    worst: float


@dataclass(frozen=True)
class SpeculationTable:
    """Rows that are predicted, as in the file, and rows that are not with the reason."""

    rows: Sequence[SpeedUp]
    left_out: Sequence[LeftOut]

    def blind(self) -> SpeculationTable:
        """The rows that were added after the constants had been fixed."""
        return replace(self, rows=[row for row in self.rows if is_blind(row.case.measurement)], left_out=[])

    def round_errors(self) -> dict[str, RoundErrors]:
        """By batch, where it is known what a round cost; of all batches together first."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            if row.round_error is not None:
                for name in ("all", f"batch {row.case.measurement.batch}"):
                    found.setdefault(name, []).append(abs(row.round_error))
        order = sorted(found, key=lambda name: (name != "all", len(name), name))
        return {name: RoundErrors(len(found[name]), median(found[name]), max(found[name])) for name in order}

    def signs(self) -> list[bool]:
        """Whether gain or loss is predicted as published, of every row that can be asked."""
        return [same for row in self.rows if (same := row.same_sign) is not None]


def is_blind(row: Measurement) -> bool:
    """Whether a row was added after the constants had been fixed; a user's own rows are."""
    return not row.shipped or row.case_id.startswith(LATER)


def speculation_table(
    file: Path | None = None, *, chip: str | None = None, mode: str | None = None, skipped: Skipped | None = None
) -> SpeculationTable:
    """The rows of speculation of a file, or the shipped ones. Raises `InputError` without any, and for faults."""
    figures = read_figures(SHIPPED if file is None else file, from_here(chip), mode)
    wanted = [row for row in figures.rows if row.kind == "spec_decode"]
    if not wanted:
        remedy = "Without --speculation all kinds of rows are compared."
        raise InputError([Fault(str(file), "", "no row of kind spec_decode", "at least one (docs/logs.md)", remedy)])
    cases, left = cases_of(wanted, skipped)
    return SpeculationTable(speed_ups(cases, families()), left)
