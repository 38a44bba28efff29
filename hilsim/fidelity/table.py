"""Tables as spreadsheets and tools save them: separators, spelling of headers and numbers, empty edges, line ends.

`read_table` turns text into rows of cells under our own column names. What could be read in two ways is refused: two
columns of one name, values beyond the header, a number that is 1.15 in one country and 1150 in another.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hilsim.describe.names import nearest
from hilsim.errors import Fault, ScenarioError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
DECIMAL_COMMA = re.compile(r"-?\d+,\d+")
# 1,150 is 1150 with a separator of thousands and 1.15 with a decimal comma; 0,150 and 38,1 are no thousands.
THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(,\d{3})+")
# Where semicolons or tabs separate, 1.150 may be a German 1150; 0.150 and 38.1 are no thousands.
POINTED_THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(\.\d{3})+")
DECIMAL_POINT = re.compile(r"-?\d*\.\d+")
# Headers that mean a column of ours; a file with the column itself keeps the other as one that is not read.
SYNONYMS = {
    "case_id": ("case", "id", "test_id"),
    "device": ("board", "chip", "hardware", "device_name"),
    "model": ("model_name", "llm", "network_name"),
    "kind": ("phase", "task", "measurement", "test"),
    "metric": ("unit", "measure", "quantity"),
    "value": ("result", "measured", "measured_value"),
    "params_b": ("params", "parameters_b", "params_billion", "params_billions", "billion_params", "size_b"),
    "weight_bits": ("wbits", "w_bits", "weights_bits", "bits", "weight_precision"),
    "act_bits": ("abits", "a_bits", "activation_bits", "activations_bits", "act_precision"),
    "context_len": ("context", "ctx", "ctx_len", "context_length", "n_ctx", "context_tokens", "tokens"),
    "batch": ("batch_size", "bs"),
    "runtime": ("engine", "framework", "backend"),
    "power_mode": ("power", "mode", "nvpmodel"),
    "source": ("reference", "ref", "url"),
    "source_date": ("date",),
    "note": ("notes", "comment", "comments", "remark", "remarks"),
}


@dataclass(frozen=True)
class CsvRow:
    """One row: the line of the file where it ends, and its cells by column, blanks at their ends removed."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True)
class CsvTable:
    """The columns under our names, in the file's order, and the rows that hold anything."""

    columns: tuple[str, ...]
    rows: tuple[CsvRow, ...]
    separator: str


def plain(header: str) -> str:
    """A header in the form that is compared: small letters, every run of other characters one underscore."""
    return re.sub(r"[^a-z0-9]+", "_", header.casefold()).strip("_")


def columns_of(headers: Sequence[str]) -> list[str]:
    """Our names of the columns that a file's headers mean; those that mean none keep their own, in small letters."""
    known = {name: name for name in SYNONYMS}
    spelled = [plain(header) for header in headers]
    for name, others in SYNONYMS.items():
        if name not in spelled:
            known |= dict.fromkeys(others, name)
    return [known.get(name, name) for name in spelled]


