"""The rig: all units of a scenario with a board or a recording behind them, opened, checked and closed again.

It provides the timers and the logits of measured roles, and holds what the report states about the hardware.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hilsim.cost.timer import StepTimer, timer_for
from hilsim.describe.address import Address
from hilsim.describe.backend import SIMULATED, Backend, recording_of
from hilsim.describe.catalogue import located
from hilsim.describe.setup import Placed, Setup
from hilsim.errors import ChipLost, Fault, InputError, ScenarioError
from hilsim.files import exists, expanded, place_faults, read_text
from hilsim.hardware.agent.digests import tokenizer_digest
from hilsim.hardware.measured.relayed import ObservedSource
from hilsim.hardware.measured.timer import MeasuredTimer, StepPair
from hilsim.hardware.measured.unit import MeasuredUnit, Use
from hilsim.hardware.recordings.entries import REPLAYED
from hilsim.hardware.recordings.recorded import RecordedChip
from hilsim.hardware.recordings.recorder import Recorder
from hilsim.hardware.recordings.recording import read_recording
from hilsim.hardware.wire.client import Agent, Timeouts
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, Rows, StepExecutor, StepRequest, StepResult
from hilsim.progress import Notify, silent
from hilsim.sources.source import LogitsSource
from hilsim.trust import stranger

LINES = ".jsonl"  # the ending of recordings
Compute = Callable[[Sequence[int], int, int], list[Rows] | None]


@dataclass
class RigUnit:
    """One unit on the rig: what is behind it, and where its answers are written down."""

    name: str  # as the scenario names it
    backend: Backend
    unit: MeasuredUnit
    chip: StepExecutor
    device: Mapping[str, Any]  # what the board reports about itself
    recorder: Recorder | None


class Rig:
    """All measured units of one scenario. A context manager: boards are let go of and recordings closed at its end."""

    def __init__(self, setup: Setup, places: Mapping[str, RigUnit]):
        self.setup, self.places = setup, dict(places)
        self.measured: dict[str, MeasuredTimer] = {}

    @classmethod
    def open(cls, setup: Setup, folder: Path | None = None, notify: Notify = silent) -> Self:
        """Connect to every board and load its models. Raises `ScenarioError` with every fault of every unit.

        Answers are appended to each unit's `record`, or to SCENARIO-UNIT.jsonl in `folder`, or nowhere.
        """
        places: dict[str, RigUnit] = {}
        faults: list[Fault] = []
        agents: dict[str, Agent] = {}  # an agent takes one client, so units behind one address share it
        faults += [*shared_files(setup), *shared_agents(setup)]
        for track, backend in setup.backends.items():
            name = next(name for name, known in setup.scenario.units.items() if known is backend)
            notify(f"{name}: {backend.backend}")
            try:
                places[track] = opened(setup, track, name, backend, folder, agents)
            except InputError as error:
                faults += error.faults
        rig = cls(setup, places)
        if faults:
            rig.close()
            raise ScenarioError(faults)
        return rig

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of boards and recordings."""
        for place in self.places.values():
            place.chip.close()
            if place.recorder is not None:
                place.recorder.close()

    def timers(self, placed: Placed, context: int) -> StepTimer:
        """The timer of a role: the chip's own time where its unit is on the rig."""
        model = timer_for(placed, context)
        if placed.track not in self.places:
            return model
        if placed.role not in self.measured:
            self.measured[placed.role] = MeasuredTimer(self.places[placed.track].unit, placed.role, model)
        return self.measured[placed.role]

    @property
    def generating(self) -> dict[str, MeasuredUnit]:
        """The units that compute logits or tokens, by role; roles whose text comes from the stand-ins are left out."""
        units = {role: self.places.get(placed.track) for role, placed in self.setup.roles.items()}
        return {role: place.unit for role, place in units.items() if place is not None and place.backend.gives_tokens}

    @property
    def generators(self) -> dict[str, Compute]:
        """What computes the rows of logits of those roles."""

        def generator(role: str, unit: MeasuredUnit) -> Compute:
            return lambda tokens, keep, count: unit.rows(role, tokens, keep, count)

        return {role: generator(role, unit) for role, unit in self.generating.items()}

    @property
    def elsewhere(self) -> dict[str, int]:
        """Roles that need no stand-in's network here, and how many logits their rows have."""
        needless = {role: unit for role, unit in self.generating.items() if unit.backend.on_fault != SIMULATED}
        return {role: unit.lines[role].facts.vocabulary for role, unit in needless.items()}

    def begin(self, source: LogitsSource, run: str = "") -> LogitsSource:
        """Begin a run with this source; returns the source to use, which reports its tokens to the boards."""
        for place in self.places.values():
            place.unit.begin(run)
        return ObservedSource(source, self.observe)

    def observe(self, role: str, request: int, tokens: Sequence[int]) -> None:
        """Take note that a role reads these tokens of a request."""
        for place in self.places.values():
            place.unit.request = request
            if role in place.unit.lines:
                place.unit.observe(role, tokens)

    def interruption(self) -> str:
        """The message of an interrupted run, with the recordings that were written."""
        files = [str(place.recorder.file) for place in self.places.values() if place.recorder is not None]
        return f"interrupted; the answers of the boards are saved in {', '.join(files)}" if files else "interrupted"

    @property
    def pairs(self) -> list[StepPair]:
        """Every step that was charged, as the chip took it and as the chip model has it."""
        return [pair for timer in self.measured.values() for pair in timer.pairs]


