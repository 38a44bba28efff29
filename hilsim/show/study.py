"""A study on the terminal, in files, and as a picture: lines over one number, or a map over two."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from hilsim.describe.study_load import Described
from hilsim.describe.write import typed_scenario
from hilsim.files import written
from hilsim.measure.measures import MEASURES
from hilsim.show.numbers import abbreviate, clean, counted, duration, percent, three_digits
from hilsim.show.plots.canvas import canvas, plain
from hilsim.show.plots.curves import BLACK_AND, MARKS, write_in_fields
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
MOST_LINES = len(BLACK_AND)
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
            color=BLACK_AND[number],
            marker=MARKS[number],
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


@dataclass(frozen=True)
class StudyAnswer:
    """A study that ran, or what a search of it found: its rows, and the metrics that are shown, the first of most
    interest.
    """

    described: Described
    grid: Grid
    rows: Sequence[Row]
    metrics: Sequence[str]
    searched: SearchResult | None = None

    @cached_property
    def cells(self) -> list[Cell]:
        """Every combination with its metrics; the request time is among them, by which points may be compared."""
        return cells_of(self.rows, list(dict.fromkeys([*self.metrics, LATENCY])))

    @property
    def front(self) -> list[Cell]:
        """The combinations that no other beats, of a search."""
        places = [] if self.searched is None else self.searched.front
        return [cell for one in places for cell in self.cells if cell.places == one]

    @property
    def several_goals(self) -> bool:
        """Whether a search had more than one objective, so that no point is the best."""
        return self.searched is not None and len(self.searched.goals) > 1

    @cached_property
    def compared_by(self) -> tuple[str, str]:
        """The metric by which one point is the best, and where it is not the first metric, why."""
        name = self.metrics[0]
        if name != SPEEDUP or (alone := baselines(self.rows)) is None:
            return name, ""
        alone_ms = f"{duration(alone[0])} to {duration(alone[1])} a request"
        text = f"Each speedup is over its own target alone, which takes {alone_ms}: "
        if self.searched is None:
            return LATENCY, f"{text}the best point is by {LATENCY}."
        return name, f"{text}for the quickest point search for {LATENCY}."

    @property
    def best(self) -> Cell | None:
        """The best combination; None where there is none, or several are."""
        if self.several_goals:
            return None
        if self.searched is not None:
            return self.front[0] if self.front else None
        return best_of(self.cells, self.compared_by[0])

    @property
    def best_typed(self) -> str:
        """The scenario of the best point, as it is typed behind a command."""
        assert self.best is not None, "no point is the best"
        return typed_scenario(self.described.scenario, self.overrides_of(self.best))

    def overrides_of(self, cell: Cell) -> list[str]:
        """The values of `--set` that make the scenario a combination; of several seeds the first is its own."""
        given = cell.rows[0].point.overrides
        chosen = [one for one in given if self.grid.varies("seed") or not one.startswith("seed=")]
        return [*self.described.base, *chosen]


def show(answer: StudyAnswer) -> None:
    """The table, what was refused and why, and the best points as commands."""
    from rich.console import Console

    console, study = Console(), answer.described.study
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    if study.question:
        console.print(clean(study.question), style="bold", highlight=False, markup=False)
    print_table(answer.front if answer.several_goals else answer.cells, answer.grid, answer.metrics, console)
    print_reasons(answer.rows, console)
    for sentence in conclusions(answer):
        console.print(sentence, highlight=False, markup=False)
    name, _ = answer.compared_by
    if (best := answer.best) is not None and (mean := best.metrics[name]) is not None:
        text = f"Best {name}, {three_digits(mean.mean)}: python simulate.py {answer.best_typed}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if failed := [row for row in answer.rows if row.outcome.state == "failed"]:
        text = f"{counted(len(failed), 'point')} failed unexpectedly; --retry-failed runs them again."
        console.print(text, style="bold red", highlight=False)


def conclusions(answer: StudyAnswer) -> Iterator[str]:
    """How far a search went, and by what points are compared."""
    searched, grid = answer.searched, answer.grid
    if searched is not None:
        trials = f"{searched.trials} trials of {counted(len(searched.tried), 'combination')}"
        share = percent(len(searched.tried) / grid.cells)
        yield f"Search: {trials}, {share} of the grid's {grid.cells:,}."
    if searched is not None and answer.several_goals:
        goals = ", ".join(answer.metrics[: len(searched.goals)])
        yield f"No other point is better in one and as good in all of {goals}."
    elif reason := answer.compared_by[1]:
        yield reason


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


def export(answer: StudyAnswer, *, csv: Path | None, parquet: Path | None, plot: Path | None) -> None:
    """Write the requested files, each whole or not at all."""
    rows, grid, metrics, study = answer.rows, answer.grid, answer.metrics, answer.described.study
    write_points(rows, grid, metrics, csv=csv, parquet=parquet)
    if plot is not None:
        with written(plot) as path:
            draw(cells_of(rows, metrics), grid, metrics, study.question or study.name, path, plot.suffix[1:])
