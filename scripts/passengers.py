#!/usr/bin/env python3
"""How many passengers may ask before the first audio takes longer than a second? Over their number, by how often.

python scripts/passengers.py [SCENARIO] [--set PATH=VALUE]... [--passengers 1:8:1] [--rates 20,60,120]
                             [--limit 1000] [--percentile 50] [--plot FILE] [--csv FILE]

In place of the scenario's passengers so many ask at random (Poisson), all of one priority. Everything else is the
scenario's. Shown is the first audio after the end of speech; --set trip.minutes=10 is quicker.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.progress import counting
from hilsim.runs.run import Sources
from hilsim.study.trips import listed, load_trip, trip_at
from scripts.arguments import asked, curves, numbers, question, whole


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "trip", limit="1000", percentile="50")
    parser.add_argument("--passengers", type=whole(1, 64), default="1:8:1", help="how many ask: FROM:TO:STEP or a list")
    parser.add_argument("--rates", type=numbers(0.1, 10_000), default="20,60,120", help="questions of each in an hour")
    options = asked(parser, arguments)
    setup = load_trip(options.scenario, options.set)
    sources = Sources(setup)
    places = [(rate, count) for rate in options.rates for count in options.passengers]
    points = [
        trip_at({"per_hour": rate, "passengers": count}, setup, [asking(count, rate)], sources)
        for rate, count in counting("trips", places, len(places))
    ]
    return curves(options, setup, points, "passengers", "per_hour", "passengers")


def asking(count: int, per_hour: float) -> str:
    """So many passengers, as a value of --set."""
    arrivals = {"kind": "poisson", "per_hour": per_hour}
    return listed("passengers", [{"name": f"passenger_{number}", "arrivals": arrivals} for number in range(count)])


if __name__ == "__main__":
    sys.exit(guarded(main))
