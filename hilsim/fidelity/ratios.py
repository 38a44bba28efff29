"""Ratios where absolutes are forbidden: several sequences together against one, of the same model and release.

Some published rows may be used as ratios only (a release with a known slow-down of everything). What batching costs is
such a ratio, and it tests the part of the model that speculation on a GPU rests on: a few rows more in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from hilsim.describe.family import Family
from hilsim.fidelity.cases import Case, case_of
from hilsim.fidelity.measurements import Measurement

RATIO_ONLY = "ratios only"


@dataclass(frozen=True)
class BatchRatio:
    """One step of `batch` sequences over one step of a single one: as measured and as predicted."""

    case: Case
    batch: int
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def batch_ratios(rows: Sequence[Measurement], families: Mapping[str, Family]) -> Iterator[BatchRatio]:
    """Decode rows that allow ratios only, paired with the single sequence of the same model, runtime and context."""
    allowed = [replace(row, forbidden="") for row in rows if row.kind == "llm_decode" and RATIO_ONLY in row.forbidden]
    cases = [case for case in map(case_of, allowed) if isinstance(case, Case)]
    single = {key(case): case for case in cases if case.measurement.batch == 1}
    for case in cases:
        one = single.get(key(case))
        if case.measurement.batch > 1 and one is not None:
            unit = case.unit(families)
            predicted = case.seconds(unit) / one.seconds(unit)
            yield BatchRatio(case, case.measurement.batch, case.measured / one.measured, predicted)


def key(case: Case) -> tuple[str, str, str, int | None]:
    """What two rows must share to be compared."""
    row = case.measurement
    return case.device, row.model, row.runtime, row.context
