"""Speed-up as maps over two numbers: acceptance and draft length, bandwidth and latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hilsim.describe.catalogue import described
from hilsim.describe.link import Link
from hilsim.describe.setup import Setup
from hilsim.show.plots.curves import (
    LEVELS,
    STYLES,
    Floats,
    colour_bar,
    contours,
    empty,
    finished,
    heat_map,
    level_line,
    lines,
    rim,
    sheet,
)
from hilsim.study.closed_forms import best_draft_tokens
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import LENGTH, Rows, SweepPoint, best, flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def speeds(rows: Rows) -> Floats:
    """Speed-ups as an array, a row a row; not a number where a point cannot run."""
    return np.array([[point.speedup for point in row] for row in rows])


def draw_acceptance(
    rows: Rows, own: Sequence[SweepPoint], chance: Setup, answer: int, title: str, path: Path, kind: str
) -> None:
    """Left the map, with the stand-ins' dots; right the best of each acceptance beside the closed forms."""
    acceptances = [float(row[0].place["acceptance"]) for row in rows]
    lengths = [point.length for point in rows[0]]
    figure, panels = sheet(1, 2, 13.5, 5.4)
    left, right = panels[0]
    values = speeds(rows).T
    image = heat_map(left, acceptances, lengths, values, (float(np.nanmin(values)), float(np.nanmax(values))))
    left.plot([point.acceptance for point in own], lengths, "o", color="white", markeredgecolor="black", markersize=8,
              label="the stand-ins, by mean_acceptance_length")  # fmt: skip
    left.plot(acceptances, [best(row).place[LENGTH] for row in rows], "k_", markersize=22, markeredgewidth=3,
              label="best length")  # fmt: skip
    left.set(xlabel="acceptance of a drafted token", ylabel="drafted tokens a round (sync)", yticks=lengths)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    colour_bar(figure, image, left)
    steps, longest = [steps_of(chance, n) for n in lengths], max(lengths)
    series = {
        f"simulated, answers of {answer} tokens": [best(row).speedup for row in rows],
        "Leviathan, no link": [best_draft_tokens(a, steps[0].ratio, longest=longest)[1] for a in acceptances],
        "the same with this verify and link": [max(step.speedup(a) for step in steps) for a in acceptances],
    }
    lines(right, acceptances, series, dashed=list(series)[1:])
    top = best(own)
    right.plot([top.acceptance], [top.speedup], "*", color="black", markersize=14, label="the stand-ins", linestyle="")
    level_line(right, 2.5, "2.5x")
    right.set(xlabel="acceptance of a drafted token", ylabel="speed-up over the target alone")
    right.legend(frameon=False, fontsize=9, loc="upper left")
    finished(figure, title, path, kind)


def draw_ways(maps: Sequence[Rows], levels: Sequence[float], title: str, path: Path, kind: str) -> None:
    """A row a target, a column a set of widths: the map over the first link, contour lines of all."""
    targets, sets, links = (
        list(dict.fromkeys(str(rows[0][0].place[axis]) for rows in maps)) for axis in ("target", "widths", "link")
    )
    acceptances = [float(row[0].place["acceptance"]) for row in maps[0]]
    lengths = [point.length for point in maps[0][0]]
    figure, panels = sheet(len(targets), len(sets), 3.1 * len(sets) + 1.2, 2.6 * len(targets) + 1)
    finite = [point.speedup for rows in maps for point in flat(rows) if not np.isnan(point.speedup)]
    limits = (min(finite, default=0.0), max(finite, default=1.0))
    image = None
    for rows in maps:
        target, widths, link = (str(rows[0][0].place[axis]) for axis in ("target", "widths", "link"))
        axes = panels[targets.index(target)][sets.index(widths)]
        axes.set_title(f"{target}, widths {widths}", fontsize=9.5)
        values = speeds(rows).T
        if not np.isfinite(values).any():
            if link == links[0]:
                empty(axes, rows[0][0].why)
        elif link == links[0]:
            image = heat_map(axes, acceptances, lengths, values, limits)
            axes.set_yticks(lengths)
        else:
            style = STYLES[links.index(link) % len(STYLES)]
            contours(axes, acceptances, lengths, values, levels, style=style, label=False)
    name_axes(panels, "acceptance", "drafted tokens (sync)")
    if image is not None:
        colour_bar(figure, image, panels, f"speed-up over each panel's own target alone, over {links[0]}")
    shown = ", ".join(f"{level:g}x" for level in levels)
    mapped = ", ".join(f"{level:g}x" for level in LEVELS)
    labels = [f"{links[0]}: {mapped}", *(f"{link}: {shown}" for link in links[1:])]
    handles = [
        panels[0][0].plot([], [], color="0.3", linestyle=STYLES[place % len(STYLES)], label=label)[0]
        for place, label in enumerate(labels)
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=9)
    finished(figure, title, path, kind)


def draw_links(
    maps: Mapping[str, Rows], bandwidths: Sequence[float], latencies: Sequence[float], title: str, path: Path, kind: str
) -> None:
    """A map a payload, latencies by bandwidths, with the shipped links where they lie."""
    figure, panels = sheet(2, (len(maps) + 1) // 2, 11, 8.6)
    values = {name: speeds(rows) for name, rows in maps.items()}
    every = np.concatenate([*(value[np.isfinite(value)] for value in values.values()), np.zeros(1)])
    image = None
    for axes, (name, rows) in zip(panels.flat, maps.items(), strict=True):
        axes.set_title(name, fontsize=10)
        if not np.isfinite(values[name]).any():
            empty(axes, rows[0][0].why)
            continue
        image = heat_map(axes, bandwidths, latencies, values[name], (0.0, float(every.max()) or 1.0), log=True)
        mark_links(axes, bandwidths, latencies)
    name_axes(panels, "bandwidth, MB/s", "latency of a message one way, ms")
    if image is not None:
        colour_bar(figure, image, panels)
    finished(figure, title, path, kind)


def name_axes(panels: Floats, across: str, up: str) -> None:
    """Labels along the left and lower edges of a sheet."""
    for axes in panels[:, 0]:
        axes.set_ylabel(up)
    for axes in panels[-1]:
        axes.set_xlabel(across)


def mark_links(axes: Axes, bandwidths: Sequence[float], latencies: Sequence[float]) -> None:
    """The shipped links that lie inside the map, their names slanting away from each other."""
    for link in sorted(described("link", Link), key=lambda link: link.rate.si):
        mb_s, latency_ms = link.rate.si / 1e6, 1000 * (link.message_overhead.si + link.propagation.si)
        inside = bandwidths[0] <= mb_s <= bandwidths[-1] and latencies[0] <= latency_ms <= latencies[-1]
        if link.on_chip or not inside:
            continue
        axes.plot([mb_s], [latency_ms], "o", color="white", markeredgecolor="black", markersize=6)
        axes.annotate(
            link.name, (mb_s, latency_ms), (4, -5), textcoords="offset points", fontsize=7.5, rotation=50, ha="right",
            va="top", rotation_mode="anchor", color="white", path_effects=rim(),
        )  # fmt: skip
