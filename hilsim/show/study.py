"""A study as a picture: lines over one number, a line for every choice of the other axes, or a map over two numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from hilsim.measure.measures import MEASURES
from hilsim.show.numbers import three_digits, told_apart
from hilsim.show.plots.canvas import canvas, plain
from hilsim.show.plots.scatter import COLOURS, MARKERS
from hilsim.show.results import Cell
from hilsim.study.points import Column, Grid, spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 4
MOST_LINES = len(COLOURS)
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
    others = [[spelled(label) for place, label in enumerate(line[0].labels) if place != across] for line in shown]
    columns = list(zip(*others, strict=True))
    telling = [told_apart(column, 30) for column in columns if len(set(column)) > 1 or len(columns) == 1]
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
        ticks = [fill(label, 24) for label in told_apart([spelled(label) for label in column.labels], 24)]
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
        for (row, place), value in np.ndenumerate(field):
            if np.isfinite(value):
                bright = image.cmap(image.norm(value))
                dark = 0.3 * bright[0] + 0.59 * bright[1] + 0.11 * bright[2] > 0.5
                axes.text(place, row, three_digits(value), ha="center", va="center", fontsize=7,
                          color="black" if dark else "white")  # fmt: skip
    for column, set_ticks in ((across, axes.set_xticks), (up, axes.set_yticks)):
        step = max(1, len(column.labels) // 12)
        set_ticks(range(0, len(column.labels), step), [spelled(label) for label in column.labels[::step]])
    axes.set_xlabel(across.head)
    axes.set_ylabel(up.head)
