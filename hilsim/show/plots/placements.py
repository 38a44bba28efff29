"""Pictures of studies: drafts, memory, widths, contexts, temperatures, and how stable a ranking is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from hilsim.describe.setup import Setup
from hilsim.show.numbers import percent
from hilsim.show.plots.canvas import plain
from hilsim.show.plots.curves import BLACK_AND, LEVELS, MARKS, contours, finished, level_line, lines, sheet
from hilsim.study.closed_forms import sync_speedup
from hilsim.study.rank_stability import RankStability
from hilsim.study.ranking import RankingObjective
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import SweepPoint, best

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW = 0.05  # of the acceptance axis, for the marks of a unit's drafts below it


def column(points: Sequence[SweepPoint], axis: str) -> list[str]:
    """What lies on an axis, each value once."""
    return list(dict.fromkeys(str(point.place[axis]) for point in points))


def draw_break_even(points: Sequence[SweepPoint], real: Mapping[str, float], title: str, path: Path, kind: str) -> None:
    """A panel a link: marks are simulated, lines the closed form; real drafts along the bottom."""
    links, lengths = column(points, "link"), list(dict.fromkeys(point.length for point in points))
    figure, panels = sheet(1, len(links), 4.6 * len(links) + 2, 5)
    for axes, link in zip(panels[0], links, strict=True):
        for number, length in enumerate(lengths):
            row = [point for point in points if point.place["link"] == link and point.length == length]
            ratios, colour = [float(point.place["ratio"]) for point in row], BLACK_AND[number % len(BLACK_AND)]
            axes.plot(ratios, [point.number("closed_form") for point in row], color=colour, linewidth=1.2)
            axes.plot(ratios, [point.number("break_even") for point in row], MARKS[number % len(MARKS)], color=colour,
                      label=f"{length} drafted", markersize=6, linestyle="")  # fmt: skip
        axes.plot([], [], color="0.4", label="closed form")
        units = mark_drafts(axes, real)
        ends = [*(float(point.place["ratio"]) for point in points), *real.values()]
        axes.set(
            xscale="log",
            xlim=(min(ends) / 1.5, max(ends) * 1.5),
            ylim=(-0.04 - ROW * len(units), 1.02),
            yticks=[0, 0.2, 0.4, 0.6, 0.8, 1.0],
            xlabel="draft step over target step",
        )
        axes.set_title(link, fontsize=10)
        plain(axes, "both")
    panels[0][0].set_ylabel("break-even acceptance; below it drafts in w4, by unit")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=9)
    finished(figure, title, path, kind)


def mark_drafts(axes: Axes, real: Mapping[str, float]) -> list[str]:
    """Drafts at their ratios below the axis, a row a unit; returns the units."""
    units = list(dict.fromkeys(name.split(" on ")[1] for name in real))
    for name, ratio in real.items():
        row = units.index(name.split(" on ")[1])
        axes.plot([ratio], [-0.04 - ROW * row], "|", color="black", markersize=9, markeredgewidth=2)
    for row, unit in enumerate(units):
        spot = (1.0, -0.04 - ROW * row)
        axes.annotate(unit, spot, (-3, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                      fontsize=7.5, ha="right", va="center")  # fmt: skip
    return units


def draw_drafts(points: Sequence[SweepPoint], setup: Setup, longest: int, title: str, path: Path, kind: str) -> None:
    """Every draft at its place, over lines of equal speed-up by the closed form."""
    ran = [point for point in points if not point.why]
    figure, panels = sheet(1, 1, 10, 6)
    axes = panels[0][0]
    steps = [steps_of(setup, n) for n in range(1, longest + 1)]
    taken = [point.number("draft_ms") for point in ran] or [1.0]
    across = np.geomspace(min(taken) / 2, max(max(taken) * 2, steps[0].target_ms), 80)
    up = np.linspace(0.4, 1.0, 60)
    reached = np.array(
        [
            [max(sync_speedup(a, s.drafted, ms / s.target_ms, s.link, s.verify) for s in steps) for ms in across]
            for a in up
        ]
    )
    axes.set_xscale("log")
    contours(axes, across, up, reached, (*LEVELS, 3.0, 4.0), colour="0.6")
    marks = dict(zip(models := column(points, "draft"), (MARKS * len(models))[: len(models)], strict=True))
    units = column(points, "unit")
    colours = {unit: BLACK_AND[1 + place % (len(BLACK_AND) - 1)] for place, unit in enumerate(units)}
    for point in ran:
        spot, in_w4 = (point.number("draft_ms"), point.number("acceptance")), point.place["precision"] == "w4"
        axes.plot(
            *([value] for value in spot), marks[str(point.place["draft"])], color=colours[str(point.place["unit"])],
            markersize=9, markeredgecolor="black", fillstyle="full" if in_w4 else "left", linestyle="",
        )  # fmt: skip
        if in_w4:
            axes.annotate(f"{point.speedup:.2f}x", spot, (0, 7), textcoords="offset points", fontsize=7.5, ha="center",
                          rotation=60, va="bottom", rotation_mode="anchor")  # fmt: skip
    for model, mark in marks.items():
        axes.plot([], [], mark, color="0.5", markeredgecolor="black", label=model)
    for unit, colour in colours.items():
        axes.plot([], [], "s", color=colour, label=unit)
    axes.plot([], [], "o", color="0.5", markeredgecolor="black", fillstyle="left", label="half filled: not w4")
    axes.set(xlabel="time of a drafted token, ms", ylabel="acceptance (the stand-in's)", ylim=(0.4, 1.0))
    figure.legend(loc="outside right center", frameon=False, fontsize=9,
                  title="lines: equal speed-up by the\nclosed form, best length;\nnumbers: simulated, w4")  # fmt: skip
    finished(figure, title, path, kind)


def draw_caps(
    caps: Sequence[float], every: Sequence[float], series: Mapping[str, Sequence[float]], title: str, path: Path,
    kind: str,
) -> None:  # fmt: skip
    """Steps over the caps: the best of all, and of each draft model."""
    figure, panels = sheet(1, 1, 9, 5)
    axes = panels[0][0]
    axes.step(caps, every, where="post", color="0.82", linewidth=8, label="best of all")
    lines(axes, caps, series, steps=True)
    level_line(axes, 1.0, "the target alone")
    axes.set(xscale="log", xlabel="memory left to the draft, GiB", ylabel="best speed-up that fits")
    axes.set_xticks(caps, [f"{cap:g}" for cap in caps], rotation=45, fontsize=8)
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9, loc="center right")
    finished(figure, title, path, kind)


def draw_contexts(points: Sequence[SweepPoint], title: str, path: Path, kind: str) -> None:
    """Memory, times and speed-up over the context; grey where it cannot run."""
    figure, panels = sheet(1, 3, 14, 4.4)
    contexts = [float(point.place["context_tokens"]) for point in points]
    shown_as = [
        ({"target's chip": "target_gib", "draft's chip": "draft_gib"}, "memory in use, GiB"),
        ({"first token": "time_to_first_token_ms.mean", "verify": "verify_ms", "target step": "target_ms"}, "ms"),
        ({"best draft length": "speedup"}, "speed-up over the target alone"),
    ]
    for axes, (names, label) in zip(panels[0], shown_as, strict=True):
        lines(axes, contexts, {line: [point.number(name) for point in points] for line, name in names.items()})
        for place, point in enumerate(points):
            if point.why:
                begin = contexts[place - 1] if place else contexts[place] / 2
                axes.axvspan(begin, contexts[place], color="0.9", zorder=0, linewidth=0)
        axes.set(xlabel="context_tokens", ylabel=label, xscale="log")
        most = [point.number(name) for point in points for name in names.values() if name in point.numbers]
        axes.set_ylim(0, 1.15 * max(most, default=1.0))
        axes.set_xticks(contexts, [f"{context:g}" for context in contexts], rotation=45, fontsize=8)
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=9, loc="lower left" if label.startswith("speed") else "center left")
    finished(figure, f"{title}; grey: not here", path, kind)


def draw_temperatures(by_rule: Mapping[str, Sequence[SweepPoint]], title: str, path: Path, kind: str) -> None:
    """Left the acceptance, right the speed-up."""
    figure, panels = sheet(1, 2, 11, 4.4)
    across = [float(point.place["temperature"]) for point in next(iter(by_rule.values()))]
    labels = {"acceptance": "acceptance of a drafted token", "speedup": "speed-up over the target alone"}
    for axes, (name, label) in zip(panels[0], labels.items(), strict=True):
        lines(axes, across, {rule: [point.number(name) for point in points] for rule, points in by_rule.items()})
        axes.set(xlabel="temperature (0: greedy)", ylabel=label)
        axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 0.08))
    level_line(panels[0][1], 1.0)
    panels[0][0].set_ylim(0, 1)
    finished(figure, title, path, kind)


def draw_widths(rows: Sequence[Sequence[SweepPoint]], title: str, path: Path, kind: str) -> None:
    """Left, a mark a policy over the sets; right, speed-up against memory."""
    figure, panels = sheet(1, 2, 13, 5.2)
    left, right = panels[0]
    for number, same in enumerate(zip(*rows, strict=True)):
        left.plot(range(len(rows)), [point.speedup for point in same], MARKS[number % len(MARKS)], markersize=8,
                  color=BLACK_AND[number % len(BLACK_AND)], label=same[0].place["policy"], linestyle="")  # fmt: skip
    left.set_xticks(range(len(rows)), [str(row[0].place["widths"]) for row in rows], rotation=30, ha="right")
    for place, row in enumerate(rows):
        if row[0].why:
            left.annotate("does not run", (place, 0.02), xycoords=("data", "axes fraction"), rotation=90, ha="center",
                          fontsize=8, color="0.4")  # fmt: skip
    left.set(xlabel="compiled widths of the target", ylabel="speed-up over the scenario's target alone")
    level_line(left, 1.0)
    plain(left, "both")
    alike: dict[tuple[float, float], list[str]] = {}
    for top in (best(row) for row in rows):
        if not top.why:
            ends = [top.number("shared_gib"), top.number("own_gib")]
            right.plot(ends, [top.speedup] * 2, color="0.7", linewidth=1.2, zorder=1)
            right.plot(ends[:1], [top.speedup], "o", color="white", markeredgecolor="black", zorder=2)
            right.plot(ends[1:], [top.speedup], "o", color="black", zorder=2)
            alike.setdefault((round(ends[1], 2), round(top.speedup, 2)), []).append(str(top.place["widths"]))
    for spot, sets in alike.items():
        above = any(0 < other[1] - spot[1] < 0.08 for other in alike)  # then there is no room on that side
        right.annotate(", ".join(sets), spot, (0, -13 if above else 6), textcoords="offset points", fontsize=8,
                       ha="center")  # fmt: skip
    right.plot([], [], "o", color="white", markeredgecolor="black", label="graphs share their weights", linestyle="")
    right.plot([], [], "o", color="black", label="weights in every graph", linestyle="")
    right.set(xlabel="memory in use on the target's chip, GiB", ylabel="speed-up, best policy")
    right.margins(x=0.2, y=0.1)
    plain(right, "both")
    handles, labels = (
        [item for axes in (left, right) for item in axes.get_legend_handles_labels()[part]] for part in (0, 1)
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=7, frameon=False, fontsize=9)
    finished(figure, title, path, kind)


def draw_ranking(
    ran: Sequence[SweepPoint], stability: RankStability, wanted: RankingObjective, title: str, path: Path, kind: str
) -> None:
    """Left the intervals, right how often each has which rank."""
    names = [fill(str(each.place["contender"]), 60) for each in ran]
    count = sum(name.count("\n") + 1 for name in names)
    figure, panels = sheet(1, 2, 15, 1.6 + 0.26 * len(ran) + 0.15 * count)
    left, right = panels[0]
    rows = range(len(ran))
    low, median, high = (np.array(values) / wanted.scale for values in stability.intervals(wanted))
    left.hlines(rows, low, high, color="0.6", linewidth=5)
    left.plot(median, rows, "|", color="black", markersize=12, label="median of the draws")
    nominal = [each.number(wanted.measure) / wanted.scale for each in ran]
    left.plot(nominal, rows, "D", color=BLACK_AND[2], markeredgecolor="black", label="as described")
    left.set_yticks(rows, names, fontsize=9 if count == len(ran) else 7)
    left.invert_yaxis()
    left.set_xlabel(f"{wanted.name}, {wanted.unit}; grey: 5 % to 95 % of the draws")
    plain(left, "x")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    right.imshow(stability.ranks, cmap="Greys", vmin=0, vmax=1, aspect="auto")
    for (row, rank), share in np.ndenumerate(stability.ranks):
        if share > 0:
            right.text(rank, row, percent(float(share)), ha="center", va="center", fontsize=8,
                       color="white" if share > 0.5 else "black")  # fmt: skip
    right.set_yticks(rows, [""] * len(ran))
    right.set_xticks(rows, [str(rank + 1) for rank in rows])
    right.set_xlabel("rank; share of the draws")
    level_line(right, -0.5)
    finished(figure, title, path, kind)
