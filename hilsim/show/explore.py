"""An exploration in the terminal, as a CSV and as a picture."""

from __future__ import annotations

import csv
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hilsim.describe.outside import outside_car
from hilsim.describe.write import scenario_text
from hilsim.files import written
from hilsim.show.document import as_json as json_text
from hilsim.show.document import assumptions
from hilsim.show.kinds import DRAFT, TARGET
from hilsim.show.plots.canvas import canvas, plain
from hilsim.show.plots.curves import finished
from hilsim.show.sentences import outside_sentence
from hilsim.show.table import is_absent
from hilsim.study.answer import Answer, Best
from hilsim.study.explorer import Exploration, Finalist
from hilsim.study.placements import SURE, WITHIN
from hilsim.study.ranking import RankingObjective

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 12  # of the Pareto set in the terminal; the CSV has all configurations
MOST_REASONS = 12
MOST_MOVERS = 3
INDENT = (0, 0, 0, 3)
RESTS = "Times rest on the chips' figures, many of them assumed: simulate.py lists them with every answer."
RANKING = "scripts/ranking.py shows whether the ranking holds over their ranges."
TOLERANCE = 0.01  # of a live run in float32, whose last bits may give another text
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


def render(exploration: Exploration, console: Console, folder: Path | None = None) -> None:
    """Print everything to the terminal; no name is broken and nothing cut, however narrow it is.

    `folder` is where `write_finalists` wrote, if it did.
    """
    answer, base = exploration.answer, exploration.question.base
    requests = sum(len(conversation.turns) for conversation in base.conversations)
    found, total = answer.found, answer.found.left_out.total() + len(answer.found)
    console.print(
        f"[bold]{base.scenario.name}[/bold]: {total:,} configurations over {len(base.conversations)} "
        f"conversations ({requests} requests)"
    )
    console.print(
        f"{len(found) - found.by_events:,} screened, {found.rounds:,} rounds, and {found.by_events:,} run by events "
        f"in {exploration.screening_s:.1f} s; {exploration.preparing_s:.1f} s before that to load, compile and record",
        highlight=False,
    )
    if outside := outside_car(base):
        console.print(f"[bold red]{outside_sentence(outside)}[/bold red]")
    if len(found):
        console.print(doubtful(found.measures), highlight=False)
    if found.left_out or any(answer.broken.values()):
        console.print(reasons(found.left_out, answer.broken))
    if not len(answer.ranked):
        console.print("[bold red]No configuration meets the constraints.[/bold red] Loosen one, or allow more.")
        for line in nearest(answer):
            console.print(f"  {line}", highlight=False)
        return
    render_pareto(answer, console)
    render_questions(answer, console)
    for rank, finalist in enumerate(exploration.finalists, 1):
        first, *rest = finalist_lines(answer, finalist, rank)
        console.print(first, highlight=False)
        console.print(Padding("\n".join(rest), INDENT), highlight=False)
        if folder is not None:
            file = scenario_file(exploration, folder, rank)
            console.print(f"   python simulate.py {file}", highlight=False, soft_wrap=True)
    if exploration.own is not None:
        wanted = answer.objective
        console.print(
            f"The unchanged scenario: {wanted.name} {number(wanted, exploration.own)} {wanted.unit}; "
            f"{exploration.better:,} of {len(answer.ranked):,} configurations are better by it.",
            highlight=False,
        )
    if roles := dict.fromkeys(role for each in exploration.finalists for role in outside_car(each.setup)):
        console.print(f"[bold red]{outside_sentence([*roles])}[/bold red]")
    command = ranking_command(exploration)
    end = "Whether the ranking of these survives their ranges:" if command else RANKING
    console.print(f"[dim]{RESTS} {end}[/dim]")
    if command:
        console.print(Text(command, "dim"), highlight=False, soft_wrap=True)


def nearest(answer: Answer) -> list[str]:
    """How near the configurations that run come to each constraint."""
    found, lines = answer.found, []
    for one in answer.constraints if len(found) else ():
        values = found.measures[one.measure]
        lines.append(f"{one}: the nearest is {np.nanmin(values) if one.at_most else np.nanmax(values):,.5g}")
    return lines


def ranking_command(exploration: Exploration) -> str:
    """The command that ranks the finalists under draws of their figures; "" where there is nothing to rank."""
    question, finalists = exploration.question, exploration.finalists
    if len(finalists) < 2:
        return ""
    parts = ["python", "scripts/ranking.py", str(question.file), "--objective", question.objective.name]
    parts += [part for one in question.overrides for part in ("--set", one)]
    return shlex.join([*parts, *(p for each in finalists for p in ("--contender", shlex.join(each.overrides)))])


