#!/usr/bin/env python3
"""How much other work may run beside the assistant? First audio over a stream through its memory, by a network's size.

python scripts/background.py [SCENARIO] [--set PATH=VALUE]... [--streams 0,10,20,30,40,50] [--gmacs 0,1,4]
                             [--limit 1000] [--percentile 50] [--plot FILE] [--csv FILE]

Beside the scenario's own background a stream of so many GB/s goes through the memory of the target's chip, which serves
it first, as cameras and displays cannot wait; a network of so many 10^9 multiply-accumulates runs on the target's unit
30 times a second, before the assistant.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.describe.setup import Setup
from hilsim.progress import counting
from hilsim.runs.run import Sources
from hilsim.study.trips import listed, load_trip, trip_at
from scripts.arguments import asked, curves, numbers, question

PERIOD_MS = 33.3
FIRST = 100.0  # weight of the stream in the memory
PARAMETERS_M = 4.0  # by 10^9 multiply-accumulates, as of a MobileNet: assumed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "trip", limit="1000", percentile="50")
    parser.add_argument("--streams", type=numbers(0, 1e5), default="0,10,20,30,40,50", help="GB/s through the memory")
    parser.add_argument("--gmacs", type=numbers(0, 1e5), default="0,1,4", help="of a network, 30 times a s")
    options = asked(parser, arguments)
    setup = load_trip(options.scenario, options.set)
    sources = Sources(setup)
    places = [(size, stream) for size in options.gmacs for stream in options.streams]
    points = [
        trip_at({"gmacs": size, "gb_per_s": stream}, setup, [beside(setup, stream, size)], sources)
        for size, stream in counting("trips", places, len(places))
    ]
    return curves(options, setup, points, "gb_per_s", "gmacs", "GB/s through the memory of the target's chip")


def beside(setup: Setup, stream: float, gmacs: float) -> str:
    """The scenario's background with a stream and a network more, as a value of --set."""
    more: list[Any] = []
    if stream:
        more.append({"name": "more_stream", "period_ms": PERIOD_MS, "weight": FIRST, "gigabytes_per_s": stream})
    if gmacs:
        shape = {"gmacs": gmacs, "parameters_m": PARAMETERS_M * gmacs}
        place = {"unit": setup.target.unit_name, "period_ms": PERIOD_MS}
        more.append({"name": "more_network", **place, "work": {"shape": shape}})
    return listed("background", [*setup.scenario.background, *more])


if __name__ == "__main__":
    sys.exit(guarded(main))
