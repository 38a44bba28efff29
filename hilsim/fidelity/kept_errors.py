"""The errors of the shipped rows, kept in `errors.csv`: fitting again without every model and device takes minutes."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hilsim.files import exists, read_text
from hilsim.places import DATA

COLUMNS = ("in-sample", "without its model", "without its device")
HEADER = ("case_id", "unit", "kind", "device", "model", *COLUMNS)
ERRORS = DATA / "chips" / "measurements" / "errors.csv"


@dataclass(frozen=True)
class KeptErrors:
    """The errors of one shipped row by column, and what it was: kinds of unit and row, device, model."""

    unit: str
    kind: str
    device: str
    model: str
    errors: tuple[float, float, float]


@cache
def kept_errors(file: Path = ERRORS) -> dict[str, KeptErrors]:
    """The kept errors by case; none where the file is not there."""
    if not exists(file):
        return {}
    found = {}
    for row in csv.DictReader(io.StringIO(read_text(file))):
        case_id, unit, kind, device, model, *errors = (row[column] for column in HEADER)
        seen, no_model, no_device = map(float, errors)
        found[case_id] = KeptErrors(unit, kind, device, model, (seen, no_model, no_device))
    return found
