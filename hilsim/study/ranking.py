"""What is wanted of a placement: objectives, constraints, and the Pareto set of what meets them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hilsim.describe.names import key_hint
from hilsim.errors import Fault, InputError
from hilsim.measure.measures import MEASURES

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
AT_ONCE = 1024  # rows that are held against the members of a front together


@dataclass(frozen=True)
class RankingObjective:
    """One number to make small or large: its measure, unit, and how many of its units one of those is."""

    name: str
    measure: str
    unit: str
    goal: str  # min or max
    scale: float = 1.0

    def of(self, measures: Mapping[str, Floats]) -> Floats:
        """The values, smaller being better."""
        return self.cost(measures[self.measure])

    def cost(self, values: Floats) -> Floats:
        """Values of the measure as costs, smaller being better; and costs as values again."""
        return values if self.goal == "min" else -values


OBJECTIVES = {
    objective.name: objective
    for objective in (
        RankingObjective("request_latency", "request_latency_ms.mean", "ms", "min"),
        RankingObjective("first_clause", "time_to_first_clause_ms.mean", "ms", "min"),
        RankingObjective("throughput", "output_token_throughput", "tokens/s", "max"),
        RankingObjective("energy", "energy_j", "J", "min"),
        RankingObjective("link_bytes", "link_bytes", "KiB", "min", 2.0**10),
        RankingObjective("memory", "memory_bytes", "GiB", "min", 2.0**30),
    )
}


@dataclass(frozen=True)
class Constraint:
    """A bound that every result must meet."""

    measure: str
    at_most: bool
    value: float

    def met(self, measures: Mapping[str, Floats]) -> Flags:
        """Which configurations meet it; what is not a number does not."""
        values = measures[self.measure]
        return values <= self.value if self.at_most else values >= self.value

    def __str__(self) -> str:
        return f"{self.measure} {'<=' if self.at_most else '>='} {self.value:g}"


def limit_text(name: str, value: float) -> str:
    """A bound by name as `constraint` reads it: at most so much of a measure, at least so much where more is better.

    `name` is a measure, or an objective with its unit, such as memory_gib or first_clause_ms; memory_free_mib is left
    free on every chip. Raises `InputError`.
    """
    units = {one.name: one.unit.lower().replace("/", "_") for one in OBJECTIVES.values()}
    known = {f"{one.name}_{units[one.name]}": (one.measure, one.scale) for one in OBJECTIVES.values()}
    known["memory_free_mib"] = ("memory_left_bytes", 2.0**20)
    known = {measure: (measure, 1.0) for measure in MEASURES} | known
    if name not in known:
        raise InputError([Fault("--limit", "", repr(name), f"one of {', '.join(known)}", key_hint(name, known))])
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError([Fault("--limit", name, repr(value), "a finite number")])
    measure, scale = known[name]
    return f"{measure}{'>=' if MEASURES[measure].better == 'higher' else '<='}{value * scale!r}"


def constraint(text: str, known: Sequence[str]) -> Constraint:
    """From "MEASURE<=VALUE" or "MEASURE>=VALUE". Raises `InputError`."""
    found = re.fullmatch(r"\s*([\w.]+)\s*(<=|>=)\s*([-+.eE\d]+)\s*", text)
    try:
        if found is None:
            raise ValueError
        value = float(found[3])
    except ValueError:
        expected = "MEASURE<=VALUE or MEASURE>=VALUE, such as energy_j<=200"
        raise InputError([Fault("--limit", "", repr(text), expected)]) from None
    if found[1] not in known:
        raise InputError(
            [Fault("--limit", "", repr(found[1]), f"one of {', '.join(known)}", key_hint(found[1], known))]
        )
    return Constraint(found[1], found[2] == "<=", value)


def objective(name: str) -> RankingObjective:
    """By name. Raises `InputError`."""
    if name not in OBJECTIVES:
        expected = f"one of {', '.join(OBJECTIVES)}"
        raise InputError([Fault("--objective", "", repr(name), expected, key_hint(name, OBJECTIVES))])
    return OBJECTIVES[name]


def front(costs: Floats) -> Ints:
    """Places of the rows of `costs` (configurations, objectives) that no other row is at least as small as everywhere
    and smaller somewhere; of equal rows the first. In the order of the first objective.
    """
    order = np.lexsort(costs.T[::-1])  # by the first objective, then the next: nothing later beats something earlier
    members: list[int] = []
    undominated = np.empty((0, costs.shape[1]))
    for block in np.array_split(order, len(order) // AT_ONCE + 1):
        # Most rows of a long list are worse than one of the members so far; only the others are looked at singly.
        left = np.ones(len(block), dtype=bool)
        for member in undominated:
            left[left] = ~(member <= costs[block[left]]).all(axis=1)
        for place in block[left]:
            row = costs[place]
            if not len(undominated) or not (undominated <= row).all(axis=1).any():
                members.append(int(place))
                undominated = np.vstack((undominated, row))
    return np.array(members, dtype=np.int64)
