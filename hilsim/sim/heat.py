"""Heat of a chip during a run: what runs on it gives power, power gives temperature, the governor sets the level.

Powers only change when what runs changes, so the network is advanced exactly from one such instant to the next. The
governor looks at every poll, as those of real chips do; a level that it sets changes the speed of what runs at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import simpy

from hilsim.cost.governed import speeds, unit_powers
from hilsim.cost.sharing import capacity
from hilsim.cost.thermal_network import ThermalNetwork
from hilsim.describe.cockpit import Climate
from hilsim.describe.setup import Setup
from hilsim.describe.thermal import IDLE, MEMORY
from hilsim.sim.device_slot import Process, now_ns
from hilsim.sim.shared_chip import SharedChip
from hilsim.sim.trace import HeatTally, Sample, Trace
from hilsim.units import NS_PER_S, ns

SEEN_K = 0.05  # a temperature is shown again when it has changed by more, a power by more than this share
CAUSES = {
    "prefill": "target", "decode": "target", "verify": "target", "draft prefill": "draft", "draft": "draft",
}  # fmt: skip


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
        self.idle_watts = chip.idle_power.si
        self.idle_drive = self.network.drive({IDLE: self.idle_watts})
        self.joules_a_byte = 8 * chip.thermal.memory_energy.si
        self.memory = self.network.inputs[MEMORY]
        powers = unit_powers(chip)
        # Of each track: the unit, its watts by level, and what one of them does to the network.
        self.units = {f"{chip.name}.{name}": (name, watts, self.network.inputs[name]) for name, watts in powers.items()}
        self.since_ns = now_ns(env)
        self.looked_ns, self.looked_j = self.since_ns, 0.0
        self.drawn_j = 0.0
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
        now = now_ns(self.env)
        elapsed_ns = now - self.since_ns
        if not elapsed_ns:
            return
        self.since_ns = now
        seconds, level = elapsed_ns / NS_PER_S, self.shared.level
        self.tally.level_ns[level] += elapsed_ns
        drive = list(self.idle_drive)
        self.count("", IDLE, self.idle_watts * seconds)
        for job in self.shared.running:
            cause = CAUSES.get(job.kind, job.kind)
            if job.track in self.units:
                unit, powers, inputs = self.units[job.track]
                watts = powers[level]
                self.count(unit, cause, watts * seconds)
                for mode, weight in enumerate(inputs):
                    drive[mode] += weight * watts
            if job.rate:
                watts = job.rate * self.joules_a_byte
                self.count(MEMORY, cause, watts * seconds)
                for mode, weight in enumerate(self.memory):
                    drive[mode] += weight * watts
        self.network.advance(seconds, drive)

    def count(self, unit: str, cause: str, joules: float) -> None:
        """Enter energy into the account."""
        self.tally.joules[unit, cause] = self.tally.joules.get((unit, cause), 0.0) + joules
        self.drawn_j += joules

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
            watts = (self.drawn_j - self.looked_j) * NS_PER_S / (now - self.looked_ns)
            self.show(self.looked_ns, "power", "", watts, SEEN_K * watts)
            self.looked_ns, self.looked_j = now, self.drawn_j
        for unit, shares in self.speeds.items():
            self.show(now, "speed", unit, shares[self.shared.level], 0.0)

    def show(self, at_ns: int, quantity: str, name: str, value: float, hair: float) -> None:
        """A sample, where it differs from the last one by more than a hair."""
        last = self.shown.get((quantity, name))
        if last is None or abs(value - last) > hair:
            self.shown[quantity, name] = value
            self.trace.add_sample(Sample(self.chip.name, at_ns, quantity, name, value))

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
