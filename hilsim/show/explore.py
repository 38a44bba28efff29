"""An exploration in the terminal, as a CSV and as a picture."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
from rich.table import Table

from hilsim.describe.load import Setup
from hilsim.show.kinds import DRAFT, TARGET
from hilsim.study.answer import Answer, Best
from hilsim.study.ranking import Objective

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 12  # of the Pareto set in the terminal; the CSV has all configurations
MOST_REASONS = 12
QUESTIONS = (  # of what is open, in this order; the choice it is about, and the part of it
    ("Where should the target run?", "target", ""),
    ("Which widths should I compile?", "target", "widths"),
    ("Which draft size?", "draft", "model"),
    ("Where should the draft run?", "draft", "place"),
    ("Over which link?", "link", ""),
    ("Which rule and payload?", "rules", ""),
    ("Which policy?", "policy", "name"),
)
NO_ANSWER = {"widths": ("any",), "model": ("none",), "place": ("",), "": ("none",)}


@dataclass(frozen=True)
class Finalist:
    """One of the best: the first objective by events and as screened, and its scenario file."""

    place: int
    by_events: float
    screened: float
    file: Path | None

    @property
    def agrees(self) -> bool:
        """Whether the event simulation says the very same number."""
        return self.by_events == self.screened


@dataclass(frozen=True)
class Exploration:
    """An answer with what it was made from; seconds of wall time."""

    base: Setup
    answer: Answer
    finalists: tuple[Finalist, ...]
    conversations: int
    requests: int
    preparing_s: float
    screening_s: float


def render(exploration: Exploration, console: Console) -> None:
    """Everything that is told in the terminal."""
    answer = exploration.answer
    found, total = answer.found, answer.found.left_out.total() + len(answer.found)
    console.print(
        f"[bold]{exploration.base.scenario.name}[/bold]: {total:,} configurations over {exploration.conversations} "
        f"conversations ({exploration.requests} requests)"
    )
    console.print(
        f"{len(found):,} screened, {found.rounds:,} rounds in {exploration.screening_s:.1f} s; "
        f"{exploration.preparing_s:.1f} s before that to load, compile and record",
        highlight=False,
    )
    if found.left_out or any(answer.broken.values()):
        console.print(reasons(found.left_out, answer.broken))
    if not len(answer.ranked):
        console.print("[bold red]No configuration keeps the constraints.[/bold red] Loosen one, or allow more.")
        for one in answer.constraints if len(found) else ():
            values = found.measures[one.measure]
            nearest = np.nanmin(values) if one.at_most else np.nanmax(values)
            console.print(f"  {one}: the nearest is {nearest:,.5g}", highlight=False)
        return
    console.print(pareto_table(answer))
    console.print(questions(answer))
    for rank, finalist in enumerate(exploration.finalists, 1):
        console.print(finalist_line(answer, finalist, rank), highlight=False, soft_wrap=True)
    console.print(
        "[dim]Times rest on the chips' figures, many of them assumed: simulate.py lists them with every answer, and "
        "scripts/ranking.py tells whether a ranking survives their ranges.[/dim]"
    )


def reasons(left_out: Counter[str], broken: Counter[str]) -> Table:
    """Why configurations are not in the answer, the most frequent first."""
    table = Table("left out because", "configurations", title="What is not in the answer", title_justify="left")
    table.columns[1].justify = "right"
    everything = sorted((left_out + broken).items(), key=lambda item: -item[1])
    for reason, count in everything[:MOST_REASONS]:
        table.add_row(reason, f"{count:,}")
    if rest := everything[MOST_REASONS:]:
        table.add_row(f"[dim]{len(rest)} further reasons[/dim]", f"{sum(count for _, count in rest):,}")
    return table


def pareto_table(answer: Answer) -> Table:
    """The Pareto set: only the columns in which its members differ, and the objectives."""
    shown = list(spread(answer.pareto, MOST_ROWS))
    columns = answer.distinguishing(shown)
    same = {name: value for name, value in answer.named(shown[0]).items() if name not in columns and value}
    title = (
        f"Pareto set of {', '.join(one.name for one in answer.objectives)}: {len(answer.pareto)} of "
        f"{len(answer.ranked):,}" + (f", {len(shown)} shown" if len(shown) < len(answer.pareto) else "")
    )
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for name in (*(head(one) for one in answer.objectives), "speedup"):
        table.add_column(name, justify="right", no_wrap=True)
    if same:
        table.caption = "all: " + ", ".join(f"{name} {value}" for name, value in same.items())
        table.caption_justify = "left"
    for place in shown:
        named, numbers = answer.named(place), answer.numbers(place)
        cells = [number(one, numbers[one.measure]) for one in answer.objectives]
        table.add_row(*(named[column] for column in columns), *cells, f"{numbers['speedup']:.2f}")
    return table


def spread(places: Sequence[int] | np.ndarray, most: int) -> list[int]:
    """At most so many of a long list, its ends among them."""
    if len(places) <= most:
        return [int(place) for place in places]
    return [int(places[round(step * (len(places) - 1) / (most - 1))]) for step in range(most)]


def head(one: Objective) -> str:
    """A column's head."""
    return f"{one.name.replace(chr(95), chr(10))}\n{one.unit}"