def scenario_file(exploration: Exploration, folder: Path, rank: int) -> Path:
    """Where the scenario of a finalist is written."""
    return folder / f"{exploration.question.file.stem}-{rank}.yaml"


def write_finalists(exploration: Exploration, folder: Path) -> None:
    """Write explore.json, and a scenario file for each finalist."""
    question, answer = exploration.question, exploration.answer
    for rank, finalist in enumerate(exploration.finalists, 1):
        file, numbers = scenario_file(exploration, folder, rank), answer.numbers(finalist.place)
        head = [
            f"Finalist {rank} of `python -m hilsim explore {shlex.quote(str(question.file))}` by "
            f"{question.objective.name}:",
            f"{question.objective.measure} {finalist.screened:.6g}, speed-up {numbers['speedup']:.3f} over its own "
            "target alone.",
            f"python simulate.py {shlex.quote(str(file))} runs it live, and should give the same within "
            f"{TOLERANCE:.0%}.",
        ]
        with written(file) as path:
            overrides = [*question.overrides, *finalist.overrides]
            path.write_text(scenario_text(question.file, overrides, head), encoding="utf-8")
    with written(folder / "explore.json") as path:
        path.write_text(json_text(as_json(exploration)), encoding="utf-8")


def as_json(exploration: Exploration) -> dict[str, Any]:
    """The finalists with everything that they rest on, for `--out`."""
    answer, one = exploration.answer, exploration.answer.objective
    return {
        "scenario": exploration.question.base.scenario.name,
        "objective": {"name": one.name, "measure": one.measure, "goal": one.goal},
        "own": exploration.own,
        "better_than_own": exploration.better,
        "ranked": len(answer.ranked),
        "finalists": [
            {
                "rank": rank,
                "choices": answer.named(each.place),
                "set": list(each.overrides),
                "talk_leaves_car": list(outside_car(each.setup)),
                "measures": {k: None if np.isnan(v) else v for k, v in answer.numbers(each.place).items()},
                "by_events": each.by_events,
                "moved_most_by": [
                    {"figure": mover.figure, "at_low": mover.at_low, "at_high": mover.at_high}
                    for mover in each.rests.movers
                ],
                "does_not_fit_with": [
                    {"figure": limit.figure, "value": limit.value, "unit": limit.unit} for limit in each.rests.limits
                ],
                "assumptions": assumed_figures(each),
            }
            for rank, each in enumerate(exploration.finalists, 1)
        ],
        "ranking": ranking_command(exploration),
    }


def doubtful(measures: Mapping[str, np.ndarray]) -> str:
    """How many of the configurations fit, and on what grounds; how many go beyond a published limit."""
    sure, within = measures[SURE] == 1, measures[WITHIN] == 1
    over = f"; {int((~within).sum()):,} go beyond a published limit" if (~within).any() else ""
    return (
        f"{int(sure.sum()):,} of them fit over the whole range of the memories' figures, {int((~sure).sum()):,} only "
        f"under conditions (python -m hilsim check names them){over}"
    )


def reasons(left_out: Counter[str], broken: Counter[str]) -> Table:
    """Why configurations are not in the answer, the most frequent first."""
    table = Table("reason", "configurations", title="Configurations left out", title_justify="left")
    table.columns[1].justify = "right"
    everything = reasons_counted(left_out, broken)
    for reason, count in everything[:MOST_REASONS]:
        table.add_row(reason, f"{count:,}")
    if rest := everything[MOST_REASONS:]:
        table.add_row(f"[dim]{len(rest)} further reasons[/dim]", f"{sum(count for _, count in rest):,}")
    return table


def reasons_counted(left_out: Counter[str], broken: Counter[str]) -> list[tuple[str, int]]:
    """Why configurations are not in the answer, and how many by each reason, the most frequent first."""
    return sorted((left_out + broken).items(), key=lambda item: -item[1])


