#!/usr/bin/env python3
"""Do faults that really happen to boards take the predicted course? Each kind of them, predicted and injected.

python scripts/faults_on_boards.py [SCENARIO] [--set PATH=VALUE]... [--rate MBIT/S] [--delay MS] [--short]
                                   [--no-namespaces] [--json] [--csv FILE]

Two agents and both ends of a link are started with --inject; then one run for each kind of fault, in which messages are
really lost, held back, doubled or changed, and agents really hang, slow down, begin anew or are lost. Every step is
executed by an agent and every time-out is the wall's.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.compiler.compile_check import load_compiled
from hilsim.hardware.distributed.boards import require_real
from hilsim.hardware.distributed.measured_run import measure_run
from hilsim.hardware.measured.rig import Rig
from hilsim.progress import status_line
from hilsim.runs.transcripts import recorded_source
from hilsim.show.faults_on_boards import Row, fault_rows, fault_sentences, fault_table
from hilsim.show.table import Table, terminal
from hilsim.study.sweeps import load_drafting
from scripts.arguments import asked, question, single
from scripts.loopback.testbed import settings, shape_of, stand_ins, testbed

# Long enough that a busy machine's own delays are small beside them.
REACTION = "{timeout_ms: 200, backoff_ms: 100, backoff_factor: 1, watchdog_ms: 300, probe_ms: 200}"
FEW = ("workload.count=1", "workload.max_turns=1", "workload.max_new_tokens=32")
HERE = "on: {phase: PHASE, request: 0, round: 2}"
# One fault of each kind that can be injected. The last one leaves an agent behind that answers nothing more.
CASES = (
    ("{kind: link_drop, where: up, UP, for_ms: 150}", True),
    ("{kind: link_drop, where: link, UP, for_ms: 1000}", False),
    ("{kind: link_delay, where: up, UP, for_ms: 5, delay_ms: 350}", False),
    ("{kind: loss, where: link, at_ms: 0, for_ms: null, rate: 0.1}", False),
    ("{kind: late, where: up, UP, delay_ms: 350}", False),
    ("{kind: duplicate, where: up, UP}", True),
    ("{kind: bit_errors, where: link, at_ms: 0, for_ms: null, rate: 3e-4}", True),
    ("{kind: partial_outage, where: up, UP, for_ms: 20, share: 1e-4}", False),
    ("{kind: slow, where: target, VERIFY, for_ms: 300, factor: 5}", False),
    ("{kind: hang, where: draft, DRAFT}", True),
    ("{kind: hang, where: target, VERIFY}", False),
    ("{kind: reset, where: target, VERIFY}", False),
    ("{kind: lost, where: draft, DRAFT}", True),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "two_agents")
    parser.add_argument(
        "--rate", type=single(0.01, 1e5), metavar="MBIT/S", default=100.0, help="rate of the link (100)"
    )
    parser.add_argument("--delay", type=single(0, 1e4), metavar="MS", default=1.0, help="one-way delay of the link (1)")
    parser.add_argument("--short", action="store_true", help="one fault of each way of noticing it")
    parser.add_argument("--no-namespaces", action="store_true", help="all on loopback, with no shaped link")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    options = asked(parser, arguments)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that all is tidied up
    sets = [*FEW, *options.set]
    setup = load_drafting(options.scenario, sets)
    require_real(setup)
    with status_line("recording") as notify:
        source = recorded_source(setup, notify)
    shape = None if options.no_namespaces else shape_of(1e6 * options.rate, options.delay / 1e3)
    rows: list[Row] = []
    mismatches = 0
    with testbed(stand_ins(setup), shape, inject=True) as place, status_line("") as notify:
        for case in [case for case, short in CASES if short or not options.short]:
            notify(case)
            there = load_compiled(options.scenario, [*sets, faults(case), *settings(place, setup)])
            with Rig.open(there) as rig:
                run = measure_run(there, rig, place.ends, source)
            rows += fault_rows(run.with_commands.faults, run.measured.faults)
            mismatches += sum(check.mismatches for check in run.checks.values())
    if options.json:
        print(json.dumps({"faults": rows, "mismatches": mismatches}, indent=2, allow_nan=False))
    else:
        console = terminal()
        console.print(fault_table(rows))
        for sentence in (*fault_sentences(rows), f"Tokens that devices computed and that differ: {mismatches}."):
            console.print(f"\n{sentence}")
    if options.csv is not None:
        with options.csv.open("w", encoding="utf-8") as file:
            table_of(rows).write_csv(file, 6)
    return 1 if mismatches or not all(row["same_course"] for row in rows) else 0


def faults(case: str) -> str:
    """The setting that has one fault injected."""
    for phase in ("up", "verify", "draft"):
        case = case.replace(phase.upper(), HERE.replace("PHASE", phase))
    return f"faults={{inject: [{case}], reaction: {REACTION}}}"


def table_of(rows: Sequence[Row]) -> Table:
    """The figures of the CSV."""
    events = ("detected", "reacted", "recovered")
    heads = ["kind", "where", "phase", "by", "same_course"]
    times = [f"{event}_{run}" for event in events for run in ("predicted_ms", "measured_ms")]
    cells = [
        [
            *(row[head] for head in heads),
            *(row[run].get(event) for event in events for run in ("predicted_ms", "measured_ms")),
        ]
        for row in rows
    ]
    return Table([*heads, *times], cells)


if __name__ == "__main__":
    sys.exit(guarded(main))
