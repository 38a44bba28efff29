"""The points of a study as rows: a table on the terminal, a CSV, a Parquet file. In order, whoever ran them when."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from hilsim.measure.measures import MEASURES
from hilsim.show.numbers import clean, counted, shortened, three_digits, told_apart
from hilsim.study.execution import Row
from hilsim.study.points import Grid, Label, spelled
from hilsim.study.spread import Spread, spread

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MOST_ROWS = 40
MOST_REASONS = 6


@dataclass(frozen=True)
class Cell:
    """All points of one combination: each metric's mean and interval over the seeds that ran."""

    places: tuple[int, ...]
    labels: list[Label]
    metrics: dict[str, Spread | None]
    rows: list[Row]


def cells_of(rows: Sequence[Row], metrics: Sequence[str]) -> list[Cell]:
    """The rows by combination, in order."""
    together: dict[tuple[int, ...], list[Row]] = defaultdict(list)
    for row in rows:
        together[row.point.places].append(row)
    return [
        Cell(places, alike[0].labels, {name: spread(numbers(alike, name)) for name in metrics}, alike)
        for places, alike in together.items()
    ]


def numbers(rows: Sequence[Row], metric: str) -> list[float]:
    """One metric of the points that are done and have it."""
    found = (row.outcome.metrics.get(metric) for row in rows if row.outcome.state == "done")
    return [number for number in found if number is not None]


def best_of(cells: Sequence[Cell], metric: str) -> Cell | None:
    """The combination with the best mean; None where none has the metric, or neither way is better."""
    better = MEASURES[metric].better
    if not better:
        return None
    sign = -1 if better == "higher" else 1
    have = [(sign * found.mean, cell) for cell in cells if (found := cell.metrics[metric]) is not None]
    return min(have, key=lambda pair: pair[0])[1] if have else None


def columns_of(rows: Sequence[Row], grid: Grid, metrics: Sequence[str]) -> dict[str, list[Any]]:
    """The columns of the exports, by head."""
    found: dict[str, list[Any]] = {"point": [row.point.index for row in rows]}
    for place, column in enumerate(grid.columns):
        found[column.head] = [row.labels[place] for row in rows]
    found["seed"] = [row.point.seed for row in rows]
    found["state"] = [row.outcome.state for row in rows]
    found |= {name: [row.outcome.metrics.get(name) for row in rows] for name in metrics}
    found["reason"] = [row.outcome.reason or None for row in rows]
    return found


def write_csv(columns: dict[str, list[Any]], file: TextIO) -> None:
    """One row a point; numbers with all their digits, nothing where a point has no such number."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(["" if cell is None else spelled(cell) for cell in row])


def write_parquet(columns: dict[str, list[Any]], path: Path, grid: Grid, metrics: Sequence[str]) -> None:
    """The same columns with their types: metrics are doubles, an axis is what all of its labels are, else text."""
    import pyarrow
    import pyarrow.parquet

    types = {"point": pyarrow.int64(), "seed": pyarrow.int64(), **dict.fromkeys(metrics, pyarrow.float64())}
    arrays = {}
    for head, cells in columns.items():
        axis = next((column for column in grid.columns if column.head == head), None)
        kind = types.get(head, pyarrow.string()) if axis is None else axis_type(axis.labels)
        if kind == pyarrow.string():
            cells = [None if cell is None else spelled(cell) for cell in cells]
        arrays[head] = pyarrow.array(cells, kind)
    pyarrow.parquet.write_table(pyarrow.table(arrays), path)


def axis_type(labels: Sequence[Label]) -> Any:
    """The Parquet type that holds every label of an axis."""
    import pyarrow

    kinds = {type(label) for label in labels}
    if kinds == {bool}:
        return pyarrow.bool_()
    if kinds == {int} and all(abs(label) < 2**63 for label in labels if isinstance(label, int)):
        return pyarrow.int64()
    return pyarrow.float64() if kinds <= {int, float} else pyarrow.string()


def print_table(cells: Sequence[Cell], grid: Grid, metrics: Sequence[str], console: Console) -> None:
    """One row a combination; with repeats the mean and its 90 % interval. What has no room is left out, and named."""
    from rich.measure import Measurement

    shown, boundless = list(metrics), console.options.update_width(10_000)
    while True:
        table = table_of(cells[:MOST_ROWS], grid, shown)
        # A number that is cut would be another number.
        if len(shown) == 1 or Measurement.get(console, boundless, table).minimum <= console.width:
            break
        shown.pop()
    console.print(table)
    left_out = [f"{len(cells) - MOST_ROWS} more rows"] if len(cells) > MOST_ROWS else []
    left_out += [", ".join(metrics[len(shown) :])] if len(shown) < len(metrics) else []
    if left_out:
        console.print(f"Not shown: {' and '.join(left_out)}; --csv FILE has all of it.", style="dim", highlight=False)


def table_of(cells: Sequence[Cell], grid: Grid, metrics: Sequence[str]) -> Table:
    """The table of some combinations and metrics."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in grid.columns:
        longest = max(len(word) for label in column.labels for word in spelled(label).split())
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(in_lines(clean(column.head)), justify=justify, overflow="fold", min_width=min(60, longest))
    for name in metrics:
        table.add_column(in_lines(name), justify="right", no_wrap=True)
    names = [told_apart([clean(spelled(label)) for label in column.labels], 60) for column in grid.columns]
    for cell in cells:
        labels = [names[axis][place] for axis, place in enumerate(cell.places)]
        states = Counter(row.outcome.state for row in cell.rows)
        if states["done"]:
            table.add_row(*labels, *(number(cell.metrics[name]) for name in metrics))
        else:
            table.add_row(*labels, cell.rows[0].outcome.state, *("" for _ in metrics[1:]), style="dim")
    return table


def in_lines(name: str, width: int = 14) -> str:
    """A long name in lines that break after its marks."""
    lines = [""]
    for part in re.split(r"(?<=[_.])", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def number(found: Spread | None) -> str:
    """A mean, with the half width of its interval where there is one."""
    if found is None:
        return "-"
    return three_digits(found.mean) if not found.half_width else f"{as_exact(found.mean, found.half_width)}"


def as_exact(mean: float, half_width: float) -> str:
    """A mean with as many digits as its interval leaves, two of the half width: 2.438 ± 0.012."""
    decimals = max(0, 1 - math.floor(math.log10(half_width)))
    return f"{mean:,.{decimals}f} ± {half_width:,.{decimals}f}"


def print_reasons(rows: Sequence[Row], console: Console) -> None:
    """How many points are done, and why the others are not, the most common reasons first."""
    states = Counter(row.outcome.state for row in rows)
    told = ", ".join(f"{states[state]} {state}" for state in ("done", "refused", "failed") if states[state])
    console.print(f"{counted(len(rows), 'point')}: {told or 'none has run'}.", highlight=False)
    for state in ("refused", "failed"):
        reasons = Counter(row.outcome.reason for row in rows if row.outcome.state == state).most_common()
        for reason, count in reasons[:MOST_REASONS]:
            text = f"  {count} {state}: {clean(shortened(reason, 300))}"
            console.print(text, style="dim", highlight=False, markup=False)
        if len(reasons) > MOST_REASONS:
            left = sum(count for _, count in reasons[MOST_REASONS:])
            console.print(f"  {left} {state} for {len(reasons) - MOST_REASONS} other reasons", style="dim")
