"""From files to records: strict YAML, validation with every fault at once, look-up of chips, links and models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hilsim.describe.catalogue import FOLDERS, PATH, config_of, is_file, load_chip, load_named, located
from hilsim.describe.cockpit_checks import cockpit_faults
from hilsim.describe.cockpit_names import Cockpit, with_cockpit
from hilsim.describe.complaints import records_at, validated
from hilsim.describe.conversation import Conversation, read_conversations
from hilsim.describe.cross_checks import acceptance_faults, backend_faults, compile_faults, cross_faults
from hilsim.describe.digest import digest
from hilsim.describe.fault_checks import injection_faults, with_fault_names
from hilsim.describe.head import head_for
from hilsim.describe.link import Link
from hilsim.describe.meant import code_faults, missing_files, stand_in_folder, unknown_names, with_names
from hilsim.describe.model import Model
from hilsim.describe.names import one_of
from hilsim.describe.placement import HeadPlacement, NetworkPlacement, Placement
from hilsim.describe.scenario import Conversations, MeasuredAcceptance, Scenario
from hilsim.describe.setup import Placed, PlacedNetwork, Setup, deployed_head
from hilsim.describe.strict_yaml import Document, parse, scalar
from hilsim.describe.tagged import KIND, Tagged, other_words
from hilsim.describe.unit_checks import checked_unit
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.files import read_text
from hilsim.trust import is_code_allowed

T = TypeVar("T")
# Blocks that no other block of a scenario rests on.
LEFT_OUT = ("climate", "trip", "sharing", "speech.playback", "speech.tools", "speech.budget")


def load_setup(file: Path, overrides: Sequence[str] = ()) -> Setup:
    """Load a scenario and all it names. Raises `InputError` with every fault of every file."""
    document = parse(read_text(file), str(file))
    for override in overrides:
        document = with_override(document, override)
    return setup_of(document, file, overrides)


def setup_of(document: Document, file: Path, overrides: Sequence[str]) -> Setup:
    """The setup of a scenario that was read."""
    name = str(file)
    try:
        scenario = validated(Scenario, document, name)
    except ScenarioError as error:
        raise ScenarioError([*error.faults, *faults_beside(document, file, error.faults)]) from None
    faults: list[Fault] = []

    def look_up(kind: str, load: Callable[[], T], place: str) -> T | None:
        try:
            return load()
        except InputError as error:
            faults.extend(fault.at(place) if fault.place in (kind, PATH) else fault for fault in error.faults)
            return None

    def model_of(role: str, placement: Placement) -> Model | None:
        if isinstance(placement, HeadPlacement):
            return None if target is None else deployed_head(placement, target.model)
        return look_up("model", lambda: load_named("model", Model, placement.model, file), f"{role}.model")

    def place(role: str, placement: Placement) -> Placed | None:
        model = model_of(role, placement)
        chip = look_up("chip", lambda: load_chip(placement.chip, file), f"{role}.chip")
        if model is None or chip is None:
            return None
        head = isinstance(placement, HeadPlacement)
        by_file = head or is_file(placement.model) or config_of(placement.model, file) is not None
        placement = placement.model_copy(
            update={
                "model": placement.model if by_file else model.name,
                "chip": placement.chip if is_file(placement.chip.partition("@")[0]) else chip.name,
                "unit": one_of(placement.unit, chip.units),
            }
        )
        if unit := chip.units.get(placement.unit):
            placement = placement.model_copy(update={"precision": one_of(placement.precision, unit.precisions)})
        found = checked_unit(scenario, role, placement, chip, file)
        faults.extend(found.faults)
        if found.unit is None:
            return None
        unit, chip = found.unit, chip.model_copy(update={"units": chip.units | {placement.unit: found.unit}})
        stand_in = look_up(PATH, lambda: stand_in_folder(placement, scenario, file), f"{role}.stand_in")
        ending, note = head_for(placement.head, scenario.accept, scenario.sampling)
        with_target = (
            head and target is not None and (chip.name, placement.unit) == (target.chip.name, target.unit_name)
        )
        return Placed(
            role, placement, model, chip, unit, stand_in, ending, note, with_target=with_target, batch=found.batch
        )

    def beside(index: int, placement: NetworkPlacement) -> PlacedNetwork | None:
        if placement.chip is None and target is None:
            return None  # what is wrong with the target's place is told there
        where, home = f"networks[{index}]", scenario.target
        chip_name = placement.chip or home.chip
        chip = look_up("chip", lambda: load_chip(chip_name, file), f"{where}.chip")
        if chip is None:
            return None
        here = None if target is None else target.placement
        at_home = here is not None and target is not None and chip.name == target.chip.name and here.unit in chip.units
        wanted = placement.unit or (here.unit if here is not None and at_home else next(iter(chip.units)))
        unit_name = one_of(wanted, chip.units)
        unit = chip.units.get(unit_name)
        if unit is None:
            faults.append(
                Fault(name, f"{where}.unit", repr(unit_name), f"a unit of {chip.name}: {', '.join(chip.units)}")
            )
            return None
        precision = one_of(placement.precision or unit.of_networks, unit.precisions)
        if precision not in unit.precisions:
            known = f"a precision of {chip.name}.{unit_name}: {', '.join(unit.precisions)}"
            faults.append(Fault(name, f"{where}.precision", repr(precision), known))
            return None
        named = {"unit": unit_name, "precision": precision, "chip": chip.name}
        if placement.chip is not None and is_file(placement.chip):
            del named["chip"]
        written = {key: value for key, value in named.items() if getattr(placement, key) is not None}
        return PlacedNetwork(placement.model_copy(update=written), chip, unit_name, unit, precision)

    target: Placed | None = None
    target = place("target", scenario.target)
    draft = None if scenario.draft is None else place("draft", scenario.draft)
    networks = [beside(index, placement) for index, placement in enumerate(scenario.networks)]
    named = scenario.link
    link = None if named is None else look_up("link", lambda: load_named("link", Link, named, file), "link")
    logits, profile = scenario.logits, None
    if isinstance(logits, MeasuredAcceptance):
        from hilsim.describe.acceptance_formats.formats import load_acceptance  # many readers, which most need not

        workload, drafted = logits.workload, logits.drafted
        profile = look_up(
            "acceptance",
            lambda: load_acceptance(logits.file, file, workload=workload, drafted=drafted),
            "logits.file",
        )
    conversations: tuple[Conversation, ...] = ()
    if isinstance(scenario.workload, Conversations):
        try:
            path_text = scenario.workload.conversations
            path = look_up(PATH, lambda: located(path_text, file), "workload.conversations")
            conversations = (
                () if path is None else read_conversations(path, scenario.workload.count, scenario.workload.max_turns)
            )
        except InputError as error:
            faults += error.faults
    scenario = with_names(scenario, target, draft, link, networks)
    faults += [*missing_files(scenario, file), *code_faults(scenario, file, file)]
    further: Cockpit | None = None
    if target is not None and (scenario.company or scenario.links):
        further = with_cockpit(scenario, target, draft, link, file)
        scenario = further.scenario
        faults += [*further.faults, *cockpit_faults(further, target, draft, link, conversations, name)]
    if target is not None:
        faults += cross_faults(scenario, target, draft, link, name)
        roles = {placed.role: placed for placed in (target, draft) if placed is not None}
        faults += backend_faults(scenario, roles, name)
        faults += acceptance_faults(scenario, profile, name)
        faults += compile_faults(scenario, [part for part in (target, draft, *networks) if part is not None], file)
        scenario = with_fault_names(scenario, {placed.chip.name: placed.chip for placed in roles.values()})
        beside_them = [network for network in networks if network is not None]
        crosses = link is not None and not link.on_chip
        faults += injection_faults(scenario, roles, beside_them, crosses=crosses, file=name)
    if faults or target is None:
        raise ScenarioError(faults)
    setup = Setup(
        file=name,
        scenario=scenario,
        target=target,
        draft=draft,
        link=link,
        application=scenario.application or target.chip.name,
        conversations=conversations,
        digest="",
        networks=tuple(network for network in networks if network is not None),
        profile=profile,
        further_chips=() if further is None else further.chips,
        further_links=() if further is None else further.links,
        levels={} if further is None else further.levels,
        overrides=tuple(overrides),
        allow_code=is_code_allowed(),
    )
    return replace(setup, digest=digest(setup))


def faults_beside(document: Document, file: Path, faults: Sequence[Fault]) -> list[Fault]:
    """Faults of names, and of what does not go together, in a scenario whose form is at fault elsewhere.

    Where no other part of the scenario rests on what is at fault, the rest is loaded without it.
    """
    rest = without(document, [fault.place for fault in faults])
    if rest is None:
        return unknown_names(document, file)
    try:
        setup_of(rest, file, ())
    except InputError as error:
        return list(error.faults)
    return []


def without(document: Document, places: Sequence[str]) -> Document | None:
    """A scenario without the parts at these places; None where one of them is a part that others rest on."""
    rest = copy.deepcopy(document.data)
    for place in places:
        path = place.partition(" (line ")[0]
        part = next((part for part in LEFT_OUT if path == part or path.startswith(f"{part}.")), None)
        if part is None:
            return None
        *blocks, key = part.split(".")
        node = rest
        for block in blocks:
            node = node[block]
        node.pop(key, None)
    return Document(rest, document.lines)


def with_override(document: Document, override: str) -> Document:
    """`document` with one `PATH=VALUE` applied; the value is read as YAML. What it touches has no line any more."""
    path, equals, text = override.partition("=")
    keys = path.strip().replace("[", ".").replace("]", "").split(".")
    if not equals or not all(keys):
        raise ScenarioError(
            [Fault("--set", override, "no PATH=VALUE", "a dotted path and a value, such as policy.draft_tokens=6")]
        )
    value = parse(text, f"--set {path}").data if text.strip() else scalar("")
    data = copy.deepcopy(document.data)
    if not isinstance(data, dict):
        return document  # no scenario: the fault is that of the file
    node = data
    for position, key in enumerate(keys[:-1]):
        if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
            continue
        if not isinstance(node, dict):
            break
        if not isinstance(inside := node.get(key), (dict, list)):
            node[key] = block_for(inside, keys, position, path)
        node = node[key]
    if not isinstance(node, dict):
        found = f"no such entry of a list of {len(node)}" if isinstance(node, list) else "a key inside a plain value"
        remedy = f"--set {'.'.join(keys[:-1])}=[...] gives the whole list." if isinstance(node, list) else ""
        raise ScenarioError([Fault("--set", path, found, "a key of the scenario", remedy)])
    for word in other_words(keys[-1], records_at(Scenario, keys[:-1])):
        node.pop(word, None)  # the kind is given anew, whatever the file calls it
    node[keys[-1]] = value
    lines = {place: line for place, line in document.lines.items() if place[: len(keys)] != tuple(keys)}
    return Document(data, lines)


def block_for(plain: object, keys: Sequence[str], position: int, path: str) -> dict[str, object]:
    """The block that a `--set` goes on into where the scenario has none: a kind in its short form, or one to fill.

    Raises `ScenarioError` where a plain value is all that this key takes, such as the name of a chip's file, and
    where a place in a list is set that the scenario does not have.
    """
    key, whole = keys[position], ".".join(keys[: position + 1])
    records = records_at(Scenario, keys[: position + 1])
    if plain is None and keys[position + 1].isdecimal():
        remedy = f"--set {whole}=[...] gives the whole list."
        raise ScenarioError([Fault("--set", path, f"no list {whole} in the scenario", "an entry that it has", remedy)])
    if isinstance(plain, str) and records and all(issubclass(record, Tagged) for record in records):
        return {KIND: plain}
    if plain is None or records:
        return {}
    remedy = f"--set {whole}=VALUE gives it."
    if key in FOLDERS:
        remedy = (
            f"Its figures are in a file: `hilsim new {key} NAME --like {plain}` makes a copy to edit and to name here."
        )
    raise ScenarioError([Fault("--set", path, f"a key inside {whole}, which is {plain!r}", "a key of a block", remedy)])
