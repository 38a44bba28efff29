"""Resolves the names in a scenario to those of the files, and lists the files that a run will read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hilsim.describe.catalogue import PATH, is_file, load_chip, load_named, located
from hilsim.describe.chip import Chip
from hilsim.describe.cockpit import PLACED_STAGES
from hilsim.describe.link import Link
from hilsim.describe.model import Model
from hilsim.describe.names import KnownName, key_hint, one_of, resolve
from hilsim.describe.placement import Placement
from hilsim.describe.policy import Own
from hilsim.describe.scenario import Lengths, Scenario
from hilsim.describe.setup import Placed, PlacedNetwork
from hilsim.describe.strict_yaml import Document
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.files import exists, unreadable
from hilsim.trust import OURS, code_fault, code_files


def stand_in_folder(placement: Placement, scenario: Scenario, file: Path) -> Path | None:
    """Where a role's checkpoint lies, whether or not it is there to be read. Raises `InputError` where none can be."""
    if placement.stand_in is None:
        return None
    folder = located(placement.stand_in, file)
    if needs_text(scenario) and not exists(folder):
        expected = "a checkpoint folder with config.json, model.safetensors and tokenizer.json"
        remedy = "Check the path; shipped stand-ins are in models/."
        raise ScenarioError(
            [Fault(str(file), PATH, f"{placement.stand_in!r}: no such folder ({folder})", expected, remedy)]
        )
    return folder


def needs_text(scenario: Scenario) -> bool:
    """Whether stand-ins are read."""
    return not (scenario.logits.by_chance and isinstance(scenario.workload, Lengths))


def missing_files(scenario: Scenario, file: Path) -> Iterator[Fault]:
    """Files that a run will read and that cannot be read, found before anything heavy is loaded."""
    wanted: list[tuple[str, str]] = []
    if scenario.logits.source == "transcript":
        wanted.append(("logits.file", scenario.logits.file))
    if isinstance(scenario.policy, Own):
        wanted.append(("policy.function", scenario.policy.function.rpartition(":")[0]))
    for place, value in wanted:
        try:
            fault = unreadable(located(value, file))
        except InputError as error:
            yield from (fault.at(place) for fault in error.faults)
            continue
        if fault is not None:
            yield Fault(str(file), place, f"{value!r}: {fault.found} ({fault.file})", fault.expected, fault.remedy)


def code_faults(scenario: Scenario, file: Path, *named_in: Path) -> Iterator[Fault]:
    """Code that a scenario names and that runs only where the user allows it; `named_in` are the files that say so."""
    policy = scenario.policy
    if isinstance(policy, Own):
        try:
            found = located(policy.function.rpartition(":")[0], file)
        except InputError:
            return  # among the missing files
        if found.is_file() and (fault := code_fault(policy.function, [found], str(file), "policy.function", *named_in)):
            yield fault
    for index, network in enumerate(scenario.networks):
        package = network.module.rpartition(":")[0]
        if not package.startswith(OURS):
            code, place = code_files(package, file.parent), f"networks[{index}].module"
            if fault := code_fault(network.module, code, str(file), place, *named_in):
                yield fault


def with_names(
    scenario: Scenario,
    target: Placed | None,
    draft: Placed | None,
    link: Link | None,
    networks: Sequence[PlacedNetwork | None],
) -> Scenario:
    """The scenario with every name as its file has it, whatever was typed: one digest, one row in a table."""
    update: dict[str, object] = {
        role: placed.placement for role, placed in (("target", target), ("draft", draft)) if placed is not None
    }
    if link is not None and scenario.link is not None and not is_file(scenario.link):
        update["link"] = link.name
    beside = [network for network in networks if network is not None]
    if len(beside) == len(networks):
        update["networks"] = tuple(network.placement for network in beside)
    roles = [placed for placed in (target, draft) if placed is not None]
    if scenario.application is not None:
        update["application"] = chip_of(scenario.application, [placed.chip for placed in roles])
    tracks = [f"{placed.chip.name}/{placed.unit_name}" for placed in roles]
    units = [*tracks, *(placed.unit_name for placed in roles)]
    renamed = {track_of(name, roles, units): backend for name, backend in scenario.units.items()}
    if len(renamed) == len(scenario.units):
        update["units"] = renamed
    if (pinned := scenario.compile.profile) is not None and not is_file(pinned):
        used = [*(placed.unit for placed in roles), *(network.unit for network in beside)]
        listed = dict.fromkeys(name for unit in used for name in unit.profiles)
        update["compile"] = scenario.compile.model_copy(update={"profile": one_of(pinned, listed)})
    return scenario.model_copy(update=update)


