"""The commands about trust: `validate` compares the chips with measurements, `calibrate` fits them to some."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hilsim.commands.outputs import require_place, require_plot
from hilsim.describe.catalogue import PATH, config_of, described, file_of, load_chip, load_named, written_chip
from hilsim.describe.chip import Chip
from hilsim.describe.compiled import NetworkLoad
from hilsim.describe.family import Family
from hilsim.describe.model import Model
from hilsim.describe.write import to_yaml, with_changed_figures
from hilsim.errors import Fault, InputError
from hilsim.fidelity.calibrate import Calibration, calibrate_chip, calibrate_family
from hilsim.fidelity.cases import SHIPPED, Case, LeftOut, resolve
from hilsim.fidelity.doubts import doubtful_rows, doubtful_steps
from hilsim.fidelity.measurements import Figures, Measurement, read_figures
from hilsim.fidelity.ratios import batch_ratios
from hilsim.fidelity.speculation import speed_ups
from hilsim.fidelity.step_log import read_log
from hilsim.fidelity.table import gathered
from hilsim.fidelity.two_device import replayed
from hilsim.fidelity.validate import compared
from hilsim.files import exists, read_text, written
from hilsim.places import DATA
from hilsim.progress import saying


def families() -> dict[str, Family]:
    """All shipped families by name."""
    return {family.name: family for family in described("family", Family)}


def cases_of(rows: Sequence[Measurement], *, skip_bad: bool = False) -> tuple[list[Case], list[LeftOut]]:
    """Rows as cases and those left out. Rows at fault stop everything, unless they are to be skipped."""
    cases, left, faults = resolve(rows)
    if faults and not skip_bad:
        raise InputError(gathered(faults))
    for fault in gathered(faults):
        print(f"skipped: {fault}", file=sys.stderr)
    return cases, left


def validate(file: Path | None, *, chip: str | None, plot: Path | None, as_json: bool, skip_bad: bool) -> int:
    """`python -m hilsim validate`: predicted against measured, three ways. Returns 1 where a row is doubtful.

    `chip` is the device of a file whose rows do not name one.
    """
    from rich.console import Console

    from hilsim.show import fidelity

    if plot is not None:
        require_plot(plot)
    if file is None and chip is not None:
        raise InputError([Fault("--chip", "", "no file whose rows it names", "--csv FILE beside it")])
    known = families()
    figures = read_figures(SHIPPED)
    basis, left = cases_of(figures.rows)
    cases = basis
    if file is not None:
        figures = read_figures(file, from_here(chip))
        if chip is not None and figures.name_their_device:
            found = f"{chip} beside rows that name their device"
            raise InputError([Fault("--chip", "", found, "rows without a device column, or of llama-bench")])
        cases, left = cases_of(figures.rows, skip_bad=skip_bad)
        if not cases:
            reasons = "; ".join(sorted({row.reason for row in left})) or "all are at fault"
            raise InputError([Fault(str(file), "", "no row that can be compared", f"at least one ({reasons})")])
    with saying("fitting") as say:
        rows = compared([case for case in cases if case.kind != "speculation"], known, fitting(basis), say)
    if plot is not None and not rows:
        raise InputError([Fault(str(plot), "--plot", "no row that is compared by its time", "at least one")])
    speculation, ratios = speed_ups(cases, known), list(batch_ratios(figures.rows, known))
    doubts, notes = doubtful_rows(cases, known), notes_on(figures, cases)
    if plot is not None:
        from hilsim.show.plots.scatter import draw

        with written(plot) as temporary:
            draw(rows, temporary, plot.suffix[1:])
    if as_json:
        document = fidelity.as_json(rows, speculation, ratios, left) | {"doubts": as_text(doubts), "notes": notes}
        json.dump(document, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        name = str(file or SHIPPED.relative_to(DATA))
        fidelity.print_validation(Console(), rows, speculation, ratios, left, name, (as_text(doubts), notes))
    return 1 if doubts else 0


def from_here(chip: str | None) -> str | None:
    """A chip that is named as a file, by its absolute path: rows name theirs relative to their own file."""
    name, at, mode = (chip or "").partition("@")
    return f"{Path(name).resolve()}{at}{mode}" if name.endswith((".yaml", ".yml")) and exists(Path(name)) else chip


def as_text(doubts: Sequence[Fault]) -> list[str]:
    """Doubts as sentences."""
    return [str(doubt) for doubt in doubts]


def notes_on(figures: Figures, cases: Sequence[Case]) -> list[str]:
    """What a reader should know of a file: columns that were not read, and devices that were named for it."""
    found = [f"columns that were not read: {', '.join(figures.unread)}"] if figures.unread else []
    named = {(case.measurement.hardware, case.chip.name) for case in cases if case.measurement.hardware}
    return found + [f"{hardware!r} of the file was taken as {chip}" for hardware, chip in sorted(named)]


def validate_trace(file: Path, *, beside: Sequence[str], as_json: bool) -> int:
    """`python -m hilsim validate --trace`: the step log of a real two-device run, replayed and predicted.

    Returns 1 where its times are more likely in another unit.
    `beside` are the options given that belong to measured figures, not to a log.
    """
    from rich.console import Console

    from hilsim.show import two_device

    if beside:
        found = f"{', '.join(beside)} beside it"
        raise InputError([Fault("--trace", "", found, "--trace FILE alone or with --json", "Run validate twice.")])
    prompts = read_log(file)
    replays = [replayed(runs, file) for runs in prompts if runs.sync is not None]
    doubts = as_text(doubtful_steps(prompts, file))
    if as_json:
        document = two_device.as_json(prompts, replays, str(file)) | {"doubts": doubts}
        json.dump(document, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        two_device.print_log(Console(), prompts, replays, str(file), doubts)
    return 1 if doubts else 0


def fitting(cases: Sequence[Case]) -> list[Case]:
    """The rows that constants may be fitted to: all but speculation, which combines steps."""
    return [case for case in cases if case.kind != "speculation"]


def calibrate(
    file: Path | None, *, chip: str | None, family: str | None, out: Path | None, fit: Sequence[str], skip_bad: bool
) -> int:
    """`python -m hilsim calibrate`: fit a chip's or a family's constants and write its file.

    Returns 1 where a row is so far from what the chip was described to do that its unit is doubtful.
    """
    require_chip_file(out)
    source = file or SHIPPED
    figures = read_figures(source, from_here(chip))
    cases, left = cases_of(figures.rows, skip_bad=skip_bad)
    known = families()
    if family is not None and family not in known:
        raise InputError([Fault("--family", "", repr(family), f"one of {', '.join(known)}")])
    written_one = None if chip is None else written_chip(chip, Path("--chip"))
    concerned = [
        case for case in cases if (case.family == family if written_one is None else case.chip.name == written_one.name)
    ]
    doubts = doubtful_rows(concerned, known)
    try:
        if written_one is None:
            assert family is not None  # the arguments ask for one of the two
            path = file_of("family", family, DATA / "chips" / "_.yaml")
            found = calibrate_family(known[family], fitting(cases), str(source))
            text = with_account(with_changed_figures(read_text(path), str(path), found.figures), found)
        else:
            found = calibrate_chip(written_one, fitting(cases), known, str(source), fit)
            assert isinstance(found.record, Chip), "a chip calibrated into something else"
            text = as_file(found.record, out)
    except InputError as error:
        raise InputError([*error.faults, *doubts]) from None  # a mistaken unit is the likeliest reason
    write_chip(text, out)
    notes = notes_on(figures, cases) if file is not None else []
    report(found, left if file is not None else [], out, (as_text(doubts), notes))
    return 1 if doubts else 0


def require_chip_file(out: Path | None) -> None:
    """Refuse a name or place that no chip file may have, before the fit."""
    if out is None:
        return
    if out.suffix not in (".yaml", ".yml") or "@" in out.name:
        raise InputError([Fault(str(out), "--out", "a name that no chip file may have", "NAME.yaml, without '@'")])
    require_place(out, "--out")


def as_file(chip: Chip, out: Path | None) -> str:
    """A fitted chip as the text of its file, under the file's name.

    Its rates are absolute now, so the figures of other power modes would change nothing: they are left out.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", out.stem if out is not None else "").strip("-") or chip.name
    return to_yaml(chip.model_copy(update={"name": name, "known_as": (), "modes": {}, "modes_elsewhere": {}}))