def render_pareto(answer: Answer, console: Console) -> None:
    """The Pareto set: only the columns in which its members differ, and the objectives.

    Where a name would not fit into its column, rows are numbered, with the names below.
    """
    shown = list(spread(answer.pareto, MOST_ROWS))
    columns = answer.distinguishing(shown)
    same = {name: value for name, value in answer.named(shown[0]).items() if name not in columns and value}
    title = (
        f"Pareto set of {', '.join(one.name for one in answer.objectives)}: {len(answer.pareto)} of "
        f"{len(answer.ranked):,}" + (f", {len(shown)} shown" if len(shown) < len(answer.pareto) else "")
    )
    table = pareto_table(answer, shown, columns)
    if numbered := not has_room(table, console):
        table = pareto_table(answer, shown, ())
    console.print(title, style="italic", highlight=False)
    console.print(table)
    for row, place in enumerate(shown, 1) if numbered else ():
        named = answer.named(place)
        console.print(Padding(f"{row}  " + listed({name: named[name] for name in columns}), INDENT), highlight=False)
    if same:
        console.print("all: " + listed(same), style="dim", highlight=False)
    console.print("x own: over the target alone at the same place; as that differs, it does not rank placements",
                  style="dim", highlight=False)  # fmt: skip


def pareto_table(answer: Answer, shown: Sequence[int], columns: Sequence[str]) -> Table:
    """A row a member: its choices in some columns, or its number, and its objectives."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns or ("",):
        table.add_column(column, overflow="fold", justify="left" if columns else "right")
    for name in (*(head(one) for one in answer.objectives), "x own"):
        table.add_column(name, justify="right", no_wrap=True)
    for row, place in enumerate(shown, 1):
        named, numbers = answer.named(place), answer.numbers(place)
        cells = [number(one, numbers[one.measure]) for one in answer.objectives]
        names = [named[column] for column in columns] or [str(row)]
        table.add_row(*names, *cells, f"{numbers['speedup']:.2f}")
    return table


def has_room(table: Table, console: Console) -> bool:
    """Whether no word of a table would be broken over two lines."""
    boundless = console.options.update_width(10_000)
    return Measurement.get(console, boundless, table).minimum <= console.width


def listed(named: Mapping[str, str]) -> str:
    """Choices in one line."""
    return ", ".join(f"{name} {value}" for name, value in named.items() if value)


def spread(places: Sequence[int] | np.ndarray, most: int) -> list[int]:
    """At most so many of a long list, its ends among them."""
    if len(places) <= most:
        return [int(place) for place in places]
    return [int(places[round(step * (len(places) - 1) / (most - 1))]) for step in range(most)]


def head(one: RankingObjective) -> str:
    """A column's head."""
    return f"{one.name.replace(chr(95), chr(10))}\n{one.unit}"


def number(one: RankingObjective, value: float) -> str:
    """An objective's value in its unit."""
    if np.isnan(value):
        return "-"
    scaled = value / one.scale
    return f"{scaled:,.0f}" if scaled >= 1000 else f"{scaled:.4g}"


def render_questions(answer: Answer, console: Console) -> None:
    """The best answer to each question that the space leaves open, and what the next one costs."""
    table = Table("question", "answer", head(answer.objective), "next best", "costs", box=SIMPLE_HEAD, pad_edge=False)
    for column in (2, 4):
        table.columns[column].justify = "right"
    rows = list(question_rows(answer))
    for row in rows:
        table.add_row(*row)
    console.print("Answers", style="italic")
    if has_room(table, console):
        console.print(table)
        return
    for question, first, value, second, worse in rows:
        one = answer.objective
        console.print(f"  {question} {first}: {value} {one.unit}; next {second}, {worse}", highlight=False)


def question_rows(answer: Answer) -> Iterator[tuple[str, str, str, str, str]]:
    """Each question that the space leaves open: its best answer and number, the next, and how much worse that is."""
    for question, kind, part in QUESTIONS:
        best = [one for one in answer.best_by(kind, part) if one.value not in NO_ANSWER.get(part, ())]
        if len(best) > 1:
            yield (question, *best_row(answer.objective, best))


def best_row(objective: RankingObjective, best: Sequence[Best]) -> tuple[str, str, str, str]:
    """The best value, its number, the next value, and how much worse it is."""
    first, second = best[0], best[1]
    worse = (second.cost - first.cost) / abs(first.cost) if first.cost else 0.0
    value = number(objective, abs(first.cost))
    return first.value, value, second.value, f"{worse:+.1%}" if worse >= 0.0005 else "nothing"


