"""The points that are done, in one SQLite file: nothing that was stored is lost or run again, whenever the end comes.

A finished point is one transaction that has reached the disk (rollback journal, synchronous FULL) before the next is
taken. The file is locked from the first write to the end, by the operating system, so that a killed process leaves no
lock behind. Only the process that owns the study writes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from hilsim.caches import FILE_MODE, unsafe
from hilsim.errors import Fault, InputError
from hilsim.files import place_faults, reason
from hilsim.study.points import Point

APPLICATION = 0x68696C73  # "hils", in the file's header
FORMAT = 1
State = Literal["done", "refused", "failed"]
TABLES = """
create table study (name text primary key, value text not null) strict;
create table points (
  key text primary key, place integer not null, choices text not null, seed integer not null, state text not null,
  metrics text not null, reason text not null, seconds real not null
) strict, without rowid;
"""
ANOTHER = "Use another --out DIR for it."


def owner_faults(file: Path) -> list[Fault]:
    """What keeps a store from being this user's alone; one that is missing is made so that it is."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, FILE_MODE))
    except FileExistsError:
        if why := unsafe(file.lstat(), stat.S_ISREG, "no plain file"):
            return [Fault(str(file), "", f"a store that is {why}", "a file that only you can write to", ANOTHER)]
    except OSError as error:
        return [Fault(str(file), "", reason(error), "a place that can be written to", ANOTHER)]
    return []


@dataclass(frozen=True)
class PointResult:
    """What became of a point: metrics where it is done, the reason where it was refused or failed.

    In a campaign `reason` of a point that is done is a remark on it: what was lost, or why the fault hit nothing.
    """

    key: str
    state: State
    metrics: dict[str, float | None]
    reason: str
    seconds: float


class Store:
    """The open store of one study, for one process. Raises `InputError` whenever the file is not what it should be."""

    def __init__(self, file: Path, ground: Mapping[str, str], study: str, machine: Mapping[str, str]):
        """Open or make `file`. `ground` is what all results rest on, and has to be what it was; the others are notes.

        `study` is the text of the study file, `machine` what it last ran on.
        """
        self.file = file
        self.known: dict[str, PointResult] = {}
        if faults := [*place_faults(file, "--out"), *owner_faults(file)]:
            raise InputError(faults)
        try:
            self.base = sqlite3.connect(file, timeout=0.2, isolation_level=None)
            try:
                self.open(ground, {"study": study, "machine": json.dumps(dict(machine), sort_keys=True)})
            except BaseException:
                self.base.close()
                raise
        except sqlite3.Error as error:
            raise self.fault(error) from None

    def open(self, ground: Mapping[str, str], notes: Mapping[str, str]) -> None:
        """Lock the file, make or check its tables, and read what is in it."""
        self.base.execute("pragma locking_mode=exclusive")
        self.base.execute("pragma synchronous=full")
        self.base.execute("begin exclusive")
        try:
            (tables,) = self.base.execute("select count(*) from sqlite_schema").fetchone()
            if not tables:
                for statement in filter(str.strip, TABLES.split(";")):
                    self.base.execute(statement)
                self.base.execute(f"pragma application_id={APPLICATION}")
                self.base.execute(f"pragma user_version={FORMAT}")
                self.note({"ground": json.dumps(dict(ground), sort_keys=True)})
            self.check(ground)
            self.note(notes)
        except BaseException:
            self.undo()
            raise
        self.base.execute("commit")
        rows = self.base.execute("select key, state, metrics, reason, seconds from points")
        try:
            for key, state, metrics, reason, seconds in rows:
                self.known[key] = PointResult(key, state, json.loads(metrics), reason, seconds)
        except ValueError:
            raise self.damaged("metrics that cannot be read") from None

    def check(self, ground: Mapping[str, str]) -> None:
        """Raises `InputError` for a database of something else, a damaged one, and one of other runs."""
        (application,) = self.base.execute("pragma application_id").fetchone()
        (version,) = self.base.execute("pragma user_version").fetchone()
        if (application, version) != (APPLICATION, FORMAT):
            found = "a database that holds no runs of this hilsim"
            raise InputError([Fault(str(self.file), "", found, "a store that hilsim study or campaign wrote", ANOTHER)])
        (health,) = self.base.execute("pragma quick_check(1)").fetchone()
        if health != "ok":
            raise self.damaged(health)
        row = self.base.execute("select value from study where name='ground'").fetchone()
        try:
            stored: dict[str, Any] = json.loads(row[0])
        except (TypeError, ValueError):
            raise self.damaged("no record of what it rests on") from None
        if differs := [name for name in {**stored, **ground} if stored.get(name) != ground.get(name)]:
            raise InputError(
                [
                    Fault(str(self.file), "", f"points with {name} {stored.get(name, 'unknown')}",
                          f"{name} {ground.get(name, 'unknown')}", f"It holds other runs. {ANOTHER}")
                    for name in differs
                ]
            )  # fmt: skip

    def note(self, notes: Mapping[str, str]) -> None:
        """Store a text about the study, over an older one."""
        self.base.executemany("insert or replace into study values (?, ?)", notes.items())

    def __len__(self) -> int:
        """Points on the disk; where Ctrl-C came between the disk and our memory, the disk is right."""
        (count,) = self.base.execute("select count(*) from points").fetchone()
        return int(count)

    def __contains__(self, point: Point) -> bool:
        return point.key in self.known

    def __getitem__(self, point: Point) -> PointResult:
        return self.known[point.key]

    def add(self, found: Sequence[tuple[Point, Sequence[object], PointResult]]) -> None:
        """Store points with the labels of their choices; when this returns they are on the disk."""
        rows = [
            (point.key, point.index, json.dumps(list(labels), ensure_ascii=False), point.seed, outcome.state,
             json.dumps(outcome.metrics, allow_nan=False), outcome.reason, outcome.seconds)
            for point, labels, outcome in found
        ]  # fmt: skip
        try:
            self.base.execute("begin")
            # A plain insert: a point that came twice would be a bug, and is told as one.
            self.base.executemany("insert into points values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self.base.execute("commit")
        except BaseException as error:
            self.undo()
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise self.fault(error) from None
            raise
        self.known |= {outcome.key: outcome for _, _, outcome in found}

    def undo(self) -> None:
        """Leave the transaction, where SQLite has not left it already."""
        if self.base.in_transaction:
            self.base.execute("rollback")

    def forget_failed(self) -> int:
        """Take out the points that failed, so that they run again; returns how many there were."""
        failed = [key for key, outcome in self.known.items() if outcome.state == "failed"]
        try:
            self.base.execute("delete from points where state='failed'")
        except sqlite3.Error as error:
            raise self.fault(error) from None
        for key in failed:
            del self.known[key]
        return len(failed)

    def fault(self, error: sqlite3.Error) -> InputError:
        """SQLite's error as an `InputError`."""
        text = str(error)
        if "locked" in text:
            found, expected = "a store that another process has open", "one process on it at a time"
            return InputError([Fault(str(self.file), "", found, expected, f"Wait for it. {ANOTHER}")])
        if "not a database" in text or "malformed" in text:
            return self.damaged(text)
        expected = "a file that can be read and written"
        return InputError([Fault(str(self.file), "", text, expected, "Make room, or choose another --out DIR.")])

    def damaged(self, found: str) -> InputError:
        """The file can no longer be trusted."""
        expected = "a whole store"
        return InputError([Fault(str(self.file), "", found, expected, "Restore or remove it, or use another --out.")])

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.base.close()
