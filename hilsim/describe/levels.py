"""A chip at each step of its governor, and a set-up that knows them: what times follow from once a chip is hot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from hilsim.describe.catalogue import chip_and_file, with_family_figures
from hilsim.describe.chip import Chip
from hilsim.describe.cockpit import Climate
from hilsim.describe.derive import at_clock, at_memory_rate, at_speed, in_mode
from hilsim.describe.setup import Placed, Setup
from hilsim.describe.thermal import GovernorStep
from hilsim.describe.unit_checks import checked_unit
from hilsim.errors import Fault


def levels_of(value: str, named_in: Path) -> tuple[Chip, ...]:
    """A chip, as it is named in a file, at full speed and at each step of its governor."""
    chip, file = chip_and_file(value, named_in)
    steps = () if chip.thermal is None else chip.thermal.governor.steps
    return (with_family_figures(chip, file), *(at_step(chip, step, file) for step in steps))


def at_step(chip: Chip, step: GovernorStep, file: Path) -> Chip:
    """A chip at one step of its governor; its families fill in what is left open, from what the step changes."""
    if step.mode is not None:
        chip = in_mode(chip, step.mode, chip.modes[step.mode])
    if step.memory_rate is not None:
        chip = at_memory_rate(chip, step.memory_rate)
    clock, speed = step.clock, step.speed
    if clock is not None:
        chip = chip.model_copy(update={"units": {name: at_clock(unit, clock) for name, unit in chip.units.items()}})
    found = with_family_figures(chip, file)
    if speed is None:
        return found
    return found.model_copy(update={"units": {name: at_speed(unit, speed) for name, unit in found.units.items()}})


def levels_in(
    climate: Climate, chips: Mapping[str, Chip], written: Mapping[str, str], file: Path
) -> tuple[dict[str, tuple[Chip, ...]], list[Fault]]:
    """Each chip at every level of its governor, and what is missing for a climate.

    `written` is how the scenario `file` names each chip.
    """
    levels: dict[str, tuple[Chip, ...]] = {}
    faults: list[Fault] = []
    for name, chip in chips.items():
        if chip.thermal is None:
            expected = "chips with `thermal` in their files: nodes, governor, memory_energy"
            remedy = "Describe it there, or leave out climate."
            faults.append(Fault(str(file), "climate", f"{name}, of which no heat is described", expected, remedy))
        elif climate.ambient_c >= chip.thermal.critical.si:
            found = f"ambient_c {climate.ambient_c:g}, at which {name} shuts down"
            expected = f"less than {chip.thermal.critical.value:g}"
            faults.append(Fault(str(file), "climate.ambient_c", found, expected))
        else:
            levels[name] = levels_of(written[name], file)
    return levels, faults


def placed_at(setup: Setup, placed: Placed, level: int) -> Placed:
    """A role as it is at a level of its chip's governor, in the same runtime and with the same format of its cache."""
    if level == 0:
        return placed
    chip = setup.levels[placed.chip.name][level]
    unit = checked_unit(setup.scenario, placed.role, placed.placement, chip, Path(setup.file)).unit
    assert unit is not None, "a step of a governor changes rates alone"
    return replace(placed, chip=chip, unit=unit)
