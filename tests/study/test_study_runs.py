"""Studies that are cut short, on one process or several: nothing is lost, nothing runs twice, the bits are the same."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hilsim.commands.main import main
from hilsim.describe.study import Search
from hilsim.errors import InputError
from hilsim.study.points import Column, Grid
from hilsim.study.search import search
from hilsim.study.study_run import bytes_digest
from hilsim.study.worker import facts_of, worked
from hilsim.study.workers import GROUP_S, Processes, Task, failed
from tests.studies import AXES, POLICY, finished, ran, rows, start, stop, until, write_study

pytestmark = pytest.mark.usefixtures("at_home")

SEARCH = {"trials": 20, "batch": 5, "objectives": [{"metric": "speedup"}]}


def stored(out: Path) -> dict[str, float]:
    """Points and how long each took, which tells one run from another."""
    if not (out / "study.sqlite").exists():
        return {}
    with sqlite3.connect(out / "study.sqlite") as base:
        (tables,) = base.execute("select count(*) from sqlite_schema").fetchone()
        return dict(base.execute("select key, seconds from points")) if tables else {}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of studies that nobody disturbed, in this process alone: by name of the study's kind."""
    folder = tmp_path_factory.mktemp("whole")
    for kind, changes in (("grid", {}), ("search", {"search": SEARCH})):
        file = write_study(folder / kind, **changes)
        files = [part for end in ("csv", "parquet") for part in (f"--{end}", str(folder / f"{kind}.{end}"))]
        assert main(["study", str(file), "--out", str(folder / kind), "--workers", "1", *files]) == 0
        assert len(rows(folder / f"{kind}.csv")) == ran(folder / kind) <= 28
    return folder


@pytest.mark.parametrize(
    ("kind", "workers", "moments"),
    [("grid", 1, (0, 9)), ("grid", 2, (12,)), ("search", 2, (7,))],
    ids=["grid, one process", "grid, two processes", "search, two processes"],
)
@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_was(
    kind: str, workers: int, moments: tuple[int, ...], whole: Path, tmp_path: Path
) -> None:
    file = write_study(tmp_path / "study", **({"search": SEARCH} if kind == "search" else {}))
    folder, out, killed = tmp_path / "study", tmp_path / "out", 0
    done: dict[str, float] = {}
    for moment in moments:
        process = start(file, "--out", out, "--workers", str(workers))
        until(lambda moment=moment: ran(folder) > moment, process)
        killed += process.poll() is None
        stop(process, signal.SIGKILL)
        process.communicate()
        # A worker that was left behind ends when it finds nobody listening; it cannot write.
        again = stored(out)
        assert done.items() <= again.items(), "a stored point is lost or has run again"
        done = again
    last = finished(file, "--out", out, "--workers", str(workers), "--csv", tmp_path / "points.csv")
    assert last.returncode == 0, last.stderr
    assert done.items() <= stored(out).items()
    assert (tmp_path / "points.csv").read_bytes() == (whole / f"{kind}.csv").read_bytes()
    # What a worker had at hand when it was killed, or had not yet handed over to be stored, may run again; no more.
    behind = 2 * workers + 1 + GROUP_S / min(stored(out).values())
    points = len(rows(tmp_path / "points.csv"))
    assert killed
    assert points <= ran(folder) <= points + behind * killed


def test_ctrl_c_says_what_is_kept(whole: Path, tmp_path: Path) -> None:
    file, out = write_study(tmp_path / "study"), tmp_path / "out"
    process = start(file, "--out", out, "--workers", "2")
    until(lambda: ran(tmp_path / "study") > 5, process)
    stop(process, signal.SIGINT, group=True)
    told = process.communicate()[1]
    assert process.returncode == 130, told
    assert told.splitlines() == [
        f"interrupted; {len(stored(out))} points stored in {out}/study.sqlite. The same command goes on from there."
    ]
    assert main(["study", str(file), "--out", str(out), "--workers", "1", "--csv", str(tmp_path / "a.csv")]) == 0
    assert (tmp_path / "a.csv").read_bytes() == (whole / "grid.csv").read_bytes()


def test_results_do_not_depend_on_the_number_of_processes(whole: Path, tmp_path: Path) -> None:
    file = write_study(tmp_path)
    table, parquet = tmp_path / "points.csv", tmp_path / "points.parquet"
    done = finished(file, "--out", tmp_path, "--workers", "2", "--csv", table, "--parquet", parquet)
    assert done.returncode == 0, done.stderr
    assert table.read_bytes() == (whole / "grid.csv").read_bytes()
    assert parquet.read_bytes() == (whole / "grid.parquet").read_bytes()


@pytest.mark.slow
def test_a_point_that_kills_its_process_is_given_up_and_the_others_are_done(tmp_path: Path) -> None:
    deadly = {"draft_tokens": 4, "deaths": 99}
    policies = [POLICY, {**POLICY, "parameters": deadly}]
    file = write_study(tmp_path, axes=[{**AXES[0], "steps": 2}, {"key": "policy", "values": policies}], set={})
    done = finished(file, "--out", tmp_path, "--workers", "2", "--csv", tmp_path / "points.csv")
    assert done.returncode == 1
    found = rows(tmp_path / "points.csv")
    assert [row["state"] for row in found] == ["done", "failed"] * 2
    assert {row["reason"] for row in found} == {"", "its process died 2 times, at last with signal 9"}
    assert len((tmp_path / "died").read_text()) == 4
    assert "2 points failed unexpectedly" in done.stdout