def chip_of(value: str, chips: Sequence[Chip]) -> str:
    """The name of the chip in use that a spelling means, or the spelling as it is; its mode may be left out."""
    known = [KnownName(chip.name, (*chip.known_as, chip.name.partition("@")[0]), chip.title) for chip in chips]
    meant = dict.fromkeys(resolve(value, known, "chip"))
    return next(iter(meant)) if len(meant) == 1 else value


def track_of(value: str, roles: Sequence[Placed], units: Sequence[str]) -> str:
    """UNIT or CHIP/UNIT as the files have it, of a spelling; or the spelling as it is."""
    chip, slash, unit = value.rpartition("/")
    return one_of(f"{chip_of(chip, [placed.chip for placed in roles])}/{unit}" if slash else unit, dict.fromkeys(units))


def spellings(data: dict[str, Any]) -> Iterator[tuple[str, str, object]]:
    """Kind, place and spelling of every chip and link in the cockpit's keys of a scenario as it is written."""
    speech = data.get("speech")
    for name in PLACED_STAGES:
        stage = speech.get(name) if isinstance(speech, dict) else None
        if isinstance(stage, dict):
            yield "chip", f"speech.{name}.chip", stage.get("chip")
    for key, kind in (("background", "chip"), ("links", "link")):
        listed = data.get(key)
        for index, one in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(one, dict):
                yield kind, f"{key}[{index}].{kind}", one.get(kind)


def unit_spellings(data: dict[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Place, chip and unit of every stage and background task of a scenario as it is written; the chip may be None."""
    speech, listed = data.get("speech"), data.get("background")
    blocks = [(f"speech.{name}", speech.get(name)) for name in PLACED_STAGES] if isinstance(speech, dict) else []
    blocks += [(f"background[{index}]", one) for index, one in enumerate(listed if isinstance(listed, list) else ())]
    for place, block in blocks:
        if isinstance(block, dict):
            yield place, block.get("chip"), block.get("unit")


def unit_fault(chip: Chip, value: str, place: str, file: Path) -> Fault:
    """A name that no unit of a chip has."""
    expected = f"a unit of {chip.name}: {', '.join(chip.units)}"
    return Fault(str(file), f"{place}.unit", repr(value), expected, key_hint(value, chip.units))


def unknown_units(data: dict[str, Any], file: Path) -> Iterator[Fault]:
    """Units of stages and background tasks that their chip, or the target's, does not have."""
    target = data.get("target")
    home = target.get("chip") if isinstance(target, dict) else None
    for place, named, unit in unit_spellings(data):
        name = home if named is None else named
        if isinstance(name, str) and isinstance(unit, str):
            try:
                chip = load_chip(name, file)
            except InputError:
                continue  # found as a chip
            if one_of(unit, chip.units) not in chip.units:
                yield unit_fault(chip, unit, place, file)


def unknown_names(document: Document, file: Path) -> list[Fault]:
    """Names in a scenario that is at fault elsewhere: looked up too, so that one reading reports every fault."""
    faults: list[Fault] = []
    data = document.data if isinstance(document.data, dict) else {}
    load: dict[str, Callable[[str], object]] = {
        "model": lambda value: load_named("model", Model, value, file),
        "chip": lambda value: load_chip(value, file),
        "link": lambda value: load_named("link", Link, value, file),
    }
    wanted: list[tuple[str, str, object]] = [("link", "link", data.get("link"))]
    for role in ("target", "draft"):
        placement = data.get(role)
        if isinstance(placement, dict):
            wanted += [(kind, f"{role}.{kind}", placement.get(kind)) for kind in ("model", "chip")]
    networks = data.get("networks")
    for index, network in enumerate(networks if isinstance(networks, list) else ()):
        if isinstance(network, dict):
            wanted.append(("chip", f"networks[{index}].chip", network.get("chip")))
    wanted += spellings(data)
    for kind, place, value in wanted:
        if isinstance(value, str):
            try:
                load[kind](value)
            except InputError as error:
                faults += [fault.at(place) if fault.place == kind else fault for fault in error.faults]
    return [*faults, *unknown_units(data, file)]