def shared_files(setup: Setup) -> list[Fault]:
    """Recordings that two units would write to at once."""
    files: dict[Path, str] = {}
    faults = []
    for name, backend in setup.scenario.units.items():
        if backend.record is not None:
            file = record_place(backend.record, setup, name).absolute()
            if file in files:
                found = f"{backend.record}, as in units.{files[file]}.record"
                faults.append(Fault(setup.file, f"units.{name}.record", found, "a file of its own for each unit"))
            files[file] = name
    return faults


def shared_agents(setup: Setup) -> list[Fault]:
    """Faults of units that share one agent but give it different settings."""
    first: dict[str, tuple[str, Backend]] = {}
    faults = []
    for name, backend in setup.scenario.units.items():
        if backend.address is None:
            continue
        other, theirs = first.setdefault(backend.address, (name, backend))
        for key in ("token_file", "timeout_ms"):
            if getattr(backend, key) != getattr(theirs, key):
                expected = f"{getattr(theirs, key)}, as units.{other}.{key} has for the same agent"
                faults.append(Fault(setup.file, f"units.{name}.{key}", str(getattr(backend, key)), expected))
    return faults


def opened(
    setup: Setup, track: str, name: str, backend: Backend, folder: Path | None, agents: dict[str, Agent]
) -> RigUnit:
    """Connect to what is behind one unit, load the models of its roles, and begin its recording."""
    place = f"units.{name}"
    roles = {role: placed for role, placed in setup.roles.items() if placed.track == track}
    chip: Agent | RecordedChip
    if backend.address is None:
        recording = read_recording(recording_file(backend.backend, setup))
        chip = recorded = RecordedChip(recording, unseen=backend.unseen)
        names: Sequence[str] = tuple(recorded.models)
        device: Mapping[str, Any] = recording.sessions[-1].header.device
        backend = backend.model_copy(update=recorded.settings)  # what was run so often is replayed so often
    else:
        if backend.address not in agents:
            token = token_of(backend, setup, place)
            agents[backend.address] = Agent(Address.parse(backend.address), token, patience_of(backend))
        chip = agents[backend.address]
        try:
            names, device = chip.facts.models, chip.facts.device
        except AgentFault as fault:
            raise InputError([not_there(setup, place, backend, fault)]) from None
    models: dict[str, ModelFacts] = {}
    faults: list[Fault] = []
    spare = None
    if recording_of(backend.on_fault):
        try:
            spare = read_recording(recording_file(backend.on_fault, setup))
        except InputError as error:
            faults += [from_key(fault, setup, f"{place}.on_fault") for fault in error.faults]
    for role, placed in roles.items():
        try:
            models[role] = chip.load(model_for(setup, place, backend, placed, names))
            faults += misfits(setup, place, backend, placed, models[role])
        except AgentFault as fault:
            faults.append(not_there(setup, place, backend, fault))
        except InputError as error:
            faults += error.faults
    if faults:
        chip.close()
        raise InputError(faults)
    recorder = None
    if isinstance(chip, Agent) and (file := record_file(setup, name, backend, folder)) is not None:
        try:
            recorder = recorder_of(file, setup, track, backend, chip, models)
        except InputError as error:
            chip.close()
            raise InputError([from_key(fault, setup, f"{place}.record") for fault in error.faults]) from None

    def note(role: str, ask: StepRequest, answer: StepResult | AgentFault, use: Use) -> None:
        if recorder is None:
            return
        try:
            recorder.add(role, ask, answer, use)
        except InputError as error:  # such as a full disk: what is recorded stays, and the run ends
            raise ChipLost(track, "recording", str(error), f"What was recorded is in {recorder.file}.") from None

    def stand_in() -> StepExecutor | None:
        return None if spare is None else RecordedChip(spare, unseen=backend.unseen, warm=True)

    unit = MeasuredUnit(track, name, backend, chip, models, note, stand_in)
    return RigUnit(name, backend, unit, chip, device, recorder)


