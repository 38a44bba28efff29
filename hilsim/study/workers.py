"""The one pool of processes, for studies and the explorer. What it returns does not depend on how many there are.

Each process has one job at work and one waiting, so a process that dies leaves no doubt about the job that killed it.
That one gets a second chance in a new process and is then given up; the others go on. (Loky and the standard library's
executor fail every job that is under way when a process dies, Dask suspects all that it held, and none of them places
jobs that share a run of the target alone in one process.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from hilsim.errors import HilsimError
from hilsim.study.point_result import PointResult
from hilsim.trust import carried

CHANCES = 2
PATIENCE_S = 5
SAFE_PATH = "PYTHONSAFEPATH"
AT_HAND = 2  # jobs that a process has: one at work, one waiting


class Job(Protocol):
    """A piece of work that can go to another process."""

    @property
    def key(self) -> str:
        """A name that no other job has."""

    @property
    def alike(self) -> Hashable:
        """The same for jobs that are best run in one process, one after the other."""


J = TypeVar("J", bound=Job)
R = TypeVar("R")
JobIn = TypeVar("JobIn", bound=Job, contravariant=True)
ResultOut = TypeVar("ResultOut", covariant=True)


@dataclass(frozen=True)
class Task:
    """One point of a study to run, and what must hold wherever it runs.

    `scenario` is the digest of the scenario file's bytes; `facts` are versions and digests of the study's own process.
    """

    key: str
    file: Path
    base: tuple[str, ...]
    overrides: tuple[str, ...]
    scenario: str
    facts: Mapping[str, str]
    alike: Hashable = None  # the same for points that share the run of the target alone


Work = Callable[[Task], PointResult]


class Workers(Protocol[JobIn, ResultOut]):
    """Runs jobs and gives what became of them, in the order in which they end."""

    def run(self, jobs: Sequence[JobIn]) -> Iterator[ResultOut]: ...

    def close(self) -> None: ...


def failed(task: Task, reason: str) -> PointResult:
    """What becomes of a point whose processes died."""
    return PointResult(task.key, "failed", {}, reason, 0.0)


def workers_for(work: Callable[[J], R], count: int, lost: Callable[[J, str], R]) -> Workers[J, R]:
    """This process for a count of one, else so many beside it."""
    return ThisProcess(work) if count <= 1 else Processes(work, count, lost)


class ThisProcess(Generic[J, R]):
    """A worker that is this process itself."""

    def __init__(self, work: Callable[[J], R]):
        self.work = work

    def run(self, jobs: Sequence[J]) -> Iterator[R]:
        return map(self.work, jobs)

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class WorkerProcess(Generic[J]):
    """A process, the pipe to it, the jobs it was sent, in order, and those it will be sent next."""

    process: BaseProcess
    pipe: Connection
    sent: deque[J] = field(default_factory=deque)
    next: deque[J] = field(default_factory=deque)

    def send(self, job: J) -> None:
        """Hand over a job; that the process is gone shows when its answer is awaited."""
        self.sent.append(job)
        with suppress(OSError):
            self.pipe.send(job)


class Processes(Generic[J, R]):
    """Processes beside this one, each with its own copy of `work` and of what that remembers from job to job.

    `lost` makes the result of a job whose processes died, from how they did. Code that is
    allowed here is allowed there.
    """

    def __init__(self, work: Callable[[J], R], count: int, lost: Callable[[J, str], R]):
        self.work, self.count, self.lost = carried(work), count, lost
        self.workers: list[WorkerProcess[J]] = []

    def run(self, jobs: Sequence[J]) -> Iterator[R]:
        """Raises what a process raises of the family `HilsimError`: it could not take part at all."""
        groups: dict[Hashable, deque[J]] = {}
        for job in jobs:
            groups.setdefault(job.alike, deque()).append(job)
        open_groups = deque(groups.values())
        deaths: Counter[str] = Counter()
        while len(self.workers) < min(self.count, len(jobs)):
            self.workers.append(self.start())
        for worker in self.workers:
            self.supply(worker, open_groups)
        while working := [worker for worker in self.workers if worker.sent]:
            for pipe in wait([worker.pipe for worker in working]):
                worker = next(worker for worker in working if worker.pipe is pipe)
                try:
                    answer: R | HilsimError = worker.pipe.recv()
                except (EOFError, OSError):
                    yield from self.replace(worker, open_groups, deaths)
                    continue
                worker.sent.popleft()
                self.supply(worker, open_groups)
                if isinstance(answer, HilsimError):
                    raise answer
                yield answer

    def supply(self, worker: WorkerProcess[J], groups: deque[deque[J]]) -> None:
        """Keep a worker busy: with its own group first, then a new one, then half of what another has left."""
        while len(worker.sent) < AT_HAND:
            if not worker.next and groups:
                worker.next = groups.popleft()
            if not worker.next:
                richest = max(self.workers, key=lambda other: len(other.next))
                worker.next = deque(richest.next.pop() for _ in range((len(richest.next) + 1) // 2))
            if not worker.next:
                return
            worker.send(worker.next.popleft())

    def replace(self, worker: WorkerProcess[J], groups: deque[deque[J]], deaths: Counter[str]) -> Iterator[R]:
        """A new process for one that died; the job that it died of is given up where that was its last chance."""
        worker.pipe.close()
        worker.process.join()
        suspect, *others = worker.sent
        deaths[suspect.key] += 1
        again = [suspect, *others] if deaths[suspect.key] < CHANCES else others
        fresh = self.start()
        fresh.next = deque([*again, *worker.next])
        self.workers[self.workers.index(worker)] = fresh
        self.supply(fresh, groups)
        if deaths[suspect.key] == CHANCES:
            code = worker.process.exitcode or 0
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            yield self.lost(suspect, f"its process died {CHANCES} times, at last with {how}")

    def start(self) -> WorkerProcess[J]:
        """A new process, with nothing to do yet."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self.work), daemon=True)
        with undisturbed(), by_safe_path():
            process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        return WorkerProcess(process, ours)

    def close(self) -> None:
        """End all processes, whatever they are at: what they have not handed back runs again another time."""
        for worker in self.workers:
            worker.pipe.close()
            if worker.sent:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(PATIENCE_S)
            worker.process.kill()
            worker.process.join()
        self.workers = []


def serve(pipe: Connection, work: Callable[[J], R]) -> None:
    """A worker process: one job after the other, until the process that started it closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; one of them decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # tidily: what libraries hold open is theirs to close
    try:
        while True:
            job = pipe.recv()
            try:
                pipe.send(work(job))
            except HilsimError as error:
                pipe.send(error)
    except (EOFError, OSError):
        return


@contextmanager
def by_safe_path() -> Iterator[None]:
    """Processes started in here import nothing from the current folder before they have this one's path."""
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE_PATH]
        else:
            os.environ[SAFE_PATH] = before


@contextmanager
def undisturbed() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C from their first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
