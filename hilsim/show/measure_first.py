"""The measurements that would narrow a headline number most, as a table, a JSON document and a CSV."""

from __future__ import annotations

from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from hilsim.measure.measures import MEASURES
from hilsim.show.numbers import clean, counted, percent, three_digits
from hilsim.show.table import Table
from hilsim.show.uncertainty import classes_as_json
from hilsim.study.measure_first import MeasureFirst
from hilsim.study.uncertainty import Ends

INTERVAL = "5 % to 95 % of the draws"
OVERLAP = (
    "Now and then: the middle 90 % over the draws, today and with this alone measured. Share: of the variance, with "
    "its standard error. Measurements rest on common causes, so shares overlap: after one, run again."
)
NOT_HELD = (
    "Not in these intervals: acceptance of the deployed pair, which often matters more (`simulate --uncertainty`)."
)


def as_json(found: MeasureFirst) -> dict[str, Any]:
    """One document: the measure, its interval now, and the measurements in order."""
    return {
        "measure": found.measure,
        "unit": MEASURES[found.measure].unit,
        "draws": found.draws,
        "seed": found.seed,
        "interval": INTERVAL,
        "figures_drawn": list(found.ranged),
        "step_classes_drawn": classes_as_json(found.classes),
        "nominal": found.nominal,
        "now": ends_as_json(found.now),
        "measurements_considered": found.tried,
        "measurements": [
            {
                "rank": rank,
                "what": one.reading.what,
                "where": one.reading.where,
                "how": one.reading.how,
                "unit": one.reading.unit,
                "expected": [ends_as_json(each) for each in one.expected],
                "figures": list(one.figures),
                "share": one.share.value,
                "share_standard_error": one.share.error,
                "then": ends_as_json(one.share.then),
            }
            for rank, one in enumerate(found.ranked, 1)
        ],
    }


def ends_as_json(ends: Ends) -> dict[str, float]:
    """An interval."""
    return {"low": ends[0], "high": ends[1]}


def write_csv(file: TextIO, found: MeasureFirst) -> None:
    """A row a measurement."""
    columns = ("rank", "what", "where", "now_low", "now_high", "then_low", "then_high", "share", "share_standard_error",
               "how", "figures")  # fmt: skip
    rows = [
        (rank, one.reading.what, one.reading.where, *found.now, *one.share.then, one.share.value, one.share.error,
         one.reading.how, " ".join(one.figures))
        for rank, one in enumerate(found.ranked, 1)
    ]  # fmt: skip
    Table(columns, rows).write_csv(file, digits=6)


def render(found: MeasureFirst, console: Console) -> None:
    """The table, then how to measure each and what the chip model expects of it."""
    nominal, unit = three_digits(found.nominal), MEASURES[found.measure].unit
    kinds = f"{counted(len(found.classes), 'kind')} of steps and " if found.classes else ""
    drawn = f"{found.draws} draws of {kinds}{counted(len(found.ranged), 'figure')}, seed {found.seed}"
    console.print(Text(f"{found.measure} {nominal} {unit}; {span(found.now)} over {drawn}", style="bold"))
    if not found.ranked:
        console.print(Text(f"None of {counted(found.tried, 'measurement')} would narrow it by more than chance."))
        return
    rows = [
        (rank, one.reading.what, one.reading.where, span(found.now), span(one.share.then),
         f"{percent(one.share.value)} ± {round(100 * one.share.error)}")
        for rank, one in enumerate(found.ranked, 1)
    ]  # fmt: skip
    columns = ("rank", "what to measure", "where", "now", "then", "share")
    Table(columns, rows, left=3).print(console)
    for rank, one in enumerate(found.ranked, 1):
        expected = ", ".join(map(span, one.expected))
        console.print(Text(clean(f"{rank}. {one.reading.how} Expected: {expected} {one.reading.unit}.")))
    if rest := found.tried - len(found.ranked):
        console.print(
            Text(
                f"{counted(rest, 'more measurement')} would narrow it less, or by no more than chance: more draws tell."
            )
        )
    console.print(Text(OVERLAP))
    console.print(Text(NOT_HELD))


def span(ends: Ends) -> str:
    """An interval's two ends."""
    return f"{three_digits(ends[0])} to {three_digits(ends[1])}"