def recorder_of(
    file: Path, setup: Setup, track: str, backend: Backend, agent: Agent, models: Mapping[str, ModelFacts]
) -> Recorder:
    """A new session of a recording. Raises `InputError`."""
    if faults := place_faults(file, "the recording"):
        raise InputError(faults)
    recorder = Recorder(
        file,
        unit=track,
        scenario=setup.digest,
        address=str(agent.address),
        facts=agent.facts,
        models={facts.name: facts for facts in models.values()},
        settings=backend.model_dump(include=set(REPLAYED)),
    )
    for note in recorder.notes:
        print(note, file=sys.stderr)
    return recorder


def recording_file(value: str, setup: Setup) -> Path:
    """The file of a recording://FILE."""
    return found_file(recording_of(value), setup)


def found_file(named: str, setup: Setup) -> Path:
    """A file that a scenario names: beside it, in the project, or where the command runs."""
    found = located(named, Path(setup.file))
    return found if exists(found) else Path(expanded(named))


def from_key(fault: Fault, setup: Setup, key: str) -> Fault:
    """A file's fault, reported at the key that names the file."""
    return Fault(setup.file, key, f"{fault.file}: {fault.found}", fault.expected, fault.remedy)


def token_of(backend: Backend, setup: Setup, place: str) -> str | None:
    """The token that the agent asks for. Raises `InputError` at the key that names its file."""
    if backend.token_file is None:
        return None
    try:
        return token_in(found_file(backend.token_file, setup))
    except InputError as error:
        raise InputError([from_key(fault, setup, f"{place}.token_file") for fault in error.faults]) from None


def token_in(file: Path) -> str:
    """The token that a file holds. Raises `InputError` where it holds none."""
    token = read_text(file).strip()
    if not token:
        raise InputError([Fault(str(file), "", "an empty file", "the token that the agent was given")])
    return token


def patience_of(backend: Backend) -> Timeouts:
    """How long the simulator waits for a whole answer; a stall costs `timeout_ms`, however soon silence is noticed."""
    return Timeouts(step_s=backend.timeout_ms / 1000)


def record_place(value: str, setup: Setup, name: str) -> Path:
    """A file to write to that a scenario names: where the command runs. Raises `InputError` where there can be none."""
    located(value, Path(setup.file))
    path = Path(expanded(value))
    here = path.suffix == LINES and path.resolve().is_relative_to(Path.cwd().resolve())
    if not here and (why := stranger(Path(setup.file))):  # else it could write what a shell reads at its next start
        found = f"{value!r}, named by {setup.file} ({why})"
        expected = f"a name that ends in {LINES} below the folder where the command runs"
        remedy = "Leave it out: answers are written to recordings/, or to --out."
        raise InputError([Fault(setup.file, f"units.{name}.record", found, expected, remedy)])
    if faults := place_faults(path, f"units.{name}.record"):
        raise InputError(faults)
    return path