def finalist_lines(answer: Answer, finalist: Finalist, rank: int) -> list[str]:
    """A finalist: its choices, its result by event simulation, and the assumed figures that it rests on."""
    one = answer.objective
    confirmed = (
        "the same by event simulation"
        if finalist.agrees
        else f"[red]by event simulation {number(one, finalist.by_events)}[/red]"
    )
    lines = [f"{rank}. {listed(answer.named(finalist.place))}"]
    lines.append(f"{one.name} {number(one, finalist.screened)} {one.unit}, {confirmed}")
    if assumed := assumed_figures(finalist):
        lines.append(f"rests on {len(assumed)} assumed figures (--out has all){rests_text(one, finalist)}")
    return lines


def assumed_figures(finalist: Finalist) -> list[dict[str, Any]]:
    """The figures of a finalist's document that are assumed."""
    return [figure for figure in assumptions(finalist.setup) if figure["kind"] == "assumed"]


def rests_text(one: RankingObjective, finalist: Finalist) -> str:
    """The assumed figures that move a finalist most over their ranges, and those at which it does not fit."""
    movers = [
        f"{mover.figure} ({number(one, mover.at_low)} to {number(one, mover.at_high)} {one.unit})"
        for mover in finalist.rests.movers[:MOST_MOVERS]
    ]
    most = f"; most sensitive to {', '.join(movers)}" if movers else ""
    limits = [f"{limit.figure} {limit.value:g} {limit.unit}" for limit in finalist.rests.limits]
    return most + (f"; [bold]does not fit with {' or '.join(limits)}[/bold]" if limits else "")


def configurations(answer: Answer) -> Iterator[dict[str, Any]]:
    """Every screened configuration: its choices, whether it meets the constraints, and its measures, best first."""
    ranked = {int(place) for place in answer.ranked}
    pareto = {int(place) for place in answer.pareto}
    rest = [place for place in range(len(answer.found)) if place not in ranked]
    for place in (*map(int, answer.ranked), *rest):
        flags = {"keeps_constraints": int(place in ranked), "pareto": int(place in pareto)}
        yield {**answer.named(place), **flags, **answer.numbers(place)}


def write_csv(stream: TextIO, answer: Answer) -> None:
    """The configurations, a row each; an absent value is empty."""
    writer = csv.writer(stream)
    for row, found in enumerate(configurations(answer)):
        if row == 0:
            writer.writerow(found)
        cells = found.values()
        writer.writerow("" if is_absent(cell) else repr(cell) if isinstance(cell, float) else cell for cell in cells)


def draw(path: Path, exploration: Exploration, kind: str) -> None:
    """Every configuration by the first two objectives, the Pareto set and the finalists on top."""
    answer = exploration.answer
    first, second = answer.objectives[0], (answer.objectives + answer.objectives)[1]
    figure = canvas(10, 6)
    axes = figure.add_subplot()
    x, y = (answer.found.measures[one.measure] / one.scale for one in (first, second))
    good = np.zeros(len(answer.found), dtype=bool)
    good[answer.ranked] = True
    for these, grey, label in ((~good, "0.88", "violates a constraint"), (good, "0.65", "meets the constraints")):
        if these.any():
            label = f"{label}: {these.sum():,}"
            axes.scatter(x[these], y[these], s=5, color=grey, linewidths=0, label=label, rasterized=True)
    pareto = answer.pareto
    axes.scatter(x[pareto], y[pareto], s=26, color=TARGET, linewidths=0, label=f"Pareto set: {len(pareto)}")
    for rank, finalist in enumerate(exploration.finalists, 1):
        at = (x[finalist.place], y[finalist.place])
        axes.scatter(*at, s=90, facecolors="none", edgecolors=DRAFT, linewidths=1.6,
                     label="finalists, by rank" if rank == 1 else None)  # fmt: skip
        axes.annotate(str(rank), at, xytext=(20 * rank - 40, -28), textcoords="offset points", color="black",
                      weight="bold", arrowprops={"arrowstyle": "-", "color": DRAFT, "linewidth": 0.8})  # fmt: skip
    across, up = (f"{one.name.replace('_', ' ')}, {one.unit}" for one in (first, second))
    axes.set(xlabel=across, ylabel=up)
    for axis, values, scale in ((axes.xaxis, x, axes.set_xscale), (axes.yaxis, y, axes.set_yscale)):
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        if 0 < 4 * low < high:
            scale("log")
            axis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.set_minor_formatter(lambda value, _: f"{value:g}" if str(value)[0] in "25" else "")
    plain(axes, "both")
    figure.legend(loc="outside lower left", ncols=4, fontsize=9, frameon=False)
    finished(
        figure, f"{exploration.question.base.scenario.name}: {len(answer.found):,} configurations that run", path, kind
    )
