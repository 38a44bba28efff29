#!/usr/bin/env python3
"""Does the whole hardware loop work on this machine? Agents on loopback: protocol checked, run, recorded, replayed.

python scripts/hil.py            (make hil)

This computer stands for the boards. Every step must hold, or the exit status is 1:

  protocol    a running agent passes every check of the conformance suite
  run         the first scenario with both chips behind the agent gives the tokens of the simulated run
  replay      the recording of that run leaves the same trace
  lost        an agent that is killed in a run ends it with a report, and its recording can be read
  board       this computer profiled, a chip file calibrated from that, a run that was not in it predicted
  distributed two agents and a link between them: predicted, then executed
  faults      the same with faults that really happen to them, in the order that is predicted
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.progress import status_line
from hilsim.show.table import Table
from scripts.loopback.steps import STEPS, Broken


def main() -> int:
    """Run every step and print its result; the exit status is 1 where one failed."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="hilsim-hil-") as name, status_line("") as notify:
        for step in STEPS:
            notify(step.__name__)
            began = time.perf_counter()
            try:
                held, found = "yes", step(Path(name))
            except Broken as reason:
                held, found = "no", str(reason)
            rows.append([step.__name__, held, found, f"{time.perf_counter() - began:.1f}"])
    Table(["The hardware loop on this machine", "held", "what was found", "seconds"], rows, left=3).print()
    return 1 if any(row[1] == "no" for row in rows) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    sys.exit(guarded(main))
