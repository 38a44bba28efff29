"""An exploration as a page: every configuration as a dot, the best of them, what they rest on, what is open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hilsim.describe.outside import outside_car
from hilsim.describe.write import scenario_text, typed_scenario
from hilsim.show.explore import (
    RANKING,
    RESTS,
    assumed_figures,
    doubtful,
    listed,
    nearest,
    number,
    question_rows,
    ranking_command,
    reasons_counted,
    spread,
)
from hilsim.show.kinds import DRAFT, TARGET
from hilsim.show.numbers import clean, counted
from hilsim.show.page import many
from hilsim.show.page.charts import LINE, TEXT, ZOOM
from hilsim.show.page.frame import Page, Section, about, assumptions, caveats_of, measure_first, reproduce
from hilsim.show.sentences import outside_sentence
from hilsim.show.table import Table
from hilsim.show.words import words
from hilsim.study.answer import Answer
from hilsim.study.explorer import Exploration, Finalist

MOST_PARETO = 400  # of its dots, evenly spaced
MOST_ROWS = 40  # of the best and of the Pareto set; --csv has all configurations


def page_of(exploration: Exploration, command: str) -> Page:
    """The page of an exploration; `command` is what reproduces it."""
    base, answer = exploration.question.base, exploration.answer
    roles = dict.fromkeys(
        [*outside_car(base), *(role for one in exploration.finalists for role in outside_car(one.setup))]
    )
    doubts, against = caveats_of((f"finalist {rank}", one.setup) for rank, one in enumerate(exploration.finalists, 1))
    return Page(
        name=base.scenario.name,
        about=about("exploration", {"scenario": base.scenario.name, "digest": base.digest, "seed": base.scenario.seed}),
        question=clean(base.scenario.question) or "Which placement is best?",
        headline=headline(exploration),
        good=bool(len(answer.ranked)) and all(one.agrees for one in exploration.finalists) and not against,
        verdict=tuple(verdict(exploration)),
        caveats=(*([outside_sentence([*roles])] if roles else []), *doubts),
        sections=tuple(sections_of(exploration, command)),
    )


def headline(exploration: Exploration) -> str:
    """The best configuration in a sentence."""
    answer = exploration.answer
    if not exploration.finalists:
        return "No configuration meets the constraints. Loosen one, or allow more."
    one, best = answer.objective, exploration.finalists[0]
    numbers = f"{number(one, best.screened)} {one.unit}"
    return f"Best {words(one.measure)}: {numbers}, with {listed(answer.named(best.place))}."


def verdict(exploration: Exploration) -> Iterator[str]:
    """How many configurations were compared, how many are better than the scenario, and what is sure of it."""
    answer, found = exploration.answer, exploration.answer.found
    total = found.left_out.total() + len(found)
    yield f"{total:,} configurations; {len(found):,} run, {len(answer.ranked):,} of them within the constraints."
    if not len(answer.ranked):
        yield from nearest(answer)
    if exploration.own is not None and len(answer.ranked):
        one = answer.objective
        own = f"{words(one.measure)} {number(one, exploration.own)} {one.unit}"
        yield f"The unchanged scenario: {own}; {exploration.better:,} configurations are better by it."
    if len(found):
        yield f"{doubtful(found.measures)}."


def sections_of(exploration: Exploration, command: str) -> Iterator[Section]:
    """The parts of the page, in the order in which they are read."""
    answer, question = exploration.answer, exploration.question
    if len(answer.found):
        yield configurations(exploration)
    if len(answer.ranked):
        yield answers(answer)
        yield finalists(exploration)
        yield best(answer)
    yield left_out(answer)
    if exploration.finalists:
        yield confidence(exploration)
        yield assumptions(figure for each in exploration.finalists for figure in assumed_figures(each))
    yield reproduce(command, (scenario_text(question.file, question.overrides, ()),))


def configurations(exploration: Exploration) -> Section:
    """Every configuration by the first two objectives."""
    answer = exploration.answer
    first, second = (answer.objectives + answer.objectives)[:2]
    x, y = (answer.found.measures[one.measure] / one.scale for one in (first, second))
    log = (many.wide(x), many.wide(y))
    rest = np.ones(len(answer.found), dtype=bool)
    rest[answer.ranked] = False
    kinds = []
    for name, places, colour in (
        ("violates a constraint", np.flatnonzero(rest), LINE),
        ("meets the constraints", answer.ranked, TEXT),
    ):
        shown = [int(places[kept]) for kept in many.thinned(x[places], y[places], log, many.RASTER)]
        if shown:
            dots = f"{name}: {len(places):,}"
            kinds.append(many.Dots(dots, x[shown], y[shown], texts(answer, shown), colour, 4))
    pareto = spread(answer.pareto, MOST_PARETO)
    kinds.append(
        many.Dots(f"Pareto set: {len(answer.pareto):,}", x[pareto], y[pareto], texts(answer, pareto), TARGET, 8)
    )
    if chosen := [one.place for one in exploration.finalists]:
        about_them = [f"finalist {rank}: {text}" for rank, text in enumerate(texts(answer, chosen), 1)]
        kinds.append(many.Dots("finalists", x[chosen], y[chosen], about_them, DRAFT, 15, hollow=True))
    axes = (f"{words(first.measure)}, {first.unit}", f"{words(second.measure)}, {second.unit}")
    across, up = many.RASTER
    sentences = (
        "Of grey dots that would lie on each other one is drawn, of those that rank the best: one at each place of a "
        f"raster of {across} by {up}, and up to {MOST_PARETO} of the Pareto set; --csv has all {len(answer.found):,}.",
    )
    hint = f"Point at a dot to read its choices; {ZOOM}; click on a name to hide its dots."
    return Section("configurations", sentences, (hint,), (many.cloud(kinds, axes, log),))


def texts(answer: Answer, places: Sequence[int]) -> list[str]:
    """The choices of configurations, each in a line."""
    return [listed(answer.named(place)) for place in places]


def answers(answer: Answer) -> Section:
    """The best answer to each question that the space leaves open."""
    one = answer.objective
    head = ("question", "answer", "next best", f"{words(one.measure)}, {one.unit}", "the next costs")
    rows = [(question, first, second, value, worse) for question, first, value, second, worse in question_rows(answer)]
    sentence = "The best choice of each axis, with everything else free, and what the next best costs."
    return Section("answers", (sentence,), tables=(Table(head, rows, left=3),))


def finalists(exploration: Exploration) -> Section:
    """The best of different places, confirmed event by event, with what makes the scenario each of them."""
    answer, one = exploration.answer, exploration.answer.objective
    rows = [
        (
            str(rank),
            listed(answer.named(each.place)),
            "the same" if each.agrees else f"differs: {number(one, each.by_events)}",
            number(one, each.screened),
            f"{answer.numbers(each.place)['speedup']:.2f}",
        )
        for rank, each in enumerate(exploration.finalists, 1)
    ]
    head = ("", "choices", "by event simulation", f"{words(one.measure)}, {one.unit}", "times its own target alone")
    question = exploration.question
    commands = tuple(
        f"hilsim simulate {typed_scenario(question.file, [*question.overrides, *each.overrides])}"
        for each in exploration.finalists
    )
    return Section("finalists", tables=(Table(head, rows, left=3),), listings=commands)


def best(answer: Answer) -> Section:
    """The first of the ranking, and the Pareto set: the objectives, and the choices in which they differ."""
    heads = [f"{words(one.measure)}, {one.unit}" for one in answer.objectives]

    def table(places: Sequence[int]) -> Table:
        columns = answer.distinguishing(places)
        rows = []
        for place in places:
            named, numbers = answer.named(place), answer.numbers(place)
            cells = [number(one, numbers[one.measure]) for one in answer.objectives]
            rows.append((*(named[column] or "-" for column in columns), *cells, f"{numbers['speedup']:.2f}"))
        return Table((*columns, *heads, "times own"), rows, left=len(columns))

    goals = ", ".join(words(one.measure) for one in answer.objectives)
    ranked, pareto = [int(place) for place in answer.ranked[:MOST_ROWS]], spread(answer.pareto, MOST_ROWS)
    sentences = (
        f"First the best {len(ranked)} of {len(answer.ranked):,} by {words(answer.objective.measure)}, then "
        f"{'the' if len(pareto) == len(answer.pareto) else f'{len(pareto)}, evenly spaced, of the'} "
        f"{len(answer.pareto):,} that no other beats in all of {goals}.",
        "Only choices that differ have a column. Times own is over the target alone at the same place; as that "
        "differs, it does not rank placements.",
    )
    return Section("best", sentences, tables=(table(ranked), table(pareto)))


def left_out(answer: Answer) -> Section:
    """Why configurations are not in the answer."""
    rows = [(reason, f"{count:,}") for reason, count in reasons_counted(answer.found.left_out, answer.broken)]
    if not rows:
        return Section("left out", ("No configuration was left out.",))
    return Section("left out", tables=(Table(("reason", "configurations"), rows[:MOST_ROWS]),))


def confidence(exploration: Exploration) -> Section:
    """The figures that move the finalists most, and what would settle the ranking."""
    one = exploration.answer.objective
    first = exploration.finalists[0]
    sentences = [RESTS, *worth_measuring(first, words(one.measure))]
    plots = []
    if first.rests.movers:
        movers = [(each.figure, each.at_low / one.scale, each.at_high / one.scale) for each in first.rests.movers]
        plots.append(many.ends(movers, first.screened / one.scale, f"{words(one.measure)} of finalist 1, {one.unit}"))
    rows = [
        (str(rank), mover.figure, number(one, mover.at_low), number(one, mover.at_high))
        for rank, each in enumerate(exploration.finalists, 1)
        for mover in each.rests.movers
    ]
    head = ("finalist", "figure that moves it", f"{one.unit} at its low end", f"{one.unit} at its high end")
    tables = [Table(head, rows, left=2)] if rows else []
    limits = [
        (str(rank), limit.figure, f"{limit.value:g} {limit.unit}")
        for rank, each in enumerate(exploration.finalists, 1)
        for limit in each.rests.limits
    ]
    if limits:
        tables.append(Table(("finalist", "does not fit with", "at"), limits, left=3))
    command = ranking_command(exploration)
    sentences.append("Whether the ranking survives the ranges of all figures together:" if command else RANKING)
    return Section(
        "how sure", tuple(sentences), plots=tuple(plots), tables=tuple(tables), listings=(command,) * bool(command)
    )


def worth_measuring(finalist: Finalist, objective: str) -> list[str]:
    """Which figure of the best to measure before all others, and how to rank measurements."""
    movers = finalist.rests.movers
    ranked = measure_first(finalist.setup)
    if not movers:
        return [f"No figure alone moves the {objective} of finalist 1 over its range. {ranked}"]
    several = counted(len(movers), "figure")
    return [f"Measure first: {movers[0].figure}, of {several} the one that moves finalist 1 most. {ranked}"]