def write_chip(text: str, out: Path | None) -> None:
    """Write a fitted file where one is asked for."""
    if out is not None:
        with written(out) as temporary:
            temporary.write_text(text, encoding="utf-8")


def show_chip(name: str, model: str | None, context: int, network: NetworkLoad | None) -> int:
    """`python -m hilsim chip`: a chip's figures, or what a model or a network would take on it."""
    from rich.console import Console

    from hilsim.show.chip_card import print_card

    here = Path("--model")
    with naming_once("--chip", "chip"):
        chip = load_chip(name, Path("--chip"))
    with naming_once("--model", "--model"):
        found = None if model is None else load_named("model", Model, model, here)
    print_card(Console(), chip, found, context, network)
    if found is not None and model is not None and config_of(model, here) is not None:
        print(f"Note: {found.notes}")
    return 0


@contextmanager
def naming_once(asked_in: str, argument: str) -> Iterator[None]:
    """Faults in a name that an argument gives, with the argument as their only place: no "--model: model: ..."."""
    kind = argument.removeprefix("--")
    try:
        yield
    except InputError as error:
        faults = [
            replace(one, file=argument, place="" if one.place in (kind, PATH) else one.place)
            if one.file == asked_in
            else one
            for one in error.faults
        ]
        raise type(error)(faults) from None


def with_account(text: str, found: Calibration) -> str:
    """A family file's text with what the fit says of itself renewed: the chips that took part, and the residuals."""
    chips = ", ".join(sorted({case.chip.name for case in found.cases}))
    lines = [line for line in text.splitlines() if not line.startswith("residuals:")]
    named = [index for index, line in enumerate(lines) if line.startswith("measured_on:")]
    for index in named:
        lines[index] = f"measured_on: [{chips}]"
    lines += [] if named else [f"measured_on: [{chips}]"]
    return "\n".join([*lines, f'residuals: "{found.residuals}"']) + "\n"


def report(
    found: Calibration, left: Sequence[LeftOut], out: Path | None, remarks: tuple[Sequence[str], Sequence[str]]
) -> None:
    """What was fitted, how well it is known and how well it predicts; then doubts and notes on the rows."""
    from rich.console import Console

    from hilsim.show.fidelity import calibration_table, left_out_lines, remark_lines

    console = Console()
    console.print(calibration_table(found.record.title, found.figures))
    console.print(f"\n{found.residuals}")
    if left:
        console.print(left_out_lines(left))
    for line in remark_lines(*remarks):
        console.print(line)
    console.print(f"Written: {out}" if out is not None else "Nothing was written (no --out).")
