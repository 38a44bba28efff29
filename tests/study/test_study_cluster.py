"""Studies on a Dask cluster of this machine: the same bits, with workers that die, differ, or are not there."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from hilsim.commands.main import main
from hilsim.errors import InputError
from hilsim.study.cluster import Cluster
from hilsim.study.worker import facts_of, worked
from tests.clusters import Process, free_port, scheduler_in, workers_in
from tests.studies import POLICY, finished, ran, rows, start, stop, until, write_study

pytestmark = pytest.mark.usefixtures("at_home")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scheduler_in(tmp_path_factory.mktemp("scheduler")) as (address, _):
        yield address


@pytest.fixture
def workers(scheduler: str, tmp_path: Path) -> Iterator[list[Process]]:
    with workers_in(tmp_path / "dask", scheduler, 2) as processes:
        yield processes


@pytest.mark.slow
def test_a_worker_that_dies_in_mid_study_loses_nothing(scheduler: str, workers: list[Process], tmp_path: Path) -> None:
    here = write_study(tmp_path / "here")
    assert main(["study", str(here), "--out", str(tmp_path), "--workers", "1", "--csv", str(tmp_path / "a.csv")]) == 0
    file = write_study(tmp_path / "there")
    process = start(file, "--out", tmp_path / "out", "--cluster", scheduler, "--csv", tmp_path / "b.csv")
    until(lambda: ran(tmp_path / "there") > 6, process)
    workers[0].kill()
    told = process.communicate()
    assert process.returncode == 0, told
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    assert ran(tmp_path / "there") <= 28 + 8  # and what the dead one had at hand


def test_a_worker_that_differs_is_refused_with_what_differs(
    scheduler: str, workers: list[Process], tmp_path: Path
) -> None:
    write_study(tmp_path)
    file = tmp_path / "table.yaml"
    facts = facts_of(file, ())
    report = partial(facts_of, file, ())
    Cluster(worked, scheduler, facts, report).close()
    with pytest.raises(InputError, match=r"found hilsim .*; expected hilsim 0\.0\. Start workers in the same"):
        Cluster(worked, scheduler, {**facts, "hilsim": "0.0", "python": "2.7"}, report)
    gone = partial(facts_of, tmp_path / "gone.yaml", ())
    with pytest.raises(InputError, match="no such file"):
        Cluster(worked, scheduler, facts, gone)


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_reported_in_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_study(tmp_path)
    began = time.monotonic()
    address = f"tcp://127.0.0.1:{free_port()}"
    assert main(["study", str(file), "--out", str(tmp_path), "--cluster", address]) == 2
    told = capsys.readouterr().err
    assert f"--cluster: {address}: found no scheduler" in told
    assert "Traceback" not in told
    assert time.monotonic() - began < 30


@pytest.mark.slow
def test_a_scheduler_that_goes_away_leaves_what_is_stored(tmp_path: Path) -> None:
    file, out = write_study(tmp_path, repeats=3), tmp_path / "out"
    with scheduler_in(tmp_path / "dask") as (address, scheduler), workers_in(tmp_path / "dask", address, 1):
        process = start(file, "--out", out, "--cluster", address)
        until(lambda: ran(tmp_path) > 10, process)
        scheduler.kill()
        told = process.communicate()[1]
    assert process.returncode == 2, told
    assert "a scheduler that went away" in told
    assert "Traceback" not in told
    before = ran(tmp_path)
    last = finished(file, "--out", out, "--workers", "1", "--csv", tmp_path / "a.csv")
    assert (last.returncode, len(rows(tmp_path / "a.csv"))) == (0, 84), last.stderr
    assert ran(tmp_path) - before < 84


def test_ctrl_c_leaves_the_cluster_as_it_was(scheduler: str, workers: list[Process], tmp_path: Path) -> None:
    file = write_study(tmp_path, set={"policy": POLICY}, repeats=5)
    process = start(file, "--out", tmp_path / "out", "--cluster", scheduler)
    until(lambda: ran(tmp_path) > 10, process)
    stop(process, signal.SIGINT, group=True)
    told = process.communicate()[1]
    assert process.returncode == 130, told
    assert told.startswith("interrupted; ")
    assert len(told.splitlines()) == 1
    assert all(worker.poll() is None for worker in workers)


@pytest.mark.slow
def test_a_worker_that_does_not_answer_keeps_neither_ctrl_c_nor_the_end_waiting(
    scheduler: str, workers: list[Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_study(tmp_path, set={"policy": POLICY}, repeats=5)
    process = start(file, "--out", tmp_path / "out", "--cluster", scheduler)
    until(lambda: ran(tmp_path) > 10, process)
    workers[0].send_signal(signal.SIGSTOP)
    stop(process, signal.SIGINT, group=True)
    error = process.communicate(timeout=20)[1]
    assert process.returncode == 130, error
    assert error.startswith("interrupted; ")
    workers[0].send_signal(signal.SIGCONT)
    table = tmp_path / "table.yaml"
    cluster = Cluster(worked, scheduler, facts_of(table, ()), partial(facts_of, table, ()))
    assert list(cluster.run([])) == []
    workers[0].send_signal(signal.SIGSTOP)
    monkeypatch.setattr("hilsim.study.cluster.COUNT_S", 0.5)
    began = time.monotonic()
    assert cluster.close() is None  # how much it has used is unknown
    assert time.monotonic() - began < 10
    monkeypatch.setattr("hilsim.study.cluster.PATIENCE_S", 0.5)
    with pytest.raises(InputError, match="a worker that does not answer"):
        Cluster(worked, scheduler, facts_of(table, ()), partial(facts_of, table, ()))
