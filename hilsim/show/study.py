"""A study on the terminal, in files, and as a picture: lines over one number, or a map over two."""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from hilsim.describe.study import Study
from hilsim.describe.write import typed
from hilsim.files import written
from hilsim.measure.measures import MEASURES
from hilsim.show.numbers import abbreviate, clean, counted, duration, percent, three_digits
from hilsim.show.plots.canvas import canvas, plain
from hilsim.show.plots.curves import write_in_fields
from hilsim.show.plots.scatter import COLOURS, MARKERS
from hilsim.show.results import (
    Cell,
    best_of,
    cells_of,
    print_reasons,
    print_table,
    write_points,
)
from hilsim.study.execution import SPEEDUP, Row
from hilsim.study.points import Column, Grid, label_text
from hilsim.study.search import SearchResult
from hilsim.study.sweeps import LATENCY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 4
MOST_LINES = len(COLOURS)
SAME = 1e-3  # times of the target alone that differ by less are one
WIDE = 140  # columns of a table that no terminal limits
MOST_NUMBERED = 150  # fields of a map that still have room for their number


def draw(cells: Sequence[Cell], grid: Grid, metrics: Sequence[str], title: str, path: Path, kind: str) -> None:
    """One panel a metric, the first four of them. `kind` is png, svg or pdf."""
    shown = metrics[:MOST_PANELS]
    across = len(shown) if len(shown) < 4 else 2
    down = (len(shown) + across - 1) // across
    figure = canvas((7.2 if across < 3 else 6) * across, 4.6 * down + 0.4)
    first, second = axes_of(grid)
    mapped = second is not None and len(grid.columns) == 2
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for panel, metric in zip(panels, shown, strict=False):
        if mapped and second is not None:
            draw_map(panel, cells, grid, (first, second), metric)
        else:
            draw_lines(panel, cells, grid, first, metric)
    for panel in panels[len(shown) :]:
        panel.remove()
    figure.suptitle(fill(title, round(13 * figure.get_figwidth())), fontsize=11, x=0.01, ha="left")
    if not mapped:
        handles, labels = panels[0].get_legend_handles_labels()
        if len(labels) > 1:
            heads = [column.head for place, column in enumerate(grid.columns) if place != first]
            figure.legend(
                handles, labels, title=", ".join(heads), loc="outside right center", frameon=False, fontsize=9
            )
    figure.savefig(path, dpi=120, format=kind)


def axes_of(grid: Grid) -> tuple[int, int | None]:
    """The axis that lies across, and for a map the one that goes up: numbers with more values than lines could show."""
    numeric = [place for place, column in enumerate(grid.columns) if column.rising and len(column.rows) > 1]
    numeric.sort(key=lambda place: -len(grid.columns[place].rows))
    first = numeric[0] if numeric else 0
    second = next((place for place in numeric[1:] if len(grid.columns[place].rows) > 5), None)
    return first, second


def draw_lines(axes: Axes, cells: Sequence[Cell], grid: Grid, across: int, metric: str) -> None:
    """A line for every choice of the other axes, with the intervals of the means where there are repeats."""
    column = grid.columns[across]
    lines: dict[tuple[int, ...], list[Cell]] = {}
    for cell in cells:
        lines.setdefault((*cell.places[:across], *cell.places[across + 1 :]), []).append(cell)
    shown = list(lines.values())[:MOST_LINES]
    others = [[label_text(label) for place, label in enumerate(line[0].labels) if place != across] for line in shown]
    columns = list(zip(*others, strict=True))
    telling = [abbreviate(column, 30) for column in columns if len(set(column)) > 1 or len(columns) == 1]
    names = [", ".join(parts) for parts in zip(*telling, strict=True)]
    for number, line in enumerate(shown):
        # Where nothing orders the choices, marks of one choice stand beside each other.
        beside = 0.0 if column.rising else 0.5 * ((number + 0.5) / len(shown) - 0.5)
        over = 1 - number / len(shown)  # lines that lie on each other: the lower ones look out
        points = [(cell, found) for cell in line if (found := cell.metrics[metric]) is not None]
        axes.errorbar(
            [position(column, cell.places[across]) + beside for cell, _ in points],
            [found.mean for _, found in points],
            yerr=[found.half_width or 0.0 for _, found in points] if grid.repeats > 1 else None,
            label=fill(names[number], 44) if names else "",
            color=COLOURS[number],
            marker=MARKERS[number],
            markersize=3.5 + 4 * over,
            linewidth=1.2 + 2 * over,
            linestyle="-" if column.rising else "",
            capsize=2,
            elinewidth=1,
        )
    if column.rising:
        axes.set_xscale("log" if column.log else "linear")
        if len(column.rows) <= 12 and not column.log:
            axes.set_xticks([float(label) for label in column.labels if isinstance(label, int | float)])
    else:
        ticks = [fill(label, 24) for label in abbreviate([label_text(label) for label in column.labels], 24)]
        axes.set_xlim(-0.5, len(ticks) - 0.5)
        slanted = max(map(len, ticks)) > 10
        axes.set_xticks(range(len(ticks)), ticks, rotation=25 * slanted, ha="right" if slanted else "center")
    axes.set_xlabel(column.head)
    axes.set_ylabel(f"{metric}, {MEASURES[metric].unit}")
    if len(lines) > MOST_LINES:
        axes.set_title(f"the first {MOST_LINES} of {len(lines)} lines", fontsize=9, color="0.4", loc="right")
    plain(axes, "both")


