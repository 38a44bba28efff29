"""The catalogue: chips, families, links, models, rule profiles and runtimes by name or by file."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path
from typing import TypeVar

from hilsim.describe.chip import Chip
from hilsim.describe.complaints import validated
from hilsim.describe.config_json import CONFIG
from hilsim.describe.derive import MissingPeakError, derived, in_mode
from hilsim.describe.family import Family
from hilsim.describe.figure import Named, Record
from hilsim.describe.folder import config_in, described_by
from hilsim.describe.strict_yaml import Document, parse
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.files import exists, read_text

PROJECT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "acceptance": "models/acceptance",
    "chip": "chips",
    "family": "chips/families",
    "link": "chips/links",
    "model": "models",
    "profile": "chips/profiles",
    "runtime": "chips/runtimes",
}
R = TypeVar("R", bound=Record)
N = TypeVar("N", bound=Named)


def load_record(record: type[R], file: Path) -> R:
    """One described thing from its file, as written there."""
    document = parse(read_text(file), str(file))
    return validated(record, document, str(file))


def load_named(kind: str, record: type[N], value: str, asked_in: Path) -> N:
    """By name (`chips/NAME.yaml`), or by a path ending in .yaml relative to the file that asks.

    A model may also be a Hugging Face folder, or a config.json.
    """
    if kind == "model" and (config := config_of(value, asked_in)) is not None:
        return validated(record, Document(described_by(config), {}), str(config))
    file = file_of(kind, value, asked_in)
    loaded = load_record(record, file)
    if not value.endswith((".yaml", ".yml")) and loaded.name != value:
        raise ScenarioError([Fault(str(file), "name", repr(loaded.name), f"{value!r}, as the file is")])
    return loaded


@cache
def described(kind: str, record: type[N]) -> tuple[N, ...]:
    """All files of a kind in the project; somebody's unfinished one is not the reader's fault."""
    found = []
    for file in sorted((PROJECT / FOLDERS[kind]).glob("*.yaml")):
        try:
            found.append(load_record(record, file))
        except InputError:
            continue
    return tuple(found)


def load_chip(value: str, asked_in: Path) -> Chip:
    """A chip, `NAME`, `NAME@MODE` or a file, with everything that its families say filled in."""
    return settled(written_chip(value, asked_in), file_of("chip", value.partition("@")[0], asked_in))


def written_chip(value: str, asked_in: Path) -> Chip:
    """A chip as its file has it, in the mode asked for."""
    name, at, mode = value.partition("@")
    chip = load_named("chip", Chip, name, asked_in)
    if at:
        if mode not in chip.modes:
            known = ", ".join(f"{name}@{known}" for known in chip.modes) or "none"
            raise ScenarioError([Fault(str(asked_in), "chip", repr(value), f"a power mode of {name}: {known}")])
        return in_mode(chip, mode, chip.modes[mode])
    return chip


def settled(chip: Chip, file: Path) -> Chip:
    """A chip whose units have all their figures: those of their families where their own file gives none."""
    units, faults = {}, []
    for name, unit in chip.units.items():
        place = f"units.{name}.family"
        if unit.family is None:
            units[name] = unit
            continue
        try:
            units[name] = derived(load_named("family", Family, unit.family, file), chip, name, unit)
        except MissingPeakError as error:
            faults.append(Fault(str(file), place, str(error), "that figure in the chip's file", "Add it."))
        except InputError as error:
            faults += [fault if fault.place != "family" else fault.at(place) for fault in error.faults]
    if faults:
        raise ScenarioError(faults)
    return chip.model_copy(update={"units": units})


def file_of(kind: str, value: str, asked_in: Path) -> Path:
    """Where a named thing is described."""
    if value.endswith((".yaml", ".yml")):
        return located(value, asked_in)
    folders = folders_of(kind, asked_in)
    if value.replace("-", "").replace("_", "").replace(".", "").isalnum():
        for folder in folders:
            if exists(folder / f"{value}.yaml"):
                return folder / f"{value}.yaml"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    near = difflib.get_close_matches(value, known, 1)
    remedy = f"Did you mean {near[0]!r}?" if near else "Or give the path of a .yaml file."
    raise ScenarioError([Fault(str(asked_in), kind, repr(value), f"one of {', '.join(known)}", remedy)])


def config_of(value: str, asked_in: Path) -> Path | None:
    """The config.json that a model's value means: that file, or a folder with one; None of names and YAML files."""
    if value.endswith(".json"):
        return located(value, asked_in)
    if not value or value.endswith((".yaml", ".yml")):
        return None
    config = config_in(located(value, asked_in))
    named = "/" not in value and any(exists(folder / f"{value}.yaml") for folder in folders_of("model", asked_in))
    return config if config.name == CONFIG and exists(config) and not named else None


def folders_of(kind: str, asked_in: Path) -> list[Path]:
    """The folders a kind is looked for in: beside the file that asks, then the project's own."""
    beside = asked_in.resolve().parent
    return [beside.parent / FOLDERS[kind], beside / Path(FOLDERS[kind]).name, PROJECT / FOLDERS[kind]]


def located(value: str, asked_in: Path) -> Path:
    """A path in a file: absolute, or relative to the file's folder or to the project."""
    beside, inside = asked_in.parent / value, PROJECT / value
    # Where neither is there, the message should name the folder that the user most likely meant.
    missing_here = exists(inside.parent) and not exists(beside.parent)
    return inside if not exists(beside) and (exists(inside) or missing_here) else beside
