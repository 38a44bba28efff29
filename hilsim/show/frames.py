"""Tables for those who compute on: a pandas DataFrame where pandas is installed, else a list of records."""

from __future__ import annotations

from html import escape
from importlib.util import find_spec
from io import StringIO
from typing import Any

from rich.console import Console

from hilsim.show.table import Table

MOST_SHOWN = 20  # rows of a `repr`
WIDTH = 120
MS = "_ms"  # the ending of columns that hold times as text, exact to the nanosecond


class Records(list[dict[str, Any]]):
    """Rows as mappings from column to value, with a `repr` as a table."""

    def __repr__(self) -> str:
        text = StringIO()
        Table.of(self[:MOST_SHOWN]).print(Console(file=text, width=WIDTH, force_terminal=False))
        more = f"... {len(self) - MOST_SHOWN} more rows" if len(self) > MOST_SHOWN else ""
        return f"{text.getvalue()}{more}".rstrip()

    def _repr_html_(self) -> str:
        more = f"<p>{escape(f'{len(self) - MOST_SHOWN} more rows')}</p>" if len(self) > MOST_SHOWN else ""
        return Table.of(self[:MOST_SHOWN])._repr_html_() + more


def as_frame(table: Table) -> Any:
    """A table as a `pandas.DataFrame`, or as `Records` where pandas is not installed; times as numbers."""
    timed = {place for place, column in enumerate(table.columns) if column.endswith(MS)}
    rows = [[number(cell) if place in timed else cell for place, cell in enumerate(row)] for row in table.rows]
    numbers = Table(table.columns, rows)
    return Records(numbers.records()) if find_spec("pandas") is None else numbers.to_pandas()


def number(cell: Any) -> Any:
    """Milliseconds that were written as text."""
    return float(cell) if isinstance(cell, str) else cell
