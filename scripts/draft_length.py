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

from hilsim.app import Sources, run_both
from hilsim.cli import guarded
from hilsim.cost.verdict import check
from hilsim.describe.load import PROJECT, load_setup
from hilsim.show.metrics import speculation, speedup


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", nargs="?", type=Path, default=PROJECT / "scenarios" / "orin_8295.yaml")
    parser.add_argument("--links", default="pcie-gen3-x4,1000base-t1")
    parser.add_argument("--lengths", default="1,2,3,4,5,6,7")
    options = parser.parse_args()
    links, lengths = options.links.split(","), options.lengths.split(",")
    table = Table("draft_tokens", *(f"speedup, {link}" for link in links), "mean_acceptance_length", "wasted drafts")
    console = Console(stderr=True)
    for length in track(lengths, "draft lengths", console=console, transient=True):
        speeds, found = [], {}
        for link in links:
            overrides = [f"link={link}", f"policy.draft_tokens={length}"]
            setup = load_setup(options.scenario, overrides)
            check(setup, overrides).require()
            outcome = run_both(setup, Sources(setup))
            assert outcome.speculative is not None
            speeds.append(f"{speedup(outcome.baseline, outcome.speculative):.2f}")
            found = speculation(outcome.speculative)
        wasted = 1 - found["draft_acceptance_rate"]
        table.add_row(length, *speeds, f"{found['mean_acceptance_length']:.2f}", f"{wasted:.0%}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
