"""A validation as a page: predicted against measured figures, the largest misses first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bokeh.models import Model

from hilsim.describe.catalogue import described
from hilsim.describe.family import Family
from hilsim.describe.figures import figures
from hilsim.fidelity.confidence import LEVELS, classes, coverage, interval
from hilsim.fidelity.from_file import Validation
from hilsim.fidelity.validate import ComparedCase
from hilsim.show.document import with_source
from hilsim.show.fidelity import COLUMNS_HEAD, by_batch, grouped, sums, what
from hilsim.show.numbers import clean, counted, percent, three_digits
from hilsim.show.page import many
from hilsim.show.page.charts import TEXT, ZOOM
from hilsim.show.page.frame import Page, Section, about, assumptions, reproduce
from hilsim.show.plots.curves import HUES
from hilsim.show.table import Table

MOST_MISSES = 30  # rows of the first table; --errors and --json have all
IN_SAMPLE = COLUMNS_HEAD[0]
NEAR = 0.25  # a miss is more than this


def page_of(found: Validation, file: str, command: str) -> Page:
    """The page of a comparison with the rows of `file`; `command` is what reproduces it."""
    return Page(
        name=f"validation of {file}",
        about=about("validation", {"file": file}),
        question="How well do the chips predict?",
        headline=headline(found),
        good=not found.doubts,
        verdict=(
            *worst_missed(found.rows),
            f"{len(found.rows) + len(found.rounds)} rows compared, {len(found.left_out)} left out.",
            "In-sample is what the shipped constants make of the rows they were fitted to; without a row's model, or "
            "its device, is what to expect of one that has not been measured yet.",
        ),
        caveats=tuple(f"doubtful: {clean(str(doubt))}" for doubt in found.doubts),
        sections=tuple(sections_of(found, command)),
    )


def headline(found: Validation) -> str:
    """The mean absolute error of each class of rows: first the worse one of those that were left out of the fit, by its
    name, with the in-sample one beside it.
    """
    parts = []
    for label in sorted({row.case.label for row in found.rows}):
        rows = [row for row in found.rows if row.case.label == label]
        columns = zip(COLUMNS_HEAD, sums(rows), strict=True)
        means = {head: (of["mean"], column) for column, (head, of) in enumerate(columns) if of is not None}
        inside = means.pop(IN_SAMPLE)
        shown = []
        for head, (mean, column) in [*sorted(means.items(), key=lambda item: -item[1][0])[:1], (IN_SAMPLE, inside)]:
            count = sum(row.errors[column] is not None for row in rows)
            shown.append(f"{percent(mean)} {head} (of {counted(count, 'row')})")
        parts.append(f"{label} {', '.join(shown)}")
    return f"Mean absolute error: {'; '.join(parts)}." if parts else "No row is compared by its time."


def sections_of(found: Validation, command: str) -> Iterator[Section]:
    """The parts of the page, in the order in which they are read."""
    if found.rows:
        yield misses(found.rows)
        yield pictures(found.rows)
        yield summaries(found)
    if found.speculation or found.ratios:
        yield speculation(found)
    yield confidence()
    if found.left_out:
        reasons = sorted({row.reason for row in found.left_out})
        counts = [(reason, str(sum(row.reason == reason for row in found.left_out))) for reason in reasons]
        yield Section("left out", tables=(Table(("reason", "rows"), counts),))
    yield assumed(found)
    if found.notes:
        yield Section("notes", tuple(map(clean, found.notes)))
    yield reproduce(command, ())


def largest(row: ComparedCase) -> float:
    """The largest absolute error that a row has in any column."""
    return max(abs(error) for error in row.errors if error is not None)


def worst_missed(rows: Sequence[ComparedCase]) -> tuple[str, ...]:
    """The row that is missed most, and how many are missed by more than a quarter; nothing of no rows."""
    if not rows:
        return ()
    worst, beyond = max(rows, key=largest), sum(largest(row) > NEAR for row in rows)
    named = [(error, head) for error, head in zip(worst.errors, COLUMNS_HEAD, strict=True) if error is not None]
    error, head = max(named, key=lambda pair: abs(pair[0]))
    where = f"{worst.case.device}, {worst.case.model_group}, {what(worst)}"
    return (
        f"Missed most, by {signed(error)} {head}: {where}. {beyond} of "
        f"{counted(len(rows), 'row')} are missed by more than {percent(NEAR)} in some column.",
    )


def misses(rows: Sequence[ComparedCase]) -> Section:
    """The rows that are predicted worst, by the strictest column that a row has."""
    worst = sorted(rows, key=largest, reverse=True)
    heads = ("device", "class", "model", "what", "measured, ms", "predicted, ms", *COLUMNS_HEAD)
    cells = [
        (
            row.case.device,
            row.case.label,
            row.case.model_group.split(" / ")[-1],
            what(row),
            three_digits(row.measured * 1000),
            three_digits(row.predicted[0] * 1000),
            *map(signed, row.errors),
        )
        for row in worst[:MOST_MISSES]
    ]
    listed = f"The {counted(len(cells), 'row')} with the largest error in any column, of {len(rows)}"
    sentence = f"{listed}; --errors and --json have every row."
    return Section("misses first", (sentence,), tables=(Table(heads, cells, left=4),))


def pictures(rows: Sequence[ComparedCase]) -> Section:
    """Predicted over measured, a chart a column that has rows."""
    sentence = "On the diagonal predicted is measured, in the band within a quarter."
    hint = f"Point at a dot to read its row; {ZOOM}."
    labels = sorted({row.case.label for row in rows}, key=lambda label: label != "networks")
    plots: list[Model] = []
    for column, head in enumerate(COLUMNS_HEAD):
        kinds = []
        for place, label in enumerate(labels):
            pairs = [
                (row, seconds) for row in rows
                if row.case.label == label and (seconds := row.predicted[column]) is not None
            ]  # fmt: skip
            if pairs:
                kinds.append(
                    many.Dots(
                        label,
                        [1000 * row.measured for row, _ in pairs],
                        [1000 * seconds for _, seconds in pairs],
                        [named(row, column) for row, _ in pairs],
                        TEXT if label == "networks" else HUES[place % len(HUES)],
                        7,
                        many.MARKERS[place % len(many.MARKERS)],
                    )
                )
        if kinds:
            plots.append(many.cloud(kinds, ("measured, ms", f"predicted {head}, ms"), (True, True), square=True))
    return Section("pictures", (sentence,), (hint,), tuple(plots))


def named(row: ComparedCase, column: int) -> str:
    """A row in a line: where, what, and its error."""
    return f"{row.case.device}, {row.case.model_group}, {what(row)}: {signed(row.errors[column])}"


def signed(error: float | None) -> str:
    """An error with its sign; a dash where nothing was fitted without the row."""
    return "-" if error is None else f"{error:+.0%}"


def summaries(found: Validation) -> Section:
    """Errors by class and device, and of rounds of speculation by batch."""
    rows = []
    for label in sorted({row.case.label for row in found.rows}):
        rows += [summed(label, name, inside) for name, inside in grouped(found.rows, label).items()]
    rows += [summed("rounds of speculation", name, inside) for name, inside in by_batch(found.rounds).items()]
    heads = (
        "class",
        "device",
        "rows",
        *(f"{head}: {one}" for head in COLUMNS_HEAD for one in ("mean", "worst", "bias")),
    )
    sentence = "Mean and worst are absolute errors; bias is the mean with its sign."
    return Section("errors", (sentence,), tables=(Table(heads, rows, left=2),))


def summed(label: str, name: str, rows: Sequence[ComparedCase]) -> tuple[str, ...]:
    """One class on one device."""
    cells = [label, name, str(len(rows))]
    for of in sums(rows):
        cells += ["-"] * 3 if of is None else [f"{of['mean']:.0%}", f"{of['worst']:.0%}", f"{of['bias']:+.0%}"]
    return tuple(cells)


def speculation(found: Validation) -> Section:
    """Published speed-ups against those that the chips' own step times make, and steps of batches as ratios."""
    rows = [
        (
            row.case.device,
            row.case.model_group,
            row.method.name,
            str(row.case.measurement.batch),
            *map(two_decimals, (row.round_steps, row.published_round_steps, row.predicted, row.published)),
        )
        for row in found.speculation
    ]
    heads = ("device", "model", "method", "batch", "round, plain steps", "published", "speed-up", "published speed-up")
    ratios = [
        (row.case.device, row.case.model_group, f"{row.batch} over 1", f"{row.predicted:.2f}", f"{row.measured:.2f}")
        for row in found.ratios
    ]
    tables = [Table(heads, rows, left=3)] if rows else []
    tables += [Table(("device", "model", "step of a batch", "predicted", "measured"), ratios, left=3)] if ratios else []
    sentence = "What a round costs in plain steps; tokens a round are the published ones on both sides."
    return Section("speculation", (sentence,), tables=tuple(tables))


