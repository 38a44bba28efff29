"""What the levels of a chip's governor do: speeds of units, times of steps, powers. Level 0 is full speed."""

from __future__ import annotations

from collections.abc import Callable

from hilsim.cost.step import Step
from hilsim.cost.timer import Roofline, StepTimer
from hilsim.describe.chip import Chip, Unit
from hilsim.describe.levels import placed_at
from hilsim.describe.setup import Placed, Setup
from hilsim.describe.thermal import GovernorStep
from hilsim.units import NS_PER_S, ns


def speed_share(step: GovernorStep, full: Unit, now: Unit) -> float:
    """The share of its full speed that a unit has at a step: of its clock, or of its operations in a power mode."""
    given = step.speed or step.clock
    if given is not None:
        return given.si
    for was, is_now in ((full.clock, now.clock), (full.peak_operation_rate, now.peak_operation_rate)):
        if was is not None and is_now is not None:
            return is_now.si / was.si
    return 1.0


def speeds(setup: Setup, chip: str) -> dict[str, tuple[float, ...]]:
    """By unit of a chip the shares of its full speed, by level."""
    full, *slower = setup.levels[chip]
    steps = () if full.thermal is None else full.thermal.governor.steps
    return {
        name: (1.0, *(speed_share(step, unit, at.units[name]) for step, at in zip(steps, slower, strict=True)))
        for name, unit in full.units.items()
    }


def unit_powers(chip: Chip) -> dict[str, tuple[float, ...]]:
    """By unit of a chip the watts that it takes while it works, by level."""
    thermal = chip.thermal
    if thermal is None:
        return {name: (unit.active_power.si,) for name, unit in chip.units.items()}
    base = 1.0 if thermal.power is None else thermal.power.si
    shares = (base, *(step.power.si for step in thermal.governor.steps))
    return {name: tuple(unit.active_power.si * share for share in shares) for name, unit in chip.units.items()}


class StretchedTimer:
    """A timer whose times, typed in for full speed, are stretched by the unit's share of it."""

    def __init__(self, timer: StepTimer, share: float):
        self.timer, self.share = timer, share

    def duration_ns(self, step: Step) -> int:
        return ns(self.timer.duration_ns(step) / self.share / NS_PER_S)

    def width(self, step: Step) -> int:
        return self.timer.width(step)


def level_timers(
    setup: Setup, placed: Placed, full: StepTimer, timers: Callable[[Placed, int], StepTimer]
) -> tuple[StepTimer, ...]:
    """A role's timers by level of its chip's governor, `full` speed first; that alone where there is no climate.

    A chip model's times follow from the figures at each level; others are those of full speed, stretched.
    """
    context = setup.scenario.context_tokens
    levels = len(setup.levels.get(placed.chip.name, (placed.chip,)))
    if levels == 1:
        return (full,)
    if isinstance(full, Roofline):
        return (full, *(timers(placed_at(setup, placed, level), context) for level in range(1, levels)))
    shares = speeds(setup, placed.chip.name)[placed.unit_name]
    return (full, *(StretchedTimer(full, share) for share in shares[1:]))
