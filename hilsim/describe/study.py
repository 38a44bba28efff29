"""A study file: one scenario, the values that are varied, and the metrics of every combination."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import NAME, Names, Record, as_tuple
from hilsim.errors import Misfit, Misfits

Values = Annotated[tuple[Any, ...], BeforeValidator(as_tuple)]
Number = int | float
MOST_STEPS = 10_000
FAST = "fast"  # a way of timing points


class ListAxis(Record):
    """One key of the scenario and the values that it takes, mappings and lists among them."""

    key: str = Field(min_length=1)
    """The key of the scenario, by dotted path."""
    values: Values = Field(min_length=1)
    """Values that it takes, blocks and lists among them."""
    name: str | None = Field(default=None, min_length=1, max_length=60)
    """What its column is called; the key where not given."""

    @model_validator(mode="after")
    def _each_once(self) -> ListAxis:
        if twice := repeated(self.values):
            raise Misfit(f"the value {twice} twice", "each value once")
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that it changes."""
        return (self.key,)

    @property
    def head(self) -> str:
        """What its column is called."""
        return self.name or self.key

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """What its keys become, one row a choice."""
        return tuple((value,) for value in self.values)


class RangeAxis(Record):
    """One key and evenly spaced numbers, both ends included; whole numbers may leave out `steps` to take each one.

    On a logarithmic scale neighbours have one ratio. Numbers are rounded to 12 digits, so that 0.3 to 0.9 in 7 steps
    holds 0.4 itself, and a finer range meets the points of a coarser one.
    """

    key: str = Field(min_length=1)
    """The key of the scenario, by dotted path."""
    start: Number = Field(alias="from")
    """Lower end of the range, included."""
    end: Number = Field(alias="to")
    """Upper end of the range, included."""
    steps: int | None = Field(default=None, ge=2, le=MOST_STEPS)
    """How many numbers; where not given, each whole number of the range."""
    scale: Literal["linear", "log"] = "linear"
    """Whether neighbours have one difference, or one ratio."""
    name: str | None = Field(default=None, min_length=1, max_length=60)
    """What its column is called; the key where not given."""

    @model_validator(mode="after")
    def _rising(self) -> RangeAxis:
        whole = isinstance(self.start, int) and isinstance(self.end, int)
        broken = []
        if self.start >= self.end:
            broken.append(Misfit(f"from {self.start:g} to {self.end:g}", "a lower end below the upper one"))
        if self.scale == "log" and self.start <= 0:
            broken.append(Misfit(f"a logarithmic range from {self.start:g}", "one that begins above 0"))
        if self.steps is None and (not whole or self.scale == "log"):
            broken.append(Misfit("no steps", "the number of values, both ends included"))
        elif self.steps is None and self.end - self.start >= MOST_STEPS:
            broken.append(Misfit(f"{self.end - self.start + 1} values", f"at most {MOST_STEPS}, or fewer steps"))
        if broken:
            raise Misfits(broken)
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that it changes."""
        return (self.key,)

    @property
    def head(self) -> str:
        """What its column is called."""
        return self.name or self.key

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """Its numbers, one a row; whole ones where both ends are whole and every step is."""
        if self.steps is None:
            return tuple((value,) for value in range(int(self.start), int(self.end) + 1))
        shares = [place / (self.steps - 1) for place in range(self.steps)]
        if self.scale == "log":
            inside = [self.start * (self.end / self.start) ** share for share in shares]
        else:
            inside = [self.start + (self.end - self.start) * share for share in shares]
        # The ends as written; what lies between without the last bits of its arithmetic.
        numbers = [float(self.start), *(float(f"{value:.12g}") for value in inside[1:-1]), float(self.end)]
        if isinstance(self.start, int) and isinstance(self.end, int) and all(map(float.is_integer, numbers)):
            return tuple((int(number),) for number in numbers)
        return tuple((number,) for number in numbers)


class LinkedAxis(Record):
    """Keys that move together: the first values of all, then the second ones, and so on."""

    linked: dict[str, Values] = Field(min_length=1)
    """Keys that move together, each with as many values: the first ones of all, then the second ones."""
    names: Names | None = None
    """What each choice is called in tables; its values where not given."""
    name: str | None = Field(default=None, min_length=1, max_length=60)
    """What its column is called; the keys where not given."""

    @model_validator(mode="after")
    def _of_one_length(self) -> LinkedAxis:
        lengths = {key: len(values) for key, values in self.linked.items()}
        broken = []
        if 0 in lengths.values():
            broken.append(Misfit("an empty list of values", "at least one value"))
        elif len(set(lengths.values())) > 1:
            listed = ", ".join(f"{key} {length}" for key, length in lengths.items())
            broken.append(Misfit(f"lists of different lengths ({listed})", "as many values for every linked key"))
        elif twice := repeated(list(zip(*self.linked.values(), strict=True))):
            broken.append(Misfit(f"the values {twice} twice", "each choice once"))
        if self.names is not None and len(self.names) not in lengths.values():
            broken.append(Misfit(f"{len(self.names)} names", f"as many as there are values ({max(lengths.values())})"))
        if self.names is not None and len(set(self.names)) < len(self.names):
            broken.append(Misfit("a name twice", "each name once"))
        if broken:
            raise Misfits(broken)
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that it changes."""
        return tuple(self.linked)

    @property
    def head(self) -> str:
        """What its column is called."""
        return self.name or ", ".join(self.linked)

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """What its keys become, one row a choice."""
        return tuple(zip(*self.linked.values(), strict=True))


