"""The table of predicted and measured figures on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.table import Table as RichTable
from rich.text import Text

from hilsim.comparison import Comparison
from hilsim.show.table import Table


def comparison_table(
    rows: Sequence[Comparison], number: Callable[[float], str], more: Mapping[str, Sequence[str | Text]]
) -> RichTable:
    """A row a comparison: what, measured, predicted, and `more` columns. A unit that all share is in the head."""
    units = {row.unit for row in rows}
    unit = f" {units.pop()}" if len(units) == 1 else ""
    table = Table(("", f"measured{unit}", f"predicted{unit}", *more), [], 1).rich()
    for row, *others in zip(rows, *more.values(), strict=True):
        measured = "-" if row.measured is None else number(row.measured)
        table.add_row(row.what if unit else f"{row.what}, {row.unit}", measured, number(row.predicted), *others)
    return table


def signed(share: float | None) -> str:
    """A difference as a percentage with its sign, or a dash."""
    return "-" if share is None else f"{share:+.1%}"
