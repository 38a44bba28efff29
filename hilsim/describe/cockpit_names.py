"""Names in the cockpit's keys as the files have them: chips, units, precisions, links, arrival files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from hilsim.describe.arrival_times import read_instants
from hilsim.describe.catalogue import PATH, load_chip, load_named, located
from hilsim.describe.chip import Chip
from hilsim.describe.cockpit import PLACED_STAGES, AtTimes, BackgroundTask, Demand, Passenger, Speech, Stage
from hilsim.describe.levels import levels_in
from hilsim.describe.link import Link
from hilsim.describe.meant import chip_of, unit_fault
from hilsim.describe.names import key_hint, one_of
from hilsim.describe.scenario import Scenario
from hilsim.describe.setup import Placed, PlacedLink
from hilsim.errors import Fault, InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Cockpit:
    """A scenario whose stages, tasks, links and passengers are looked up, the chips they add, and every fault.

    With a climate `levels` are all chips at each level of their governors. `written` are the passengers before their
    arrival files are read.
    """

    scenario: Scenario
    chips: tuple[Chip, ...]
    links: tuple[PlacedLink, ...]
    faults: tuple[Fault, ...]
    levels: Mapping[str, tuple[Chip, ...]]
    written: tuple[Passenger, ...]


@dataclass
class LookUp:
    """Chips of a scenario by name as they are asked for, how they are `written` there, and what cannot be found."""

    home: Chip
    chips: dict[str, Chip]
    file: Path
    written: dict[str, str]
    faults: list[Fault] = field(default_factory=list)

    def fault(self, place: str, found: str, expected: str, remedy: str = "") -> None:
        self.faults.append(Fault(str(self.file), place, found, expected, remedy))

    def load(self, kind: str, place: str, load: Callable[[], T]) -> T | None:
        """What `load` finds; a fault at `place` where it finds nothing."""
        try:
            return load()
        except InputError as error:
            self.faults += [fault.at(place) if fault.place in (kind, PATH) else fault for fault in error.faults]
            return None

    def chip(self, value: str | None, place: str) -> Chip | None:
        """The chip of a spelling: one in use already where it may be that, the target's where nothing is named."""
        if value is None:
            return self.home
        if (known := self.chips.get(chip_of(value, list(self.chips.values())))) is not None:
            return known
        chip = self.load("chip", f"{place}.chip", lambda: load_chip(value, self.file))
        if chip is None:
            return None
        self.written.setdefault(chip.name, value)
        return self.chips.setdefault(chip.name, chip)

    def unit(self, chip: Chip, value: str, place: str) -> str | None:
        """A unit of a chip by its name in the chip's file."""
        name = one_of(value, chip.units)
        if name in chip.units:
            return name
        self.faults.append(unit_fault(chip, value, place, self.file))
        return None

    def demand(self, demand: Demand, chip: Chip, unit: str | None, place: str) -> Demand:
        """A demand with its precision as the unit calls it."""
        if demand.shape is None:
            return demand
        if unit is None:
            self.fault(place, "a shape on no unit, which prices it", "a unit, or ms of time elsewhere")
            return demand
        if demand.precision is None:
            return demand
        precisions = chip.units[unit].precisions
        precision = one_of(demand.precision, precisions)
        if precision not in precisions:
            expected = f"a precision of {chip.name}.{unit}: {', '.join(precisions)}"
            self.fault(f"{place}.precision", repr(demand.precision), expected)
        return demand.model_copy(update={"precision": precision})


def with_cockpit(scenario: Scenario, target: Placed, draft: Placed | None, link: Link | None, file: Path) -> Cockpit:
    """Every name of the cockpit's keys looked up."""
    roles = [placed for placed in (draft, target) if placed is not None]
    own = {placed.chip.name: placed.chip for placed in roles}
    find = LookUp(target.chip, dict(own), file, {placed.chip.name: placed.placement.chip for placed in roles})
    update: dict[str, object] = {}
    if scenario.speech is not None:
        update["speech"] = placed_speech(find, scenario.speech)
    update["background"] = tuple(
        placed_task(find, task, f"background[{index}]") for index, task in enumerate(scenario.background)
    )
    update["passengers"] = tuple(
        with_instants(find, passenger, f"passengers[{index}].arrivals.file")
        for index, passenger in enumerate(scenario.passengers)
    )
    if scenario.sharing is not None:
        update["sharing"] = scenario.sharing.model_copy(update={"weights": weights(find, scenario)})
    links = further_links(find, scenario, None if link is None else link.name)
    added = tuple(chip for name, chip in find.chips.items() if name not in own)
    levels: dict[str, tuple[Chip, ...]] = {}
    if scenario.climate is not None:
        levels, missing = levels_in(scenario.climate, find.chips, find.written, file)
        find.faults += missing
    return Cockpit(scenario.model_copy(update=update), added, links, tuple(find.faults), levels, scenario.passengers)


