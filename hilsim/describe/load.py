"""From files to records: strict YAML, validation with every fault at once, look-up of chips, links and models."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from hilsim.describe.backend import Backend, backend_faults, behind
from hilsim.describe.catalogue import PATH, config_of, is_file, load_chip, load_named, located
from hilsim.describe.chip import Chip, Unit
from hilsim.describe.compiled import Compiled
from hilsim.describe.complaints import validated
from hilsim.describe.conversation import Conversation, read_conversations
from hilsim.describe.decoding import Claim, claim
from hilsim.describe.deployed_pair import vocabulary_faults
from hilsim.describe.digest import digest
from hilsim.describe.head import LOGITS, Head, head_for
from hilsim.describe.link import Link
from hilsim.describe.meant import missing_files, stand_in_folder, unknown_names, with_names
from hilsim.describe.model import Model
from hilsim.describe.names import one_of
from hilsim.describe.policy import Tree
from hilsim.describe.profile import load_profile
from hilsim.describe.scenario import Conversations, Lengths, NetworkPlacement, Placement, Scenario
from hilsim.describe.strict_yaml import Document, parse, scalar
from hilsim.describe.unit_checks import checked_unit, runtime_faults
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.files import read_text

T = TypeVar("T")
EIGHT_BITS = ("w8a8", "fp16")  # of networks that say nothing: 8 bits, or the next best thing


@dataclass(frozen=True)
class Placed:
    """A role with every name looked up."""

    role: str
    placement: Placement
    model: Model
    chip: Chip
    unit: Unit
    stand_in: Path | None
    head: Head = LOGITS  # what the graph ends in; `head_note` says why that is not what was asked for
    head_note: str = ""
    compiled: Compiled | None = None  # what the compile gate found; None where it was not asked, or has no rules

    @property
    def unit_name(self) -> str:
        """Its unit's name on the chip."""
        return self.placement.unit

    @property
    def precision(self) -> str:
        """The number format it is held in."""
        return self.placement.precision

    @property
    def track(self) -> str:
        """The unit it takes turns on."""
        return f"{self.chip.name}.{self.placement.unit}"

    @property
    def widths(self) -> tuple[int, ...] | None:
        """The compiled widths in use, or None where any width runs."""
        if self.unit.widths is None:
            return None
        return self.placement.widths or self.unit.widths.value


@dataclass(frozen=True)
class PlacedNetwork:
    """A network beside the language model with every name looked up."""

    placement: NetworkPlacement
    chip: Chip
    unit_name: str
    unit: Unit
    precision: str
    compiled: Compiled | None = None

    @property
    def track(self) -> str:
        """The unit it takes turns on."""
        return f"{self.chip.name}.{self.unit_name}"


@dataclass(frozen=True)
class Setup:
    """A scenario with everything it names: the one input of check and run."""

    file: str
    scenario: Scenario
    target: Placed
    draft: Placed | None
    link: Link | None
    application: str
    conversations: tuple[Conversation, ...]
    digest: str
    networks: tuple[PlacedNetwork, ...] = ()

    @property
    def claim(self) -> Claim:
        """What the scenario's rules may claim against the target alone."""
        scenario = self.scenario
        if scenario.logits.source == "synthetic":
            return Claim("text", "of a synthetic source, which never asks the rule")
        if self.draft is None:  # what is proposed is drawn from no law, so every rule emits the target's own draw
            return Claim("text", "every token is the target's own, by noise that only the position decides")
        return claim(scenario.accept, scenario.payload, scenario.sampling, scenario.verify_at)

    @property
    def chips(self) -> dict[str, Chip]:
        """Every chip that takes part, by name, the target's first."""
        roles = [self.target] if self.draft is None else [self.target, self.draft]
        return {role.chip.name: role.chip for role in roles}

    @property
    def roles(self) -> dict[str, Placed]:
        """Target and draft, where there is one."""
        return {placed.role: placed for placed in (self.target, self.draft) if placed is not None}

    @property
    def backends(self) -> dict[str, Backend]:
        """What stands behind each unit that is not simulated, by track."""
        found = {placed.track: behind(self.scenario.units, placed) for placed in self.roles.values()}
        return {track: backend for track, backend in found.items() if backend is not None}

    @property
    def parts(self) -> tuple[Placed | PlacedNetwork, ...]:
        """Everything that is compiled: both roles, then the networks beside them."""
        return (self.target, *(() if self.draft is None else (self.draft,)), *self.networks)


