"""Calibration: a chip's or a family's constants from measurements, written as a file that states how well they hold.

A chip is fitted by itself, in absolute rates: for every precision with rows what reads its weights (decode rows) and
what multiplies (prompt and network rows), and whatever else is asked for by name. A family is fitted over all its
chips: the figures that its file marks `fitted`. A fit whose rows do not determine its constants is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeVar

import numpy as np

from hilsim.describe.chip import Chip, Precision, Unit
from hilsim.describe.family import Family
from hilsim.describe.figure import Figure, Record
from hilsim.describe.figures import figures, with_figures
from hilsim.errors import Fault, ScenarioError
from hilsim.fidelity.cases import Case
from hilsim.fidelity.constants import digits, movable, span
from hilsim.fidelity.families import fit_family
from hilsim.fidelity.fit import Fitted, fit
from hilsim.fidelity.moved import account

R = TypeVar("R", bound=Record)
OVERHEADS = ("step_overhead", "layer_overhead", "prompt_layer_overhead", "operator_overhead")
RATES = ("memory_rate", "weight_rate", "cache_rate", "operation_rate", "attention_rate")
# A fitted constant is never reported as known better than this: runs of one release differ by as much.
LEAST_DEVIATION = 0.01


@dataclass(frozen=True)
class Calibration:
    """A record with its fitted constants and everything worth knowing about the fit."""

    record: Chip | Family
    cases: tuple[Case, ...]
    errors: tuple[float, ...]
    figures: dict[str, Figure]
    account: tuple[str, ...] = ()  # of a chip: which constants moved, and whether a runtime explains it as well

    @property
    def residuals(self) -> str:
        """One line for the file: rows, mean and worst error, by kind of measurement."""
        parts = []
        for kind in sorted({case.kind for case in self.cases}):
            errors = [abs(error) for case, error in zip(self.cases, self.errors, strict=True) if case.kind == kind]
            parts.append(f"{kind} {len(errors)} rows, mean {fmean(errors):.0%}, worst {max(errors):.0%}")
        return "; ".join(parts)


def calibrate_family(family: Family, cases: Sequence[Case], file: str) -> Calibration:
    """A family's constants from all rows of its chips. Raises `ScenarioError` where there are too few."""
    rows = [case for case in cases if case.family == family.name]
    free = movable(figures(family))
    require_rows(rows, free, file, f"family {family.name}")

    fitted = fit_family(family, rows)
    found = checked(fitted, rows, file, untouched_is_fault=False)
    chips = tuple(sorted({case.chip.name for case in rows}))
    record = with_figures(family, found).model_copy(update={"measured_on": chips})
    return finished(record, rows, fitted, found)


def calibrate_chip(
    chip: Chip, cases: Sequence[Case], families: Mapping[str, Family], file: str, extra: Sequence[str] = ()
) -> Calibration:
    """A chip's own rates from its rows. `extra` names further constants (OVERHEADS, or PRECISION.RATE)."""
    rows = [case for case in cases if case.chip.name == chip.name]
    if not rows:
        devices = ", ".join(sorted({case.chip.name for case in cases})) or "none that can be used"
        raise ScenarioError([Fault(file, "device", f"rows of {devices}", f"rows of {chip.name}")])
    unit_name = rows[0].unit_name
    rows = [case for case in rows if case.unit_name == unit_name]
    unit = rows[0].unit(families)
    precisions = {name: unit.precisions[name] for name in sorted({case.precision for case in rows})}
    unit, precisions = in_runtime(rows, unit, precisions, file)
    # What depends on the runtime is set in the chip by now.
    rows = [replace(case, runtime=None) for case in rows]
    wanted = default_constants(rows, precisions) | {path_of(name, unit_name, precisions, file) for name in extra}
    overheads = {name: getattr(unit, name) for name in OVERHEADS if f"units.{unit_name}.{name}" in wanted}
    overheads["narrow_rows"] = unit.narrow_rows
    own = chip.units[unit_name].model_copy(
        update={"precisions": chip.units[unit_name].precisions | precisions} | overheads
    )
    begun = chip.model_copy(update={"units": chip.units | {unit_name: own}})
    known = figures(begun)
    if absent := sorted(path for path in wanted if path not in known):
        raise ScenarioError([Fault(file, path, "no such constant on this unit", "another one") for path in absent])
    free = {path: figure.model_copy(update={"kind": "fitted"}) for path in sorted(wanted)
            if isinstance(figure := known[path], Figure)}  # fmt: skip
    require_rows(rows, free, file, chip.name)

    def predict(candidate: Chip) -> list[float]:
        placed = replace(rows[0], chip=candidate).unit(families)
        return [case.seconds(placed) for case in rows]

    fitted = fit(begun, free, predict, [case.measured for case in rows], [case.kind for case in rows])
    found = checked(fitted, rows, file, untouched_is_fault=True)
    require_below_peak(found, chip, file)
    made = finished(with_figures(begun, found), rows, fitted, found)
    return replace(made, account=account(rows, predict(begun), list(fitted.residuals), free, found))


