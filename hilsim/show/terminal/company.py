"""What the dashboard has seen of a scenario with company: turns by passenger, samples by chip."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hilsim.describe.cockpit import Budget
from hilsim.describe.setup import Setup
from hilsim.measure.turns import limits_ms, percentile_of, waits
from hilsim.sim.trace import Sample, TurnRecord
from hilsim.units import NS_PER_S

AVERAGED_NS = 2 * NS_PER_S  # a memory rate jumps between nothing and all with every step


@dataclass
class Average:
    """A sampled value as it is averaged over the last seconds, the latest with the most weight."""

    value: float
    at_ns: int
    mean: float = 0.0

    def add(self, value: float, at_ns: int) -> None:
        """From this instant on it is `value`."""
        self.mean, self.value, self.at_ns = self.until(at_ns), value, at_ns

    def until(self, now_ns: int) -> float:
        """The average as of now."""
        fresh = 1 - math.exp(-max(0, now_ns - self.at_ns) / AVERAGED_NS)
        return self.mean + (self.value - self.mean) * fresh


@dataclass
class PassengerTurns:
    """The turns of one passenger so far."""

    turns: int = 0
    refused: int = 0
    given_up: int = 0
    last: TurnRecord | None = None


@dataclass
class CompanyTally:
    """Turns and samples of one run so far."""

    passengers: dict[str, PassengerTurns] = field(default_factory=dict)
    turns: list[TurnRecord] = field(default_factory=list)
    memory: dict[str, Average] = field(default_factory=dict)  # bytes/s by chip
    latest: dict[str, dict[tuple[str, str], float]] = field(default_factory=dict)  # by chip, quantity and name
    known: tuple[int, dict[str, list[float]]] = (0, {})  # of so many turns, their measures

    @staticmethod
    def of(setup: Setup) -> CompanyTally:
        """Nothing seen yet, with everybody who may ask."""
        return CompanyTally({one.name: PassengerTurns() for one in setup.scenario.passengers})

    def turn(self, turn: TurnRecord) -> None:
        """A turn that is over."""
        one = self.passengers.setdefault(turn.passenger, PassengerTurns())
        one.turns += 1
        one.refused += turn.outcome == "refused"
        one.given_up += turn.outcome == "given up"
        one.last = turn
        self.turns.append(turn)

    def sample(self, sample: Sample) -> None:
        """A value from now on."""
        if sample.quantity == "memory rate":
            self.memory.setdefault(sample.chip, Average(0.0, sample.at_ns)).add(sample.value, sample.at_ns)
        else:
            self.latest.setdefault(sample.chip, {})[sample.quantity, sample.name] = sample.value

    def values(self, chip: str, quantity: str) -> list[float]:
        """The latest values of a quantity of a chip's units, nodes or tasks."""
        return [value for (known, _), value in self.latest.get(chip, {}).items() if known == quantity]

    def missed(self) -> dict[str, int]:
        """Deadlines missed so far, by background task."""
        return {
            name: int(value)
            for latest in self.latest.values()
            for (quantity, name), value in latest.items()
            if quantity == "missed"
        }

    def at_percentile(self, budget: Budget) -> dict[str, tuple[float | None, float | None]]:
        """Every measure of the turns at the budget's percentile, and its limit, in ms; None where there is none."""
        limits = limits_ms(budget)
        if self.known[0] != len(self.turns) or not self.known[1]:
            self.known = len(self.turns), waits(self.turns)
        return {
            name: (percentile_of(values, budget.percentile), limits.get(name)) for name, values in self.known[1].items()
        }
