"""The store of a study: it opens without its points, and a point that was changed on the disk is not believed."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hilsim.errors import InputError
from hilsim.study import store as storing
from hilsim.study.store import Store
from tests.bench_studies import fill, synthetic_grid
from tests.clusters import METRICS

GROUND = {"ground": "one"}
SLICE = 100  # instructions of SQLite's machine between two counts


class Counted:
    """Counts instructions of SQLite's machine, in hundreds: what a query takes, whatever the computer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.slices, real = 0, sqlite3.connect

        def connect(*given: Any, **named: Any) -> sqlite3.Connection:
            base = real(*given, **named)
            base.set_progress_handler(self.count, SLICE)
            return base

        monkeypatch.setattr(storing.sqlite3, "connect", connect)

    def count(self) -> int:
        self.slices += 1
        return 0

    def taken(self) -> int:
        before, self.slices = self.slices, 0
        return before


def opened(file: Path, counted: Counted, points: int) -> tuple[int, int]:
    """Instructions to open a store, and to read its keys."""
    counted.taken()
    with Store(file, GROUND, "", {}) as store:
        opening = counted.taken()
        assert len(store.keys) == points
        return opening, counted.taken()


def test_opening_does_not_read_the_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for points in (1000, 4000):
        fill(tmp_path / f"{points}", points)
    counted = Counted(monkeypatch)
    checked = opened(tmp_path / "4000", counted, 4000)[0]
    monkeypatch.setattr(storing, "CHECKED_BYTES", 0)
    (small, few), (large, many) = (opened(tmp_path / f"{points}", counted, points) for points in (1000, 4000))
    assert small == large < 10  # a few hundred instructions
    assert checked > 20 * large  # the negative control: reading all of it shows
    assert 3.5 * few < many < 4.5 * few


@pytest.mark.slow
def test_two_hundred_thousand_points_open_as_quickly_as_forty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, points = 40, 200_000
    for count in (few, points):
        fill(tmp_path / f"{count}", count)
    assert (tmp_path / f"{points}").stat().st_size > storing.CHECKED_BYTES
    counted = Counted(monkeypatch)
    (none, _), (all_of_them, keys) = (opened(tmp_path / f"{count}", counted, count) for count in (few, points))
    assert all_of_them <= none + 1  # the small one is even read through
    assert keys * SLICE < 10 * points  # a few instructions a key


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of some points, whose file is not read through when it is opened."""
    monkeypatch.setattr(storing, "CHECKED_BYTES", 0)
    fill(tmp_path / "store", 400)
    return tmp_path / "store"


def test_a_point_that_was_changed_on_the_disk_is_not_believed(filled: Path) -> None:
    grid = synthetic_grid(400)
    point, other = list(grid.points())[7:9]
    with Store(filled, GROUND, "", {}) as store:
        assert dict(store[point].metrics) == dict(METRICS)
    with sqlite3.connect(filled) as base:
        (packed,) = base.execute("select metrics from points where place=7").fetchone()
        base.execute("update points set metrics=? where place=7", [packed[:-1] + bytes([packed[-1] ^ 1])])
    base.close()
    with Store(filled, GROUND, "", {}) as store:
        assert point in store
        assert store[other].state == "done"
        with pytest.raises(InputError, match="a point that is not what was stored"):
            store[point]


@pytest.mark.parametrize("change", ["place=9000", "seed=seed + 1", "seconds=seconds + 1", "state='refused'",
                                    "choices='[]'", "reason='x'", "layout=2"])  # fmt: skip
def test_no_column_of_a_point_changes_unnoticed(change: str, filled: Path) -> None:
    point, other = list(synthetic_grid(400).points())[7:9]
    with sqlite3.connect(filled) as base:
        base.execute("insert into layouts select 2, replace(names, 'e', 'f'), kinds from layouts where number=1")
        base.execute(f"update points set {change} where key=?", [bytes.fromhex(point.key)])
    base.close()
    with Store(filled, GROUND, "", {}) as store:
        assert store[other].state == "done"
        with pytest.raises(InputError, match="a point that is not what was stored"):
            store[point]


@pytest.mark.parametrize(("version", "age"), [(1, "an earlier"), (9, "a later")])
def test_a_store_of_another_format_is_called_so(version: int, age: str, filled: Path) -> None:
    with sqlite3.connect(filled) as base:
        base.execute(f"pragma user_version={version}")
    base.close()
    with pytest.raises(InputError, match=f"runs in format {version}, which {age} hilsim writes"):
        Store(filled, GROUND, "", {})


def test_a_page_that_was_overwritten_is_found_when_its_points_are_read(filled: Path) -> None:
    data = filled.read_bytes()
    filled.write_bytes(data[: 4096 * 8] + b"\xff" * 4096 + data[4096 * 9 :])

    def states() -> set[str]:
        with Store(filled, GROUND, "", {}) as store:
            return {store[point].state for point in synthetic_grid(400).points()}

    with pytest.raises(InputError, match="Restore or remove it"):
        states()
    filled.write_bytes(data)
    assert states() == {"done"}


def test_points_that_failed_are_taken_out(filled: Path) -> None:
    with sqlite3.connect(filled) as base:
        base.execute("update points set state='failed' where place < 3")
    base.close()
    with Store(filled, GROUND, "", {}) as store:
        assert (len(store.keys), store.forget_failed(), len(store.keys), len(store)) == (400, 3, 397, 397)
        assert [point.index for point in synthetic_grid(400).points() if point not in store] == [0, 1, 2]