@pytest.mark.slow
def test_a_process_that_dies_once_costs_nothing(whole: Path, tmp_path: Path) -> None:
    file = write_study(tmp_path, set={"policy": {**POLICY, "parameters": {"draft_tokens": 4, "deaths": 1}}})
    done = finished(file, "--out", tmp_path, "--workers", "2", "--csv", tmp_path / "points.csv")
    assert (done.returncode, (tmp_path / "died").read_text()) == (0, "x"), done.stderr
    assert (tmp_path / "points.csv").read_bytes() == (whole / "grid.csv").read_bytes()


def test_two_processes_do_not_share_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = write_study(tmp_path, repeats=20), tmp_path / "out"
    process = start(file, "--out", out, "--workers", "1")
    until(lambda: ran(tmp_path) > 0, process)
    assert main(["study", str(file), "--out", str(out)]) == 2
    assert "found a store that another process has open; expected one process on it" in capsys.readouterr().err
    stop(process, signal.SIGKILL)
    process.communicate()


def task(folder: Path, **changes: Any) -> Task:
    file = folder / "table.yaml"
    given = {"scenario": bytes_digest(file), "facts": facts_of(file, ())} | changes
    return Task("key", file, (), ("seed=1",), **given)


def test_a_process_that_sees_something_else_takes_no_part(tmp_path: Path) -> None:
    write_study(tmp_path)
    facts = facts_of(tmp_path / "table.yaml", ())
    assert worked(task(tmp_path)).state == "done"
    with pytest.raises(InputError, match=r"this worker: found hilsim .*; expected hilsim 0\.0"):
        worked(task(tmp_path, facts={**facts, "hilsim": "0.0"}))
    workers = Processes(worked, 1, failed)
    try:
        with pytest.raises(InputError, match="another text than when the runs began"):
            list(workers.run([task(tmp_path, scenario="0")]))
    finally:
        workers.close()


def values(size: int, *, rising: bool = True) -> Column:
    labels = tuple(range(size)) if rising else tuple(f"choice {number}" for number in range(size))
    return Column("head", ("key",), tuple((label,) for label in labels), labels, tuple("d" * size))


@pytest.fixture
def hill() -> tuple[Grid, Any]:
    """A grid of 4000 cells with one best place, where the third part of all is refused."""
    grid = Grid("ground", (values(40), values(20), values(5, rising=False)), 1, 1)

    def height(cells: list[tuple[int, ...]]) -> list[tuple[float, ...] | None]:
        return [
            None if kind == 2 or x > 30 else (-((x - 23) ** 2) - (y - 7) ** 2 - 30.0 * (kind != 4), float(y))
            for x, y, kind in cells
        ]

    return grid, height


def test_a_search_finds_the_top_and_keeps_away_from_what_is_refused(hill: tuple[Grid, Any]) -> None:
    pytest.importorskip("optuna")
    grid, height = hill
    how = Search(trials=240, batch=8, seed=3)
    reached: list[int] = []
    found = search(grid, how, ["max"], lambda cells: [v and v[:1] for v in height(cells)], reached.append)
    assert reached == list(range(8, 241, 8))
    best = found.tried[found.front[0]]
    assert best is not None
    assert best[0] > -12  # of 0 at the top; a tenth of a random draw of 240 comes so near
    order = list(found.tried.values())
    assert order[-60:].count(None) < order[:60].count(None)
    assert found == search(grid, how, ["max"], lambda cells: [v and v[:1] for v in height(cells)], reached.append)


def test_a_search_for_several_goals_ends_with_what_nothing_beats(hill: tuple[Grid, Any]) -> None:
    pytest.importorskip("optuna")
    grid, height = hill
    found = search(grid, Search(trials=150, sampler="nsga2"), ["max", "min"], height, lambda done: None)
    scored = {cell: values for cell, values in found.tried.items() if values is not None}
    for cell in found.front:
        high, low = scored[cell]
        assert not any(h >= high and y <= low and (h, y) != (high, low) for h, y in scored.values())
    assert len(found.front) > 1


def test_a_search_is_reported_as_such(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its trials come up again, whatever the store holds: here all of the grid."""
    write_study(tmp_path)
    arguments = ["study", str(tmp_path / "small.yaml"), "--out", str(tmp_path), "--workers", "1"]
    assert main(arguments) == 0
    write_study(tmp_path, search=SEARCH)
    capsys.readouterr()
    assert main([*arguments, "--csv", str(tmp_path / "points.csv")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Search: 20 trials of" in told
    assert "of the grid's 28." in told
    assert "Best speedup" in told
    assert (tmp_path / "points.csv").read_bytes() == (whole / "search.csv").read_bytes()
    assert ran(tmp_path) == 28
    several = {"sampler": "nsga2", "objectives": [{"metric": "speedup"}, {"metric": "energy_j"}]}
    write_study(tmp_path, search=SEARCH | several)
    assert main(arguments) == 0
    assert "as good in all of speedup, energy_j" in " ".join(capsys.readouterr().out.split())
