"""Set-ups from papers as a CSV and as a picture: the printed figure, the closed form's, and the run's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hilsim.show.plots.canvas import canvas
from hilsim.show.table import Table
from hilsim.study.papers import PaperResult

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

BLUE, ORANGE = "#0072b2", "#d55e00"


def unit(case: PaperResult) -> str:
    """What the case is compared in."""
    return "ms/token" if case.in_ms else "speed-up"


def cases_table(cases: Sequence[PaperResult]) -> Table:
    """One row a setup; ratios, not per cents; absent is a figure that there is not."""
    rows = []
    for case in cases:
        published, off, away = case.published, case.from_closed_form, case.from_published
        rows.append(
            {
                "scenario": case.name,
                "unit": unit(case),
                "published": case.printed,
                "expected": published.expected,
                "closed_form": None if case.closed is None else case.of(case.closed),
                "simulated": case.of(case.simulated),
                "simulated_over_closed_form": None if off is None else 1 + off,
                "simulated_over_published": None if away is None else 1 + away,
                "speedup_published": published.speedup,
                "speedup_simulated": case.simulated.speedup,
                "per_token_ms_published": published.per_token_ms,
                "per_token_ms_simulated": case.simulated.per_token_ms,
                "source": published.source,
                "note": published.note,
            }
        )
    return Table.of(rows)


def draw(cases: Sequence[PaperResult], path: Path, kind: str) -> None:
    """A row a set-up, a panel a unit. `kind` is png, svg or pdf. Raises ImportError where matplotlib is missing."""
    panels = [panel for panel in ([c for c in cases if not c.in_ms], [c for c in cases if c.in_ms]) if panel]
    heights = [len(panel) + 2 for panel in panels]
    figure = canvas(10, 1.6 + 0.3 * sum(heights))
    columns = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, panel in zip(columns[:, 0], panels, strict=True):
        draw_panel(axes, panel)
    marks: dict[str, Artist] = {}
    for axes in columns[:, 0]:
        handles, labels = axes.get_legend_handles_labels()
        marks |= dict(zip(labels, handles, strict=True))
    figure.legend(list(marks.values()), list(marks), loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=120, format=kind)


def draw_panel(axes: Axes, cases: Sequence[PaperResult]) -> None:
    """Simulated as a dot on the closed form's tick, published as a diamond with its distance, expected as a ring."""
    for place, case in enumerate(cases):
        ran, printed, ratio = case.of(case.simulated), case.printed, case.from_published
        if printed is not None and ratio is not None:
            axes.plot([printed, ran], [place, place], color="0.75", linewidth=1.2, zorder=1)
            # On the far side of the pair, where nothing else lies.
            side = 1 if printed >= ran else -1
            axes.annotate(
                f"{ratio:+.1%}", (printed, place), (9 * side, 0), textcoords="offset points", fontsize=8, color="0.35",
                va="center", ha="left" if side > 0 else "right",
            )  # fmt: skip
    rows = range(len(cases))
    closed = [(case.of(case.closed), row) for row, case in enumerate(cases) if case.closed is not None]
    if closed:
        axes.plot(
            *zip(*closed, strict=True), "|", label="closed form",
            color="black", markersize=15, markeredgewidth=1.4, zorder=2,
        )  # fmt: skip
    expected = [(c.published.expected, row) for row, c in enumerate(cases) if c.published.expected and not c.in_ms]
    if expected:
        axes.plot(
            *zip(*expected, strict=True), "o", label="paper's own formula",
            color="0.4", markerfacecolor="none", markersize=11, zorder=2,
        )  # fmt: skip
    measured = [(case.printed, row) for row, case in enumerate(cases) if case.printed is not None]
    if measured:
        axes.plot(
            *zip(*measured, strict=True), "D", label="published measurement", color=ORANGE, markersize=6.5, zorder=3
        )
    ran_at = [case.of(case.simulated) for case in cases]
    axes.plot(ran_at, rows, "o", label="simulated", color=BLUE, markersize=6.5, zorder=4)
    axes.set_yticks(rows, [case.name for case in cases], fontsize=9)
    axes.set_ylim(len(cases) - 0.4, -0.6)
    axes.margins(x=0.09)
    in_ms = cases[0].in_ms
    title = "milliseconds a token" if in_ms else "speed-up over the target alone"
    axes.set_xlabel(f"{title}   (per cent: simulated over published, less one)", fontsize=9)
    axes.grid(True, axis="x", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
