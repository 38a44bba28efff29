"""The one table: columns and rows of a result, for a terminal, a notebook, a CSV, a Parquet file or pandas."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hilsim.show.numbers import three_digits
from hilsim.study.points import label_text
from hilsim.versions import require_package

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

MOST_WIDTH = 10_000  # as wide as no table is
MOST_WORD = 24  # letters of a label's longest word that are kept together
WIDTH = 100  # columns of text where no terminal limits them


@dataclass(frozen=True)
class Table:
    """Rows of values under named columns. None, and what is not a number, is an absent value.

    The first `left` columns are labels, which may wrap; the others are numbers, which are never cut. A cell may be a
    `rich.text.Text` where it has a style on the terminal. `sections` are places of rows after which a rule is drawn.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    left: int = 1
    caption: str = ""
    sections: Collection[int] = ()

    @staticmethod
    def of(records: Iterable[Mapping[str, Any]], **options: Any) -> Table:
        """A table of mappings: a column for every key of any of them, in the order in which they occur."""
        found = list(records)
        columns = list(dict.fromkeys(key for record in found for key in record))
        return Table(columns, [[record.get(column) for column in columns] for record in found], **options)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> list[Any]:
        """The values of one column."""
        place = list(self.columns).index(column)
        return [row[place] for row in self.rows]

    def records(self) -> list[dict[str, Any]]:
        """Each row as a mapping from column to value."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def to_pandas(self) -> Any:
        """As a `pandas.DataFrame`. Raises `InputError` where pandas is not installed."""
        require_package("pandas", "to_pandas()", ", or use records()")
        return import_module("pandas").DataFrame(self.records(), columns=list(self.columns))

    def rich(self, *, folded: bool = False) -> RichTable:
        """For the terminal: numbers with three digits, a dash for an absent value.

        `folded`: the names of number columns take as many lines as they have words, so that labels have more room.
        """
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as RichTable

        table = RichTable(
            box=SIMPLE_HEAD if self.sections else None,
            pad_edge=False,
            collapse_padding=len(self.columns) > 8,
            caption=self.caption or None,
            caption_justify="left",
        )
        shown = [[on_terminal(cell) for cell in row] for row in self.rows]
        for place, name in enumerate(self.columns):
            is_label = place < self.left
            name = name.replace(" ", "\n") if folded and not is_label else name
            cells = [name, *(getattr(row[place], "plain", row[place]) for row in shown)]
            # Rich would cut labels to nothing for the sake of what does not wrap.
            parts = [part for cell in cells for part in (cell.split() if is_label else cell.split("\n"))]
            least = min(max(map(len, parts), default=0), MOST_WORD if is_label else MOST_WIDTH)
            table.add_column(name, justify="left" if is_label else "right", no_wrap=not is_label, min_width=least)
        for place, row in enumerate(shown):
            table.add_row(*row, end_section=place in self.sections)
        return table

    def print(self, console: Console | None = None) -> None:
        """Print it on a console, standard output where none is given; where it is too narrow, with folded names.

        Where that is still too wide, lines go on beyond the console's edge: no number is cut, and no label.
        """
        console = terminal() if console is None else console
        table = self.rich()
        if least_width(console, table) > console.width:
            table = self.rich(folded=True)
        if (least := least_width(console, table)) > console.width:
            table.width = least
        console.print(table, crop=False)

    def _repr_html_(self) -> str:
        """For notebooks."""
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        rows = ("".join(f"<td>{escape(str(on_terminal(cell)))}</td>" for cell in row) for row in self.rows)
        return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"

    def write_csv(self, file: TextIO, digits: int | None = None) -> None:
        """A row a line, absent values empty; floats with so many significant digits, with all of them for None."""
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([in_csv(cell, digits) for cell in row] for row in self.rows)

    def write_parquet(self, path: Path, types: Mapping[str, type] | None = None) -> None:
        """Columns with their types: those given, else what holds all of a column's values."""
        import pyarrow
        import pyarrow.parquet

        arrays = {}
        for column in self.columns:
            cells = self[column]
            kind = (types or {}).get(column) or type_of(cells)
            if kind is str:
                cells = [None if cell is None else label_text(cell) for cell in cells]
            arrow = {bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string()}[kind]
            arrays[column] = pyarrow.array(cells, arrow)
        pyarrow.parquet.write_table(pyarrow.table(arrays), path)


def least_width(console: Console, table: RichTable) -> int:
    """The columns of text in which a table has every number whole, and no label cut inside a word."""
    from rich.measure import Measurement

    return Measurement.get(console, console.options.update(max_width=MOST_WIDTH), table).minimum


def is_absent(cell: object) -> bool:
    """None, and what is not a number."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def on_terminal(cell: Any) -> Any:
    """A cell as the terminal shows it; styled text as it is."""
    if is_absent(cell):
        return "-"
    if isinstance(cell, float):
        return three_digits(cell) if abs(cell) >= 999.5 else f"{cell:#.3g}".rstrip(".")
    return cell if hasattr(cell, "plain") else str(cell)


def in_csv(cell: Any, digits: int | None) -> str:
    """A cell as a CSV has it."""
    if is_absent(cell):
        return ""
    return f"{cell:.{digits}g}" if digits and isinstance(cell, float) else label_text(getattr(cell, "plain", cell))


def type_of(cells: Iterable[object]) -> type:
    """The narrowest of bool, int, float and str that holds all of these values; str for lists and mappings."""
    kinds = {type(cell) for cell in cells if cell is not None}
    if kinds == {bool}:
        return bool
    if kinds == {int} and all(abs(cell) < 2**63 for cell in cells if isinstance(cell, int)):
        return int
    return float if kinds and kinds <= {int, float} else str


def terminal(width: int = WIDTH) -> Console:
    """Standard output; `width` columns where it is no terminal of known width."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=width)
