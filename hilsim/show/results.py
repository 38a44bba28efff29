"""The points of a study as rows: a table on the terminal, a CSV, a Parquet file. In the order of the grid."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hilsim.files import written
from hilsim.measure.measures import MEASURES
from hilsim.show.numbers import abbreviate, clean, counted, shortened, three_digits
from hilsim.show.table import Table, type_of
from hilsim.study.execution import Row
from hilsim.study.points import Grid, Label, label_text
from hilsim.study.spread import Spread, spread

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

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


def points_table(rows: Sequence[Row], grid: Grid, metrics: Sequence[str]) -> Table:
    """All points as they are exported: place, choice on every axis, seed, state, metrics, reason."""
    columns = ["point", *(column.head for column in grid.columns), "seed", "state", *metrics, "reason"]
    cells = [
        [row.point.index, *row.labels, row.point.seed, row.outcome.state, *map(row.outcome.metrics.get, metrics),
         row.outcome.reason or None]
        for row in rows
    ]  # fmt: skip
    return Table(columns, cells)


def write_points(
    rows: Sequence[Row], grid: Grid, metrics: Sequence[str], *, csv: Path | None, parquet: Path | None
) -> None:
    """All points as the requested files, each whole or not at all."""
    table = points_table(rows, grid, metrics)
    if csv is not None:
        with written(csv) as path, path.open("w", encoding="utf-8", newline="") as file:
            table.write_csv(file)
    if parquet is not None:
        with written(parquet) as path:
            table.write_parquet(path, types_of(grid, metrics))


def types_of(grid: Grid, metrics: Sequence[str]) -> dict[str, type]:
    """What holds every value of a column in Parquet: metrics are floats, an axis is what all of its labels are."""
    axes = {c.head: str if None in c.labels else type_of(c.labels) for c in grid.columns}
    return {"point": int, **axes, "seed": int, "state": str, **dict.fromkeys(metrics, float), "reason": str}


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


def table_of(cells: Sequence[Cell], grid: Grid, metrics: Sequence[str]) -> RichTable:
    """The table of some combinations and metrics."""
    from rich.table import Table as RichTable

    table = RichTable(box=None, pad_edge=False, header_style="bold")
    for column in grid.columns:
        longest = max(len(word) for label in column.labels for word in label_text(label).split())
        justify: Literal["left", "right"] = "right" if column.numeric else "left"
        table.add_column(in_lines(clean(column.head)), justify=justify, overflow="fold", min_width=min(60, longest))
    for name in metrics:
        table.add_column(in_lines(name), justify="right", no_wrap=True)
    names = [abbreviate([clean(label_text(label)) for label in column.labels], 60) for column in grid.columns]
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
    states_text = ", ".join(f"{states[state]} {state}" for state in ("done", "refused", "failed") if states[state])
    console.print(f"{counted(len(rows), 'point')}: {states_text or 'none has run'}.", highlight=False)
    for state in ("refused", "failed"):
        reasons = Counter(row.outcome.reason for row in rows if row.outcome.state == state).most_common()
        for reason, count in reasons[:MOST_REASONS]:
            text = f"  {count} {state}: {clean(shortened(reason, 300))}"
            console.print(text, style="dim", highlight=False, markup=False)
        if len(reasons) > MOST_REASONS:
            left = sum(count for _, count in reasons[MOST_REASONS:])
            console.print(f"  {left} {state} for {len(reasons) - MOST_REASONS} other reasons", style="dim")
