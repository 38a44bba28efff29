#!/usr/bin/env python3
"""Does the simulator come to what papers printed? All of scenarios/papers, next to closed forms where they have one.

python scripts/papers.py [SCENARIO ...] [--plot FILE] [--csv FILE]
"""

from __future__ import annotations

import argparse
import sys
from itertools import zip_longest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.progress import track
from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import add_outputs, require_outputs, write_outputs
from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.verdict import check
from hilsim.describe.setup import Setup
from hilsim.places import DATA
from hilsim.runs.run import Sources, run_both
from hilsim.show.papers import draw, unit, write_csv
from hilsim.study.papers import Case, case_of, published_of

WIDTH = 125  # where nobody's terminal says how wide it is


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", type=Path, metavar="SCENARIO", help="default: all of scenarios/papers")
    add_outputs(parser)
    options = parser.parse_args()
    require_outputs(options)
    setups = [comparable(file) for file in options.scenarios or shipped()]
    cases = [run(setup) for setup in track(setups, "papers", console=Console(stderr=True), transient=True)]
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table_of(cases))
    write_outputs(options, lambda path, kind: draw(cases, path, kind), lambda file: write_csv(cases, file))
    return 0


def shipped() -> list[Path]:
    """Leviathan's first, as the founding paper and the one that fixes the formula."""
    files = (DATA / "scenarios" / "papers").glob("*.yaml")
    return sorted(files, key=lambda file: (not file.stem.startswith("leviathan"), file.stem))


def comparable(file: Path) -> Setup:
    """A set-up that fits and says what is published; refused before the runs, not after them."""
    setup = load_compiled(file)
    check(setup, [], load_compiled).require()
    published_of(setup)
    return setup


def run(setup: Setup) -> Case:
    """The target alone, then the policy."""
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    return case_of(setup, outcome.baseline, outcome.speculative)


def table_of(cases: list[Case]) -> Table:
    """One row a set-up, a rule between papers."""
    table = Table()
    for name in ("scenario", "in"):
        table.add_column(name, no_wrap=True)
    for name in ("published", "expected", "closed form", "simulated", "vs closed form", "vs published"):
        table.add_column(name, justify="right")
    for case, after in zip_longest(cases, cases[1:]):
        table.add_row(
            case.name,
            unit(case),
            shown(case.printed, ".2f"),
            shown(case.published.expected, ".2f"),
            shown(None if case.closed is None else case.of(case.closed), ".3f"),
            shown(case.of(case.simulated), ".3f"),
            shown(case.from_closed_form, "+.2%"),
            shown(case.from_published, "+.1%"),
            end_section=after is not None and paper(after) != paper(case),
        )
    return table


def paper(case: Case) -> str:
    """Files are named after their paper."""
    return case.name.split("_")[0]


def shown(figure: float | None, how: str) -> str:
    """A dash where there is no figure."""
    return "-" if figure is None else format(figure, how)


if __name__ == "__main__":
    sys.exit(guarded(main))
