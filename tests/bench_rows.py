"""Measured figures as rows of one table: each with its unit, what it is compared with, and the ratio of the two.

A module of the bench gives figures by key. A `Rule` says how those whose key fits are shown; a key without one is shown
under its own name, with the unit that its ending names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hilsim.show.numbers import three_digits

UNITS = {"_per_s": "1/s", "_ms": "ms", "_us": "us", "_s": "s", "_mib": "MiB", "_share": "share", "_of_bare": "share"}
LESS = ("s", "ms", "us", "MiB", "times")  # units of which less is better
COLUMNS = ("section", "what", "figure", "unit", "compared with", "its figure", "ratio")


@dataclass(frozen=True)
class Rule:
    """How figures are shown whose key fits the expression; its groups may stand in `what` and `against`.

    `against` is the key of the figure that it is compared with, which then has no row of its own, or a number: an aim.
    Without `what` a figure has no row, as where it is a ratio that another row has.
    """

    key: str
    what: str = ""
    unit: str = ""
    anchor: str = ""
    against: str | float = ""


@dataclass(frozen=True)
class Row:
    """One figure of the table."""

    section: str
    what: str
    figure: float
    unit: str
    anchor: str = ""
    anchor_figure: float | None = None

    @property
    def ratio(self) -> float | None:
        """The figure over that of its anchor; None where it has none."""
        return self.figure / self.anchor_figure if self.anchor_figure else None

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of `COLUMNS`."""
        anchor_figure = "" if self.anchor_figure is None else three_digits(self.anchor_figure)
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return self.section, self.what, three_digits(self.figure), self.unit, self.anchor, anchor_figure, ratio


def rows_of(section: str, figures: Mapping[str, float], rules: Sequence[Rule]) -> list[Row]:
    """The rows of a section, in the order of its figures."""
    found, anchors = [], set[str]()
    for key, figure in figures.items():
        fits = ((rule, match) for rule in rules if (match := re.fullmatch(rule.key, key)))
        rule, match = next(fits, (None, None))
        if rule is None or match is None:
            unit = next((unit for ending, unit in UNITS.items() if key.endswith(ending)), "")
            found.append((key, Row(section, key.replace("_", " "), figure, unit)))
            continue
        against, anchor_figure = rule.against, None
        if isinstance(against, str) and against:
            anchors.add(match.expand(against))
            anchor_figure = figures.get(match.expand(against))
        elif isinstance(against, float):
            anchor_figure = against
        if rule.what:
            row = Row(section, match.expand(rule.what), figure, rule.unit, rule.anchor, anchor_figure)
            found.append((key, row))
    return [row for key, row in found if key not in anchors]


def as_markdown(rows: Sequence[Row]) -> str:
    """The table as documentation has it."""
    aligned = ("---", "---", "---:", "---", "---", "---:", "---:")
    lines = [COLUMNS, aligned, *(row.cells for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


@dataclass(frozen=True)
class Change:
    """A figure that is worse than in an earlier run by more than such runs differ."""

    row: Row
    before: Row
    worse: float  # as a share of what it was

    def __str__(self) -> str:
        what, unit = ("ratio", "") if self.by_ratio else ("figure", f" {self.row.unit}")
        values = (self.before.ratio, self.row.ratio) if self.by_ratio else (self.before.figure, self.row.figure)
        was, now = (three_digits(value) for value in values if value is not None)
        return (
            f"{self.row.section}: {self.row.what}: {what} {was}{unit} before, {now}{unit} now, {self.worse:.0%} worse"
        )

    @property
    def by_ratio(self) -> bool:
        """Whether ratios within one run were compared."""
        return measured_ratio(self.row) is not None and measured_ratio(self.before) is not None


def measured_ratio(row: Row) -> float | None:
    """The ratio to what was measured in the same run; None where the figure is compared with an aim, or nothing."""
    return None if row.anchor.startswith("aim") else row.ratio


def regressions(before: Sequence[Row], now: Sequence[Row], *, of_ratio: float, of_figure: float) -> list[Change]:
    """What is worse by more than these shares: ratios within a run where both have one, else the figures.

    Figures depend on what else the machine does, ratios hardly: so their share is the larger one.
    """
    earlier = {(row.section, row.what): row for row in before}
    found = []
    for row in now:
        was = earlier.get((row.section, row.what))
        if was is None or was.unit != row.unit:
            continue
        ratios = measured_ratio(was), measured_ratio(row)
        old, new, allowed = was.figure, row.figure, of_figure
        if ratios[0] is not None and ratios[1] is not None:
            old, new, allowed = ratios[0], ratios[1], of_ratio
        if old <= 0 or new <= 0:
            continue
        worse = new / old - 1 if row.unit in LESS else 1 - new / old
        if worse > allowed:
            found.append(Change(row, was, worse))
    return found
