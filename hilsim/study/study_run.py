"""A study under way: points go to the workers that the store does not have yet, and into the store as they end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hilsim.errors import Fault, InputError
from hilsim.files import read_text
from hilsim.study.point_result import PointResult
from hilsim.study.points import Grid, Point
from hilsim.study.store import Store
from hilsim.study.workers import Task, Work, Workers


@dataclass(frozen=True)
class StudyRun:
    """A grid, its store, what every task has in common, and what a worker does with one."""

    grid: Grid
    store: Store
    file: Path
    base: tuple[str, ...]
    scenario: str  # digest of the scenario file's bytes, as `bytes_digest` has it
    facts: Mapping[str, str]
    work: Work

    def left(self, points: Iterable[Point]) -> list[Point]:
        """The points that have not run yet."""
        return [point for point in points if point not in self.store]

    def run(self, points: Sequence[Point], workers: Workers[Task, PointResult]) -> Iterator[PointResult]:
        """Run what is left of `points`; each outcome is on the disk when it comes out here."""
        left = {point.key: point for point in self.left(points)}
        for group in workers.groups([self.task(point) for point in left.values()]):
            found = [(left[outcome.key], outcome) for outcome in group]
            self.store.add([(point, self.grid.labels(point.places), outcome) for point, outcome in found])
            yield from group

    def task(self, point: Point) -> Task:
        """What a worker needs to run a point."""
        return Task(point.key, self.file, self.base, point.overrides, self.scenario, self.facts, self.grid.alike(point))


def bytes_digest(file: Path) -> str:
    """SHA-256 of a file's text."""
    return hashlib.sha256(read_text(file).encode()).hexdigest()


def require_bytes(file: Path, digest: str) -> None:
    """Raises `InputError` where a file is not the one that the runs began with."""
    if bytes_digest(file) != digest:
        found = "another text than when the runs began"
        remedy = "Points so far stay stored. A changed scenario has runs of its own: start them with another --out."
        raise InputError([Fault(str(file), "", found, "a scenario that stays as it is", remedy)])
