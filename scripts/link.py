#!/usr/bin/env python3
"""How fast must the link be for what crosses it? Speed-up over bandwidth and latency, a map for each payload.

python scripts/link.py [SCENARIO] [--set PATH=VALUE]... [--temperature 0.7] [--bandwidths MB/S,...] [--latencies MS,...]
                       [--lengths 1,3,5,7] [--plot FILE] [--csv FILE]

A latency is what a message costs one way whatever its length: overhead and propagation together. At every link the
best of the draft lengths counts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.describe.catalogue import described
from hilsim.describe.link import Link
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, ScenarioError
from hilsim.progress import counting
from hilsim.runs.replay import numbers_of
from hilsim.show.grid_tables import (
    crossing,
    plain_table,
    print_cautions,
    print_refused,
    telling,
    terminal,
    times,
    write_csv,
)
from hilsim.show.numbers import shortened, three_digits
from hilsim.show.plots.curves import colour_bar, empty, finished, heat_map, rim, sheet
from hilsim.study.sweeps import Place, Point, best, drafting, loaded, over_lengths, with_link
from scripts.arguments import numbers, question, whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WARM = {
    "ratio, full_rows": ("accept=ratio", "payload=full_rows"),
    "ratio, top_k 64": ("accept=ratio", "payload={scheme: top_k, k: 64}"),
    "gumbel, token_ids": ("accept=gumbel", "payload=token_ids"),
}
COLD = ("sampling={temperature: 0.0}", "accept=greedy", "payload=token_ids")
GREEDY = "greedy, token_ids"
GAINS = (1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Map:
    """A payload's points, latency by latency, from the slowest bandwidth on."""

    payload: str
    rows: list[list[Point]]

    def speeds(self) -> list[list[float]]:
        """Speed-ups, latencies by bandwidths."""
        return [[point.speedup for point in row] for row in self.rows]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "ethernet")
    parser.add_argument("--temperature", type=numbers(0.01, 10), default="0.7", help="of all payloads but greedy's")
    parser.add_argument("--bandwidths", type=numbers(0.001, 1e6), metavar="MB/S,...", default=log_grid(0.01, 10000, 16))
    parser.add_argument("--latencies", type=numbers(0, 1e5), metavar="MS,...", default=log_grid(0.001, 500, 10))
    parser.add_argument("--lengths", type=whole(1, 16), default="1,3,5,7", help="drafted tokens, the best counts")
    options = parser.parse_args(arguments)
    require_outputs(options)
    setup = drafting(options.scenario, options.set)
    if setup.link is None or setup.link.on_chip:
        raise ScenarioError([Fault(setup.file, "link", "both models on one chip", "a draft on another chip")])
    sampling = f"sampling.temperature={options.temperature[0]:g}"
    changes = {name: (sampling, *sets, "verify_at=target") for name, sets in WARM.items()} | {GREEDY: COLD}
    payloads = {name: loaded(options.scenario, [*options.set, *sets]) for name, sets in changes.items()}
    grid = [(name, latency) for name in payloads for latency in options.latencies]
    rows = {
        (name, latency): [
            at(name, payloads[name], bandwidth, latency, options.lengths) for bandwidth in options.bandwidths
        ]
        for name, latency in counting("latencies", grid, len(grid))
    }
    maps = [Map(name, [rows[name, latency] for latency in options.latencies]) for name in payloads]
    points = [point for each in maps for row in each.rows for point in row]
    console = terminal()
    console.print(table_of(maps, options.bandwidths, options.latencies))
    console.print(
        "slowest: bandwidth from which so much is gained at that latency; - at none of those tried", style="dim"
    )
    print_cautions(console, points)
    print_refused(console, points, ["payload"])
    console.print(f"\n{answer(maps, options.bandwidths, options.latencies)}")
    title = f"{setup.scenario.name}: how fast must the link be for what crosses it?"
    write_outputs(
        options,
        lambda path, kind: draw(maps, options.bandwidths, options.latencies, title, path, kind),
        lambda file: write_csv(points, file),
    )
    return 0


def log_grid(low: float, high: float, count: int) -> str:
    """So many values with one ratio between them, as an argument."""
    return ",".join(f"{value:.4g}" for value in np.geomspace(low, high, count))


