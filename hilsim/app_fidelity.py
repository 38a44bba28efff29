"""The commands about trust: `validate` compares the chips with measurements, `calibrate` fits them to some."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from hilsim.describe.catalogue import PROJECT, described, file_of, load_chip, load_named, written_chip
from hilsim.describe.chip import Chip
from hilsim.describe.compiled import NetworkLoad
from hilsim.describe.family import Family
from hilsim.describe.model import Model
from hilsim.describe.write import to_yaml, with_changed_figures
from hilsim.errors import Fault, InputError
from hilsim.fidelity.calibrate import Calibration, calibrate_chip, calibrate_family
from hilsim.fidelity.cases import SHIPPED, Case, LeftOut, resolve
from hilsim.fidelity.measurements import Measurement, read_measurements
from hilsim.fidelity.ratios import batch_ratios
from hilsim.fidelity.speculation import speed_ups
from hilsim.fidelity.step_log import read_log
from hilsim.fidelity.two_device import replayed
from hilsim.fidelity.validate import compared
from hilsim.files import read_text, written
from hilsim.show.outputs import require_place, require_plot
from hilsim.show.progress import saying


def families() -> dict[str, Family]:
    """All shipped families by name."""
    return {family.name: family for family in described("family", Family)}


def cases_of(rows: Sequence[Measurement], *, skip_bad: bool = False) -> tuple[list[Case], list[LeftOut]]:
    """Rows as cases and those left out. Rows at fault stop everything, unless they are to be skipped."""
    cases, left, faults = resolve(rows)
    if faults and not skip_bad:
        raise InputError(faults)
    for fault in faults:
        print(f"skipped: {fault}", file=sys.stderr)
    return cases, left


def validate(file: Path | None, *, plot: Path | None, as_json: bool, skip_bad: bool) -> int:
    """`python -m hilsim validate`: predicted against measured, three ways."""
    from rich.console import Console

    from hilsim.show import fidelity

    if plot is not None:
        require_plot(plot)
    known = families()
    measured = read_measurements(SHIPPED)
    basis, left = cases_of(measured)
    cases = basis
    if file is not None:
        measured = read_measurements(file)
        cases, left = cases_of(measured, skip_bad=skip_bad)
        if not cases:
            reasons = "; ".join(sorted({row.reason for row in left})) or "all are at fault"
            raise InputError([Fault(str(file), "", "no row that can be compared", f"at least one ({reasons})")])
    with saying("fitting") as say:
        rows = compared([case for case in cases if case.kind != "speculation"], known, fitting(basis), say)
    if plot is not None and not rows:
        raise InputError([Fault(str(plot), "--plot", "no row that is compared by its time", "at least one")])
    speculation, ratios = speed_ups(cases, known), list(batch_ratios(measured, known))
    if plot is not None:
        from hilsim.show.scatter import draw

        with written(plot) as temporary:
            draw(rows, temporary, plot.suffix[1:])
    if as_json:
        json.dump(fidelity.as_json(rows, speculation, ratios, left), sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        name = str(file or SHIPPED.relative_to(PROJECT))
        fidelity.print_validation(Console(), rows, speculation, ratios, left, name)
    return 0


def validate_trace(file: Path, *, beside: Sequence[str], as_json: bool) -> int:
    """`python -m hilsim validate --trace`: the step log of a real two-device run, replayed and predicted.

    `beside` are the options given that belong to measured figures, not to a log.
    """
    from rich.console import Console

    from hilsim.show import two_device

    if beside:
        found = f"{', '.join(beside)} beside it"
        raise InputError([Fault("--trace", "", found, "--trace FILE alone or with --json", "Run validate twice.")])
    prompts = read_log(file)
    replays = [replayed(runs, file) for runs in prompts if runs.sync is not None]
    if as_json:
        json.dump(two_device.as_json(prompts, replays, str(file)), sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        two_device.print_log(Console(), prompts, replays, str(file))
    return 0


def fitting(cases: Sequence[Case]) -> list[Case]:
    """The rows that constants may be fitted to: all but speculation, which combines steps."""
    return [case for case in cases if case.kind != "speculation"]


def calibrate(
    file: Path | None, *, chip: str | None, family: str | None, out: Path | None, fit: Sequence[str], skip_bad: bool
) -> int:
    """`python -m hilsim calibrate`: fit a chip's or a family's constants and write its file."""
    require_chip_file(out)
    source = file or SHIPPED
    cases, left = cases_of(read_measurements(source), skip_bad=skip_bad)
    known = families()
    if family is not None:
        if family not in known:
            raise InputError([Fault("--family", "", repr(family), f"one of {', '.join(known)}")])
        path = file_of("family", family, PROJECT / "chips" / "_.yaml")
        found = calibrate_family(known[family], fitting(cases), str(source))
        changed = with_changed_figures(read_text(path), str(path), found.figures)
        text = with_account(changed, found)
    else:
        assert chip is not None  # the arguments ask for one of the two
        written_one = written_chip(chip, Path("--chip"))
        found = calibrate_chip(written_one, fitting(cases), known, str(source), fit)
        assert isinstance(found.record, Chip), "a chip calibrated into something else"
        text = as_file(found.record, out)
    write_chip(text, out)
    report(found, left if file is not None else [], out)
    return 0


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
    return to_yaml(chip.model_copy(update={"name": name, "known_as": (), "modes": {}}))


def write_chip(text: str, out: Path | None) -> None:
    """Write a fitted file where one is asked for."""
    if out is not None:
        with written(out) as temporary:
            temporary.write_text(text, encoding="utf-8")


def show_chip(name: str, model: str | None, context: int, network: NetworkLoad | None) -> int:
    """`python -m hilsim chip`: a chip's figures, or what a model or a network would take on it."""
    from rich.console import Console

    from hilsim.show.chip_card import print_card

    here = Path("--chip")
    chip = load_chip(name, here)
    print_card(Console(), chip, None if model is None else load_named("model", Model, model, here), context, network)
    return 0


def with_account(text: str, found: Calibration) -> str:
    """A family file's text with what the fit says of itself renewed: the chips that took part, and the residuals."""
    chips = ", ".join(sorted({case.chip.name for case in found.cases}))
    lines = [line for line in text.splitlines() if not line.startswith("residuals:")]
    named = [index for index, line in enumerate(lines) if line.startswith("measured_on:")]
    for index in named:
        lines[index] = f"measured_on: [{chips}]"
    lines += [] if named else [f"measured_on: [{chips}]"]
    return "\n".join([*lines, f'residuals: "{found.residuals}"']) + "\n"


def report(found: Calibration, left: Sequence[LeftOut], out: Path | None) -> None:
    """What was fitted, how well it is known and how well it predicts."""
    from rich.console import Console

    from hilsim.show.fidelity import calibration_table, left_out_lines

    console = Console()
    console.print(calibration_table(found.record.title, found.figures))
    console.print(f"\n{found.residuals}")
    if left:
        console.print(left_out_lines(left))
    console.print(f"Written: {out}" if out is not None else "Nothing was written (no --out).")