def load_setup(file: Path, overrides: Sequence[str] = ()) -> Setup:
    """Load a scenario and all it names. Raises `InputError` with every fault of every file."""
    name = str(file)
    document = parse(read_text(file), name)
    for override in overrides:
        document = with_override(document, override)
    try:
        scenario = validated(Scenario, document, name)
    except ScenarioError as error:
        raise ScenarioError([*error.faults, *unknown_names(document, file)]) from None
    faults: list[Fault] = []

    def look_up(kind: str, load: Callable[[], T], place: str) -> T | None:
        try:
            return load()
        except InputError as error:
            faults.extend(fault.at(place) if fault.place in (kind, PATH) else fault for fault in error.faults)
            return None

    def place(role: str, placement: Placement) -> Placed | None:
        model = look_up("model", lambda: load_named("model", Model, placement.model, file), f"{role}.model")
        chip = look_up("chip", lambda: load_chip(placement.chip, file), f"{role}.chip")
        if model is None or chip is None:
            return None
        by_file = is_file(placement.model) or config_of(placement.model, file) is not None
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
        head, head_note = head_for(placement.head, scenario.accept, scenario.sampling)
        return Placed(role, placement, model, chip, unit, stand_in, head, head_note)

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
        eight = next((known for known in EIGHT_BITS if known in unit.precisions), next(iter(unit.precisions)))
        precision = one_of(placement.precision or eight, unit.precisions)
        if precision not in unit.precisions:
            known = f"a precision of {chip.name}.{unit_name}: {', '.join(unit.precisions)}"
            faults.append(Fault(name, f"{where}.precision", repr(precision), known))
            return None
        named = {"unit": unit_name, "precision": precision, "chip": chip.name}
        if placement.chip is not None and is_file(placement.chip):
            del named["chip"]
        written = {key: value for key, value in named.items() if getattr(placement, key) is not None}
        return PlacedNetwork(placement.model_copy(update=written), chip, unit_name, unit, precision)

    target = place("target", scenario.target)
    draft = None if scenario.draft is None else place("draft", scenario.draft)
    networks = [beside(index, placement) for index, placement in enumerate(scenario.networks)]
    named = scenario.link
    link = None if named is None else look_up("link", lambda: load_named("link", Link, named, file), "link")
    conversations: tuple[Conversation, ...] = ()
    if isinstance(scenario.workload, Conversations):
        try:
            told = scenario.workload.conversations
            path = look_up(PATH, lambda: located(told, file), "workload.conversations")
            conversations = (
                () if path is None else read_conversations(path, scenario.workload.count, scenario.workload.max_turns)
            )
        except InputError as error:
            faults += error.faults
    scenario = with_names(scenario, target, draft, link, networks)
    faults += missing_files(scenario, file)
    if target is not None:
        faults += cross_faults(scenario, target, draft, link, name)
        roles = {placed.role: placed for placed in (target, draft) if placed is not None}
        faults += backend_faults(scenario, roles, name)
        faults += compile_faults(scenario, [part for part in (target, draft, *networks) if part is not None], file)
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
    )
    return replace(setup, digest=digest(setup))


def cross_faults(scenario: Scenario, target: Placed, draft: Placed | None, link: Link | None, file: str) -> list[Fault]:
    """What no single record can see: models, chips and link that do not go together."""
    faults = []
    if draft is not None:
        faults += vocabulary_faults(target, draft, file)
        same = target.chip.name == draft.chip.name
        if link is not None and link.on_chip != same:
            where = "the same chip" if same else "two chips"
            expected = "an on-chip link" if same else "a link between chips"
            faults.append(Fault(file, "link", f"{link.name}, with both models on {where}", expected))
        elif link is not None and not same and link.reaches != "anywhere":
            outside = [chip.name for chip in (target.chip, draft.chip) if chip.place == "cloud"]
            if (link.reaches == "cloud") != bool(outside):
                where = f"{outside[0]} outside the car" if outside else "both models in the car"
                expected = f"a link that reaches {'the cloud' if outside else 'from chip to chip'}"
                faults.append(Fault(file, "link", f"{link.name}, with {where}", expected))
    if (kept := getattr(scenario.payload, "k", 0)) > target.model.vocabulary.entries:
        expected = f"at most {target.model.vocabulary.entries}, the entries of {target.model.name}'s vocabulary"
        faults.append(Fault(file, "payload.k", str(kept), expected, "For all of them full_rows needs no ids."))
    for placed in (target, draft):
        if placed is not None and (wanted := getattr(placed.placement.head, "k", 0)) > placed.model.vocabulary.entries:
            expected = f"at most {placed.model.vocabulary.entries}, the entries of {placed.model.name}'s vocabulary"
            faults.append(Fault(file, f"{placed.role}.head.k", str(wanted), expected))
    if draft is not None and target.track == draft.track:
        faults += runtime_faults(target.placement, draft.placement, file)
    faults += [*tree_faults(scenario, target, file), *([] if draft is None else tree_faults(scenario, draft, file))]
    workload = scenario.workload
    if isinstance(workload, Lengths) and workload.prompt_tokens >= scenario.context_tokens:
        found = str(workload.prompt_tokens)
        faults.append(
            Fault(file, "workload.prompt_tokens", found, f"fewer than context_tokens ({scenario.context_tokens})")
        )
    names = {placed.chip.name for placed in (target, draft) if placed is not None}
    if scenario.application is not None and scenario.application not in names:
        faults.append(Fault(file, "application", repr(scenario.application), f"a chip in use: {', '.join(names)}"))
    for placed in (target, draft):
        if placed is not None and scenario.context_tokens > placed.model.architecture.context:
            faults.append(
                Fault(
                    file,
                    "context_tokens",
                    f"{scenario.context_tokens}",
                    f"at most {placed.model.architecture.context}, the limit of {placed.model.name}",
                )
            )
    return faults


