#!/usr/bin/env python3
"""How hot may it get before the first audio takes longer than a second? Over the air around the chips, by policy.

python scripts/heat.py [SCENARIO] [--set PATH=VALUE]... [--ambients 20:80:10] [--policies scenario,target_only]
                       [--limit 1000] [--percentile 50] [--plot FILE] [--csv FILE]

The trip begins with chips as warm as the air. `scenario` among the policies is the scenario's own.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.progress import counting
from hilsim.runs.run import Sources
from hilsim.study.trips import load_trip, trip_at
from scripts.arguments import asked, curves, names, numbers, question


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "trip", limit="1000", percentile="50")
    parser.add_argument("--ambients", type=numbers(-40, 120), default="20:80:10", help="degrees Celsius of the air")
    parser.add_argument("--policies", type=names, default="scenario,target_only", help="(default %(default)s)")
    options = asked(parser, arguments)
    setup = load_trip(options.scenario, options.set)
    sources = Sources(setup)
    places = [(policy, ambient) for policy in options.policies for ambient in options.ambients]
    points = [
        trip_at({"policy": policy, "ambient_c": ambient}, setup, changes(policy, ambient), sources)
        for policy, ambient in counting("trips", places, len(places))
    ]
    return curves(options, setup, points, "ambient_c", "policy", "air around the chips, degrees Celsius")


def changes(policy: str, ambient: float) -> list[str]:
    """A policy and the temperature of the air, as values of --set."""
    other = [] if policy == "scenario" else [f"policy={{kind: {policy}}}"]
    return [f"climate={{ambient_c: {ambient:g}}}", *other]


if __name__ == "__main__":
    sys.exit(guarded(main))
