"""How a chip warms up, and what it does about it: heat capacities, thermal resistances, and a governor with steps.

    power -> node -> resistance -> node -> ... -> resistance -> ambient air

A network has few nodes: each stores heat, and passes it on to one other node or to the ambient air. What turns power
into heat is a unit at work, the memory, or the chip while idle (what it takes at all times). Temperatures are in
degrees Celsius.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import (
    PLAIN_NAME,
    Duration,
    EnergyPerBit,
    HeatCapacity,
    Names,
    Record,
    Share,
    Temperature,
    TemperatureDifference,
    ThermalResistance,
    filled_or_null,
)
from hilsim.errors import Misfit

AMBIENT, IDLE, MEMORY = "ambient", "idle", "memory"
MOST_NODES, MOST_STEPS = 8, 32


class ThermalNode(Record):
    """One part of the way that heat takes, to another node or to the ambient air."""

    capacity: HeatCapacity
    """Energy that warms it by one kelvin."""
    resistance: ThermalResistance
    """Difference of temperature for each watt that it passes on."""
    to: str = AMBIENT
    """The node that it passes heat on to, or `ambient`, the air around."""
    heated_by: Names = ()
    """What turns power into heat in it: units, `memory` and `idle`."""


class GovernorStep(Record):
    """What the governor does from a temperature on: one of `mode`, `clock` and `speed`, and a slower memory."""

    above: Temperature
    """Temperature of the watched node from which on the step holds."""
    hysteresis: TemperatureDifference
    """How much cooler than `above` the node must be before the step is left."""
    mode: str | None = None
    """Power mode that the chip goes into."""
    clock: Share | None = None
    """Share of their clock that units run at; memory rates stay."""
    speed: Share | None = None
    """Share of its speed at which every pass goes."""
    memory_rate: Share | None = None
    """Share that is left of the memory's rate; all of it where not given."""
    power: Share
    """Share of their active power, against full speed, that units at work take."""

    @model_validator(mode="after")
    def _one_effect(self) -> GovernorStep:
        shares = {name: getattr(self, name) for name in ("clock", "speed", "memory_rate", "power")}
        given = {name: share for name, share in shares.items() if share is not None}
        if sum(one is not None for one in (self.mode, self.clock, self.speed)) != 1:
            raise Misfit("none or several of mode, clock and speed", "one of them")
        for name, share in given.items():
            if share.unit != "share" or not 0 < share.ends[0] <= share.ends[1] <= 1:
                raise Misfit(f"{name} of {share.value:g} {share.unit}", "a share above 0, at most 1")
        return self

    @property
    def left_c(self) -> float:
        """The temperature below which the step is left."""
        return self.above.si - self.hysteresis.si


class Governor(Record):
    """Looks at the temperature of the node it `watches` every `poll`, and moves by one step at most each time."""

    watches: str
    """Node whose temperature it looks at."""
    poll: Duration
    """Time between two looks; each moves by one step at most."""
    steps: Annotated[tuple[GovernorStep, ...], BeforeValidator(filled_or_null)] = Field(
        default=(), max_length=MOST_STEPS
    )
    """What it does as the chip gets hotter, coolest step first; null: nothing."""

    @model_validator(mode="after")
    def _steps_in_order(self) -> Governor:
        if self.poll.si < 1e-3:
            raise Misfit(f"poll every {self.poll.value:g} {self.poll.unit}", "1 ms at least")
        for cool, hot in pairwise(self.steps):
            for name in ("clock", "speed", "memory_rate"):
                less, more = getattr(cool, name), getattr(hot, name)
                if less is not None and more is not None and more.value > less.value:
                    found = f"{name} {more.value:g} above {hot.above.value:g} C, after {less.value:g}"
                    raise Misfit(f"governor.steps with {found}", "a hotter step that is no faster")
            if hot.above.si <= cool.above.si or hot.left_c < cool.left_c:
                found = f"a step above {hot.above.value:g} C after one above {cool.above.value:g} C"
                raise Misfit(found, "steps by rising temperatures, left in the same order")
        return self

    def moved(self, level: int, temperature_c: float) -> int:
        """The level after a look at the temperature: one up, one down, or the same. Level 0 is full speed."""
        if level < len(self.steps) and temperature_c >= self.steps[level].above.si:
            return level + 1
        if level and temperature_c < self.steps[level - 1].left_c:
            return level - 1
        return level


class Thermal(Record):
    """A chip's thermal network and governor."""

    nodes: dict[Annotated[str, Field(pattern=PLAIN_NAME)], ThermalNode] = Field(min_length=1, max_length=MOST_NODES)
    """Parts of the way that heat takes to the air, by name."""
    governor: Governor
    """What slows the chip down when it is hot."""
    memory_energy: EnergyPerBit
    """Energy of moving a bit to or from memory, beside the power of the unit that asks."""
    critical: Temperature
    """Temperature from which a real chip shuts down; a run goes on and its report says so."""
    power: Share | None = None
    """Share of the active powers that units take at full speed, as in a slower power mode; all where not given."""

    @model_validator(mode="after")
    def _reaches_the_air(self) -> Thermal:
        if AMBIENT in self.nodes:
            raise Misfit(f"a node called {AMBIENT}", "another name: that is the air around")
        for name, node in self.nodes.items():
            if node.to != AMBIENT and node.to not in self.nodes:
                raise Misfit(f"nodes.{name}.to {node.to!r}", f"a node, {', '.join(self.nodes)}, or {AMBIENT}")
        for name in self.nodes:
            passed: list[str] = []
            while name != AMBIENT:
                if name in passed:
                    raise Misfit(f"nodes in a circle: {' -> '.join([*passed, name])}", f"a way to {AMBIENT} from each")
                passed.append(name)
                name = self.nodes[name].to
        return self

    @model_validator(mode="after")
    def _governor_fits(self) -> Thermal:
        if self.governor.watches not in self.nodes:
            raise Misfit(f"governor.watches {self.governor.watches!r}", f"a node: {', '.join(self.nodes)}")
        if late := [step.above for step in self.governor.steps if step.above.si >= self.critical.si]:
            raise Misfit(f"a step above {late[0].value:g} C", f"one below critical, {self.critical.value:g} C")
        return self

    def faults_on(self, units: tuple[str, ...], modes: tuple[str, ...]) -> Misfit | None:
        """What does not fit the chip: units, memory and idle each heat one node, and steps name its modes."""
        sources = (*units, MEMORY, IDLE)
        named = [source for node in self.nodes.values() for source in node.heated_by]
        if sorted(named) != sorted(sources):
            found = f"thermal nodes heated by {', '.join(named) or 'nothing'}"
            return Misfit(found, f"each of {', '.join(sources)} in one node", path=("thermal", "nodes"))
        for place, step in enumerate(self.governor.steps):
            if step.mode is not None and step.mode not in modes:
                expected = f"one of modes: {', '.join(modes) or 'none'}"
                path = ("thermal", "governor", "steps", place, "mode")
                return Misfit(f"a governor step to mode {step.mode!r}", expected, path=path)
        return None

    def in_mode(self, name: str) -> Thermal | None:
        """Of the chip in a power mode: the steps beyond it remain. None where steps lead to other modes alone.

        Steps that are shares, of the clock or of the speed, hold in every mode.
        """
        if all(step.mode is None for step in self.governor.steps):
            return self
        place = next((place for place, step in enumerate(self.governor.steps) if step.mode == name), None)
        if place is None:
            return None
        governor = self.governor.model_copy(update={"steps": self.governor.steps[place + 1 :]})
        return self.model_copy(update={"governor": governor, "power": self.governor.steps[place].power})
