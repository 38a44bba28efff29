"""From a campaign file to a grid of faults, instants and policies that can run, as a study has it; every fault at once.

The messages are about the campaign's own keys. A fault that no policy of the campaign can meet is at fault here; one
that only some can meet is no fault: those points are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hilsim.describe.campaign import TRIGGERS, Campaign, Instants, fault_label, single_faults
from hilsim.describe.complaints import short, validated
from hilsim.describe.faults import Faults
from hilsim.describe.load import load_setup
from hilsim.describe.strict_yaml import Document, dotted, parse
from hilsim.describe.study import repeated
from hilsim.describe.study_load import Described, at, bare, load_described, override
from hilsim.errors import Fault, InputError, ScenarioError
from hilsim.files import read_text

POLICY, FAULT, INSTANT = range(3)  # the axes of the grid
AXIS_NAMES = ("policy", "fault", "instant")
INJECT = "faults.inject"
ALIKE = ("name", "question", "scenario", "set", "repeats", "most_points")  # keys that a study has as well
IN_AXIS = re.compile(r"axes\[(\d)\]")
ROW = re.compile(r"\[(\d+)\]$")
INSIDE = re.compile(r"(?:faults\.inject\[0\]|policy)\.?(?P<key>[\w.\[\]]*): ")


@dataclass(frozen=True)
class DescribedCampaign:
    """A campaign whose keys and values are sound, and the grid of its points as a study describes it."""

    campaign: Campaign
    described: Described


@dataclass(frozen=True)
class Parts:
    """What of a campaign is well written: its single faults and policies, each once and with the place of its entry."""

    faults: list[tuple[int, dict[str, Any]]]
    instants: Instants
    policies: list[tuple[int, Any]]

    def axes(self) -> list[dict[str, Any]]:
        """The three axes of the grid. A fault begins at the first instant until the axis of instants says when."""
        labels, keys = zip(*self.instants.choices(), strict=True)
        first = {key: value for key, value in keys[0].items() if value is not None}
        injected = [[{**fault, **first}] for _, fault in self.faults]
        found: list[dict[str, Any]] = [
            {"key": "policy", "values": [policy for _, policy in self.policies]},
            {"linked": {INJECT: injected}, "names": [fault_label(fault) for _, fault in self.faults]},
            {"linked": {f"{INJECT}.0.{key}": [one[key] for one in keys] for key in keys[0]}, "names": list(labels)},
        ]
        return [{**axis, "name": name} for axis, name in zip(found, AXIS_NAMES, strict=True)]


def load_campaign(file: Path, given: Sequence[str] = ()) -> DescribedCampaign:
    """A campaign with every key and value tried. Raises `InputError` with every fault of it and its scenario.

    `given` are --set arguments of the command line.
    """
    name, document = str(file), parse(read_text(file), str(file))
    data = document.data if isinstance(document.data, dict) else {}
    for kind, keys, command in (("scenario", {"target", "workload"}, "simulate"), ("study", {"axes"}, "study")):
        if keys <= data.keys():
            remedy = f"Run it by `hilsim {command} {name}`."
            expected = "a campaign: scenario, faults, instants and policies"
            raise ScenarioError([Fault(name, "", f"a {kind}, not a campaign", expected, remedy)])
    faults: list[Fault] = []
    campaign = None
    try:
        campaign = validated(Campaign, document, name)
    except ScenarioError as error:
        faults += error.faults
    faults += key_faults(data, document, name)
    parts = sound_parts(data)
    faults += kind_faults(parts, document, name)
    if not isinstance(data.get("scenario"), str) or not parts.faults or not parts.policies:
        raise ScenarioError(faults)
    settings = data["set"] if isinstance(data.get("set"), dict) else {}
    broken = {re.split(r"[.\[ ]", fault.place)[0] for fault in faults}
    sound = [key for key in ("tolerance_ms", "reaction") if data.get(key) is not None and key not in broken]
    settings = settings | {f"faults.{key}": data[key] for key in sound}
    study = {key: data[key] for key in ALIKE if key in data} | {"set": settings, "axes": parts.axes()}
    lines = {path: line for path, line in document.lines.items() if path and path[0] in ALIKE}
    described = None
    try:
        described = load_described(Document(study, lines), file, given, (), what="campaign")
        faults += refused_everywhere(described, parts, document, name)
    except InputError as error:
        known = {(bare(fault), fault.found) for fault in faults}
        # The axis of instants is tried with the first fault: what is wrong with that is its own.
        ours = [fault for fault in error.faults if not fault.place.startswith(f"axes[{INSTANT}]")]
        moved = [of_campaign(fault, parts, document, name) for fault in ours or error.faults]
        faults += [one for one in moved if (bare(one), one.found) not in known]
    if faults or campaign is None or described is None:
        raise ScenarioError(list(dict.fromkeys(faults)))
    return DescribedCampaign(campaign, described)


def sound_parts(data: dict[str, Any]) -> Parts:
    """The parts that are well written, which are looked at further even where others are at fault."""
    listed = data.get("faults")
    faults = [
        (place, single)
        for place, entry in enumerate(listed if isinstance(listed, list) else ())
        if isinstance(entry, dict) and all(isinstance(key, str) for key in entry)
        for single in single_faults({key: value for key, value in entry.items() if key not in TRIGGERS})
    ]
    once = {fault_label(fault): (place, fault) for place, fault in reversed(faults)}
    policies = data.get("policies")
    named = {
        json.dumps(policy, sort_keys=True): (place, policy)
        for place, policy in reversed(list(enumerate(policies if isinstance(policies, list) else ())))
    }
    try:
        instants = Instants.model_validate(data.get("instants", {}))
    except ValidationError:
        instants = Instants()
    return Parts(list(reversed(once.values())), instants, list(reversed(named.values())))


def key_faults(data: dict[str, Any], document: Document, file: str) -> Iterator[Fault]:
    """Faults of a scenario that have their own instants, those that are there twice, and policies that are."""
    seen: dict[str, int] = {}
    listed = data.get("faults")
    for place, entry in enumerate(listed if isinstance(listed, list) else ()):
        if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
            continue  # the record says what is wrong
        for key in TRIGGERS:
            if key in entry:
                remedy = "The campaign's `instants` say when each fault comes: remove it."
                yield Fault(
                    file, at(document, "faults", place, key), short(entry[key]), "no instant of its own", remedy
                )
        for key, value in entry.items():
            if value == []:
                yield Fault(file, at(document, "faults", place, key), "an empty list", "at least one value")
        for single in single_faults(entry):
            label = fault_label({key: value for key, value in single.items() if key not in TRIGGERS})
            if label in seen:
                where = at(document, "faults", place)
                yield Fault(file, where, f"{label!r}, as in faults[{seen[label]}]", "each fault once")
            seen.setdefault(label, place)
    policies = data.get("policies")
    if isinstance(policies, list) and (twice := repeated(policies)):
        yield Fault(file, at(document, "policies"), f"the policy {twice} twice", "each policy once")


def kind_faults(parts: Parts, document: Document, file: str) -> Iterator[Fault]:
    """What is wrong with a fault whatever the scenario is."""
    first = {key: value for key, value in next(parts.instants.choices())[1].items() if value is not None}
    seen: set[tuple[str, str]] = set()
    for place, single in parts.faults:
        try:
            validated(Faults, Document({"inject": [{**single, **first}]}, {}), file)
        except ScenarioError as error:
            for fault in error.faults:
                moved = of_entry(
                    replace(fault, found=f"faults.{bare(fault)}: {fault.found}"), ("faults", place), document
                )
                if (moved.place, moved.found) not in seen:
                    yield moved
                seen.add((moved.place, moved.found))


def refused_everywhere(described: Described, parts: Parts, document: Document, file: str) -> Iterator[Fault]:
    """Faults that no policy of the campaign can meet, such as one of a chip that the scenario does not have."""
    axes = described.study.axes
    for (place, _), row, digest in zip(parts.faults, axes[FAULT].rows, described.choices[FAULT], strict=True):
        if digest:
            continue
        reasons: list[Fault] = []
        for policy in axes[POLICY].rows:
            try:
                load_setup(
                    described.scenario, [*described.base, override("policy", policy[0]), override(INJECT, row[0])]
                )
            except InputError as error:
                reasons += error.faults[:1]
                continue
            reasons = []
            break
        if reasons:
            one = replace(
                reasons[0], file=file, place=f"axes[{FAULT}]", found=f"{bare(reasons[0])}: {reasons[0].found}"
            )
            yield of_entry(one, ("faults", place), document)


def of_campaign(fault: Fault, parts: Parts, document: Document, file: str) -> Fault:
    """A fault of the study that a campaign is run as, at the campaign's key that caused it."""
    if fault.file == "--set":
        axes = {f"axes[{place}]": name for place, name in enumerate(("policies", "faults", "instants"))}
        found = next(
            (fault.found.replace(axis, name) for axis, name in axes.items() if axis in fault.found), fault.found
        )
        return replace(fault, found=found, remedy="Change the campaign.")
    place = bare(fault)
    for key in ("tolerance_ms", "reaction"):
        if fault.file == file and place.startswith(f"set.faults.{key}"):
            return replace(fault, place=at(document, key))
    axis, row = IN_AXIS.match(place), ROW.search(place)
    if fault.file != file or axis is None:
        return fault
    number = 0 if row is None else int(row[1])
    match int(axis[1]):
        case 0:
            return of_entry(fault, ("policies", parts.policies[number][0]), document)
        case 1:
            return of_entry(fault, ("faults", parts.faults[number][0]), document)
        case _:
            return of_entry(fault, ("instants",), document)


def of_entry(fault: Fault, path: tuple[str | int, ...], document: Document) -> Fault:
    """A fault at an entry of the campaign, or at the key in it that it is about."""
    inside = INSIDE.match(fault.found)
    key = inside["key"] if inside is not None else ""
    found = fault.found if inside is None else fault.found[inside.end() :]
    line = document.lines.get((*path, key)) if key else document.lines.get(path)
    where = f"{dotted(path)}.{key}" if key else dotted(path)
    return replace(fault, place=f"{where} (line {line})" if line else where, found=found)