def in_runtime(
    rows: Sequence[Case], unit: Unit, precisions: Mapping[str, Precision], file: str
) -> tuple[Unit, dict[str, Precision]]:
    """The unit and its number formats as the rows' runtime stores them and computes; one runtime at a time."""
    runtimes = {case.runtime.name: case.runtime for case in rows if case.runtime is not None}
    stored = {case.runtime.name if case.runtime is not None else "" for case in rows if case.load is None}
    if len(stored) > 1:
        found = ", ".join(name or "one that is not described" for name in sorted(stored))
        raise ScenarioError([Fault(file, "runtime", found, "one runtime at a time", "They store weights differently.")])
    changed = dict(precisions)
    for runtime in runtimes.values():
        for name in {case.precision for case in rows if case.runtime is not None}:
            unit, changed[name] = runtime.on(unit, precisions[name])
    return unit, changed


def require_below_peak(found: Mapping[str, Figure], chip: Chip, file: str) -> None:
    """Refuse rates that the chip's memory cannot have: then rows or datasheet are wrong."""
    peak = chip.peak_memory_rate
    faults = [
        Fault(
            file,
            path,
            f"{figure.value:g} {figure.unit}",
            f"at most the peak of {chip.name}, {peak.value:g} {peak.unit}",
            "Is a row's unit, model or precision wrong?",
        )
        for path, figure in found.items()
        if path.endswith(("memory_rate", "cache_rate")) and figure.si > peak.si
    ]
    if faults:
        raise ScenarioError(faults)


def default_constants(rows: Sequence[Case], precisions: Mapping[str, Precision]) -> set[str]:
    """The constants that rows of these kinds determine: decode rows the rate of weights, prompt and network rows the
    rate of operations.
    """
    unit = rows[0].unit_name
    wanted = set()
    for case in rows:
        reading = "weight_rate" if precisions[case.precision].weight_rate is not None else "memory_rate"
        rate = reading if case.kind == "decode" else "operation_rates[0].rate"
        wanted.add(f"units.{unit}.precisions.{case.precision}.{rate}")
    return wanted


def path_of(name: str, unit: str, precisions: Mapping[str, Precision], file: str) -> str:
    """The path of a constant that a user named."""
    if name in OVERHEADS:
        return f"units.{unit}.{name}"
    precision, _, rate = name.rpartition(".")
    if precision in precisions and rate == "operation_rate":
        return f"units.{unit}.precisions.{precision}.operation_rates[0].rate"
    if precision in precisions and rate in RATES and getattr(precisions[precision], rate) is not None:
        return f"units.{unit}.precisions.{precision}.{rate}"
    known = [
        *OVERHEADS,
        *(
            f"{key}.{rate}"
            for key, precision in precisions.items()
            for rate in RATES
            if rate == "operation_rate" or getattr(precision, rate) is not None
        ),
    ]
    raise ScenarioError([Fault(file, "--fit", repr(name), f"one of {', '.join(known)}")])


def require_rows(rows: Sequence[Case], free: Mapping[str, Figure], file: str, who: str) -> None:
    """Refuse fewer rows than constants."""
    if len(rows) < max(len(free), 1):
        found = f"{len(rows)} rows for {len(free)} constants ({', '.join(free) or 'none marked fitted'})"
        raise ScenarioError(
            [Fault(file, who, found, "at least as many rows as constants", "Measure more, or fit fewer.")]
        )


def checked(fitted: Fitted[R], rows: Sequence[Case], file: str, *, untouched_is_fault: bool) -> dict[str, Figure]:
    """The fitted figures with ranges and sources; or a refusal that names what the rows leave open."""
    loose = [*fitted.undetermined, *(fitted.untouched if untouched_is_fault else ())]
    if loose:
        raise ScenarioError(
            [
                Fault(
                    file,
                    path,
                    f"{len(rows)} rows that leave it open by a factor of {np.exp(2 * fitted.deviations[path]):.2g} "
                    "either way",
                    "rows that separate it from the other constants",
                    "Add rows of other models, contexts or prompt lengths, or leave it out of the fit.",
                )
                for path in loose
            ]
        )
    source = source_of(rows)
    found = {}
    for path, figure in fitted.figures.items():
        if path in fitted.untouched:
            continue
        deviation = max(fitted.deviations[path], LEAST_DEVIATION)
        value = digits(figure.value)
        low, high = span(value, deviation)
        found[path] = Figure(value=value, unit=figure.unit, kind="fitted", source=source, range=(low, high))
    return found


def source_of(rows: Sequence[Case]) -> str:
    """What a fitted constant rests on, in a line."""
    models = {case.model_group for case in rows}
    chips = sorted({case.chip.name for case in rows})
    return f"{len(rows)} measurements of {len(models)} models on {', '.join(chips)}"


def finished(record: Chip | Family, rows: Sequence[Case], fitted: Fitted[R], found: dict[str, Figure]) -> Calibration:
    """The calibration with the errors of its rows."""
    errors = tuple(float(np.expm1(residual)) for residual in fitted.residuals)
    made = Calibration(record, tuple(rows), errors, found)
    return replace(made, record=record.model_copy(update={"residuals": made.residuals}))
