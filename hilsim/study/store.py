"""The points that are done, in one SQLite file: nothing that was stored is lost or run again, whenever the end comes.

Points that end about the same time are one transaction, which has reached the disk (rollback journal, synchronous FULL)
before the next is taken. Opening reads none of them: their keys are read when the store is first asked whether a point
is there, what became of a point when that is wanted. The file is locked from the first write to the end, by the
operating system, so that a killed process leaves no lock behind. Only the process that owns the study writes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

from hilsim.caches import FILE_MODE, unsafe
from hilsim.errors import Fault, InputError
from hilsim.files import place_faults, reason
from hilsim.study.point_result import Layout, Metrics, PointResult, layout_of
from hilsim.study.points import Point

APPLICATION = 0x68696C73  # "hils", in the file's header
FORMAT = 2
CHECKED_BYTES = 64 * 2**20  # a larger file is not read through at the start; damage shows when a point is read
TABLES = """
create table study (name text primary key, value text not null) strict;
create table layouts (number integer primary key, names text not null, kinds text not null) strict;
create table points (
  key blob not null unique, place integer not null, choices text not null, seed integer not null, state text not null,
  layout integer not null, metrics blob not null, reason text not null, seconds real not null, checksum integer not null
) strict;
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


class Store:
    """The open store of one study, for one process. Raises `InputError` whenever the file is not what it should be."""

    def __init__(self, file: Path, ground: Mapping[str, str], study: str, machine: Mapping[str, str]):
        """Open or make `file`. `ground` is what all results rest on, and has to be what it was; the others are notes.

        `study` is the text of the study file, `machine` what it last ran on.
        """
        self.file = file
        self.numbers: dict[Layout, int] = {}  # of layouts in the file
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
        self.numbers = {layout: number for number, layout in self.layouts()}

    def layouts(self) -> list[tuple[int, Layout]]:
        """The layouts of metrics in the file, with their numbers."""
        try:
            return [
                (number, layout_of(names_of(names), kinds))
                for number, names, kinds in self.base.execute(
                    "select number, names, kinds from layouts order by number"
                )
            ]
        except (TypeError, ValueError):
            raise self.damaged("names of metrics that cannot be read") from None

    def check(self, ground: Mapping[str, str]) -> None:
        """Raises `InputError` for a database of something else, a damaged one, and one of other runs."""
        (application,) = self.base.execute("pragma application_id").fetchone()
        (version,) = self.base.execute("pragma user_version").fetchone()
        if (application, version) != (APPLICATION, FORMAT):
            found = "a database that holds no runs of this hilsim"
            if application == APPLICATION:
                age = "an earlier" if version < FORMAT else "a later"
                found = f"runs in format {version}, which {age} hilsim writes; this one has format {FORMAT}"
            raise InputError([Fault(str(self.file), "", found, "a store that hilsim study or campaign wrote", ANOTHER)])
        if self.file.stat().st_size <= CHECKED_BYTES:
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

    @cached_property
    def keys(self) -> set[bytes]:
        """The keys of all points in the file, read once."""
        try:
            return {key for (key,) in self.base.execute("select key from points")}
        except sqlite3.Error as error:
            raise self.fault(error) from None

    def __contains__(self, point: Point) -> bool:
        return bytes.fromhex(point.key) in self.keys

    def __getitem__(self, point: Point) -> PointResult:
        """What became of a point. Raises `KeyError` for one that is not there, `InputError` for one that is damaged."""
        key = bytes.fromhex(point.key)
        columns = "place, choices, seed, state, names, kinds, metrics, reason, seconds, checksum"
        query = f"select {columns} from points left join layouts on number=layout where key=?"
        try:
            row = self.base.execute(query, [key]).fetchone()
        except sqlite3.Error as error:
            raise self.fault(error) from None
        if row is None:
            raise KeyError(point.key)
        place, choices, seed, state, names, kinds, packed, reason, seconds, checksum = row
        try:
            layout = layout_of(names_of(names), kinds)
            if checksum != checksum_of(key, place, choices, seed, state, layout, packed, reason, seconds):
                raise self.damaged("a point that is not what was stored")
            metrics = Metrics(layout, packed)
        except (TypeError, ValueError):
            raise self.damaged("metrics that cannot be read") from None
        return PointResult(point.key, state, metrics, reason, seconds)

    def add(self, found: Sequence[tuple[Point, Sequence[object], PointResult]]) -> None:
        """Store points with the labels of their choices; when this returns they are on the disk."""
        rows, keys = [], []
        fresh: dict[Layout, int] = {}
        last = max(self.numbers.values(), default=0)
        for point, labels, outcome in found:
            key, metrics = bytes.fromhex(point.key), Metrics.of(outcome.metrics)
            known = self.numbers.get(metrics.layout)
            layout = fresh.setdefault(metrics.layout, last + len(fresh) + 1) if known is None else known
            choices = json.dumps(list(labels), ensure_ascii=False)
            seconds = float(outcome.seconds)
            checksum = checksum_of(
                key, point.index, choices, point.seed, outcome.state, metrics.layout, metrics.packed, outcome.reason,
                seconds,
            )  # fmt: skip
            rows.append(
                (key, point.index, choices, point.seed, outcome.state, layout, metrics.packed, outcome.reason, seconds,
                 checksum)
            )  # fmt: skip
            keys.append(key)
        layouts = [(number, json.dumps(one.names), one.kinds) for one, number in fresh.items()]
        try:
            self.base.execute("begin")
            self.base.executemany("insert into layouts values (?, ?, ?)", layouts)
            # A plain insert: a point that came twice would be a bug, and raises as one.
            self.base.executemany(f"insert into points values ({', '.join('?' * 10)})", rows)
            self.base.execute("commit")
        except BaseException as error:
            self.undo()
            if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
                raise self.fault(error) from None
            raise
        self.numbers |= fresh
        self.keys.update(keys)

    def undo(self) -> None:
        """Leave the transaction, where SQLite has not left it already."""
        if self.base.in_transaction:
            self.base.execute("rollback")

    def forget_failed(self) -> int:
        """Take out the points that failed, so that they run again; returns how many there were."""
        try:
            failed = [key for (key,) in self.base.execute("delete from points where state='failed' returning key")]
        except sqlite3.Error as error:
            raise self.fault(error) from None
        self.keys.difference_update(failed)
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


def checksum_of(
    key: bytes, place: int, choices: str, seed: int, state: str, layout: Layout, packed: bytes, reason: str,
    seconds: float,
) -> int:  # fmt: skip
    """CRC-32 over all that is stored of a point."""
    numbers = f"{place} {seed} {layout.checksum} {seconds!r}"
    return crc32(b"\0".join((key, choices.encode(), state.encode(), packed, reason.encode(), numbers.encode())))


@lru_cache(maxsize=1024)
def names_of(text: str) -> tuple[str, ...]:
    """The names of a layout as they are stored."""
    return tuple(json.loads(text))
