"""A recording of a board's steps as a chip file: which models and unit were recorded, and the constants that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hilsim.describe.catalogue import known_as, load_chip, load_named, written_chip
from hilsim.describe.model import Model
from hilsim.errors import Fault, InputError
from hilsim.fidelity.recognise import is_log, kind_of
from hilsim.fidelity.steps import RecordedStep, StepCalibration, calibrate_steps
from hilsim.files import require_readable
from hilsim.hardware.measured.profile import taken
from hilsim.hardware.recordings.recording import Recording, entries_of, is_recording
from hilsim.progress import status_line
from hilsim.units import NS_PER_S

# Padding of a vocabulary is up to a runtime; another model's differs by more than that.
SAME_VOCABULARY = 0.05


def holds_recording(file: Path) -> bool:
    """Whether a file is a recording, or is called like one and is no log that tools write under that name."""
    if file.suffix == ".jsonl":
        return not is_log(kind_of(file))
    require_readable(file)
    try:
        with file.open("rb") as stream:
            return is_recording(stream.read(64))
    except (OSError, ValueError):
        return False


def calibrate(
    recording: Recording,
    chip: str,
    *,
    models: Sequence[str] = (),
    unit: str | None = None,
    precision: str | None = None,
) -> StepCalibration:
    """The chip with its constants fitted to all steps of a recording; `models` are RECORDED=DESCRIBED."""
    here = Path("--chip")
    written, settled = written_chip(chip, here), load_chip(chip, here)
    unit = one_of("--unit", unit, list(settled.units), f"the units of {written.name}")
    formats = settled.units[unit].precisions
    precision = one_of("--precision", precision, list(formats), f"what {written.name}.{unit} computes in")
    steps = recorded_steps(recording, described_models(recording, models))
    source = source_of(recording, steps)
    with status_line("fitting"):
        return calibrate_steps(written, settled.units[unit], unit, precision, steps, source, str(recording.file))


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
            faults.append(Fault(str(recording.file), f"model {name}", found, expected, f"Or give --model {name}=NAME."))
        else:
            models[name] = model
    if faults:
        raise InputError(faults)
    return models


def recorded_steps(recording: Recording, models: Mapping[str, Model]) -> list[RecordedStep]:
    """The medians of a recording's shapes. Raises `InputError` where there are none."""
    known = recording.models()
    found = [
        RecordedStep(
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


def source_of(recording: Recording, steps: Sequence[RecordedStep]) -> str:
    """What the fitted constants rest on, in a line."""
    header = recording.sessions[-1].header
    device = ", ".join(str(header.device[key]) for key in ("name", "processor") if header.device.get(key))
    count = sum(step.count for step in steps)
    return f"{count} steps recorded on {device or header.address}, {recording.file.name}, {header.began[:10]}"
