#!/usr/bin/env python3
"""Does the simulator predict this computer's own CPU? Profiled, calibrated, then compared on other requests.

python scripts/this_computer.py [SCENARIO] [--set PATH=VALUE]... [--drafts NAME,...] [--repeats N] [--keep DIR]
                                [--plot FILE] [--csv FILE]

An agent on this computer runs the scenario's target and the drafts. Its profile becomes a recording, that becomes a
chip file, and the chip file predicts every answer of the scenario's conversations, which the agent then computes. As
other programs disturb the times, profile and conversations alternate, `--repeats` of them; each answer's median counts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.commands.outputs import write_outputs
from hilsim.errors import InputError
from hilsim.fidelity.chip_file import as_file, write_chip
from hilsim.files import folder_faults
from hilsim.hardware.agent.machine import processor
from hilsim.hardware.measured.calibrate import calibrate
from hilsim.hardware.measured.profile import ProfileGrid
from hilsim.hardware.measured.quality import QualityWarning
from hilsim.hardware.recordings.recording import read_recording, tensors_of
from hilsim.progress import status_line
from hilsim.show.plots.scatter import draw_groups
from hilsim.show.table import terminal
from hilsim.sim.trace import Trace
from hilsim.study.threads import single_threaded
from scripts.arguments import asked, names, one, question
from scripts.loopback.board import Sessions, profile_into
from scripts.loopback.board_tables import by_run, errors_table, facts, rows_table, times_table
from scripts.loopback.processes import serving

DRAFTS = "draft-0.8m,draft-0.2m"
GRID = ProfileGrid(rows=(1, 2, 3, 4, 5, 6, 8, 12, 16, 32), cached=(0, 64, 192, 384), prompts=(16, 32, 64))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "this_computer")
    parser.add_argument(
        "--drafts", type=names, default=DRAFTS, metavar="NAME,...", help=f"drafts, folders in models/ ({DRAFTS})"
    )
    parser.add_argument(
        "--repeats", type=one(1, 99), default=3, metavar="N", help="repetitions; medians are compared (3)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the recordings and the chip file there")
    options = asked(parser, arguments)
    single_threaded()
    if options.keep is not None and (faults := folder_faults(options.keep, "--keep")):
        raise InputError(faults)
    load_before = os.getloadavg()[0]
    doubted: list[QualityWarning] = []
    measured: list[list[Trace]] = []
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file, chip = folder / "this-computer.jsonl", folder / "this-computer.yaml"
        for old in (file, tensors_of(file)):
            old.unlink(missing_ok=True)
        sessions = Sessions(options.scenario, options.set, options.drafts)
        models = [part for name, where in sessions.checkpoints().items() for part in ("--model", f"{name}={where}")]
        address = stack.enter_context(serving(["agent", "--threads", "1", "--listen", "127.0.0.1:0", *models]))
        for _ in range(options.repeats):
            doubted += profile_into(file, address, GRID)
            with status_line("running on the board"):
                measured.append(sessions.measured(address, options.keep))
        made = calibrate(read_recording(file), "computer-cpu")
        write_chip(as_file(made.record, chip.stem), chip)
        with status_line("predicting"):
            found = sessions.answered(measured, sessions.predicted(chip))
    console = terminal()
    for table in (times_table(found), errors_table(found)):
        table.print(console)
    for line in facts(load_before, doubted, made):
        console.print(line)
    title = f"Request times on this computer ({processor()}), predicted from its profile"
    groups = {run: [(one.measured_ms, one.predicted_ms) for one in some] for run, some in by_run(found).items()}
    write_outputs(
        options,
        lambda path, kind: draw_groups(groups, title, path, kind),
        lambda text: rows_table(found).write_csv(text, 6),
    )
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
