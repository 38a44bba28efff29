"""The catalogue: chips, families, links, models, rule profiles and runtimes by name or by file."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TypeVar

from hilsim.describe.chip import Chip
from hilsim.describe.complaints import validated
from hilsim.describe.config_json import CONFIG
from hilsim.describe.derive import MissingPeakError, at_speed, derived, in_mode
from hilsim.describe.family import Family
from hilsim.describe.figure import Named, Record
from hilsim.describe.folder import config_in, described_by
from hilsim.describe.names import KnownName, hint, key_hint, longest_beginning, resolve
from hilsim.describe.strict_yaml import Document, parse
from hilsim.errors import Fault, InputError, Misfit, ScenarioError
from hilsim.files import exists, expanded, files_in, is_text, read_text, reason
from hilsim.places import search_roots
from hilsim.unchanged import made_once

FOLDERS = {
    "acceptance": "models/acceptance",
    "campaign": "scenarios/campaigns",
    "chip": "chips",
    "family": "chips/families",
    "link": "chips/links",
    "model": "models",
    "profile": "chips/profiles",
    "runtime": "chips/runtimes",
    "scenario": "scenarios",
    "study": "scenarios/studies",
}
PATH = "path"  # the place of faults in a path; those who ask know where it was named
R = TypeVar("R", bound=Record)
N = TypeVar("N", bound=Named)


@made_once(256)
def load_record(record: type[R], file: Path) -> R:
    """One described thing from its file, as written there."""
    document = parse(read_text(file), str(file))
    return validated(record, document, str(file))


def load_named(kind: str, record: type[N], value: str, named_in: Path) -> N:
    """By any usual spelling of its name, or by a path ending in .yaml relative to the file that names it.

    A model may also be a Hugging Face folder, or a config.json.
    """
    if kind == "model" and (config := config_of(value, named_in)) is not None:
        return validated(record, Document(described_by(config), {}), str(config))
    file = file_of(kind, value, named_in)
    loaded = load_record(record, file)
    if not is_file(value) and loaded.name != file.stem:
        raise ScenarioError([Fault(str(file), "name", repr(loaded.name), f"{file.stem!r}, as the file is")])
    return loaded


def described(kind: str, record: type[N]) -> tuple[N, ...]:
    """All files of a kind in the folders that are searched; one that cannot be read is left out."""
    return described_in(tuple(root / FOLDERS[kind] for root in search_roots()), record)


@cache
def described_in(folders: tuple[Path, ...], record: type[N]) -> tuple[N, ...]:
    """All files of some folders, of two with one name the first."""
    files = {file.name: file for folder in reversed(folders) for file in folder.glob("*.yaml")}
    found = []
    for _, file in sorted(files.items()):
        with suppress(InputError):
            found.append(load_record(record, file))
    return tuple(found)


def known_as(name: str, kind: str, record: type[N]) -> N | None:
    """The described thing that a measurement's text names, by any spelling or as its beginning; None where none is."""
    things = described(kind, record)
    known = [KnownName(one.name, getattr(one, "known_as", ()), one.title) for one in things]
    meant = resolve(name, known, kind)
    found = meant[0] if len(meant) == 1 else longest_beginning(name, known)
    return next((one for one in things if one.name == found), None)


def load_chip(value: str, named_in: Path) -> Chip:
    """A chip, `NAME`, `NAME@MODE` or a file, with the figures of its families filled in."""
    return with_family_figures(*chip_and_file(value, named_in))


def written_chip(value: str, named_in: Path) -> Chip:
    """A chip as its file has it, in the requested mode."""
    return chip_and_file(value, named_in)[0]


def chip_and_file(value: str, named_in: Path, *, sent_here: bool = False) -> tuple[Chip, Path]:
    """A chip in the requested mode, and the file that describes it: another one where that mode is described there.

    `sent_here`: by another chip's `modes_elsewhere`, so that this one's are not followed again.
    """
    name, at, mode = value.partition("@")
    chip, file = load_named("chip", Chip, name, named_in), file_of("chip", name, named_in)
    if not at:
        return chip, file
    own = [] if chip.mode is None else [chip.mode.name]
    elsewhere = {} if sent_here else chip.modes_elsewhere
    modes = (*own, *chip.modes, *elsewhere)
    match resolve(mode, [KnownName(one) for one in modes], "mode"):
        case (meant,) if meant in own:
            return chip, file
        case (meant,) if meant in chip.modes:
            return in_mode(chip, meant, chip.modes[meant]), file
        case (meant,):
            return chip_and_file(elsewhere[meant], file, sent_here=True)
    listed = [*(f"{one} (the plain {chip.name})" for one in own), *(f"{chip.name}@{one}" for one in modes[len(own) :])]
    expected = f"a power mode of {chip.name}: {', '.join(listed) or 'none'}"
    raise ScenarioError([Fault(str(named_in), "chip", repr(value), expected, key_hint(mode, modes))])


