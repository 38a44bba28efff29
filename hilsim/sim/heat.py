"""Heat of a chip during a run: what runs on it gives power, power gives temperature, the governor sets the level.

Powers only change when what runs changes, so the network is advanced exactly from one such instant to the next. The
governor looks at every poll, as those of real chips do; a level that it sets changes the speed of what runs at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import simpy

from hilsim.cost.governed import speeds, unit_powers
from hilsim.cost.sharing import capacity
from hilsim.cost.thermal_network import ThermalNetwork
from hilsim.describe.cockpit import Climate
from hilsim.describe.setup import Setup
from hilsim.describe.thermal import IDLE, MEMORY
from hilsim.sim.device_slot import Process, now_ns
from hilsim.sim.shared_chip import SharedChip
from hilsim.sim.trace import HeatTally, Trace
from hilsim.units import NS_PER_S, ns

SEEN_K = 0.05  # a temperature is shown again when it has changed by more, a power by more than this share
CAUSES = {
    "prefill": "target", "decode": "target", "verify": "target", "tool call": "target",
    "draft prefill": "draft", "draft": "draft",
}  # fmt: skip
MOST_LOADS = 4096  # that are remembered


class Load(NamedTuple):
    """What a chip draws while the same runs: watts by unit and cause, and what they do to the thermal network."""

    watts: tuple[tuple[tuple[str, str], float], ...]
    drive: list[float]


class ChipHeat:
    """The thermal network and the governor of a chip, and what it draws.

    `speeds` are the shares of full speed of its units, by level.
    """

    def __init__(
        self,
        env: simpy.Environment,
        shared: SharedChip,
        climate: Climate,
        trace: Trace,
        speeds: Mapping[str, tuple[float, ...]],
    ):
        chip = shared.chip
        assert chip.thermal is not None, "a climate asks for it"
        self.env, self.shared, self.chip, self.trace, self.speeds = env, shared, chip, trace, speeds
        self.thermal = chip.thermal
        self.network = ThermalNetwork(chip.thermal, climate.ambient_c, climate.start_c)
        self.watched = chip.thermal.governor.watches
        self.joules_a_byte = 8 * chip.thermal.memory_energy.si
        self.powers = unit_powers(chip)
        self.units = {f"{chip.name}.{name}": name for name in chip.units}  # by track
        self.loads: dict[tuple[int, tuple[tuple[str, str, float], ...]], Load] = {}  # those seen, by level and jobs
        self.since_ns = now_ns(env)
        self.looked_ns, self.looked_j = self.since_ns, 0.0
        levels = len(chip.thermal.governor.steps) + 1
        temperatures = self.network.temperatures_c()
        self.tally = trace.heat[chip.name] = HeatTally(
            chip.name, level_ns=[0] * levels, hottest_c=temperatures, critical_c=chip.thermal.critical.si
        )
        self.shown: dict[tuple[str, str], float] = {}
        shared.listeners.append(self.settle)
        shared.stretches = {unit: tuple(1 / share for share in shares) for unit, shares in speeds.items()}

    def settle(self) -> None:
        """Count energy and heat until now: called before what runs changes."""
        elapsed_ns = now_ns(self.env) - self.since_ns
        if not elapsed_ns:
            return
        self.since_ns += elapsed_ns
        shared, tally = self.shared, self.tally
        level = shared.level
        tally.level_ns[level] += elapsed_ns
        running = tuple([(job.track, job.kind, job.rate) for job in shared.running])
        load = self.loads.get((level, running))
        if load is None:
            if len(self.loads) >= MOST_LOADS:
                self.loads.clear()
            load = self.loads[level, running] = self.load(level, running)
        seconds = elapsed_ns / NS_PER_S
        joules = tally.joules
        for entry, watts in load.watts:
            joules[entry] += watts * seconds
        self.network.advance(seconds, load.drive)

    def load(self, level: int, running: tuple[tuple[str, str, float], ...]) -> Load:
        """The powers while jobs of these tracks and kinds run, and move bytes at these rates."""
        watts: dict[tuple[str, str], float] = defaultdict(float)
        sources: dict[str, float] = defaultdict(float)
        watts["", IDLE] = sources[IDLE] = self.chip.idle_power.si
        for track, kind, rate in running:
            cause = CAUSES.get(kind, kind)
            if (unit := self.units.get(track)) is not None:
                watts[unit, cause] += self.powers[unit][level]
                sources[unit] += self.powers[unit][level]
            if rate:
                watts[MEMORY, cause] += rate * self.joules_a_byte
                sources[MEMORY] += rate * self.joules_a_byte
        for entry in watts:
            self.tally.joules.setdefault(entry, 0.0)
        return Load(tuple(watts.items()), self.network.drive(sources))

    def govern(self) -> Process:
        """Look at the temperature every poll, for ever, and set the level."""
        poll_ns = ns(self.thermal.governor.poll.si)
        self.look()
        while True:
            yield self.env.timeout(poll_ns)
            self.settle()
            level = self.thermal.governor.moved(self.shared.level, self.network.temperature_c(self.watched))
            if level != self.shared.level:
                self.tally.changes += 1
                self.shared.set_level(level)
            self.look()

    def look(self) -> None:
        """Remember the hottest temperatures, and show what has changed: temperatures, power, speeds."""
        now, temperatures = now_ns(self.env), self.network.temperatures_c()
        for node, celsius in temperatures.items():
            self.tally.hottest_c[node] = max(self.tally.hottest_c[node], celsius)
        if not (self.trace.keep or self.trace.observer is not None):
            return
        for node, celsius in temperatures.items():
            self.show(now, "temperature", node, celsius, SEEN_K)
        if now > self.looked_ns:
            watts = (self.tally.drawn_j - self.looked_j) * NS_PER_S / (now - self.looked_ns)
            self.show(self.looked_ns, "power", "", watts, SEEN_K * watts)
            self.looked_ns, self.looked_j = now, self.tally.drawn_j
        for unit, shares in self.speeds.items():
            self.show(now, "clock", unit, shares[self.shared.level], 0.0)

    def show(self, at_ns: int, quantity: str, name: str, value: float, hair: float) -> None:
        """A sample, where it differs from the last one by more than a hair."""
        last = self.shown.get((quantity, name))
        if last is None or abs(value - last) > hair:
            self.shown[quantity, name] = value
            self.trace.add_sample((self.chip.name, at_ns, quantity, name, value))

    def close(self) -> None:
        """At the end of the run: what has been drawn until now, and where its heat is."""
        self.settle()
        self.look()
        self.tally.stored_j, self.tally.to_ambient_j = self.network.stored_j, self.network.to_ambient_j


def heats(env: simpy.Environment, setup: Setup, shared: Mapping[str, SharedChip], trace: Trace) -> list[ChipHeat]:
    """The heat of every chip of a set-up with a climate; none without one."""
    climate = setup.scenario.climate
    if climate is None:
        return []
    for name, chip in shared.items():
        chip.capacities = (chip.capacities[0], *(capacity(level) for level in setup.levels[name][1:]))
    return [ChipHeat(env, chip, climate, trace, speeds(setup, name)) for name, chip in shared.items()]
