"""Predicted against measured as a picture: one dot a row, both axes logarithmic, the diagonal where they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from hilsim.comparison import summary
from hilsim.fidelity.kept_errors import COLUMNS
from hilsim.fidelity.validate import ComparedCase
from hilsim.show.numbers import percent
from hilsim.show.plots.canvas import plain
from hilsim.show.plots.curves import BLACK_AND, MARKS, finished, sheet

NETWORKS = "0.6"  # many, and scattered: a grey ground for the others
BAND = 0.25


def draw(rows: Sequence[ComparedCase], path: Path, kind: str) -> None:
    """A panel a column of the comparison that has rows; classes by colour and mark. `kind` is png, svg or pdf.

    The legend has a class's mean absolute error in every panel, in their order.
    """
    shown = [column for column in range(len(COLUMNS)) if any(row.predicted[column] is not None for row in rows)]
    labels = sorted({row.case.label for row in rows}, key=lambda label: (label != "networks", label))
    figure, panels = sheet(1, len(shown), 3.5 * len(shown) + 0.4 * (len(shown) < 3), 4.2 + 0.2 * ceil(len(labels) / 2))
    ends = [1000 * value for row in rows for value in (row.measured, *row.predicted) if value is not None]
    low, high = min(ends) / 1.4, max(ends) * 1.4
    errors: dict[str, list[str]] = {label: [] for label in labels}
    marks: dict[str, Any] = {}
    for axes, column in zip(panels[0], shown, strict=True):
        marks[f"within {BAND:.0%}"] = axes.fill_between(
            [low, high], [low / (1 + BAND), high / (1 + BAND)], [low * (1 + BAND), high * (1 + BAND)],
            color="0.92", linewidth=0,
        )  # fmt: skip
        axes.plot([low, high], [low, high], color="0.4", linewidth=1)
        for index, label in enumerate(labels):
            pairs = [(row.measured, seconds) for row in rows
                     if row.case.label == label and (seconds := row.predicted[column]) is not None]  # fmt: skip
            if not pairs:
                errors[label].append("-")
                continue
            errors[label].append(percent(summary([seconds / measured - 1 for measured, seconds in pairs]).mean))
            marks[label] = axes.scatter(
                [1000 * measured for measured, _ in pairs],
                [1000 * seconds for _, seconds in pairs],
                s=20, alpha=0.75, linewidths=0, marker=MARKS[index % len(MARKS)],
                color=NETWORKS if label == "networks" else BLACK_AND[(index - 1) % (len(BLACK_AND) - 1)],
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel="measured, ms")
        axes.set_title(COLUMNS[column], fontsize=10, loc="left")
        plain(axes, "both")
    panels[0][0].set_ylabel("predicted, ms")
    named = {label: label if label not in errors else f"{label}: {', '.join(errors[label])}" for label in marks}
    figure.legend(marks.values(), named.values(), loc="outside lower left", ncols=min(2, len(shown)), frameon=False,
                  fontsize=9)  # fmt: skip
    finished(figure, "Predicted against measured; mean absolute error of each class by panel", path, kind)


def draw_groups(groups: Mapping[str, Sequence[tuple[float, float]]], title: str, path: Path, kind: str) -> None:
    """Pairs of measured and predicted milliseconds by group, in one panel."""
    figure, panels = sheet(1, 1, 6.4, 6)
    axes = panels[0][0]
    ends = [value for pairs in groups.values() for pair in pairs for value in pair]
    low, high = min(ends) / 1.3, max(ends) * 1.3
    axes.fill_between(
        [low, high], [low / 1.1, high / 1.1], [low * 1.1, high * 1.1], color="0.9", linewidth=0, label="within 10 %"
    )
    axes.plot([low, high], [low, high], color="0.4", linewidth=1)
    for number, (name, pairs) in enumerate(groups.items()):
        error = sum(abs(predicted / measured - 1) for measured, predicted in pairs) / len(pairs)
        axes.scatter(
            *zip(*pairs, strict=True), s=22, alpha=0.8, linewidths=0, color=BLACK_AND[number], marker=MARKS[number],
            label=f"{name}: mean absolute error {error:.1%}",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes.set(xlabel="measured, ms", ylabel="predicted, ms")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    finished(figure, title, path, kind)
