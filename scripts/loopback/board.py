"""This computer as a board: its CPU profiled through an agent, and predicted on conversations that it answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from hilsim.compiler.compile_check import load_compiled
from hilsim.describe.address import Address
from hilsim.describe.load import load_setup
from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, ScenarioError
from hilsim.hardware.measured.profile import ProfileGrid
from hilsim.hardware.measured.quality import QualityWarning
from hilsim.hardware.measured.rig import Rig
from hilsim.hardware.measured.sweep import load_models, record_steps
from hilsim.hardware.wire.client import Agent
from hilsim.places import DATA
from hilsim.runs.run import Sources
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.units import ms

PREFIX = "stand-in-"  # of the described models that are the checkpoints in models/
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


def profile_into(file: Path, address: str, grid: ProfileGrid) -> list[QualityWarning]:
    """One more session of the board's profile in a recording. Returns the warnings about it."""
    with closing(Agent(Address.parse(address))) as board:
        return record_steps(board, load_models(board), file, grid, warm_up=1, repeats=3)[0]


@dataclass(frozen=True)
class Sessions:
    """Conversations that the board answers and its chip file predicts: by the target alone, then with each draft."""

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
            raise ScenarioError([Fault("--drafts", "", ", ".join(missing), "folders in models/, such as draft-0.8m")])
        return found

    def setups(self, *overrides: str) -> list[Setup]:
        """The scenario with each draft."""
        placed = [(f"draft.model={PREFIX}{draft}", f"draft.stand_in=models/{draft}") for draft in self.drafts]
        return [load_compiled(self.scenario, [*self.overrides, *overrides, *of_draft]) for of_draft in placed]

    def measured(self, address: str, recordings: Path | None) -> list[Trace]:
        """All runs on the board, recorded where there is a folder for that."""
        found = []
        for number, setup in enumerate(self.setups(f"units.cpu.backend={address}")):
            folder = None if recordings is None else recordings / self.drafts[number]
            with Rig.open(setup, folder) as rig:
                found += runs(Sources(setup, rig=rig), alone=number == 0)
        return found

    def predicted(self, chip: Path) -> list[Trace]:
        """All runs on the calibrated chip."""
        setups = self.setups(*(f"{role}.chip={chip.resolve()}" for role in ("target", "draft")))
        return [run for number, setup in enumerate(setups) for run in runs(Sources(setup), alone=number == 0)]

    def answered(self, measured: Sequence[Sequence[Trace]], predicted: Sequence[Trace]) -> list[Answered]:
        """The requests of all runs, each with its median time over the repeats on the board."""
        pairs = zip(self.names, zip(*measured, strict=True), predicted, strict=True)
        return [answered for name, real, guess in pairs for answered in answers(name, real, guess)]


def runs(sources: Sources, *, alone: bool) -> list[Trace]:
    """The policy's run, after that of the target alone where it is asked for."""
    policies = [TargetOnly(name="target_only"), None] if alone else [None]
    made = [simulate(sources.setup, sources.fresh(), policy, timers=sources.timers) for policy in policies]
    for run in made:
        if run.lost is not None:
            raise run.lost
    return made


def answers(name: str, real: Sequence[Trace], guess: Trace) -> Iterator[Answered]:
    """The requests of both, one by one. Where the board's last bits changed the tokens, the request is left out."""
    took = defaultdict(list)
    for record in (record for run in real for record in run.requests):
        took[record.number, record.output_tokens].append(record.finished_ns - record.arrived_ns)
    for record in guess.requests:
        if len(several := took[record.number, record.output_tokens]) == len(real):
            predicted_ns = record.finished_ns - record.arrived_ns
            yield Answered(name, record.number, record.output_tokens, ms(median(several)), ms(predicted_ns))
