#!/usr/bin/env python3
"""Does a distributed run take as long as the simulation predicts? Two agents, one shaped link, predicted and run.

python scripts/two_agents.py [SCENARIO] [--set PATH=VALUE]... [--policy sync] [--rate MBIT/S] [--delay MS] [--trials 3]
                             [--no-namespaces] [--json] [--plot FILE] [--csv FILE]

Each chip is an agent in a network namespace of its own, and their link is shaped; where namespaces are not allowed all
runs on loopback and nothing is shaped. First the agents' own step times go through the simulation, then the same policy
runs with every step executed by an agent and every message sent.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.commands.outputs import write_outputs
from hilsim.compiler.compile_check import load_compiled
from hilsim.hardware.distributed.boards import require_real
from hilsim.hardware.distributed.measured_run import measure_run
from hilsim.hardware.measured.rig import Rig
from hilsim.progress import status_line
from hilsim.runs.transcripts import recorded_source
from hilsim.show.distributed import distributed, draw_distributed, sentences, table_of, write_distributed
from hilsim.show.faults_on_boards import fault_table
from hilsim.show.table import terminal
from hilsim.study.sweeps import load_drafting
from scripts.arguments import asked, one, question, single
from scripts.loopback.testbed import settings, shape_of, stand_ins, testbed

OWN = {
    "target_only": "",
    "sync": ", draft_tokens: 4",
    "adaptive": ", draft_tokens: 4",
    "async": ", min_batch: 2, max_ahead: 8",
    "pipelined": ", draft_tokens: 4",
    "prompt_lookup": ", draft_tokens: 4",
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "two_agents")
    parser.add_argument("--policy", choices=OWN, help="instead of the scenario's own")
    parser.add_argument(
        "--rate", type=single(0.01, 1e5), metavar="MBIT/S", default=100.0, help="rate of the link (100)"
    )
    parser.add_argument("--delay", type=single(0, 1e4), metavar="MS", default=1.0, help="one-way delay of the link (1)")
    parser.add_argument(
        "--trials", type=one(1, 100), metavar="N", default=3, help="runs, of which the medians are compared (3)"
    )
    parser.add_argument("--no-namespaces", action="store_true", help="all on loopback, with no shaped link")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = asked(parser, arguments)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that all is tidied up
    policy = [] if options.policy is None else [f"policy={{kind: {options.policy}{OWN[options.policy]}}}"]
    sets = [*options.set, *policy]
    setup = load_drafting(options.scenario, sets)
    require_real(setup)
    with status_line("recording") as notify:
        source = recorded_source(setup, notify)
    shape = None if options.no_namespaces else shape_of(1e6 * options.rate, options.delay / 1e3)
    with testbed(stand_ins(setup), shape, inject=setup.fails) as place:
        there = load_compiled(options.scenario, [*sets, *settings(place, setup)])
        with Rig.open(there) as rig:
            trials = [measure_run(there, rig, place.ends, source) for _ in range(options.trials)]
        found = distributed(there, trials, place.shaped_by)
    if options.json:
        print(json.dumps({"distributed": found}, indent=2, allow_nan=False))
    else:
        console = terminal()
        console.print(table_of(found))
        if "faults" in found:
            console.print(fault_table(found["faults"]["faults"]))
        for sentence in sentences(found):
            console.print(f"\n{sentence}")
    title = f"{setup.scenario.name}, {setup.scenario.policy.name}: predicted and measured"
    write_outputs(
        options,
        lambda path, kind: draw_distributed(there, trials[-1], title, path, kind),
        lambda file: write_distributed(found, file),
    )
    return 1 if found["words"]["mismatches"] else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
