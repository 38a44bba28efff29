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

POLICY = "policy"
Label = bool | int | float | str | None


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

    def point(self, cell: int, places: tuple[int, ...], repeat: int) -> Point:
        """One point with its overrides, blocks before what is inside them."""
        chosen = [
            (key, value, column.digests[place])
            for column, place in zip(self.columns, places, strict=True)
            for key, value in zip(column.keys, column.rows[place], strict=True)
        ]
        seed = next((value for key, value, _ in chosen if key == "seed"), self.seed + repeat)
        meaning = json.dumps([self.ground, sorted(chosen, key=lambda part: part[0]), seed], sort_keys=True)
        laid = sorted(chosen, key=lambda part: part[0].count("."))
        overrides = [override(key, value) for key, value, _ in laid if key != "seed"]
        return Point(
            index=cell * self.repeats + repeat,
            cell=cell,
            places=places,
            seed=seed,
            overrides=(*overrides, override("seed", seed)),
            key=hashlib.sha256(meaning.encode()).hexdigest(),
        )

    def varies(self, key: str) -> bool:
        """Whether an axis changes this key."""
        return any(key in column.keys for column in self.columns)

    def labels(self, places: Sequence[int]) -> list[Label]:
        """What the choices of a cell are called."""
        return [column.labels[place] for column, place in zip(self.columns, places, strict=True)]

    def alike(self, point: Point) -> tuple[object, ...]:
        """The same for points that differ in their policy alone, and so share the run of the target alone."""
        others = [
            place
            for column, place in zip(self.columns, point.places, strict=True)
            if not all(f"{key}.".startswith(f"{POLICY}.") for key in column.keys)
        ]
        return (*others, point.seed)


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
