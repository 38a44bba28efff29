"""A study as a page: its metrics over its axes, the best points, what was refused and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bokeh.models import Model

from hilsim.compiler.compile_check import load_compiled
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.describe.write import scenario_text
from hilsim.measure.measures import MEASURES
from hilsim.show.document import assumptions as assumed
from hilsim.show.numbers import abbreviate, clean, counted, three_digits
from hilsim.show.page import many
from hilsim.show.page.charts import ZOOM
from hilsim.show.page.frame import Page, Section, about, assumptions, caveats_of, measure_first, reproduce
from hilsim.show.results import Cell, number
from hilsim.show.sentences import outside_sentence
from hilsim.show.study import MOST_LINES, MOST_PANELS, StudyAnswer, axes_of, conclusions, position
from hilsim.show.table import Table
from hilsim.show.words import words
from hilsim.study.execution import outside_roles
from hilsim.study.points import Column, Grid, label_text

MOST_ROWS = 60  # of the table of the best points; --csv has all
MOST_REASONS = 20
MOST_FIELDS = 2500  # of a map; axes of more are lines


def page_of(answer: StudyAnswer, text: str, command: str) -> Page:
    """The page of a study that ran; `text` is its file, `command` what reproduces it."""
    described = answer.described
    study, setup = described.study, load_setup(described.scenario, described.base)
    roles = outside_roles(described, answer.grid)
    doubts, against = caveats_of(setups_of(answer))
    facts = {"scenario": setup.scenario.name, "digest": setup.digest, "seed": described.seed}
    return Page(
        name=study.name,
        about=about(f"study {study.name}", facts),
        question=clean(study.question),
        headline=headline(answer),
        good=bool(answer.best or answer.front) and not against,
        verdict=(states(answer), *conclusions(answer)),
        caveats=(*([outside_sentence(roles)] if roles else []), *doubts),
        sections=tuple(sections_of(answer, setup, text, command)),
    )


def setups_of(answer: StudyAnswer) -> Iterator[tuple[str, Setup]]:
    """The setup of the best point, or of those that no other beats, as far as these are listed, by their choices."""
    for cell in answer.front[:MOST_ROWS] if answer.several_goals else filter(None, [answer.best]):
        yield chosen(cell, answer.grid), load_compiled(answer.described.scenario, answer.overrides_of(cell))


def headline(answer: StudyAnswer) -> str:
    """The best point in a sentence."""
    name, _ = answer.compared_by
    if answer.several_goals:
        return f"{counted(len(answer.front), 'combination')} that no other beats in all objectives."
    best = answer.best
    if best is None or (mean := best.metrics[name]) is None:
        return "No point has a result." if not MEASURES[name].better else f"No point has a {words(name)}."
    return clean(f"Best {words(name)}: {number(mean)} {MEASURES[name].unit}, with {chosen(best, answer.grid)}.")


def states(answer: StudyAnswer) -> str:
    """How many points there are, and what became of them."""
    found = Counter(row.outcome.state for row in answer.rows)
    parts = [f"{found[state]:,} {state}" for state in ("done", "refused", "failed") if found[state]]
    seeds = f", {counted(answer.grid.repeats, 'seed')} each" if answer.grid.repeats > 1 else ""
    return f"{len(answer.cells):,} combinations{seeds}: {', '.join(parts) or 'none has run'}."


def sections_of(answer: StudyAnswer, setup: Setup, text: str, command: str) -> Iterator[Section]:
    """The parts of the page, in the order in which they are read."""
    yield pictures(answer)
    yield best(answer)
    yield refused(answer)
    yield confidence(answer, setup)
    yield assumptions(assumed(setup))
    described = answer.described
    commands = [command, *([f"hilsim simulate {answer.best_typed}"] if answer.best is not None else [])]
    yield reproduce("\n".join(filter(None, commands)), (text, scenario_text(described.scenario, described.base, ())))


def pictures(answer: StudyAnswer) -> Section:
    """A chart a metric, the first four of them: lines over one axis, or a map of two."""
    grid, metrics = answer.grid, list(answer.metrics[:MOST_PANELS])
    first, second = axes_of(grid)
    mapped = second is not None and len(grid.columns) == 2 and grid.cells <= MOST_FIELDS
    sentences: list[str] = []
    hint = "Point at a mark to read its choices and its number" + ("." if mapped else f"; {ZOOM}.")
    plots: list[Model] = []
    if mapped and second is not None:
        plots = [map_of(answer.cells, grid, (first, second), metric) for metric in metrics]
    else:
        lines = lines_of(answer.cells, first)
        plots = [chart_of(lines[:MOST_LINES], grid, first, metric) for metric in metrics]
        if len(lines) > MOST_LINES:
            sentences.append(f"The first {MOST_LINES} of {len(lines)} lines are drawn; --csv has all points.")
    if grid.repeats > 1:
        sentences.append(f"Bars are 90 % intervals of the mean over {grid.repeats} seeds.")
    if len(answer.metrics) > MOST_PANELS:
        sentences.append(f"The first {MOST_PANELS} of {len(answer.metrics)} metrics are drawn.")
    return Section("pictures", tuple(sentences), (hint,), tuple(plots))


def lines_of(cells: Sequence[Cell], across: int) -> list[list[Cell]]:
    """The cells by their choices on all axes but one."""
    lines: dict[tuple[int, ...], list[Cell]] = {}
    for cell in cells:
        lines.setdefault((*cell.places[:across], *cell.places[across + 1 :]), []).append(cell)
    return list(lines.values())


def chart_of(lines: Sequence[Sequence[Cell]], grid: Grid, across: int, metric: str) -> Model:
    """Lines of one metric over one axis."""
    column, series = grid.columns[across], []
    for name, line in zip(names_of(lines, grid, across), lines, strict=True):
        points = [(cell, found) for cell in line if (found := cell.metrics[metric]) is not None]
        half = [found.half_width or 0.0 for _, found in points]
        if points:
            series.append(
                many.Series(
                    name,
                    [position(column, cell.places[across]) for cell, _ in points],
                    [found.mean for _, found in points],
                    [(found.mean - width, found.mean + width) for (_, found), width in zip(points, half, strict=True)],
                    [chosen(cell, grid) for cell, _ in points],
                )
            )
    shown = {} if column.rising else dict(enumerate(labels_of(column)))
    axes = (clean(column.head), f"{words(metric)}, {MEASURES[metric].unit}")
    return many.lines(series, axes, shown, joined=column.rising, log=column.log)


def names_of(lines: Sequence[Sequence[Cell]], grid: Grid, across: int) -> list[str]:
    """What tells lines apart: their choices on the other axes, as far as these differ."""
    others = [place for place in range(len(grid.columns)) if place != across]
    differ = [place for place in others if len({line[0].places[place] for line in lines}) > 1]
    shown = [
        [f"{clean(grid.columns[place].head)} {name}" for name in labels_of(grid.columns[place])] for place in differ
    ]
    return [
        ", ".join(names[line[0].places[place]] for place, names in zip(differ, shown, strict=True)) for line in lines
    ]


def labels_of(column: Column) -> list[str]:
    """What the choices of an axis are called, in little room."""
    return abbreviate([clean(label_text(label)) for label in column.labels], 30)


def chosen(cell: Cell, grid: Grid) -> str:
    """A combination's choices in a line."""
    parts = [f"{column.head} {label_text(label)}" for column, label in zip(grid.columns, cell.labels, strict=True)]
    return clean(", ".join(parts))


