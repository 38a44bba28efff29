"""Predicted against measured as a picture: one dot a row, both axes logarithmic, the diagonal where they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hilsim.comparison import summary
from hilsim.fidelity.kept_errors import COLUMNS
from hilsim.fidelity.validate import ComparedCase
from hilsim.show.plots.canvas import canvas
from hilsim.show.plots.curves import BLACK_AND, MARKS, finished, sheet

NETWORKS = "0.6"  # many, and scattered: a grey ground for the others
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
BAND = 0.25


def draw(rows: Sequence[ComparedCase], path: Path, kind: str) -> None:
    """A panel a column of the comparison that has rows; classes by colour and mark. `kind` is png, svg or pdf."""
    shown = [column for column in range(len(COLUMNS)) if any(row.predicted[column] is not None for row in rows)]
    figure = canvas(5 * len(shown), 5.6)
    labels = sorted({row.case.label for row in rows})
    ends = [1000 * value for row in rows for value in (row.measured, *row.predicted) if value is not None]
    low, high = min(ends) / 1.4, max(ends) * 1.4
    for place, column in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), place + 1)
        axes.fill_between(
            [low, high], [low / (1 + BAND), high / (1 + BAND)], [low * (1 + BAND), high * (1 + BAND)],
            color="0.92", linewidth=0, label=f"within {BAND:.0%}",
        )  # fmt: skip
        axes.plot([low, high], [low, high], color="0.4", linewidth=1)
        for index, label in enumerate(sorted(labels, key=lambda label: label != "networks")):
            pairs = [(row.measured, seconds) for row in rows
                     if row.case.label == label and (seconds := row.predicted[column]) is not None]  # fmt: skip
            if not pairs:
                continue
            colour = NETWORKS if label == "networks" else COLOURS[index % len(COLOURS)]
            error = summary([seconds / measured - 1 for measured, seconds in pairs]).mean
            axes.scatter(
                [1000 * measured for measured, _ in pairs],
                [1000 * seconds for _, seconds in pairs],
                s=22, alpha=0.75, linewidths=0, color=colour,
                marker=MARKERS[index % len(MARKERS)], label=f"{label}: {error:.0%}",
            )  # fmt: skip
        axes.set(
            xscale="log",
            yscale="log",
            xlim=(low, high),
            ylim=(low, high),
            title=f"{COLUMNS[column]}: mean absolute error",
        )
        axes.set_xlabel("measured, ms")
        axes.set_ylabel("predicted, ms" if place == 0 else "")
        axes.grid(True, which="major", color="0.88", linewidth=0.6)
        axes.legend(loc="upper left", fontsize=8, frameon=False)
    figure.savefig(path, dpi=120, format=kind)


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
