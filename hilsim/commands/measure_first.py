"""`measure-first`: What should be measured on the boards first, so that a headline number becomes surer?"""

from __future__ import annotations

import argparse
import json
import sys

from hilsim.commands.arguments import MOST_SEED, Commands, add_allow_code, add_set, place, scenario, whole
from hilsim.commands.outputs import require_place


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "measure-first", help="what to measure first: which numbers from a board would narrow the answer most"
    )
    parser.add_argument("scenario", metavar="SCENARIO", type=scenario, help="a scenario, by file or name")
    add_set(parser)
    add_allow_code(parser)
    parser.add_argument(
        "--measure", metavar="NAME", default="speedup",
        help="the number to narrow, such as request_latency_ms.mean (speedup)",
    )  # fmt: skip
    parser.add_argument(
        "--draws", metavar="N", type=whole(50, 100_000, ", such as 150"), default=150,
        help="sets of figures drawn from their ranges (150)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", metavar="N", type=whole(0, MOST_SEED), help="seed of the draws (default: the scenario's)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--csv", metavar="FILE", type=place, help="also a CSV")


def run(options: argparse.Namespace) -> int:
    """Print the ranking. Raises `InputError`, `CompileError` or `PlacementError`, all of them status 2."""
    from hilsim.files import written
    from hilsim.runs.evaluate import load_fitting
    from hilsim.show.measure_first import as_json, render, write_csv
    from hilsim.show.table import terminal
    from hilsim.study.measure_first import measure_first, require_measure

    require_measure(options.measure)
    if options.csv is not None:
        require_place(options.csv, "--csv")
    setup = load_fitting(options.scenario, options.set)
    seed = setup.scenario.seed if options.seed is None else options.seed
    found = measure_first(setup, options.measure, options.draws, seed)
    if options.csv is not None:
        with written(options.csv) as path, path.open("w", encoding="utf-8", newline="") as file:
            write_csv(file, found)
    if options.json:
        sys.stdout.write(json.dumps(as_json(found), indent=2, allow_nan=False) + "\n")
    else:
        render(found, terminal())
    return 0