def position(column: Column, place: int) -> float:
    """Where a choice lies: at its number, or one beside the other."""
    label = column.labels[place]
    return float(label) if column.rising and isinstance(label, int | float) else float(place)


def draw_map(axes: Axes, cells: Sequence[Cell], grid: Grid, places: tuple[int, int], metric: str) -> None:
    """A field for every combination, bright where the metric is good; what was refused stays grey."""
    import numpy as np

    across, up = (grid.columns[place] for place in places)
    field = np.full((len(up.rows), len(across.rows)), np.nan)
    for cell in cells:
        if (found := cell.metrics[metric]) is not None:
            field[cell.places[places[1]], cell.places[places[0]]] = found.mean
    axes.set_facecolor("0.85")
    colours = "viridis_r" if MEASURES[metric].better == "lower" else "viridis"
    image = axes.imshow(field, origin="lower", aspect="auto", cmap=colours)
    axes.figure.colorbar(image, ax=axes, label=f"{metric}, {MEASURES[metric].unit}")
    if field.size <= MOST_NUMBERED:
        numbers = {place: three_digits(value) for place, value in np.ndenumerate(field) if np.isfinite(value)}
        write_in_fields(axes, image, field, numbers)
    for column, set_ticks in ((across, axes.set_xticks), (up, axes.set_yticks)):
        step = max(1, len(column.labels) // 12)
        set_ticks(range(0, len(column.labels), step), [label_text(label) for label in column.labels[::step]])
    axes.set_xlabel(across.head)
    axes.set_ylabel(up.head)


def show(
    study: Study,
    rows: Sequence[Row],
    grid: Grid,
    metrics: Sequence[str],
    searched: SearchResult | None,
    ran: tuple[Path, tuple[str, ...]],
) -> None:
    """The table, what was refused and why, and the best points as commands; `ran` is the scenario and its --set."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    if study.question:
        console.print(clean(study.question), style="bold", highlight=False, markup=False)
    cells = cells_of(rows, metrics)
    front = [] if searched is None else [cell for places in searched.front for cell in cells if cell.places == places]
    print_table(front if searched is not None and len(searched.goals) > 1 else cells, grid, metrics, console)
    print_reasons(rows, console)
    if searched is not None:
        trials = f"{searched.trials} trials of {counted(len(searched.tried), 'combination')}"
        share = percent(len(searched.tried) / grid.cells)
        console.print(f"Search: {trials}, {share} of the grid's {grid.cells:,}.", highlight=False)
    if searched is not None and len(searched.goals) > 1:
        console.print(
            f"No other point is better in one and as good in all of {', '.join(metrics[: len(searched.goals)])}."
        )
        return
    name = metrics[0]
    if name == SPEEDUP and (alone := baselines(rows)) is not None:
        alone_ms = f"{duration(alone[0])} to {duration(alone[1])} a request"
        text = f"Each speedup is over its own target alone, which takes {alone_ms}: "
        if searched is None:
            name = LATENCY
            cells = cells_of(rows, [*metrics, name])
            text += f"the best point is by {name}."
        else:
            text += f"for the quickest point search for {LATENCY}."
        console.print(text, highlight=False)
    best = front[0] if front else None if searched is not None else best_of(cells, name)
    if best is not None and (mean := best.metrics[name]) is not None:
        # Of several seeds the first is the scenario's own.
        chosen = [
            given for given in best.rows[0].point.overrides if grid.varies("seed") or not given.startswith("seed=")
        ]
        command = f"python simulate.py {shlex.quote(str(short_path(ran[0])))} {typed([*ran[1], *chosen])}"
        text = f"Best {name}, {three_digits(mean.mean)}: {command}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if failed := [row for row in rows if row.outcome.state == "failed"]:
        text = f"{counted(len(failed), 'point')} failed unexpectedly; --retry-failed runs them again."
        console.print(text, style="bold red", highlight=False)


def baselines(rows: Sequence[Row]) -> tuple[float, float] | None:
    """The least and the longest request of the target alone, where points of one seed differ in it.

    None where they do not, and where answers are of different lengths, so that speed-ups compare better than times.
    """
    alone: dict[int, list[float]] = defaultdict(list)
    tokens: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        found = [row.outcome.metrics.get(name) for name in (SPEEDUP, LATENCY, "output_token_throughput")]
        if row.outcome.state == "done" and None not in found:
            gain, latency, rate = (float(number or 0.0) for number in found)
            alone[row.point.seed].append(gain * latency)
            tokens[row.point.seed].append(rate * latency)
    apart = [seed for seed, times in alone.items() if max(times) > (1 + SAME) * min(times)]
    if not apart or any(max(tokens[seed]) > (1 + SAME) * min(tokens[seed]) for seed in apart):
        return None
    return min(map(min, alone.values())), max(map(max, alone.values()))


def short_path(file: Path) -> Path:
    """A path as it is typed here."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def export(
    study: Study, rows: Sequence[Row], grid: Grid, metrics: Sequence[str], *, csv: Path | None, parquet: Path | None,
    plot: Path | None,
) -> None:  # fmt: skip
    """Write the requested files, each whole or not at all."""
    write_points(rows, grid, metrics, csv=csv, parquet=parquet)
    if plot is not None:
        with written(plot) as path:
            draw(cells_of(rows, metrics), grid, metrics, study.question or study.name, path, plot.suffix[1:])
