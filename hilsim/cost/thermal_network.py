"""A chip's thermal network over time, solved exactly while powers are constant.

    C dT/dt = P - G (T - ambient)

With C diagonal and G symmetric, sqrt(C) (T - ambient) falls apart into modes that are independent of each other: each
goes to its own end value by exp(-rate t). So an interval of constant power is one multiplication a mode, however long
it is, and the heat that leaves for the ambient air is the integral of the same exponentials.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import expm1

import numpy as np

from hilsim.describe.thermal import AMBIENT, Thermal


class ThermalNetwork:
    """Temperatures of a chip's nodes in degrees Celsius, and how much heat has left them since the start, in joules."""

    def __init__(self, thermal: Thermal, ambient_c: float, start_c: float | None = None):
        self.nodes = tuple(thermal.nodes)
        self.ambient_c = ambient_c
        place = {name: index for index, name in enumerate(self.nodes)}
        capacities = np.array([node.capacity.si for node in thermal.nodes.values()])
        flows = np.zeros((len(place), len(place)))  # W/K
        to_air = np.zeros(len(place))
        for name, node in thermal.nodes.items():
            here, conductance = place[name], 1 / node.resistance.si
            flows[here, here] += conductance
            if node.to == AMBIENT:
                to_air[here] = conductance
                continue
            there = place[node.to]
            flows[there, there] += conductance
            flows[here, there] -= conductance
            flows[there, here] -= conductance
        root = np.sqrt(capacities)
        rates, modes = np.linalg.eigh(flows / np.outer(root, root))
        shape = modes / root[:, None]  # temperature of a node for 1 of a mode
        self.capacities: list[float] = capacities.tolist()
        self.shape: list[list[float]] = shape.tolist()
        # Of each mode: how fast it decays, and the watts to the air for 1 of it.
        self.decays: list[tuple[float, float]] = list(zip(rates.tolist(), (to_air @ shape).tolist(), strict=True))
        heated = {source: place[name] for name, node in thermal.nodes.items() for source in node.heated_by}
        # What a watt of each source does to each mode.
        self.inputs: dict[str, list[float]] = {source: self.shape[index] for source, index in heated.items()}
        self.start_k = [(ambient_c if start_c is None else start_c) - ambient_c] * len(place)  # above the ambient
        self.state: list[float] = (modes.T @ (root * np.array(self.start_k))).tolist()
        self.to_ambient_j = 0.0

    def drive(self, watts: Mapping[str, float]) -> list[float]:
        """What powers by source (units, "memory", "idle") do to the modes: for `advance`."""
        found = [0.0] * len(self.decays)
        for source, power in watts.items():
            for mode, weight in enumerate(self.inputs[source]):
                found[mode] += weight * power
        return found

    def advance(self, seconds: float, drive: list[float]) -> None:
        """Let time pass under constant power."""
        state, left_j = self.state, 0.0
        for mode, (rate, leak) in enumerate(self.decays):
            end = drive[mode] / rate
            settled = (end - state[mode]) * -expm1(-rate * seconds)
            state[mode] += settled
            left_j += leak * (end * seconds - settled / rate)
        self.to_ambient_j += left_j

    def temperature_c(self, node: str) -> float:
        """The temperature of a node now."""
        weights = self.shape[self.nodes.index(node)]
        return self.ambient_c + sum(weight * one for weight, one in zip(weights, self.state, strict=True))

    def temperatures_c(self) -> dict[str, float]:
        """The temperatures of all nodes now."""
        return {node: self.temperature_c(node) for node in self.nodes}

    @property
    def stored_j(self) -> float:
        """Heat that the nodes hold beyond what they began with."""
        above = [self.temperature_c(node) - self.ambient_c for node in self.nodes]
        return sum(c * (now - then) for c, now, then in zip(self.capacities, above, self.start_k, strict=True))
