"""The points of a study: every combination of its axes' choices, once a seed, in one order and each with a key.

A point's key is a digest of the scenario it starts from, of the choices it makes (and of what each of them names), and
of its seed. It does not depend on the other points, so a longer axis, another axis order or more repeats leave the
points that were there what they were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

from hilsim.describe.study import LinkedAxis, RangeAxis
from hilsim.describe.study_load import Described, override
from hilsim.describe.tagged import KIND

POLICY, SEED = "policy", "seed"
Label = bool | int | float | str | None


@dataclass(frozen=True)
class Setting:
    """One key of the scenario with its value: as the argument of --set, and its part of the text of a point's key."""

    key: str
    value: Any
    argument: str
    text: str


@dataclass(frozen=True)
class Column:
    """One axis: its head, what each choice is called, and whether its labels are numbers in rising order."""

    head: str
    keys: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    labels: tuple[Label, ...]
    digests: tuple[str, ...]
    log: bool = False

    @cached_property
    def settings(self) -> tuple[tuple[Setting, ...], ...]:
        """What each choice sets."""
        return tuple(
            tuple(
                Setting(key, value, override(key, value), json.dumps([key, value, digest], sort_keys=True))
                for key, value in zip(self.keys, row, strict=True)
            )
            for row, digest in zip(self.rows, self.digests, strict=True)
        )

    @cached_property
    def numeric(self) -> bool:
        """Whether every label is a number."""
        return all(isinstance(label, int | float) and not isinstance(label, bool) for label in self.labels)

    @cached_property
    def rising(self) -> bool:
        """Whether the labels are numbers and each is above the one before."""
        numbers = [label for label in self.labels if isinstance(label, int | float)]
        return self.numeric and numbers == sorted(numbers)


@dataclass(frozen=True)
class Point:
    """One run of the scenario: its place in the study, its choice on every axis, its seed."""

    index: int
    cell: int
    places: tuple[int, ...]
    seed: int
    overrides: tuple[str, ...]  # the study's own --set arguments not among them
    key: str


@dataclass(frozen=True)
class Grid:
    """All points of a study. A cell is one combination of choices; it has `repeats` points, one a seed."""

    ground: str  # digest of the scenario and of what runs it
    columns: tuple[Column, ...]
    repeats: int
    seed: int

    @property
    def cells(self) -> int:
        """Combinations of choices."""
        return prod(len(column.rows) for column in self.columns)

    def __len__(self) -> int:
        return self.cells * self.repeats

    def points(self) -> Iterator[Point]:
        """All points, the last axis running fastest and seeds faster still."""
        for places in product(*(range(len(column.rows)) for column in self.columns)):
            yield from self.points_of(places)

    def points_of(self, places: Sequence[int]) -> list[Point]:
        """The points of one cell, given by its choice on every axis."""
        cell = 0
        for column, place in zip(self.columns, places, strict=True):
            cell = cell * len(column.rows) + place
        return [self.point(cell, tuple(places), repeat) for repeat in range(self.repeats)]

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The keys that the axes change, in their order."""
        return tuple(key for column in self.columns for key in column.keys)

    @cached_property
    def by_key(self) -> tuple[int, ...]:
        """The places of `keys` in the order in which a point's key has them."""
        return tuple(sorted(range(len(self.keys)), key=lambda place: self.keys[place]))

    @cached_property
    def by_depth(self) -> tuple[int, ...]:
        """The places of `keys` in the order in which they are laid over the scenario; the seed comes last."""
        places = [place for place, key in enumerate(self.keys) if key != SEED]
        return tuple(sorted(places, key=lambda place: self.keys[place].count(".")))

    def point(self, cell: int, places: tuple[int, ...], repeat: int) -> Point:
        """One point with its overrides, blocks before what is inside them.

        Its key is the digest of the JSON of [ground, [[key, value, digest], ...] by key, seed], put together of parts.
        """
        chosen = [
            setting for column, place in zip(self.columns, places, strict=True) for setting in column.settings[place]
        ]
        seed = next((one.value for one in chosen if one.key == SEED), self.seed + repeat)
        parts = ", ".join([chosen[place].text for place in self.by_key])
        meaning = f"[{json.dumps(self.ground)}, [{parts}], {json.dumps(seed)}]"
        return Point(
            index=cell * self.repeats + repeat,
            cell=cell,
            places=places,
            seed=seed,
            overrides=(*[chosen[place].argument for place in self.by_depth], override(SEED, seed)),
            key=hashlib.sha256(meaning.encode()).hexdigest(),
        )

    def varies(self, key: str) -> bool:
        """Whether an axis changes this key."""
        return any(key in column.keys for column in self.columns)

    def labels(self, places: Sequence[int]) -> list[Label]:
        """What the choices of a cell are called."""
        return [column.labels[place] for column, place in zip(self.columns, places, strict=True)]

    @cached_property
    def beside_policy(self) -> tuple[int, ...]:
        """The axes that change more than the policy."""
        return tuple(
            axis
            for axis, column in enumerate(self.columns)
            if not all(f"{key}.".startswith(f"{POLICY}.") for key in column.keys)
        )

    def alike(self, point: Point) -> tuple[object, ...]:
        """The same for points that differ in their policy alone, and so share the run of the target alone."""
        return (*[point.places[axis] for axis in self.beside_policy], point.seed)


def grid_of(described: Described, ground: str) -> Grid:
    """The points of a study that was loaded."""
    study = described.study
    columns = []
    for axis, digests in zip(study.axes, described.choices, strict=True):
        names = axis.names if isinstance(axis, LinkedAxis) else None
        labels: tuple[Label, ...] = names or tuple(label(row) for row in axis.rows)
        log = isinstance(axis, RangeAxis) and axis.scale == "log"
        columns.append(Column(axis.head, axis.keys, axis.rows, labels, digests, log))
    return Grid(ground, tuple(columns), study.repeats, described.seed)


def label(row: Sequence[object]) -> Label:
    """What a choice is called where it has no name: a plain value as it is, anything else in one line.

    A block that begins with its kind, such as a policy, goes by it: "sync, draft_tokens 4"; so does one with a name.
    """
    first = row[0]
    if len(row) > 1:
        return ", ".join(label_text(value) for value in row)
    if first is None or isinstance(first, bool | int | float | str):
        return first
    named = KIND if isinstance(first, dict) and next(iter(first), "") == KIND else "name"
    if isinstance(first, dict) and isinstance(first.get(named), str):
        return ", ".join([first[named], *(f"{key} {label_text(first[key])}" for key in first if key != named)])
    return label_text(first)


def label_text(value: object) -> str:
    """A value as YAML in one line, without quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {label_text(inside)}" for key, inside in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(label_text, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)