def map_of(cells: Sequence[Cell], grid: Grid, places: tuple[int, int], metric: str) -> Model:
    """A field for every combination of two axes."""
    across, up = (grid.columns[place] for place in places)
    values = {
        (cell.places[places[0]], cell.places[places[1]]): found.mean
        for cell in cells
        if (found := cell.metrics[metric]) is not None
    }
    axes = (clean(across.head), clean(up.head), f"{words(metric)}, {MEASURES[metric].unit}")
    better = MEASURES[metric].better == "lower"
    names = [
        [three_digits(label) if isinstance(label, float) else label_text(label) for label in column.labels]
        for column in (across, up)
    ]
    return many.fields(names[0], names[1], values, axes, less_is_better=better)


def best(answer: StudyAnswer) -> Section:
    """The best combinations: their choices and metrics."""
    name, _ = answer.compared_by
    better = MEASURES[name].better
    done = [cell for cell in answer.cells if any(row.outcome.state == "done" for row in cell.rows)]
    if answer.several_goals:
        cells, sentence = answer.front, "The combinations that no other beats in all objectives."
    elif better:
        sign = -1 if better == "higher" else 1
        have = [
            (sign * found.mean, place) for place, cell in enumerate(done) if (found := cell.metrics[name]) is not None
        ]
        cells = [done[place] for _, place in sorted(have)]
        sentence = f"The best {min(MOST_ROWS, len(cells))} of {len(cells):,} combinations by {words(name)}."
    else:
        cells, sentence = done, f"The first {min(MOST_ROWS, len(done))} of {len(done):,} combinations, in their order."
    metrics = list(dict.fromkeys([*answer.metrics, name]))
    heads = (
        *(clean(column.head) for column in answer.grid.columns),
        *(f"{words(one)}, {MEASURES[one].unit}" for one in metrics),
    )
    rows = [
        (*(clean(label_text(label)) for label in cell.labels), *(number(cell.metrics[one]) for one in metrics))
        for cell in cells[:MOST_ROWS]
    ]
    sentences = (f"{sentence} --csv has all points.",)
    return Section("best points", sentences, tables=(Table(heads, rows, left=len(answer.grid.columns)),))


def refused(answer: StudyAnswer) -> Section:
    """Why points have no result, the most common reasons first."""
    found = Counter((row.outcome.state, row.outcome.reason) for row in answer.rows if row.outcome.state != "done")
    if not found:
        return Section("left out", ("Every point has a result.",))
    rows = [(f"{count:,} {state}", clean(reason)) for (state, reason), count in found.most_common(MOST_REASONS)]
    more = (f"{len(found) - MOST_REASONS} further reasons are not listed.",) if len(found) > MOST_REASONS else ()
    return Section("left out", more, tables=(Table(("points", "why"), rows, left=2),))


def confidence(answer: StudyAnswer, setup: Setup) -> Section:
    """What the intervals hold, what they do not, and what would narrow the answer."""
    grid = answer.grid
    interval = (
        f"Intervals hold the scatter over {grid.repeats} seeds, and not what is uncertain of the figures below."
        if grid.repeats > 1
        else "Every point has one seed (`repeats` draws more), and the nominal figures below."
    )
    sentences = [interval]
    if answer.best is not None:
        best = answer.best_typed
        sentences.append(f"Error bars of the best point: hilsim simulate {best} --uncertainty 200")
        sentences.append(f"Measure first: hilsim measure-first {best} ranks the measurements on boards for it.")
    else:
        sentences.append(f"Measure first: {measure_first(setup)}")
    return Section("how sure", tuple(sentences))
