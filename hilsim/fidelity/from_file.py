"""Validation and calibration by a file of measured figures: read it, compare or fit, and report what is doubtful."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hilsim.describe.catalogue import described, file_of, written_chip
from hilsim.describe.chip import Chip
from hilsim.describe.family import Family
from hilsim.describe.model import Model
from hilsim.describe.write import with_changed_figures
from hilsim.errors import Fault, InputError
from hilsim.fidelity.calibrate import Calibration, calibrate_chip, calibrate_family
from hilsim.fidelity.cases import MODE, Case, LeftOut, mode_is_open, resolve
from hilsim.fidelity.chip_file import as_file, with_account
from hilsim.fidelity.doubts import doubtful_rows
from hilsim.fidelity.measurements import SHIPPED, MeasuredFigures, Measurement, read_figures
from hilsim.fidelity.ratios import BatchRatio, batch_ratios
from hilsim.fidelity.speculation import SpeedUp, speed_ups
from hilsim.fidelity.table import gathered, ranges
from hilsim.fidelity.validate import ComparedCase, compared, fitted_without
from hilsim.files import exists, read_text
from hilsim.places import DATA
from hilsim.progress import status_line

Skipped = Callable[[Fault], object]  # called for every row that is skipped


@dataclass(frozen=True)
class Validation:
    """Rows predicted and measured, by time, and by the cost of a round; speed-ups and ratios; rows left out; doubts,

    and notes on the file.
    """

    rows: Sequence[ComparedCase]
    rounds: Sequence[ComparedCase]
    speculation: Sequence[SpeedUp]
    ratios: Sequence[BatchRatio]
    left_out: Sequence[LeftOut]
    doubts: Sequence[Fault]
    notes: Sequence[str]


def families() -> dict[str, Family]:
    """All shipped families by name."""
    return {family.name: family for family in described("family", Family)}


def validate(
    file: Path | None = None,
    *,
    chip: str | None = None,
    mode: str | None = None,
    leave_out: bool = False,
    skipped: Skipped | None = None,
) -> Validation:
    """The rows of a file, or the shipped ones, predicted, and with `leave_out` also by constants fitted without each.

    `chip` is the device of a file whose rows do not name one, `mode` the power mode of rows that do not. Rows at fault
    raise `InputError`, unless `skipped` takes them.
    """
    if mode is not None and not MODE.match(mode):
        raise InputError([Fault("--mode", "", repr(mode), "watts or MAXN, such as 30W")])
    known = families()
    figures = read_figures(SHIPPED if file is None else file, from_here(chip), mode)
    if file is None:
        cases, left = cases_of(figures.rows)
    else:
        if chip is not None and figures.name_their_device:
            found = f"{chip} beside rows that name their device"
            raise InputError([Fault("--chip", "", found, "rows without a device column, or of llama-bench")])
        cases, left = cases_of(figures.rows, skipped)
        if not cases:
            reasons = "; ".join(sorted({row.reason for row in left})) or "all are at fault"
            raise InputError([Fault(str(file), "", "no row that can be compared", f"at least one ({reasons})")])
    without = None
    if leave_out:
        basis = cases if file is None else cases_of(read_figures(SHIPPED).rows)[0]
        with status_line("fitting") as notify:
            without = fitted_without(cases, known, fitting(basis), notify)
    rows = compared(cases, known, without)
    return Validation(
        [row for row in rows if row.case.kind != "speculation"],
        [row for row in rows if row.case.kind == "speculation"],
        speed_ups(cases, known), list(batch_ratios(figures.rows, known)), left, doubtful_rows(cases, known),
        notes_on(figures, cases),
    )  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """A calibration, the text of the calibrated file, rows of the user's left out, doubts, and notes on the file."""

    calibration: Calibration
    text: str
    left_out: Sequence[LeftOut]
    doubts: Sequence[Fault]
    notes: Sequence[str]