def record_file(setup: Setup, name: str, backend: Backend, folder: Path | None) -> Path | None:
    """Where answers are appended."""
    if backend.record is not None:
        return record_place(backend.record, setup, name)
    return None if folder is None else folder / file_name(setup.scenario.name, name)


def file_name(scenario: str, unit: str) -> str:
    """The name of a unit's recording: no scenario's name leads out of the folder, or to a hidden file."""
    return re.sub(r"[^\w.-]+", "-", f"{scenario}-{unit}").lstrip(".-") + LINES


def model_for(setup: Setup, place: str, backend: Backend, placed: Placed, names: Sequence[str]) -> str:
    """Which of a chip's models a role is: the one named, else one called as the role or its model, or the only one."""
    wanted = backend.models.get(placed.role)  # type: ignore[call-overload]
    stand_in = "" if placed.stand_in is None else placed.stand_in.name
    candidates = [wanted] if wanted is not None else [placed.role, placed.model.name, stand_in]
    found = next((name for name in candidates if name in names), None)
    if found is None and wanted is None and len(names) == 1:
        found = names[0]
    if found is None:
        looked = " or ".join(repr(name) for name in candidates if name)
        expected = f"a model that {backend.backend} has: {', '.join(names) or 'none'}"
        remedy = f"Set {place}.models.{placed.role}, or start the agent with --model {placed.role}=FOLDER."
        raise InputError([Fault(setup.file, f"{place}.models.{placed.role}", looked, expected, remedy)])
    return found


def misfits(setup: Setup, place: str, backend: Backend, placed: Placed, facts: ModelFacts) -> list[Fault]:
    """Faults that keep a board's model from its role."""
    faults = []
    who = f"model {facts.name!r} behind {place}"
    if facts.context < setup.scenario.context_tokens:
        expected = f"at most {facts.context}, the context of {who}"
        faults.append(Fault(setup.file, "context_tokens", str(setup.scenario.context_tokens), expected))
    if not backend.gives_tokens:
        return faults
    if backend.words not in facts.gives:
        expected = f"{' or '.join(facts.gives)}, which {who} gives, or stand_in"
        faults.append(Fault(setup.file, f"{place}.words", backend.words, expected))
    if placed.stand_in is not None and facts.tokenizer is not None:
        ours = tokenizer_digest(placed.stand_in)
        if ours is not None and ours != facts.tokenizer:
            faults.append(
                Fault(
                    setup.file,
                    f"{placed.role}.stand_in",
                    f"a tokenizer other than that of {who}",
                    "the same tokenizer on both sides, which exchange token ids",
                    f"Name the folder that the agent has, or set {place}.words=stand_in.",
                )
            )
    return faults


# What to do about an agent that cannot be used, by the kind of fault.
REMEDIES = {
    "unreachable": "Start one: python -m hilsim agent --model NAME=FOLDER --listen HOST:PORT.",
    "refused": "Wait for the other client, or set {place}.token_file, as the message explains.",
    "version": "Update hilsim here or on the board.",
    "garbage": "Is that the agent's port? Check it with: python -m hilsim agent --test ADDRESS.",
    "died": "Is that the agent's port? Its own output shows why it ended.",
    "stalled": "Is that the agent's port, and is the board busy? Else raise {place}.timeout_ms.",
    "engine": "Fix the engine; its traceback is in the agent's output.",
}


def not_there(setup: Setup, place: str, backend: Backend, fault: AgentFault) -> Fault:
    """The fault of an agent that cannot be used before the run."""
    remedy = REMEDIES[fault.kind].format(place=place)
    return Fault(setup.file, f"{place}.backend", f"{backend.backend}, {fault}", "an agent that answers", remedy)
