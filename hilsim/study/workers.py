"""The one pool of processes, for studies and the explorer. What it returns does not depend on how many there are.

Each process has one job at work and others waiting, in order, so a process that dies leaves no doubt about the job that
killed it. That one gets a second chance in a new process and is then given up; the others go on. (Loky and the standard
library's executor fail every job that is under way when a process dies, Dask suspects all that it held, and none of
them places jobs that share a run of the target alone in one process.)
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from hilsim.errors import HilsimError
from hilsim.study.point_result import PointResult
from hilsim.trust import carried

CHANCES = 2
PATIENCE_S = 5
SAFE_PATH = "PYTHONSAFEPATH"
AT_HAND = 2  # jobs that a process has at least: one at work, one waiting
AHEAD_S, MOST_AHEAD = 0.2, 256  # of short jobs so many that it stays busy while results are written to a disk
GROUP_S = 0.25  # results that are handed over together, as each time costs a wait for a disk
FRESH = 0.1  # weight of the last job in the mean time of a job


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


class Workers(Protocol[JobIn, R]):
    """Runs jobs and gives what became of them, in the order in which they end, those that ended together in one list.

    `count` is how many jobs run at once, `useful_s` the processor seconds within the work on jobs so far.
    """

    @property
    def count(self) -> int: ...

    @property
    def useful_s(self) -> float: ...

    def groups(self, jobs: Sequence[JobIn]) -> Iterator[list[R]]: ...

    def run(self, jobs: Sequence[JobIn]) -> Iterator[R]: ...

    def close(self) -> float | None:
        """End; the processor seconds of all that this has started, as far as they are known; None: they are not."""


@dataclass(frozen=True)
class Timed(Generic[R]):
    """What became of a job, the processor seconds within it, and how long it took."""

    result: R
    cpu_s: float
    wall_s: float


def by_likeness(jobs: Iterable[J]) -> list[deque[J]]:
    """The jobs that are best run in one process, together; in the order of their first ones."""
    found: dict[Hashable, deque[J]] = {}
    for job in jobs:
        found.setdefault(job.alike, deque()).append(job)
    return list(found.values())


def timed(work: Callable[[J], R], job: J) -> Timed[R]:
    """Do a job on this thread."""
    cpu, began = time.thread_time(), time.perf_counter()
    result = work(job)
    return Timed(result, time.thread_time() - cpu, time.perf_counter() - began)


def failed(task: Task, reason: str) -> PointResult:
    """What becomes of a point whose processes died."""
    return PointResult(task.key, "failed", {}, reason, 0.0)


def workers_for(work: Callable[[J], R], count: int, lost: Callable[[J, str], R]) -> Workers[J, R]:
    """This process for a count of one, else so many beside it."""
    return ThisProcess(work) if count <= 1 else Processes(work, count, lost)


class ThisProcess(Generic[J, R]):
    """A worker that is this process itself."""

    count = 1

    def __init__(self, work: Callable[[J], R]):
        self.work = work
        self.useful_s = 0.0

    def groups(self, jobs: Sequence[J]) -> Iterator[list[R]]:
        """Results of short jobs come together, so that writing them takes less than making them."""
        ended: list[R] = []
        waiting_s = 0.0
        for job in jobs:
            found = timed(self.work, job)
            ended.append(found.result)
            self.useful_s += found.cpu_s
            waiting_s += found.wall_s
            if waiting_s > GROUP_S:
                yield ended
                ended, waiting_s = [], 0.0
        if ended:
            yield ended

    def run(self, jobs: Sequence[J]) -> Iterator[R]:
        """One result after the other."""
        return map(self.work, jobs)

    def close(self) -> float:
        """Nothing is open."""
        return 0.0


@dataclass
class WorkerProcess(Generic[J]):
    """A process, the pipe to it, the jobs it was sent, in order, and those it will be sent next."""

    process: BaseProcess
    pipe: Connection
    sent: deque[J] = field(default_factory=deque)
    next: deque[J] = field(default_factory=deque)

    def send(self, jobs: list[J]) -> None:
        """Hand over jobs; that the process is gone shows when its answer is awaited."""
        self.sent.extend(jobs)
        with suppress(OSError):
            self.pipe.send(jobs)


class Processes(Generic[J, R]):
    """Processes beside this one, each with its own copy of `work` and of what that remembers from job to job.

    `lost` makes the result of a job whose processes died, from how they did. Code that is
    allowed here is allowed there.
    """

    def __init__(self, work: Callable[[J], R], count: int, lost: Callable[[J, str], R]):
        self.work, self.count, self.lost = carried(work), count, lost
        self.workers: list[WorkerProcess[J]] = []
        self.useful_s = 0.0
        self.job_s: float | None = None  # how long a job takes, a mean in which the last ones weigh most
        self.unsent = 0
        self.ended_s = children_s()

    def run(self, jobs: Sequence[J]) -> Iterator[R]:
        """One result after the other; raises as `groups`."""
        for group in self.groups(jobs):
            yield from group

    def groups(self, jobs: Sequence[J]) -> Iterator[list[R]]:
        """Raises what a process raises of the family `HilsimError`: it could not take part at all."""
        open_groups = deque(by_likeness(jobs))
        deaths: Counter[str] = Counter()
        self.unsent = len(jobs)
        while len(self.workers) < min(self.count, len(jobs)):
            self.workers.append(self.start())
        for worker in self.workers:
            self.supply(worker, open_groups)
        while any(worker.sent for worker in self.workers):
            ended: list[R] = []
            for worker in self.ready(None):
                ended += self.received(worker, open_groups, deaths)
            until = time.monotonic() + GROUP_S
            while len(ended) < MOST_AHEAD and any(worker.sent for worker in self.workers):
                more = self.ready(max(0.0, until - time.monotonic()))
                if not more:
                    break
                for worker in more:
                    ended += self.received(worker, open_groups, deaths)
            if ended:
                yield ended

    def ready(self, patience_s: float | None) -> list[WorkerProcess[J]]:
        """The processes at work that have an answer or are gone; waits for one so long, or as long as it takes."""
        working = {worker.pipe: worker for worker in self.workers if worker.sent}
        found = wait(list(working), patience_s)
        return [worker for pipe, worker in working.items() if pipe in found]

    def received(self, worker: WorkerProcess[J], groups: deque[deque[J]], deaths: Counter[str]) -> list[R]:
        """The next result of a process, or what becomes of one that is gone."""
        try:
            answer: Timed[R] | HilsimError = worker.pipe.recv()
        except (EOFError, OSError):
            return list(self.replace(worker, groups, deaths))
        worker.sent.popleft()
        if isinstance(answer, HilsimError):
            raise answer
        self.useful_s += answer.cpu_s
        before = answer.wall_s if self.job_s is None else self.job_s
        self.job_s = before + FRESH * (answer.wall_s - before)
        self.supply(worker, groups)
        return [answer.result]

    @property
    def at_hand(self) -> int:
        """Jobs that a process should have: of short ones many, near the end few, so that all end together."""
        wanted = AT_HAND if self.job_s is None else round(AHEAD_S / max(self.job_s, AHEAD_S / MOST_AHEAD))
        return max(AT_HAND, min(wanted, self.unsent // (2 * self.count)))

    def supply(self, worker: WorkerProcess[J], groups: deque[deque[J]]) -> None:
        """Keep a worker busy: with its own group first, then a new one, then half of what another has left."""
        at_hand = self.at_hand
        if len(worker.sent) > at_hand // 2:
            return
        jobs: list[J] = []
        while len(worker.sent) + len(jobs) < at_hand:
            if not worker.next and groups:
                worker.next = groups.popleft()
            if not worker.next:
                richest = max(self.workers, key=lambda other: len(other.next))
                worker.next = deque(richest.next.pop() for _ in range((len(richest.next) + 1) // 2))
            if not worker.next:
                break
            jobs.append(worker.next.popleft())
        if jobs:
            self.unsent -= len(jobs)
            worker.send(jobs)

    def replace(self, worker: WorkerProcess[J], groups: deque[deque[J]], deaths: Counter[str]) -> Iterator[R]:
        """A new process for one that died; the job that it died of is given up where that was its last chance."""
        worker.pipe.close()
        worker.process.join()
        suspect, *others = worker.sent
        deaths[suspect.key] += 1
        again = [suspect, *others] if deaths[suspect.key] < CHANCES else others
        fresh = self.start()
        fresh.next = deque([*again, *worker.next])
        self.unsent += len(again)
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

    def close(self) -> float:
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
        return children_s() - self.ended_s


def children_s() -> float:
    """Processor seconds of the processes that this one started and that have ended."""
    found = os.times()
    return found.children_user + found.children_system


def serve(pipe: Connection, work: Callable[[J], R]) -> None:
    """A worker process: one job after the other, until the process that started it closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; one of them decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # tidily: what libraries hold open is theirs to close
    waiting: SimpleQueue[list[J] | None] = SimpleQueue()
    threading.Thread(target=read_jobs, args=(pipe, waiting), daemon=True).start()
    while (jobs := waiting.get()) is not None:
        for job in jobs:
            try:
                answer: Timed[R] | HilsimError = timed(work, job)
            except HilsimError as error:
                answer = error
            try:
                pipe.send(answer)
            except OSError:
                return


def read_jobs(pipe: Connection, waiting: SimpleQueue[list[J] | None]) -> None:
    """Take jobs in as they come, so that the process that sends them never waits for one that waits for it."""
    try:
        while True:
            waiting.put(pipe.recv())
    except (EOFError, OSError):
        waiting.put(None)


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
