#!/usr/bin/env python3
"""Does the simulator predict this computer's own CPU? Profiled, calibrated, then told from talk that it has not seen.

python scripts/this_computer.py [SCENARIO] [--set PATH=VALUE]... [--drafts NAME,...] [--repeats N] [--keep DIR]
                                [--plot FILE] [--csv FILE]

An agent on this computer runs the scenario's target and the drafts. Its profile becomes a recording, that becomes a
chip file, and the chip file predicts every answer of the scenario's conversations, which the agent really computes. As
other programs get in the way, profile and talk take turns, `--repeats` of them, and each answer's median time counts.
"""

from __future__ import annotations

import contextlib
import csv
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.compiler.compile_check import load_compiled
from hilsim.describe.address import Address
from hilsim.describe.load import load_setup
from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.fidelity.chip_file import as_file, write_chip
from hilsim.fidelity.steps import StepCalibration
from hilsim.files import folder_faults
from hilsim.hardware.agent.machine import processor
from hilsim.hardware.measured.calibrate import calibrate
from hilsim.hardware.measured.profile import Grid
from hilsim.hardware.measured.quality import Doubt
from hilsim.hardware.measured.rig import Rig
from hilsim.hardware.measured.sweep import load_models, record_steps
from hilsim.hardware.recordings.recording import read_recording, tensors_of
from hilsim.hardware.wire.client import Agent
from hilsim.places import CODE, DATA
from hilsim.progress import saying
from hilsim.runs.run import Sources
from hilsim.show.fidelity import percent
from hilsim.show.grid_tables import plain_table, terminal
from hilsim.show.plots.curves import BLACK_AND, MARKS, finished, sheet
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.study.threads import single_threaded
from hilsim.units import ms
from scripts.arguments import names, one, question

DRAFTS = "draft-0.8m,draft-0.2m"
PREFIX = "stand-in-"  # of the described models that are the checkpoints in models/
GRID = Grid(rows=(1, 2, 3, 4, 5, 6, 8, 12, 16, 32), cached=(0, 64, 192, 384), prompts=(16, 32, 64))
ALONE = "target alone"


@dataclass(frozen=True)
class Answered:
    """One request as the board took it and as the simulator predicted it."""

    run: str
    request: int
    tokens: int
    measured_ms: float
    predicted_ms: float

    @property
    def error(self) -> float:
        return self.predicted_ms / self.measured_ms - 1


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "this_computer")
    parser.add_argument("--drafts", type=names, default=DRAFTS, metavar="NAME,...", help=f"of models/ ({DRAFTS})")
    parser.add_argument("--repeats", type=one(1, 99), default=3, metavar="N", help="runs on the board (3)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the recordings and the chip file there")
    options = parser.parse_args(arguments)
    require_outputs(options)
    single_threaded()
    if options.keep is not None and (faults := folder_faults(options.keep, "--keep")):
        raise InputError(faults)
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        file, chip = folder / "this-computer.jsonl", folder / "this-computer.yaml"
        for old in (file, tensors_of(file)):
            old.unlink(missing_ok=True)
        talk = Talk(options.scenario, options.set, options.drafts)
        load_before = os.getloadavg()[0]
        address = stack.enter_context(agent(talk.checkpoints()))
        doubted: list[Doubt] = []
        measured: list[list[Trace]] = []
        for _ in range(options.repeats):
            doubted += profiled(address, file)
            with saying("talking to the board"):
                measured.append(talk.measured(address, options.keep))
        made = calibrate(read_recording(file), "computer-cpu")
        write_chip(as_file(made.record, chip.stem), chip)
        with saying("predicting"):
            predicted = talk.predicted(chip)
    pairs = zip(talk.names, zip(*measured, strict=True), predicted, strict=True)
    found = [answered for name, real, guess in pairs for answered in answers(name, real, guess)]
    console = terminal()
    console.print(requests_table(found))
    console.print()
    console.print(errors_table(found))
    print_facts(console, load_before, doubted, made)
    write_outputs(options, lambda path, kind: draw(found, path, kind), lambda file: write_csv(found, file))
    return 0


