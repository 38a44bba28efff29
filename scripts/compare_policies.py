#!/usr/bin/env python3
"""Which policy for this scenario? Every policy with a handful of settings, over the same conversations.

python scripts/compare_policies.py [SCENARIO] [--set PATH=VALUE]... [--all] [--plot FILE] [--csv FILE]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import add_outputs, require_outputs, write_outputs
from hilsim.describe.outside import outside_car
from hilsim.places import DATA
from hilsim.progress import counting
from hilsim.runs.run import replayer
from hilsim.show.comparison import Line, best_of_each, draw_policies, line_of, write_csv
from hilsim.show.kinds import BAD
from hilsim.show.numbers import duration, percent
from hilsim.show.sentences import outside_words
from hilsim.study.variants import Ran, Refused, policies, tried


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="?", type=Path, default=DATA / "scenarios" / "orin_8295.yaml")
    parser.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], help="change one value; repeatable")
    parser.add_argument("--all", action="store_true", help="every setting that was tried, not the best of each policy")
    add_outputs(parser)
    options = parser.parse_args()
    require_outputs(options)
    setup, run = replayer(options.scenario, options.set)
    variants = policies()
    found = list(counting("policies", tried(options.scenario, options.set, variants, run), len(variants)))
    lines = [line_of(ran) for ran in found if isinstance(ran, Ran)]
    shown = sorted(lines, key=lambda line: -line.speedup) if options.all else best_of_each(lines)
    console = Console()
    if outside_car(setup):
        console.print(outside_words(outside_car(setup)), style=f"bold {BAD}")
    console.print(table_of(shown))
    for group, why in {out.variant.group: out.why for out in found if isinstance(out, Refused)}.items():
        console.print(f"{group}, not here: {why}", style="dim", highlight=False, markup=False)
    console.print(f"\nFastest: {shown[0].overrides}", highlight=False, markup=False)
    title = f"{setup.scenario.name}, link {setup.scenario.link}"
    write_outputs(
        options,
        lambda path, kind: draw_policies(shown, title, path, kind),
        lambda file: write_csv([(setup.scenario.link or "", line) for line in lines], file),
    )
    return 0


def table_of(lines: list[Line]) -> Table:
    """One row a policy: speed, when the first clause is ready, and shares of the request time by cause."""
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in ("policy", "speed", "clause", "request", "tok/rd", "J", "verify", "draft", "waste", "link", "wait"):
        table.add_column(name, justify="left" if name == "policy" else "right", no_wrap=True)
    for line in lines:
        lost = line.lost_ms
        table.add_row(
            line.label,
            f"{line.speedup:.2f}",
            "-" if line.first_clause_ms is None else duration(line.first_clause_ms),
            duration(line.request_ms),
            f"{line.tokens_a_round:.2f}",
            f"{line.energy_j:.0f}",
            *(percent(lost[name] / line.request_ms) for name in ("verify", "draft", "waste", "transfer", "wait")),
        )
    return table


if __name__ == "__main__":
    sys.exit(guarded(main))
