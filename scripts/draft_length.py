#!/usr/bin/env python3
"""How many tokens should be drafted, over which link? A grid over one scenario, one table.

python scripts/draft_length.py [SCENARIO] [--links pcie-gen3-x4,1000base-t1] [--lengths 1,2,3,4,5,6,7]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.progress import track
from rich.table import Table

from hilsim.app import Sources
from hilsim.cli import guarded
from hilsim.compiler.gate import load_compiled
from hilsim.cost.verdict import check
from hilsim.describe.catalogue import PROJECT
from hilsim.describe.load import Setup
from hilsim.describe.policy import TargetOnly
from hilsim.show.metrics import speculation, speedup
from hilsim.sim.run import simulate


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="?", type=Path, default=PROJECT / "scenarios" / "orin_8295.yaml")
    parser.add_argument("--links", default="pcie-gen3-x4,1000base-t1")
    parser.add_argument("--lengths", default="1,2,3,4,5,6,7")
    options = parser.parse_args()
    links, lengths = options.links.split(","), options.lengths.split(",")
    setups = {(link, n): setup_of(options.scenario, link, n) for link in links for n in lengths}
    sources = Sources(next(iter(setups.values())))
    alone = TargetOnly(name="target_only")
    baselines = {link: simulate(setups[link, lengths[0]], sources.fresh(), alone) for link in links}
    table = Table("draft_tokens", *(f"speedup, {link}" for link in links), "mean_acceptance_length", "wasted drafts")
    for length in track(lengths, "draft lengths", console=Console(stderr=True), transient=True):
        traces = {link: simulate(setups[link, length], sources.fresh()) for link in links}
        speeds = [f"{speedup(baselines[link], traces[link]):.2f}" for link in links]
        found = speculation(traces[links[0]])  # what is said does not depend on the link
        wasted = 1 - found["draft_acceptance_rate"]
        table.add_row(length, *speeds, f"{found['mean_acceptance_length']:.2f}", f"{wasted:.0%}")
    Console().print(table)
    return 0


def setup_of(scenario: Path, link: str, length: str) -> Setup:
    """One cell of the grid, which must fit."""
    overrides = [f"link={link}", f"policy.draft_tokens={length}"]
    setup = load_compiled(scenario, overrides)
    check(setup, overrides, load_compiled).require()
    return setup


if __name__ == "__main__":
    sys.exit(guarded(main))