@contextlib.contextmanager
def agent(checkpoints: dict[str, Path]) -> Iterator[str]:
    """An agent on this computer with one thread; its address."""
    models = [part for name, folder in checkpoints.items() for part in ("--model", f"{name}={folder}")]
    command = [sys.executable, "-m", "hilsim", "agent", "--threads", "1", "--listen", "127.0.0.1:0", *models]
    process = subprocess.Popen(command, cwd=CODE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        told = process.stdout.readline().strip()
        if not told:
            raise InputError([Fault("agent", "", "none", "one that listens", f"Try it: {' '.join(command[1:])}")])
        yield f"tcp://{told.rpartition(' ')[2]}"
    finally:
        process.terminate()
        process.wait()


def profiled(address: str, file: Path) -> list[Doubt]:
    """One more session of the board's profile; what is doubtful about it."""
    with closing(Agent(Address.parse(address))) as board:
        return record_steps(board, load_models(board), file, GRID, warm_up=1, repeats=3)[0]


@dataclass(frozen=True)
class Talk:
    """The conversations that are held on the board and predicted by its chip file: by the target alone, then drafts."""

    scenario: Path
    overrides: Sequence[str]
    drafts: Sequence[str]

    @property
    def names(self) -> tuple[str, ...]:
        """What each run is called."""
        return (ALONE, *self.drafts)

    def checkpoints(self) -> dict[str, Path]:
        """The folders that the agent runs, by the names of the described models."""
        target = load_setup(self.scenario, self.overrides).target
        assert target.stand_in is not None
        found = {target.model.name: target.stand_in}
        found |= {f"{PREFIX}{draft}": DATA / "models" / draft for draft in self.drafts}
        if missing := [str(folder) for folder in found.values() if not folder.is_dir()]:
            raise ScenarioError([Fault("--drafts", "", ", ".join(missing), f"folders in models/, such as {DRAFTS}")])
        return found

    def setups(self, *overrides: str) -> list[Setup]:
        """The scenario with each draft."""
        placed = [(f"draft.model={PREFIX}{draft}", f"draft.stand_in=models/{draft}") for draft in self.drafts]
        return [load_compiled(self.scenario, [*self.overrides, *overrides, *of_draft]) for of_draft in placed]

    def measured(self, address: str, keep: Path | None) -> list[Trace]:
        """All runs on the board; what it says is recorded where it is to be kept."""
        found = []
        for number, setup in enumerate(self.setups(f"units.cpu.backend={address}")):
            folder = None if keep is None else keep / self.drafts[number]
            with Rig.open(setup, folder) as rig:
                found += runs(Sources(setup, rig=rig), alone=number == 0)
        return found

    def predicted(self, chip: Path) -> list[Trace]:
        """All runs on the calibrated chip."""
        both = [f"{role}.chip={chip.resolve()}" for role in ("target", "draft")]
        return [
            run for number, setup in enumerate(self.setups(*both)) for run in runs(Sources(setup), alone=number == 0)
        ]


def runs(sources: Sources, *, alone: bool) -> list[Trace]:
    """The policy's run, after that of the target alone where it is asked for."""
    policies = [TargetOnly(name="target_only"), None] if alone else [None]
    made = [simulate(sources.setup, sources.fresh(), policy, timers=sources.timers) for policy in policies]
    for run in made:
        if run.lost is not None:
            raise run.lost
    return made


def answers(name: str, real: Sequence[Trace], guess: Trace) -> Iterator[Answered]:
    """The requests of both, one by one. Where the board's last bits made it say something else, that is left out."""
    took = defaultdict(list)
    for record in (record for run in real for record in run.requests):
        took[record.number, record.output_tokens].append(record.finished_ns - record.arrived_ns)
    for record in guess.requests:
        if len(several := took[record.number, record.output_tokens]) == len(real):
            predicted_ns = record.finished_ns - record.arrived_ns
            yield Answered(name, record.number, record.output_tokens, ms(median(several)), ms(predicted_ns))


def by_run(found: Sequence[Answered]) -> dict[str, list[Answered]]:
    """The requests of each run."""
    runs: dict[str, list[Answered]] = {}
    for answer in found:
        runs.setdefault(answer.run, []).append(answer)
    return runs


def requests_table(found: Sequence[Answered]) -> Table:
    """A row a request: measured, predicted and how far off, by run."""
    runs = by_run(found)
    heads = [head for run in runs for head in (f"{run}\nmeasured", "\npredicted", "\noff")]
    table = plain_table("\nno.", "\ntokens", *heads, left=0)
    by_place = {(answer.run, answer.request): answer for answer in found}
    for request, tokens in sorted({(answer.request, answer.tokens) for answer in found}):
        cells: list[str | Text] = []
        for run in runs:
            answer = by_place.get((run, request))
            if answer is None:
                cells += ["", "", ""]
            else:
                cells += [f"{answer.measured_ms:.1f}", f"{answer.predicted_ms:.1f}", percent(answer.error, 4)]
        table.add_row(str(request), str(tokens), *cells)
    return table


def errors_table(found: Sequence[Answered]) -> Table:
    """A row a run: how far off the times of single requests are, and that of all of them together."""
    heads = ("requests", "measured, ms", "predicted, ms", "mean absolute error", "worst", "all")
    table = plain_table("request time", *heads)
    for run, several in by_run(found).items():
        measured = fmean(answer.measured_ms for answer in several)
        predicted = fmean(answer.predicted_ms for answer in several)
        errors = [abs(answer.error) for answer in several]
        cells = (f"{measured:.1f}", f"{predicted:.1f}", f"{fmean(errors):.1%}", f"{max(errors):.0%}")
        table.add_row(run, str(len(several)), *cells, f"{predicted / measured - 1:+.1%}")
    return table


def print_facts(console: Console, load_before: float, doubted: Sequence[Doubt], made: StepCalibration) -> None:
    """What this was measured on, and what speaks against believing it."""
    cores, load_after = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    packages = f"Python {platform.python_version()}, PyTorch {version('torch')}"
    console.print(f"\nSteps of the recording: {made.residuals}.")
    console.print(f"On {processor()}, {cores} cores, {platform.system()} {platform.release()}, {packages}, one thread.")
    console.print(f"Load {load_before:.1f} before, {load_after:.1f} after, with {cores} cores: more is others' work.")
    kinds = Counter(doubt.kind for doubt in doubted)
    if kinds:
        told = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
        console.print(f"Doubtful about the profile's times: {told}.", style="yellow")


def draw(found: Sequence[Answered], path: Path, kind: str) -> None:
    """Predicted against measured, a dot a request."""
    figure, panels = sheet(1, 1, 6.4, 6)
    axes = panels[0][0]
    ends = [value for answer in found for value in (answer.measured_ms, answer.predicted_ms)]
    low, high = min(ends) / 1.3, max(ends) * 1.3
    axes.fill_between(
        [low, high], [low / 1.1, high / 1.1], [low * 1.1, high * 1.1], color="0.9", linewidth=0, label="within 10 %"
    )
    axes.plot([low, high], [low, high], color="0.4", linewidth=1)
    for number, (run, several) in enumerate(by_run(found).items()):
        error = fmean(abs(answer.error) for answer in several)
        axes.scatter(
            [answer.measured_ms for answer in several],
            [answer.predicted_ms for answer in several],
            s=22, alpha=0.8, linewidths=0, color=BLACK_AND[number], marker=MARKS[number],
            label=f"{run}: mean absolute error {error:.1%}",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes.set(xlabel="measured, ms", ylabel="predicted, ms")
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    finished(figure, f"Request times on this computer ({processor()}), predicted from its profile", path, kind)


def write_csv(found: Sequence[Answered], file: TextIO) -> None:
    """A row a request."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "request", "tokens", "measured_ms", "predicted_ms", "error"])
    for answer in found:
        numbers = (answer.measured_ms, answer.predicted_ms, answer.error)
        writer.writerow([answer.run, answer.request, answer.tokens, *(f"{number:.6g}" for number in numbers)])


if __name__ == "__main__":
    sys.exit(guarded(main))