def with_family_figures(chip: Chip, file: Path) -> Chip:
    """A chip whose units have all their figures: those of their families where their own file gives none."""
    units, faults = {}, []
    for name, unit in chip.units.items():
        place = f"units.{name}.family"
        try:
            family = None if unit.family is None else load_named("family", Family, unit.family, file)
            units[name] = unit if family is None else derived(family, chip, name, unit)
            if unit.speed is not None:
                units[name] = at_speed(units[name], unit.speed)
        except MissingPeakError as error:
            faults.append(Fault(str(file), place, str(error), "that figure in the chip's file", "Add it."))
        except InputError as error:
            faults += [fault if fault.place != "family" else fault.at(place) for fault in error.faults]
    if faults:
        raise ScenarioError(faults)
    return chip.model_copy(update={"units": units})


def is_file(value: str) -> bool:
    """Whether something is named by its file rather than by a name."""
    return value.endswith((".yaml", ".yml"))


def file_of(kind: str, value: str, named_in: Path) -> Path:
    """Where a named thing is described."""
    if is_file(value):
        return located(value, named_in)
    folders = folders_of(kind, named_in)
    if value.replace("-", "").replace("_", "").replace(".", "").isalnum():
        for folder in folders:
            if exists(folder / f"{value}.yaml"):
                return folder / f"{value}.yaml"
    files: dict[str, Path] = {}
    for folder in folders:
        files |= {file.stem: file for file in files_in(folder, ".yaml") if file.stem not in files}
    known = [known_name(file) for _, file in sorted(files.items())]
    meant = resolve(value, known, kind)
    if len(meant) == 1:
        return files[meant[0]]
    remedy = hint(value, known, kind) or elsewhere(kind, value, named_in) or "Or give the path of a .yaml file."
    found = f"{value!r}, which may be any of {len(meant)}" if meant else repr(value)
    raise ScenarioError(
        [Fault(str(named_in), kind, found, f"one of {', '.join(files[n].stem for n in sorted(files))}", remedy)]
    )


def elsewhere(kind: str, value: str, named_in: Path) -> str:
    """What else bears a name that no thing of a kind has: a file beside, a folder, a thing of another kind; or ""."""
    if not value or not is_text(value) or "\0" in value:
        return ""
    if exists(located(f"{value}.yaml", named_in)):
        return f"A file is named by its path: {value}.yaml."
    others = [
        other
        for other in FOLDERS
        if other != kind and any(exists(folder / f"{value}.yaml") for folder in folders_of(other, named_in))
    ]
    return f"{value!r} is the name of a {others[0]}, not of a {kind}." if others else ""


@made_once(4096)
def known_name(file: Path) -> KnownName:
    """The names that a file gives to what it describes, read without checking the rest of the file."""
    try:
        data = parse(read_text(file), str(file)).data
    except InputError:
        return KnownName(file.stem)
    title, aliases = (data.get("title"), data.get("known_as")) if isinstance(data, dict) else (None, None)
    return KnownName(
        file.stem,
        tuple(alias for alias in aliases if isinstance(alias, str)) if isinstance(aliases, list) else (),
        title if isinstance(title, str) else "",
    )


def config_of(value: str, named_in: Path) -> Path | None:
    """The config.json that a model's value means: that file, or a folder with one; None of names and YAML files."""
    if value.endswith(".json"):
        return located(value, named_in)
    if not value or value.endswith((".yaml", ".yml")):
        return None
    config = config_in(located(value, named_in))
    named = "/" not in value and any(exists(folder / f"{value}.yaml") for folder in folders_of("model", named_in))
    return config if config.name == CONFIG and exists(config) and not named else None


def folders_of(kind: str, named_in: Path) -> list[Path]:
    """The folders a kind is looked for in: beside the file that names it, then the search path."""
    beside = Path(os.path.realpath(named_in)).parent
    roots = [root / FOLDERS[kind] for root in search_roots()]
    return list(dict.fromkeys([beside.parent / FOLDERS[kind], beside / Path(FOLDERS[kind]).name, *roots]))


def find_scenario(value: str | Path, kind: str = "scenario") -> Path:
    """A scenario, or a file of another kind, by its path or by any usual spelling of its name.

    Raises `InputError` for a name that is not known, with what is near.
    """
    path = Path(value)
    if is_file(str(value)) or len(path.parts) > 1 or os.path.isfile(path):
        return path
    try:
        return file_of(kind, str(value), Path("scenarios/_.yaml"))
    except ScenarioError as error:
        expected = f"a file, or a {kind} by name"
        faults = [
            Fault(str(value), "", "none of that name", expected, f"Known: {f.expected}. {f.remedy}")
            for f in error.faults
        ]
        raise InputError(faults) from None


def located(value: str, named_in: Path) -> Path:
    """A path in a file: absolute (also by ~ or $NAME), or relative to the file's folder or to one that is searched.

    Raises `InputError` where ~ or $NAME stand for nothing, and for what no file can be called.
    """
    try:
        value = expanded(value)
        places = [named_in.parent / value, *(root / value for root in search_roots())]
        for path in places:
            with suppress(FileNotFoundError, NotADirectoryError):
                path.stat()
                return path
    except OSError as error:
        raise ScenarioError([Fault(str(named_in), PATH, f"{value!r}: {reason(error)}", "a path")]) from None
    except ValueError as error:
        misfit = error if isinstance(error, Misfit) else Misfit(str(error))
        raise ScenarioError([misfit.fault(str(named_in), PATH, "a path")]) from None
    # Where none is there, the message should name the folder that the user most likely meant.
    return next((path for path in places if exists(path.parent)), places[0])
