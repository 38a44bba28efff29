#!/usr/bin/env python3
"""Which placement of all? Every role, unit, precision, width, draft, link, rule and policy; the Pareto set.

python scripts/explore_placement.py [SCENARIO] [options of `python -m hilsim explore`]
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import main
from hilsim.places import DATA

if __name__ == "__main__":
    arguments = sys.argv[1:]
    scenario = (
        [] if arguments and not arguments[0].startswith("-") else [str(DATA / "scenarios" / "orin_8295_greedy.yaml")]
    )
    sys.exit(main(["explore", *scenario, *arguments]))