def header_of(text: str) -> tuple[str, list[str]]:
    """The separator that makes most of the first line that is not empty, and the cells that it makes."""
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    found: tuple[str, list[str]] = (",", [])
    for separator in SEPARATORS:
        try:
            cells = next(csv.reader([first], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:
            continue
        if len(cells) > len(found[1]):
            found = separator, [cell.strip() for cell in cells]
    return found


def read_table(text: str, file: str, needed: Sequence[str], known: Iterable[str]) -> CsvTable:
    """The rows of a table. Raises `ScenarioError` where it has no `needed` column, or a shape that cannot be right.

    A header that is nearly one of the `known` columns is a slip and refused; any other column is kept for the caller.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        expected = "text, in UTF-8 or with a byte order mark"
        raise ScenarioError([Fault(file, f"byte {text.index(chr(0))}", "a NUL character", expected)])
    skipped = 0
    if stated := re.match(r'"?sep=[,;\t]"?\n', text):  # Excel's own first line
        text, skipped = text[stated.end() :], 1
    separator, _ = header_of(text)
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num + skipped, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        where, expected = f"line {reader.line_num + skipped}", f"{SEPARATORS[separator]}-separated values"
        raise ScenarioError(
            [Fault(file, where, str(error), expected, "Is a quote open, or a blank behind one?")]
        ) from None
    lines = [(line, cells) for line, cells in lines if any(cells)]
    top, headers = lines[0] if lines else (1, [])
    while headers and not headers[-1]:
        headers.pop()
    if len(headers) == 1 and "|" in headers[0]:
        found, expected = f"columns {headers[0]} separated by '|'", "commas, semicolons or tabs between cells"
        raise ScenarioError([Fault(file, f"line {top}", found, expected, "Write ';' for every '|'.")])
    columns = columns_of(headers)
    if faults := header_faults(columns, headers, f"line {top}", file, needed, known):
        raise ScenarioError(faults)
    rows = []
    for line, cells in lines[1:]:
        beyond = [cell for column, cell in zip(columns, cells, strict=False) if not column] + cells[len(columns) :]
        if any(beyond):
            remedy = "Quote values that hold commas, and write decimal points." if separator == "," else ""
            found = f"more values than columns ({len(cells)} of {len(columns)})"
            faults.append(Fault(file, f"line {line}, end of line", found, "one value a column", remedy))
            continue
        rows.append(CsvRow(line, {column: cell for column, cell in zip(columns, cells, strict=False) if column}))
    if faults:
        raise ScenarioError(gathered(faults))
    return CsvTable(tuple(column for column in columns if column), tuple(rows), separator)


def header_faults(
    columns: Sequence[str], headers: Sequence[str], place: str, file: str, needed: Sequence[str], known: Iterable[str]
) -> list[Fault]:
    """Columns that come twice, that are missing, or that are nearly spelled as one of ours."""
    faults, near, ours = [], {}, tuple(known)
    for column in sorted({column for column in columns if column and columns.count(column) > 1}):
        written = [header for header, own in zip(headers, columns, strict=True) if own == column]
        names = repr(column) if len(set(written)) == 1 else f"{' and '.join(map(repr, written))} for {column!r}"
        faults.append(Fault(file, place, f"{names} more than once", "every column once"))
    for header, column in zip(headers, columns, strict=True):
        close = nearest(column, ours) if column and column not in ours else []
        if close and close[0] not in columns:
            near[header] = close[0]
    if missing := [column for column in needed if column not in columns]:
        found = f"columns {', '.join(headers[:8]) or 'none'}"
        meant = [f"{column!r} for {header!r}" for header, column in near.items() if column in missing]
        remedy = f"Did you mean {', '.join(meant)}?" if meant else ""
        if headers and headers[0].startswith("#"):
            found, remedy = f"a comment, {headers[0][:40]!r}", "Remove it: the first line names the columns."
        faults.append(Fault(file, place, found, f"also {', '.join(missing)}", remedy))
    expected = "a column of ours, or a name that is not close to one"
    return faults + [
        Fault(file, place, f"the column {header!r}", expected, f"Did you mean {column!r}?")
        for header, column in near.items()
        if column not in missing
    ]


def decimal_commas(cells: Iterable[str], separator: str) -> bool:
    """Whether a table's numbers have decimal commas for certain.

    They do where semicolons or tabs separate, one number has a comma that cannot stand for thousands, and none a point.
    """
    cells = list(cells)
    with_comma = [cell for cell in cells if DECIMAL_COMMA.fullmatch(cell)]
    settled = any(not THOUSANDS.fullmatch(cell) for cell in with_comma)
    return separator != "," and settled and not any(DECIMAL_POINT.fullmatch(cell) for cell in cells)


def doubtful_points(cells: Iterable[str], separator: str) -> bool:
    """Whether 1.150 may be 1150 in a table: not between commas, nor beside a point that cannot stand for thousands."""
    with_point = [cell for cell in cells if DECIMAL_POINT.fullmatch(cell)]
    return separator != "," and all(POINTED_THOUSANDS.fullmatch(cell) for cell in with_point)


def gathered(faults: Sequence[Fault]) -> list[Fault]:
    """Faults of one kind, which differ in their line and in what was found alone, as one with all lines."""
    groups: dict[tuple[str, str, str, str, str], list[tuple[int, Fault]]] = {}
    for fault in faults:
        placed = re.fullmatch(r"line (\d+)(|, .*)", fault.place)
        line, rest = (int(placed[1]), placed[2]) if placed else (0, fault.place)
        groups.setdefault((rest, fault.file, fault.found, fault.expected, fault.remedy), []).append((line, fault))
    kinds: dict[tuple[str, str, str, str], list[tuple[list[int], Fault]]] = {}
    for (rest, file, what, expected, remedy), alike in groups.items():
        lines = [line for line, _ in alike]
        kind = (rest, file, expected, remedy) if lines[0] else (rest, file, what, f"{expected} {remedy}")
        kinds.setdefault(kind, []).append((lines, alike[0][1]))
    return [of_one_kind(several) for several in kinds.values()]


SHOWN = 8  # different things found, of faults of one kind


def of_one_kind(several: Sequence[tuple[list[int], Fault]]) -> Fault:
    """One fault for several that differ in lines and in what was found, each with its lines."""
    lines = sorted(line for of, _ in several for line in of)
    first = several[0][1]
    if len(lines) < 2 or not lines[0]:
        return first
    rest = first.place.removeprefix(f"line {several[0][0][0]}")
    together = first.at(f"lines {ranges(lines)}{rest}")
    if len(several) == 1:
        return together
    found = [f"{fault.found} ({ranges(of)})" for of, fault in several]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return replace(together, found=", ".join(found[:SHOWN]) + more)


def ranges(numbers: Iterable[int]) -> str:
    """Line numbers with runs drawn together: 3-5, 9."""
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in parts)
