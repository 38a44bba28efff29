"""The text of a file as its format is recognised by: JSON objects with their lines, or a table with its header."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from hilsim.describe.json_text import CUT, TextFile
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.fidelity.table import CsvTable, columns_of, header_of, plain, read_table

# The line of dashes under a Markdown table's header.
RULE = re.compile(r"\s*\|?(\s*:?-{2,}:?\s*\|)+(\s*:?-{2,}:?\s*)?\|?\s*")


@dataclass(frozen=True)
class Contents(TextFile):
    """A file's name and text, and its table where it is one."""

    @cached_property
    def as_csv(self) -> str:
        """The text of a table; of one in Markdown its lines as CSV, and empty lines for all others."""
        lines = self.text.splitlines()
        # A rule has as many bars as the header above it.
        rules = [n for n, line in enumerate(lines) if n and RULE.fullmatch(line) and bars(line) == bars(lines[n - 1])]
        if not rules:
            # Of a saved data frame the index has no name.
            return f"index{self.text}" if self.text[:1] in ("\t", ",") else self.text
        kept = [markdown_row(line) if "|" in line and number not in rules else "" for number, line in enumerate(lines)]
        return "\n".join(["" if number < rules[0] - 1 else line for number, line in enumerate(kept)]) + "\n"

    @property
    def is_markdown(self) -> bool:
        return self.as_csv != self.text and not self.as_csv.startswith("index")

    @cached_property
    def headers(self) -> list[str]:
        """The cells of a table's header in small letters with underscores; of other text whatever its first line is."""
        return [] if self.is_json else [plain(header) for header in header_of(self.as_csv)[1]]

    @property
    def columns(self) -> list[str]:
        """The header as our columns."""
        return columns_of(self.headers)

    def cells(self, column: str) -> list[str]:
        """The cells of a column of ours as far as the table can be read; none where it cannot."""
        try:
            return [row.cells.get(column, "") for row in self.table([column]).rows]
        except InputError:
            return []

    def table(self, needed: Sequence[str], known: Iterable[str] = ()) -> CsvTable:
        """The table's rows. Raises `ScenarioError` where a column is missing or a shape cannot be right."""
        return read_table(self.as_csv, self.file, needed, known or needed)

    def whole_table(self, needed: Sequence[str]) -> CsvTable:
        """A table that a program wrote. Raises `ScenarioError` also where a row ends before its last cell."""
        table = self.table(needed)
        faults = [
            Fault(self.file, f"line {row.line}", f"{len(row.cells)} of {len(table.columns)} cells", "a whole row", CUT)
            for row in table.rows
            if len(row.cells) < len(table.columns)
        ]
        if faults:
            raise ScenarioError(faults)
        return table


def bars(line: str) -> int:
    """How many cells of a Markdown table a line has, less one."""
    return line.strip().strip("|").count("|")


def markdown_row(line: str) -> str:
    """The cells between the bars of a line, as a line of CSV; one that begins with a bar ends with one, or was cut."""
    line = line.strip()
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    if line.startswith("|") and not line.endswith("|"):
        cells.pop()
    return ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
