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
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from hilsim.commands.main import guarded
from hilsim.errors import Fault, ScenarioError
from hilsim.show.numbers import byte_count, three_digits
from hilsim.show.plots.maps import draw_links
from hilsim.show.table import Table
from hilsim.study.links import link_maps, nearest, slowest
from hilsim.study.sweeps import Rows, best, flat, load_drafting
from scripts.arguments import answer, asked, numbers, question, single

GAINS = (1.0, 1.5, 2.0)
SHOWN = (0.001, 0.03, 1, 30, 200)  # ms: shared memory's, Ethernet's, a network stack's, two slow ones
LEGEND = "least bandwidth that reaches the speed-up at that latency; - no bandwidth that was tried does"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "ethernet", lengths="1,3,5,7")
    parser.add_argument(
        "--temperature",
        type=single(0.01, 10),
        default="0.7",
        help="temperature of every payload except greedy's token_ids (0.7)",
    )
    parser.add_argument(
        "--bandwidths",
        type=numbers(0.001, 1e6),
        metavar="MB/S,...",
        default=log_grid(0.01, 10000, 16),
        help="link rates",
    )
    parser.add_argument(
        "--latencies",
        type=numbers(0, 1e5),
        metavar="MS,...",
        default=log_grid(0.001, 500, 10),
        help="one-way latencies",
    )
    options = asked(parser, arguments)
    setup = load_drafting(options.scenario, options.set)
    if setup.link is None or setup.link.on_chip:
        raise ScenarioError([Fault(setup.file, "link", "both models on one chip", "a draft on another chip")])
    grid = options.bandwidths, options.latencies
    maps = link_maps(options.scenario, options.set, options.temperature, *grid, options.lengths)
    points = [point for rows in maps.values() for point in flat(rows)]
    shown: list[Table | str] = [table_of(maps, *grid), LEGEND]
    draw = partial(draw_links, maps, *grid)
    return answer(options, setup.scenario.name, shown, points, conclusion(maps, *grid), draw, by=["payload"])


def log_grid(low: float, high: float, count: int) -> str:
    """So many values with one ratio between them, as an argument."""
    return ",".join(f"{value:.4g}" for value in np.geomspace(low, high, count))


def table_of(maps: dict[str, Rows], bandwidths: Sequence[float], latencies: Sequence[float]) -> Table:
    """A row a payload and gain; the slowest bandwidth at some latencies."""
    places = sorted({nearest(latencies, wanted) for wanted in SHOWN})
    cells = []
    for name, rows in maps.items():
        for gain in GAINS:
            found = (rate(slowest(rows[place], bandwidths, gain), bandwidths[0]) for place in places)
            ends = [name, f"{best(flat(rows)).speedup:.2f}"] if gain == GAINS[0] else ["", ""]
            cells.append([ends[0], f"{gain:g}x", *found, ends[1]])
    return Table(
        ["payload", "gain", *(f"at {three_digits(latencies[place])} ms" for place in places), "at best"], cells
    )


def rate(mb_s: float | None, least: float) -> str | None:
    """A bandwidth with its unit, and `<=` before the least that was tried."""
    if mb_s is None:
        return None
    return f"{'<= ' if mb_s == least else ''}{byte_count(1e6 * mb_s)}/s"


def conclusion(maps: dict[str, Rows], bandwidths: Sequence[float], latencies: Sequence[float]) -> str:
    """What each payload needs to gain anything at about an Ethernet's latency."""
    place, parts = nearest(latencies, 0.03), []
    for name, rows in maps.items():
        twice = rate(slowest(rows[place], bandwidths, GAINS[-1]), bandwidths[0])
        reached = "never 2x" if twice is None else f"2x from {twice}".replace("from <=", "even at")
        never = "" if slowest(rows[place], bandwidths, 1.0) is not None else ", never above 1x"
        parts.append(f"{name} {reached}{never}")
    return f"At {three_digits(latencies[place])} ms a message: {'; '.join(parts)}."


if __name__ == "__main__":
    sys.exit(guarded(main))
