"""Logs as a CSV of measured figures: which rows are written, which are not and why, and what hilsim makes of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hilsim.describe.json_text import CUT
from hilsim.errors import Fault, InputError
from hilsim.fidelity.cases import LeftOut, resolve
from hilsim.fidelity.importers.contents import Contents
from hilsim.fidelity.importers.formats import FORMATS, OWN, Format, complete, format_of, named_format
from hilsim.fidelity.importers.log import Given, Log, bits_of
from hilsim.fidelity.measurements import (
    NEEDED,
    Measurement,
    ReadRows,
    checked,
    contradictions,
    rows_of_figures,
    rows_of_log,
)
from hilsim.fidelity.recognise import FIGURES, kind_of
from hilsim.fidelity.table import gathered
from hilsim.files import read_text

# The columns that are written, those that hold nothing in any row left out.
COLUMNS = (
    "case_id", "device", "model", "params_b", "weight_bits", "act_bits", "kind", "context_len", "batch", "metric",
    "value", "runtime", "power_mode", "source", "source_date", "gmacs", "layers_npu", "layers_gpu", "layers_cpu",
    "primary_unit", "gpu_layers", "note",
)  # fmt: skip


@dataclass(frozen=True)
class ImportedFile:
    """One file: what it is, its rows that are written and those that are not, and notes on it."""

    file: Path
    title: str
    used: tuple[Measurement, ...]
    unused: tuple[LeftOut, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Imported:
    """All files, and the CSV of their rows.

    `compared` of them `validate` can predict; `uncompared` and `refused` are the others with their reasons.
    """

    files: tuple[ImportedFile, ...]
    text: str
    compared: int
    uncompared: tuple[LeftOut, ...]
    refused: tuple[Fault, ...]


def import_logs(files: Sequence[Path], given: Given, format_name: str | None = None) -> Imported:
    """The rows of one or several logs. Raises `InputError` with the faults of all files; then nothing is written."""
    faults = given_faults(given)
    found: list[ImportedFile] = []
    rows: list[dict[str, str]] = []
    wanted = None if format_name is None else named_format(format_name)
    for file in files:
        try:
            one, cells = import_log(file, given, wanted)
        except InputError as error:
            faults += error.faults
            continue
        found.append(one)
        rows += cells
    faults += unused_options(given, found)
    used = [row for one in found for row in one.used]
    if len(found) > 1 and not faults:
        faults += contradictions(used, ", ".join(str(one.file) for one in found))
    if not used and not faults:
        reasons = "; ".join(sorted({left.reason for one in found for left in one.unused}))
        faults.append(Fault(", ".join(map(str, files)), "", "no row that can be used", f"at least one ({reasons})"))
    if faults:
        raise InputError(gathered(faults))
    cases, left, refused = resolve(used)
    return Imported(tuple(found), as_csv(rows), len(cases), tuple(left), tuple(gathered(refused)))


def given_faults(given: Given) -> list[Fault]:
    """What is wrong with what the user states."""
    if given.precision is None or re.fullmatch(r"\d{1,2}|fp16|fp32|nvfp4|mxfp4|fp8|mixed", bits_of(given.precision)[0]):
        return []
    return [Fault("--precision", "", repr(given.precision), "a number format such as w4, w4a16, w8a8 or fp16")]


def unused_options(given: Given, found: Sequence[ImportedFile]) -> list[Fault]:
    """A fault for what is stated and no file here has a use for."""
    used = {name for one in FORMATS for name in one.uses if one.title in {file.title for file in found}}
    return [
        Fault(f"--{name.replace('_', '-')}", "", "files whose rows state it themselves", "a file that lacks it")
        for name in OWN
        if found and getattr(given, name) is not None and name not in used
    ]


def import_log(file: Path, given: Given, wanted: Format | None) -> tuple[ImportedFile, list[dict[str, str]]]:
    """One file, and the cells of its rows that are written."""
    contents, found = recognised(file, wanted)
    read = rows_of_log(contents, found, given) if found is not None else stated_figures(contents, given)
    measured = checked(contents.file, read)
    pairs = list(zip(measured.rows, (cells for _, cells in read.rows), strict=True))
    used = [(row, cells) for row, cells in pairs if not row.forbidden]
    notes = [*([f"columns that were not read: {', '.join(read.unread)}"] if read.unread else []), *read.notes]
    title = FIGURES if found is None else found.title
    unused = tuple(LeftOut(row, row.forbidden) for row, _ in pairs if row.forbidden)
    one = ImportedFile(file, title, tuple(row for row, _ in used), unused, tuple(notes))
    return one, [cells | {"case_id": row.case_id} for row, cells in used]


def stated_figures(contents: Contents, given: Given) -> ReadRows:
    """The rows of a table in our own columns, completed as those of a log."""
    read = rows_of_figures(contents, {"device": given.device or "", "model": given.model or ""})
    log = Log(contents, given, list(read.rows))
    complete(log, FIGURES)
    return replace(read, faults=tuple(log.faults))


def recognised(file: Path, wanted: Format | None) -> tuple[Contents, Format | None]:
    """A file's text and its format; None for a CSV of figures. Raises `InputError` for any other file."""
    known = ", ".join(one.name for one in FORMATS)
    kind = kind_of(file)  # of packed and binary files too, which have no text
    if wanted is None and kind is not None and kind.name != FIGURES and kind.name not in {f.title for f in FORMATS}:
        raise InputError([Fault(str(file), "", kind.name, f"a log of one of {known}", kind.remedy(file))])
    contents = Contents(str(file), read_text(file))
    if not contents.text.strip():
        raise InputError([Fault(str(file), "", "an empty file", f"a log of one of {known}", CUT)])
    if contents.is_json:
        _ = contents.objects  # what is cut is refused as such, whatever it would have been
    found = wanted or format_of(contents)
    if found is None and (kind is None or kind.name != FIGURES):
        remedy = "If it is one of them, name it with --format; else write a table (docs/logs.md)."
        raise InputError(
            [Fault(str(file), "", "a file of a kind that is not known", f"a log of one of {known}", remedy)]
        )
    return contents, found


def as_csv(rows: Sequence[dict[str, str]]) -> str:
    """Rows as CSV, those columns alone that hold anything."""
    columns = [name for name in COLUMNS if name in NEEDED or any(row.get(name) for row in rows)]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