Axis = ListAxis | RangeAxis | LinkedAxis


def axis_of(data: object) -> object:
    """The record that the keys of an axis select, so that a message is about the kind that was meant."""
    if not isinstance(data, dict):
        return data
    ranged = "values" not in data and {"from", "to", "steps", "scale"} & set(data)
    kind: type[Record] = LinkedAxis if "linked" in data else RangeAxis if ranged else ListAxis
    return kind.model_validate(data)


class Objective(Record):
    """One metric that a search pushes down or up."""

    metric: str
    """The metric that decides."""
    goal: Literal["min", "max"] | None = None
    """Whether less or more of it is wanted; what is better of the metric where not given."""


class Search(Record):
    """How to look for the best points without running them all."""

    trials: int = Field(default=200, ge=1, le=10**6)
    """How many points are chosen."""
    sampler: Literal["tpe", "nsga2"] = "tpe"
    """How they are chosen: by a model of good points, or by a genetic algorithm for several objectives."""
    objectives: Annotated[tuple[Objective, ...], BeforeValidator(as_tuple)] = ()
    """Metrics that are pushed down or up; where empty the first of the study (request time for a speed-up)."""
    batch: int = Field(default=8, ge=1, le=10**4)
    """Trials that are chosen before any of them runs."""
    seed: int = Field(default=1, ge=0, lt=2**32)
    """What the choices follow from; the same one repeats a search."""


class Study(Record):
    """Which combinations of a scenario's values are run, how often, and what is shown of them."""

    name: str = Field(pattern=NAME, max_length=100)
    """The name of the study, and of the folder where its runs are stored."""
    question: str = ""
    """What the study is to answer, printed first."""
    scenario: str
    """The scenario that is varied: a file, relative to the study's."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values of the scenario that all points share, by dotted path."""
    axes: Annotated[tuple[Annotated[Axis, BeforeValidator(axis_of)], ...], BeforeValidator(as_tuple)] = Field(
        min_length=1
    )
    """What is varied; every combination of the axes' choices is a point."""
    repeats: int = Field(default=1, ge=1, le=10_000)
    """Runs of each point, each with a seed of its own."""
    metrics: Names = ()
    """What is shown of each point; the usual metrics where empty."""
    most_points: int = Field(default=20_000, ge=1, le=10**7)
    """More points than this are refused, unless they are searched."""
    timing: Literal["events", "fast"] = "events"
    """What times the points: `events`, with every measure; or `fast`, without events where that is possible, with the
    measures that fast timing has, to the nanosecond equal."""
    search: Search | None = None
    """How the best points are looked for without running all; where not given, all run."""


def repeated(values: Sequence[object]) -> str | None:
    """The first value that was there before, as JSON."""
    seen: set[str] = set()
    for value in values:
        text = json.dumps(value, sort_keys=True)
        if text in seen:
            return text
        seen.add(text)
    return None