def calibrate(
    file: Path | None = None,
    *,
    chip: str | None = None,
    family: str | None = None,
    name: str | None = None,
    constants: Sequence[str] = (),
    skipped: Skipped | None = None,
) -> Fit:
    """Fit a chip's or a family's constants to the rows of a file, or to the shipped ones.

    `name` is the fitted chip's; `constants` are those to fit beside the usual ones.
    """
    source = file or SHIPPED
    figures = read_figures(source, from_here(chip))
    cases, left = cases_of(figures.rows, skipped)
    known = families()
    if family is not None and family not in known:
        raise InputError([Fault("--family", "", repr(family), f"one of {', '.join(known)}")])
    described_chip = None if chip is None else written_chip(chip, Path("--chip"))
    concerned = [
        case
        for case in cases
        if (case.family == family if described_chip is None else case.chip.name == described_chip.name)
    ]
    doubts = doubtful_rows(concerned, known)
    try:
        if described_chip is None:
            assert family is not None, "either a chip or a family"
            path = file_of("family", family, DATA / "chips" / "_.yaml")
            found = calibrate_family(known[family], fitting(cases), str(source))
            text = with_account(with_changed_figures(read_text(path), str(path), found.figures), found)
        else:
            found = calibrate_chip(described_chip, fitting(cases), known, str(source), constants)
            assert isinstance(found.record, Chip), "a chip calibrated into something else"
            text = as_file(found.record, name)
    except InputError as error:
        raise InputError([*error.faults, *doubts]) from None  # a mistaken unit is the likeliest reason
    return Fit(found, text, [] if file is None else left, doubts, [] if file is None else notes_on(figures, cases))


def cases_of(rows: Sequence[Measurement], skipped: Skipped | None = None) -> tuple[list[Case], list[LeftOut]]:
    """Rows as cases and those left out. Rows at fault raise `InputError`, unless `skipped` takes them."""
    cases, left, faults = resolve(rows)
    if faults and skipped is None:
        raise InputError(gathered(faults))
    for fault in gathered(faults):
        assert skipped is not None
        skipped(fault)
    return [without_second_share(case) for case in cases], left


def without_second_share(case: Case) -> Case:
    """A case without its runtime where the chip's own file has the rates that the runtime reached, as `calibrate` fits
    them: its share is not taken twice.
    """
    own = case.chip.units[case.unit_name].precisions.get(case.precision)
    return replace(case, runtime=None) if own is not None and own.memory_rate.kind == "fitted" else case


def fitting(cases: Sequence[Case]) -> list[Case]:
    """The rows that constants may be fitted to: of plain decoders and networks.

    Speculation combines steps; experts and recurrent layers run by kernels of their own, which would bend the others'.
    """
    return [case for case in cases if case.kind != "speculation" and (case.model is None or attends(case.model))]


def attends(model: Model) -> bool:
    """Whether all layers attend, and none has experts."""
    return all(kind.experts is None and kind.recurrent is None for kind in model.architecture.layer_kinds)


def from_here(chip: str | None) -> str | None:
    """A chip that is named as a file, by its absolute path: rows name theirs relative to their own file."""
    name, at, mode = (chip or "").partition("@")
    return f"{Path(name).resolve()}{at}{mode}" if name.endswith((".yaml", ".yml")) and exists(Path(name)) else chip


def notes_on(figures: MeasuredFigures, cases: Sequence[Case]) -> list[str]:
    """What a reader should know of a file: columns that were not read, and devices that were named for it."""
    found = [f"columns that were not read: {', '.join(figures.unread)}"] if figures.unread else []
    found += figures.notes
    named = {(case.measurement.hardware, case.chip.name) for case in cases if case.measurement.hardware}
    found += [f"{hardware!r} of the file was taken as {chip}" for hardware, chip in sorted(named)]
    open_modes: dict[str, list[Case]] = {}
    for case in cases:
        if mode_is_open(case):
            open_modes.setdefault(case.chip.name, []).append(case)
    for name, some in sorted(open_modes.items()):
        chip = some[0].chip
        own = "the mode of its file" if chip.mode is None else chip.mode.name
        lines = ranges(case.measurement.line for case in some)
        found.append(
            f"lines {lines} state no power mode and were taken as {name} in {own}; write one in a column power_mode, "
            f"or give it with --mode ({', '.join(chip.modes)})"
        )
    return found
