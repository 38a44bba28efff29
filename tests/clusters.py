"""A Dask cluster on this machine: a scheduler and workers on loopback, all they write in one folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hilsim.measure.measures import MEASURES
from hilsim.places import CODE as PROJECT
from hilsim.study.point_result import Metrics, PointResult
from hilsim.study.workers import Task
from tests.studies import until

PROFILED = "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"  # a sample of a worker's stack every 10 ms
METRICS = Metrics.of({name: None if number % 3 == 0 else 1.37 * number for number, name in enumerate(MEASURES)})
Process = subprocess.Popen[bytes]


def nothing(task: Task) -> PointResult:
    """What becomes of a point that is not evaluated at all; of its metrics a third does not apply."""
    return PointResult(task.key, "done", METRICS, "", 0.0)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether something takes connections there: on a busy machine a scheduler needs a while to start."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def begin(folder: Path, *arguments: str) -> Process:
    """A process of Dask's, whose scratch files lie in `folder`: one that is killed leaves them behind."""
    ours = {"PYTHONPATH": str(PROJECT), "DASK_TEMPORARY_DIRECTORY": str(folder), PROFILED: "False"}
    environment = os.environ | ours
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *arguments],
        env=environment, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def begin_worker(folder: Path, address: str) -> Process:
    """A worker that is a process of its own, which nobody starts again."""
    return begin(folder, "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")


def end(*processes: Process) -> None:
    """Kill processes and wait for their end."""
    for process in processes:
        process.kill()
        process.wait()


@contextmanager
def scheduler_in(folder: Path) -> Iterator[tuple[str, Process]]:
    """A scheduler that takes connections: its address and its process."""
    port = free_port()
    process = begin(folder, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    try:
        until(lambda: listens(port))
        yield f"tcp://127.0.0.1:{port}", process
    finally:
        end(process)


@contextmanager
def workers_in(folder: Path, address: str, count: int) -> Iterator[list[Process]]:
    """So many workers of a scheduler; they may not have reached it yet."""
    processes = [begin_worker(folder, address) for _ in range(count)]
    try:
        yield processes
    finally:
        end(*processes)