def at(name: str, setup: Setup | str, mb_s: float, latency_ms: float, lengths: Sequence[int]) -> Point:
    """The best length of a payload over one link."""
    place: Place = {"payload": name, "mb_s": mb_s, "latency_ms": latency_ms}
    made = setup if isinstance(setup, str) else with_link(setup, mb_s * 1e6, latency_ms / 1000)
    say = telling(f"recording {name}: {shortened(Path(setup.file).stem, 40)}" if isinstance(setup, Setup) else name)
    return best(over_lengths(place, made, lengths, lambda changed: numbers_of(changed, say)))


def nearest(values: Sequence[float], wanted: float) -> int:
    """Place of the value that lies next to one."""
    return min(range(len(values)), key=lambda place: abs(values[place] - wanted))


def slowest(row: Sequence[Point], bandwidths: Sequence[float], gain: float) -> float | None:
    """The bandwidth from which on so much is gained."""
    return crossing(bandwidths, [point.speedup for point in row], gain, log=True)


def rows_shown(latencies: Sequence[float]) -> list[int]:
    """A few latencies that a table has room for: shared memory's, Ethernet's, a network stack's, a slow one's."""
    return sorted({nearest(latencies, wanted) for wanted in (0.001, 0.03, 1, 30, 200)})


def table_of(maps: Sequence[Map], bandwidths: Sequence[float], latencies: Sequence[float]) -> Table:
    """A row a payload and gain; the slowest bandwidth at some latencies."""
    shown = rows_shown(latencies)
    heads = [f"at {three_digits(latencies[place])} ms" for place in shown]
    table = plain_table("payload", "gain", *heads, "at best", left=1)
    for each in maps:
        for gain in GAINS:
            found = [slowest(each.rows[place], bandwidths, gain) for place in shown]
            cells = ["-" if value is None else rate(value, bandwidths[0]) for value in found]
            top = best(point for row in each.rows for point in row).speedup
            first = gain == GAINS[0]
            table.add_row(each.payload if first else "", f"{gain:g}x", *cells, times(top) if first else "")
    return table


def rate(mb_s: float, least: float) -> str:
    """A bandwidth with its unit; the least tried says that it may be less."""
    mark = "<= " if mb_s == least else ""
    factor, unit = (1e-3, "GB/s") if mb_s >= 1000 else (1, "MB/s") if mb_s >= 1 else (1e3, "kB/s")
    return f"{mark}{three_digits(factor * mb_s)} {unit}"


def answer(maps: Sequence[Map], bandwidths: Sequence[float], latencies: Sequence[float]) -> str:
    """What each payload needs to gain anything at about an Ethernet's latency."""
    place = nearest(latencies, 0.03)
    told = []
    for each in maps:
        found = slowest(each.rows[place], bandwidths, GAINS[-1]), slowest(each.rows[place], bandwidths, 1.0)
        twice = (
            "never 2x" if found[0] is None else f"2x from {rate(found[0], bandwidths[0])}".replace("from <=", "even at")
        )
        told.append(f"{each.payload} {twice}" + ("" if found[1] is not None else ", never a gain"))
    return f"At {three_digits(latencies[place])} ms a message: {'; '.join(told)}."


def draw(
    maps: Sequence[Map], bandwidths: Sequence[float], latencies: Sequence[float], title: str, path: Path, kind: str
) -> None:
    """A map a payload with the shipped links where they lie."""
    figure, panels = sheet(2, (len(maps) + 1) // 2, 11, 8.6)
    values = [np.array(each.speeds()) for each in maps]
    finite = [value[np.isfinite(value)] for value in values]
    every = np.concatenate([*finite, np.zeros(1)])
    limits = 0.0, float(every.max()) or 1.0
    image = None
    for axes, each, value in zip(panels.flat, maps, values, strict=True):
        axes.set_title(each.payload, fontsize=10)
        if not np.isfinite(value).any():
            empty(axes, each.rows[0][0].why)
            continue
        image = heat_map(axes, bandwidths, latencies, value, limits, log=True)
        mark_links(axes, bandwidths, latencies)
    for axes in panels[:, 0]:
        axes.set_ylabel("latency of a message one way, ms")
    for axes in panels[-1]:
        axes.set_xlabel("bandwidth, MB/s")
    if image is not None:
        colour_bar(figure, image, panels)
    finished(figure, title, path, kind)


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


if __name__ == "__main__":
    sys.exit(guarded(main))