def two_decimals(value: float | None) -> str:
    """A ratio; a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"


def confidence() -> Section:
    """Factors of a predicted time between which 80 % of the measured ones lie, by how well the row is known."""
    rows = []
    for unit, kind in classes():
        cells = [f"{kind}, {unit.upper()}"]
        for level in LEVELS:
            of = interval(unit, kind, level)
            share = coverage(unit, kind, level)
            cells.append("-" if of is None else f"{of.low:.2f} to {of.high:.2f} (holds {share:.0%})")
        rows.append(tuple(cells))
    sentences = (
        "80 % of measured over predicted times lie between these factors; in brackets the share of rows that were left "
        "out of the fit and that each interval holds.",
        "Measure first what your own scenario rests on: hilsim measure-first SCENARIO ranks the measurements; a class "
        "with a wide interval here gains most by a row of your own (hilsim calibrate --csv FILE).",
    )
    return Section("how sure", sentences, tables=(Table(("rows", *LEVELS), rows),))


def assumed(found: Validation) -> Section:
    """The fitted and assumed constants of the families behind these rows, and what was assumed of rows."""
    names = {row.case.family for row in (*found.rows, *found.rounds)}
    constants = [
        with_source(f"{family.name}.{path}", figure)
        for family in described("family", Family)
        if family.name in names
        for path, figure in figures(family).items()
    ]
    estimates = [
        {"figure": row.case.model_group, "value": "assumed shape", "kind": "assumed", "source": row.case.estimated}
        for row in found.rows
        if row.case.estimated
    ]
    return assumptions([*constants, *estimates])