def placed_speech(find: LookUp, speech: Speech) -> Speech:
    """The stages of a spoken turn with chip and unit as their files have them."""
    update: dict[str, object] = {}
    for name in PLACED_STAGES:
        stage: Stage = getattr(speech, name)
        place = f"speech.{name}"
        chip = find.chip(stage.chip, place)
        if chip is None:
            continue
        unit = None if stage.unit is None else find.unit(chip, stage.unit, place)
        found: dict[str, object] = {"chip": chip.name, "unit": unit}
        model: Demand | None = getattr(stage, "model", None)
        if model is not None and (unit is not None or stage.unit is None):
            found["model"] = find.demand(model, chip, unit, f"{place}.model")
        if name == "recognition" and speech.wake_word is not None and (unit is not None or stage.unit is None):
            update["wake_word"] = find.demand(speech.wake_word, chip, unit, "speech.wake_word")
        update[name] = stage.model_copy(update=found)
    return speech.model_copy(update=update)


def placed_task(find: LookUp, task: BackgroundTask, place: str) -> BackgroundTask:
    """A background task with chip, unit and precision as their files have them."""
    chip = find.chip(task.chip, place)
    if chip is None:
        return task
    found: dict[str, object] = {"chip": chip.name}
    if task.unit is not None and (unit := find.unit(chip, task.unit, place)) is not None:
        found["unit"] = unit
        if task.work is not None:
            found["work"] = find.demand(task.work, chip, unit, f"{place}.work")
    return task.model_copy(update=found)


def with_instants(find: LookUp, passenger: Passenger, place: str) -> Passenger:
    """A passenger whose arrival file is read: the instants stand in its place."""
    arrivals = passenger.arrivals
    if not isinstance(arrivals, AtTimes) or arrivals.file is None:
        return passenger
    name = arrivals.file
    instants = find.load(PATH, place, lambda: read_instants(located(name, find.file)))
    if instants is None:
        return passenger
    return passenger.model_copy(update={"arrivals": arrivals.model_copy(update={"at_s": instants, "file": None})})


def weights(find: LookUp, scenario: Scenario) -> dict[str, float]:
    """The weights of a shared memory by unit or task as the files call them."""
    assert scenario.sharing is not None, "called only with sharing"
    chips = list(find.chips.values())
    units = dict.fromkeys(unit for chip in chips for unit in chip.units)
    tracks = [f"{chip.name}/{unit}" for chip in chips for unit in chip.units]
    known = [*units, *tracks, *(task.name for task in scenario.background)]
    found: dict[str, float] = {}
    for value, weight in scenario.sharing.weights.items():
        chip_name, slash, unit = value.rpartition("/")
        name = one_of(f"{chip_of(chip_name, chips)}/{unit}" if slash else value, known)
        if name not in known:
            expected = f"a unit, CHIP/UNIT or a background task: {', '.join(known)}"
            find.fault(f"sharing.weights.{value}", repr(value), expected, key_hint(value, known))
        elif name in found:
            find.fault("sharing.weights", f"{name} twice", "each requester once")
        found[name] = weight
    return found


def further_links(find: LookUp, scenario: Scenario, first: str | None) -> tuple[PlacedLink, ...]:
    """The links beside that of draft and target, each under a name of its own."""
    found: list[PlacedLink] = []
    for index, further in enumerate(scenario.links):
        place = f"links[{index}]"
        link = find.load("link", f"{place}.link", partial(load_named, "link", Link, further.link, find.file))
        ends = [chip_of(value, list(find.chips.values())) for value in further.between]
        for value, end in zip(further.between, ends, strict=True):
            if end not in find.chips:
                find.fault(f"{place}.between", repr(value), f"a chip in use: {', '.join(find.chips)}")
        if link is None or any(end not in find.chips for end in ends):
            continue
        taken = [first, *(placed.name for placed in found)]
        own_name = f"{link.name}-{'-'.join(ends)}" if link.name in taken else link.name
        found.append(PlacedLink(own_name, link, (ends[0], ends[1])))
    return tuple(found)
