"""The commands about boards: `profile` times a board's steps, `calibrate` makes a chip file of a recording of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from hilsim.commands.fidelity import as_file, require_chip_file, write_chip
from hilsim.commands.outputs import require_place
from hilsim.describe.address import Address
from hilsim.describe.catalogue import known_as, load_chip, load_named, written_chip
from hilsim.describe.model import Model
from hilsim.errors import ChipLost, Fault, InputError, Misfit
from hilsim.fidelity.recognise import LLAMA_BENCH, kind_of
from hilsim.fidelity.steps import Recorded, StepCalibration, calibrate_steps
from hilsim.files import require_readable
from hilsim.hardware.measured.profile import Grid, asks, swept, taken
from hilsim.hardware.measured.quality import Doubt, Sample, doubts, sample_of, unjudged
from hilsim.hardware.measured.rig import token_in
from hilsim.hardware.recordings.recorder import Recorder
from hilsim.hardware.recordings.recording import Recording, entries_of, is_recording, read_recording
from hilsim.hardware.wire.client import Agent
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts
from hilsim.progress import progressing, saying
from hilsim.units import NS_PER_S

# Padding of a vocabulary is up to a runtime; another model's is farther off than that.
SAME_VOCABULARY = 0.05
START = "Start one on the board: python -m hilsim agent --model NAME=FOLDER."


@dataclass(frozen=True)
class ProfileOptions:
    """What `profile` was asked for; no models are all of them."""

    address: str
    out: Path
    models: Sequence[str] = ()
    grid: Grid = field(default_factory=Grid)
    warm_up: int = 3
    repeats: int = 7
    token_file: Path | None = None


def profile(options: ProfileOptions) -> int:
    """`python -m hilsim profile`: the times of many shapes of steps into a recording."""
    try:
        address = Address.parse(options.address)
    except Misfit as error:
        raise InputError([error.fault("profile", "", "an address")]) from None
    token = None if options.token_file is None else token_in(options.token_file)
    require_place(options.out, "--out")
    with closing(Agent(address, token)) as agent:
        doubted, unknown = steps_into(options, agent, models_of(options, agent))
    show_profile(options.out, doubted, unknown)
    return 0


def models_of(options: ProfileOptions, agent: Agent) -> list[ModelFacts]:
    """The models to profile, loaded. Raises `InputError` where the agent cannot be had or lacks one."""
    try:
        known = agent.facts.models
        if strangers := [name for name in options.models if name not in known]:
            expected = f"a model that {options.address} has: {', '.join(known) or 'none'}"
            raise InputError([Fault("--model", "", repr(name), expected) for name in strangers])
        return [agent.load(name) for name in dict.fromkeys(options.models or known)]
    except AgentFault as fault:
        remedy = START if fault.kind == "unreachable" else ""
        raise InputError([Fault(options.address, "", str(fault), "an agent that answers", remedy)]) from None


def steps_into(options: ProfileOptions, agent: Agent, models: Sequence[ModelFacts]) -> tuple[list[Doubt], str]:
    """The whole sweep, written down step by step; what is doubtful about it, and what cannot be judged.

    Raises `KeyboardInterrupt` and `ChipLost` with where the steps are that were taken by then.
    """
    one_round = asks(models, options.grid)
    if not one_round:
        contexts = ", ".join(f"{facts.name} {facts.context}" for facts in models)
        raise InputError([Fault("profile", "", "no step that fits", f"some within the context ({contexts})")])
    settings = {"warm_up": options.warm_up, "repeats": options.repeats}
    samples: list[Sample] = []
    rounds = options.warm_up + options.repeats
    with (
        Recorder(
            options.out,
            unit="profile",
            scenario=None,
            address=str(agent.address),
            facts=agent.facts,
            models={facts.name: facts for facts in models},
            settings=settings,
        ) as recorder,
        progressing(rounds * len(one_round), "steps") as count,
    ):
        for words in recorder.notes:
            print(words, file=sys.stderr)
        try:
            for use, ask, answer in swept(agent, one_round, warm_up=options.warm_up, repeats=options.repeats):
                recorder.add(None, ask, answer, use)
                if isinstance(answer, AgentFault):
                    raise ChipLost(options.address, answer.kind, answer.found, kept(recorder))
                if use == "profile":
                    samples.append(sample_of(ask, answer, exact=True))
                count.ended("done")
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; {kept(recorder)}") from None
    return sorted(doubts(samples), key=by_weight), unjudged(samples)


def by_weight(doubt: Doubt) -> float:
    """What is farthest beyond its limit first."""
    return -abs(doubt.figure) / doubt.limit if doubt.limit else -math.inf


def kept(recorder: Recorder) -> str:
    """Where the steps are that were taken before something happened."""
    return f"{recorder.entries} steps are kept in {recorder.file}."


def show_profile(file: Path, doubted: Sequence[Doubt], unknown: str) -> None:
    """The last session of a recording as a table, its doubts, and what is not known of it."""
    from rich.console import Console

    from hilsim.show.step_times import print_profile

    session = read_recording(file).sessions[-1]
    print_profile(Console(), session.header.device, taken(session.entries), doubted, unknown, str(file))


@dataclass(frozen=True)
class CalibrateOptions:
    """What `calibrate` was asked for with a recording; `models` are RECORDED=DESCRIBED."""

    file: Path
    chip: str
    out: Path | None = None
    models: Sequence[str] = ()
    unit: str | None = None
    precision: str | None = None


def holds_recording(file: Path) -> bool:
    """Whether a file is a recording, or is called like one and is not what llama-bench writes under that name."""
    if file.suffix == ".jsonl":
        kind = kind_of(file)
        return kind is None or kind.name != LLAMA_BENCH
    require_readable(file)
    try:
        with file.open("rb") as stream:
            return is_recording(stream.read(64))
    except (OSError, ValueError):
        return False


def calibrate(options: CalibrateOptions) -> int:
    """`python -m hilsim calibrate RECORDING`: a chip file whose constants are fitted to the steps of a recording.

    Returns 1 where no constants meet the steps.
    """
    from rich.console import Console

    from hilsim.show.step_times import print_calibration

    require_chip_file(options.out)
    recording = read_recording(options.file)
    found = calibrated(options, recording)
    write_chip(as_file(found.record, options.out), options.out)
    print_calibration(Console(), found, recording.torn, options.out)
    return 1 if found.far_off else 0


def calibrated(options: CalibrateOptions, recording: Recording) -> StepCalibration:
    """The chip with its constants fitted to all steps of a recording."""
    here = Path("--chip")
    written, settled = written_chip(options.chip, here), load_chip(options.chip, here)
    unit = one_of("--unit", options.unit, list(settled.units), f"the units of {written.name}")
    formats = settled.units[unit].precisions
    precision = one_of("--precision", options.precision, list(formats), f"what {written.name}.{unit} computes in")
    steps = recorded_steps(recording, described_models(recording, options.models))
    source = source_of(recording, steps)
    with saying("fitting"):
        return calibrate_steps(written, settled.units[unit], unit, precision, steps, source, str(options.file))


def one_of(option: str, asked: str | None, known: Sequence[str], what: str) -> str:
    """The one that is asked for, or the only one."""
    if asked is not None and asked in known:
        return asked
    if asked is None and len(known) == 1:
        return known[0]
    found = "nothing" if asked is None else repr(asked)
    raise InputError([Fault(option, "", found, f"one of {', '.join(known)} ({what})")])


def described_models(recording: Recording, named: Sequence[str]) -> dict[str, Model]:
    """Which described model each of a recording's models is: as named, else of that name, or known as it."""
    recorded = recording.models()
    wanted: dict[str, str] = {}
    faults: list[Fault] = []
    for text in named:
        name, equals, described = text.partition("=")
        if not equals or name not in recorded:
            expected = f"RECORDED=DESCRIBED, with one of {', '.join(recorded)} before it"
            faults.append(Fault("--model", text, f"no model of {recording.file}", expected))
        wanted[name] = described
    models: dict[str, Model] = {}
    for name, facts in recorded.items():
        model = None if name in wanted else known_as(name, "model", Model)
        try:
            model = load_named("model", Model, wanted[name], Path("--model")) if name in wanted else model
        except InputError as error:
            faults += error.faults
            continue
        if model is None:
            expected = f"a model of models/, by --model {name}=NAME"
            faults.append(Fault(str(recording.file), f"model {name}", "no described model of that name", expected))
        elif abs(facts.vocabulary / model.vocabulary.entries - 1) > SAME_VOCABULARY:
            found = f"a vocabulary of {facts.vocabulary} entries"
            expected = f"{model.vocabulary.entries}, as {model.name} has"
            faults.append(Fault(str(recording.file), f"model {name}", found, expected, f"Or say --model {name}=NAME."))
        else:
            models[name] = model
    if faults:
        raise InputError(faults)
    return models


def recorded_steps(recording: Recording, models: Mapping[str, Model]) -> list[Recorded]:
    """The medians of a recording's shapes. Raises `InputError` where there are none."""
    known = recording.models()
    found = [
        Recorded(
            model=models[one.shape.model],
            reading=one.shape.reading,
            rows=one.shape.rows,
            cached=one.shape.cached,
            seconds=one.median_ns / NS_PER_S,
            count=len(one.all_ns),
            widths=known[one.shape.model].widths,
            context=known[one.shape.model].context,
        )
        for one in taken(entries_of(recording))
    ]
    if not found:
        expected, remedy = "steps of a board", "Record some: python -m hilsim profile."
        raise InputError([Fault(str(recording.file), "", "no step that was timed", expected, remedy)])
    return found


def source_of(recording: Recording, steps: Sequence[Recorded]) -> str:
    """What the fitted constants rest on, in a line."""
    header = recording.sessions[-1].header
    device = ", ".join(str(header.device[key]) for key in ("name", "processor") if header.device.get(key))
    count = sum(step.count for step in steps)
    return f"{count} steps recorded on {device or header.address}, {recording.file.name}, {header.began[:10]}"