def compile_faults(scenario: Scenario, parts: Sequence[Placed | PlacedNetwork], file: Path) -> Iterator[Fault]:
    """A profile that is not there or is nobody's, and networks on chips that take no part."""
    roles = {part.chip.name for part in parts if isinstance(part, Placed)}
    for index, network in enumerate(part for part in parts if isinstance(part, PlacedNetwork)):
        if network.chip.name not in roles:
            expected = f"a chip in use: {', '.join(sorted(roles))}"
            yield Fault(str(file), f"networks[{index}].chip", repr(network.chip.name), expected)
    names = [network.name for network in scenario.networks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield Fault(str(file), "networks", f"{', '.join(twice)} twice", "a name for each network")
    pinned = scenario.compile.profile
    if pinned is None:
        return
    try:
        known = load_profile(pinned, file)
    except InputError as error:
        yield from (fault.at("compile.profile") if fault.place == "profile" else fault for fault in error.faults)
        return
    if is_file(pinned) and any(known.suits(part.unit) for part in parts):
        return
    listed = sorted({profile for part in parts for profile in part.unit.profiles})
    if pinned not in listed:
        expected = f"a profile that a unit in use lists: {', '.join(listed) or 'none does'}"
        yield Fault(str(file), "compile.profile", repr(pinned), expected, "Units name theirs under `profiles`.")


def tree_faults(scenario: Scenario, placed: Placed, file: str) -> Iterator[Fault]:
    """A token tree needs a graph that takes any mask, and one that takes all of it at once."""
    policy = scenario.policy
    if not isinstance(policy, Tree) or placed.widths is None:
        return
    where = f"{placed.chip.name}.{placed.placement.unit}"
    able = placed.unit.tree_attention
    if able is None or not able.value:
        why = "an unknown ability" if able is None else able.source
        yield Fault(
            file,
            "policy",
            f"tree, with {placed.role} on {where}, whose graphs take no tree mask ({why})",
            "a chain of drafts, or a unit with tree_attention",
            "Use sync or adaptive; or describe a chip of your own with tree_attention where your export has it.",
        )
    # The target computes a row for the last committed token too; the draft at most one whole level.
    rows = policy.nodes + 1 if placed.role == "target" else math.prod(policy.branches[:-1])
    if rows > placed.widths[-1]:
        widths = " ".join(map(str, placed.widths))
        yield Fault(
            file,
            f"{placed.role}.widths",
            f"a tree of {policy.nodes} nodes, {rows} rows in one pass, and graphs of widths {widths}",
            f"a graph at least {rows} wide",
            "Add that width, or use fewer branches.",
        )


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
    node = data
    for key in keys[:-1]:
        if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
            continue
        if not isinstance(node, dict):
            break
        if not isinstance(node.get(key), (dict, list)):
            node[key] = {}
        node = node[key]
    if not isinstance(node, dict):
        raise ScenarioError([Fault("--set", path, "a place inside a plain value", "a key of the scenario")])
    node[keys[-1]] = value
    lines = {place: line for place, line in document.lines.items() if place[: len(keys)] != tuple(keys)}
    return Document(data, lines)
