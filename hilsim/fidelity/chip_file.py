"""Fitted chips and families as the text of their files."""

from __future__ import annotations

import re
from pathlib import Path

from hilsim.describe.chip import Chip
from hilsim.describe.write import to_yaml
from hilsim.errors import Fault, InputError
from hilsim.fidelity.calibrate import Calibration
from hilsim.files import place_faults, written


def require_chip_file(out: Path | None) -> None:
    """Refuse a name or place that no chip file may have, before the fit."""
    if out is None:
        return
    if out.suffix not in (".yaml", ".yml") or "@" in out.name:
        raise InputError([Fault(str(out), "--out", "a name that no chip file may have", "NAME.yaml, without '@'")])
    if faults := place_faults(out, "--out"):
        raise InputError(faults)


def as_file(chip: Chip, name: str | None = None) -> str:
    """A fitted chip as the text of its file, under a new name if one is given.

    Its rates are absolute now, so the figures of other power modes would change nothing: they are left out.
    """
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", name or "").strip("-") or chip.name
    return to_yaml(chip.model_copy(update={"name": name, "known_as": (), "modes": {}, "modes_elsewhere": {}}))


def with_account(text: str, found: Calibration) -> str:
    """A family file's text with the account of its fit renewed: the chips that took part, and the residuals."""
    chips = ", ".join(sorted({case.chip.name for case in found.cases}))
    lines = [line for line in text.splitlines() if not line.startswith("residuals:")]
    named = [index for index, line in enumerate(lines) if line.startswith("measured_on:")]
    for index in named:
        lines[index] = f"measured_on: [{chips}]"
    lines += [] if named else [f"measured_on: [{chips}]"]
    return "\n".join([*lines, f'residuals: "{found.residuals}"']) + "\n"


def write_chip(text: str, out: Path | None) -> None:
    """Write a fitted file where one is wanted."""
    if out is not None:
        with written(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
