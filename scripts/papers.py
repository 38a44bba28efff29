#!/usr/bin/env python3
"""Does the simulator reproduce published results? All of scenarios/papers, next to closed forms where they have one.

python scripts/papers.py [SCENARIO ...] [--plot FILE] [--csv FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.commands.outputs import add_outputs, write_outputs
from hilsim.describe.setup import Setup
from hilsim.places import DATA
from hilsim.progress import counting
from hilsim.runs.evaluate import load_fitting
from hilsim.runs.run import Sources, run_both
from hilsim.show.papers import cases_table, draw, unit
from hilsim.show.table import Table, terminal
from hilsim.study.papers import PaperResult, case_of, published_of
from scripts.arguments import asked

WIDTH = 125  # where there is no terminal


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "scenarios",
        nargs="*",
        type=Path,
        metavar="SCENARIO",
        help="papers to reproduce (default: all of scenarios/papers)",
    )
    add_outputs(parser)
    options = asked(parser, arguments)
    setups = [load_fitting(file, []) for file in options.scenarios or shipped()]
    for setup in setups:
        published_of(setup)  # refused before the runs, not after them
    cases = list(counting("papers", map(run, setups), len(setups)))
    table_of(cases).print(terminal(WIDTH))
    write_outputs(
        options,
        lambda path, kind: draw(cases, path, kind),
        lambda file: cases_table(cases).write_csv(file, 6),
    )
    return 0


def shipped() -> list[Path]:
    """Leviathan's first, as the founding paper and the one that fixes the formula."""
    files = (DATA / "scenarios" / "papers").glob("*.yaml")
    return sorted(files, key=lambda file: (not file.stem.startswith("leviathan"), file.stem))


def run(setup: Setup) -> PaperResult:
    """The target alone, then the policy."""
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    return case_of(setup, outcome.baseline, outcome.speculative)


def table_of(cases: Sequence[PaperResult]) -> Table:
    """One row a setup, a rule between papers, after which files are named."""
    papers = [case.name.split("_")[0] for case in cases]
    rows = [
        [case.name, unit(case), shown(case.printed, ".2f"), shown(case.published.expected, ".2f"),
         shown(None if case.closed is None else case.of(case.closed), ".3f"), shown(case.of(case.simulated), ".3f"),
         shown(case.from_closed_form, "+.2%"), shown(case.from_published, "+.1%")]
        for case in cases
    ]  # fmt: skip
    ends = [place for place, (paper, after) in enumerate(pairwise(papers)) if paper != after]
    heads = ("scenario", "in", "published", "expected", "closed form", "simulated", "vs closed form", "vs published")
    return Table(heads, rows, left=2, sections=ends)


def shown(figure: float | None, how: str) -> str:
    """A dash where there is no figure."""
    return "-" if figure is None else format(figure, how)


if __name__ == "__main__":
    sys.exit(guarded(main))