def number(one: Objective, value: float) -> str:
    """An objective's value in its unit."""
    if np.isnan(value):
        return "-"
    scaled = value / one.scale
    return f"{scaled:,.0f}" if scaled >= 1000 else f"{scaled:.4g}"


def questions(answer: Answer) -> Table:
    """The best answer to each question that the space leaves open, and what the next one costs."""
    table = Table("question", "answer", head(answer.objective), "next best", "costs", title="Answers",
                  title_justify="left")  # fmt: skip
    for column in (2, 4):
        table.columns[column].justify = "right"
    for question, kind, part in QUESTIONS:
        best = [one for one in answer.best_by(kind, part) if one.value not in NO_ANSWER.get(part, ())]
        if len(best) > 1:
            table.add_row(question, *told(answer.objective, best))
    return table


def told(objective: Objective, best: Sequence[Best]) -> tuple[str, str, str, str]:
    """The best value, its number, the next value, and how much worse it is."""
    first, second = best[0], best[1]
    worse = (second.cost - first.cost) / abs(first.cost) if first.cost else 0.0
    value = number(objective, abs(first.cost))
    return first.value, value, second.value, f"{worse:+.1%}" if worse >= 0.0005 else "nothing"


def finalist_line(answer: Answer, finalist: Finalist, rank: int) -> str:
    """A finalist in one line, with the event simulation's word on it."""
    named = ", ".join(f"{name} {value}" for name, value in answer.named(finalist.place).items() if value)
    one = answer.objective
    word = "the same by events" if finalist.agrees else f"[red]by events {number(one, finalist.by_events)}[/red]"
    where = f"\n   python simulate.py {finalist.file}" if finalist.file is not None else ""
    return f"{rank}. {named}\n   {one.name} {number(one, finalist.screened)} {one.unit}, {word}{where}"


def write_csv(stream: TextIO, answer: Answer) -> None:
    """Every screened configuration: its choices, its measures, and whether it keeps the constraints, best first."""
    writer = csv.writer(stream)
    ranked = {int(place) for place in answer.ranked}
    pareto = {int(place) for place in answer.pareto}
    names = list(answer.found.measures)
    rest = [place for place in range(len(answer.found)) if place not in ranked]
    for row, place in enumerate([*map(int, answer.ranked), *rest]):
        named, numbers = answer.named(place), answer.numbers(place)
        if row == 0:
            writer.writerow([*named, "keeps_constraints", "pareto", *names])
        values = ["" if np.isnan(numbers[name]) else repr(numbers[name]) for name in names]
        writer.writerow([*named.values(), int(place in ranked), int(place in pareto), *values])


def draw(path: Path, exploration: Exploration, kind: str) -> None:
    """Every configuration by the first two objectives, the Pareto set and the finalists on top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    answer = exploration.answer
    first, second = answer.objectives[0], (answer.objectives + answer.objectives)[1]
    figure = Figure(figsize=(10, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    x, y = (answer.found.measures[one.measure] / one.scale for one in (first, second))
    good = np.zeros(len(answer.found), dtype=bool)
    good[answer.ranked] = True
    for these, grey, label in ((~good, "0.88", "breaks a constraint"), (good, "0.65", "keeps the constraints")):
        if these.any():
            label = f"{label}: {these.sum():,}"
            axes.scatter(x[these], y[these], s=4, color=grey, linewidths=0, label=label, rasterized=True)
    pareto = answer.pareto
    axes.scatter(x[pareto], y[pareto], s=26, color=TARGET, linewidths=0, label=f"Pareto set: {len(pareto)}")
    for rank, finalist in enumerate(exploration.finalists, 1):
        at = (x[finalist.place], y[finalist.place])
        axes.scatter(*at, s=90, facecolors="none", edgecolors=DRAFT, linewidths=1.6)
        axes.annotate(str(rank), at, xytext=(7, -3 + 11 * rank), textcoords="offset points", color=DRAFT, weight="bold")
    axes.set(xlabel=f"{first.name}, {first.unit}", ylabel=f"{second.name}, {second.unit}")
    for axis, values, scale in ((axes.xaxis, x, axes.set_xscale), (axes.yaxis, y, axes.set_yscale)):
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        if 0 < 4 * low < high:
            scale("log")
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(lambda value, _: f"{value:g}" if str(value)[0] in "25" else "")
    axes.set_title(f"{exploration.base.scenario.name}: {len(answer.found):,} configurations that run")
    axes.grid(True, which="major", color="0.92", linewidth=0.6)
    axes.legend(loc="best", fontsize=9, frameon=True, framealpha=0.9)
    figure.savefig(path, dpi=120, format=kind)
