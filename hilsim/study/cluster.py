"""Points on a Dask cluster that is already running: `dask scheduler`, and in the project folder some workers
(`PYTHONPATH=. dask worker ADDRESS --nthreads 1`).

Workers see the same project folder under the same path. Each reports its versions and the digest of the scenario
before anything runs, and again with its first point, so that one that joined late is held to the same.

A task of Dask's is several points where they are short, so that the scheduler is not what limits their rate.
"""

from __future__ import annotations

import logging
import queue
import re
import time
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from hilsim.errors import Fault, HilsimError, InputError, first_line
from hilsim.study.point_result import PointResult
from hilsim.study.workers import Task, Timed, Work, by_likeness, timed
from hilsim.trust import carried
from hilsim.versions import require_package

if TYPE_CHECKING:
    from distributed import Client, Future

ADDRESS = re.compile(r"[a-z]+://.+:[0-9]+")
CONNECT_S = 5
COUNT_S = 5  # that a worker has to say how many seconds it has used; one that is stopped never does
STAYS = "a cluster that stays"
PATIENCE_S = 60  # without a single worker, before the study gives up; what is stored is kept
CHANCES = 3  # times that Dask may give a point up; each time it has tried several workers
AT_HAND = 4  # tasks a thread of the cluster: enough to keep it busy, few enough to stop at once
RECOUNT_S = 2  # between two looks at how many workers there are by now
TASK_S, MOST_POINTS = 0.25, 1000  # how long a task of several points is to take, and at most so many
TASK_S_A_WORKER = 0.01  # with many workers longer, so that client and scheduler have at most 100 tasks a second
Facts = dict[str, str]
T = TypeVar("T")


class Cluster:
    """The workers of a Dask scheduler."""

    def __init__(self, work: Work, address: str, facts: Mapping[str, str], report: Callable[[], Facts]):
        """Raises `InputError` for a cluster that is not there, or has workers that differ; `report` runs on each."""
        self.work, self.address, self.run_id = carried(work), address, uuid.uuid4().hex[:8]
        self.useful_s = 0.0
        self.tasks = 0  # that the scheduler has had
        self.point_s: float | None = None  # how long the points of the last task took, each
        self.before_s: dict[str, float] | None = None  # None: not all answered
        self.all_ended = False  # of the last jobs; while some run, a worker may not answer
        require_package("distributed", "--cluster")
        from distributed import Client

        if not ADDRESS.fullmatch(address):
            raise self.fault("no address", "tcp://HOST:PORT of a running `dask scheduler`")
        quiet()
        try:
            self.client: Client = Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            reason = first_line(error)
            raise self.fault(f"no scheduler ({reason})", "tcp://HOST:PORT of a running `dask scheduler`") from None
        try:
            with self.connected():
                self.hold_against(facts, carried(report))
            with suppress(OSError, TimeoutError):
                self.before_s = self.cpu_s()
        except BaseException:
            self.close()
            raise

    @property
    def count(self) -> int:
        """Threads of all workers; each runs one point at a time."""
        threads: dict[str, int] = self.client.nthreads()
        return max(1, sum(threads.values()))

    def cpu_s(self) -> dict[str, float]:
        """Processor seconds of every worker's process so far, and of the scheduler's; `TimeoutError` without answer."""
        client = self.client
        found: dict[str, float] = self.within(COUNT_S, lambda: client.run(time.process_time, on_error="ignore"))
        of_scheduler: float = self.within(COUNT_S, lambda: client.run_on_scheduler(time.process_time))
        return {**found, "scheduler": of_scheduler}

    def within(self, seconds: float, ask: Callable[[], Awaitable[T]]) -> T:
        """What the client's call gives. Raises `TimeoutError` after so many seconds; its own calls wait for ever."""

        async def asked() -> T:
            return await ask()  # on the client's own loop a call can be awaited

        found: T = self.client.sync(asked, callback_timeout=seconds)
        return found

    def hold_against(self, facts: Mapping[str, str], report: Callable[[], Facts]) -> None:
        """Raises `InputError` where there is no worker, or one that runs other versions or sees another scenario."""
        deadline = time.monotonic() + CONNECT_S
        while not self.client.nthreads():
            if time.monotonic() > deadline:
                raise self.fault("a scheduler without workers", "at least one `dask worker`")
            time.sleep(0.1)
        client = self.client
        reported: dict[str, Facts | BaseException]
        try:
            reported = self.within(PATIENCE_S, lambda: client.run(report, on_error="return"))
        except TimeoutError:
            raise self.fault(f"a worker that does not answer in {PATIENCE_S} s", "workers that answer") from None
        faults = []
        for worker, found in sorted(reported.items()):
            if isinstance(found, BaseException):
                text = str(found) or type(found).__name__
                faults.append(Fault("--cluster", worker, text, "a worker that can run hilsim", SAME))
            else:
                faults += differing(worker, found, facts)
        if faults:
            raise InputError(faults)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Raises `InputError` where the connection breaks in here."""
        try:
            yield
        except (OSError, TimeoutError) as error:
            raise self.fault(f"a scheduler that went away ({type(error).__name__})", STAYS) from None

    def run(self, jobs: Sequence[Task]) -> Iterator[PointResult]:
        """One result after the other; raises as `groups`."""
        for group in self.groups(jobs):
            yield from group

    def groups(self, jobs: Sequence[Task]) -> Iterator[list[PointResult]]:
        """Raises `InputError` where the cluster goes away or a worker cannot take part."""
        waiting = deque(job for group in by_likeness(jobs) for job in group)
        ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        at_work: dict[str, tuple[list[Task], Future[Any]]] = {}
        given_up: Counter[str] = Counter()
        last_seen = time.monotonic()
        count, counted = self.count, time.monotonic()
        self.all_ended = False

        def submit(tasks: list[Task]) -> None:
            name = f"hilsim-{tasks[0].key[:12]}-{self.run_id}-{given_up[tasks[0].key]}-{len(tasks)}"
            future = self.client.submit(run_all, self.work, tasks, key=name, pure=False)
            at_work[name] = tasks, future
            self.tasks += 1
            future.add_done_callback(ended.put)

        try:
            with self.connected():
                while waiting or at_work:
                    while waiting and len(at_work) < AT_HAND * count:
                        size = self.points_a_task(len(waiting), count)
                        submit([waiting.popleft() for _ in range(size)])
                    try:
                        futures = [ended.get(timeout=1.0)]
                    except queue.Empty:
                        last_seen = time.monotonic() if self.alive() else last_seen
                        if time.monotonic() - last_seen > PATIENCE_S:
                            raise self.fault(f"no worker for {PATIENCE_S} s", "a cluster that goes on") from None
                        continue
                    finally:
                        if time.monotonic() - counted > RECOUNT_S:
                            count, counted = max(count, self.count), time.monotonic()
                    last_seen = time.monotonic()
                    while not ended.empty():
                        futures.append(ended.get())
                    found: list[PointResult] = []
                    for future in futures:
                        tasks, _ = at_work.pop(str(future.key))
                        if future.status == "finished":
                            found += self.received(future.result())
                        elif future.status == "cancelled":
                            raise self.fault("a scheduler that went away", STAYS)
                        elif (outcome := self.unfinished(tasks, future, given_up)) is None:
                            for task in tasks:  # each alone, so that what is wrong with one does not take the others
                                submit([task])
                        else:
                            found.append(outcome)
                    if found:
                        yield found
            self.all_ended = True
        finally:
            if at_work and self.client.status == "running":
                with suppress(OSError, TimeoutError):
                    self.client.cancel([future for _, future in at_work.values()], force=True)

    def points_a_task(self, left: int, count: int) -> int:
        """Points of the next task: many of short ones, few near the end, so that all workers end together."""
        wanted = 1 if self.point_s is None else points_for(self.point_s, count)
        return max(1, min(wanted, left // (AT_HAND * count)))

    def received(self, ended: list[Timed[PointResult]]) -> list[PointResult]:
        """The results of a task."""
        self.useful_s += sum(one.cpu_s for one in ended)
        self.point_s = sum(one.wall_s for one in ended) / len(ended)
        return [one.result for one in ended]

    def unfinished(self, tasks: list[Task], future: Future[Any], given_up: Counter[str]) -> PointResult | None:
        """What becomes of points whose task raised: another try, or a single one that is given up.

        Raises where a worker has other versions.
        """
        error = future.exception()
        if isinstance(error, HilsimError):
            raise error
        key = tasks[0].key
        given_up[key] += len(tasks) == 1
        if given_up[key] < CHANCES:
            return None
        lines = str(error).splitlines()
        return PointResult(key, "failed", {}, f"{type(error).__name__}: {lines[0] if lines else ''}", 0.0)

    def alive(self) -> bool:
        """Whether there are workers. Raises `InputError` where there is no scheduler any more."""
        if self.client.status != "running":
            raise self.fault("a scheduler that went away", STAYS)
        return bool(self.client.nthreads())

    def fault(self, found: str, expected: str) -> InputError:
        """What is wrong with the cluster; stored points remain in any case."""
        remedy = "Look at it, or leave --cluster out. Finished points stay stored; the same command goes on."
        return InputError([Fault("--cluster", self.address, found, expected, remedy)])

    def close(self) -> float | None:
        """Leave the cluster as it was; the seconds are not asked for where jobs were left, as after Ctrl-C.

        Of workers that came or went meanwhile they are partly unknown.
        """
        used_s, before_s = None, self.before_s
        try:
            if self.all_ended and before_s is not None and self.client.status == "running":
                with suppress(OSError, TimeoutError):
                    used_s = sum(seconds - before_s.get(name, 0.0) for name, seconds in self.cpu_s().items())
        finally:
            with suppress(OSError, TimeoutError):
                self.client.close(timeout=CONNECT_S)
        return used_s


def points_for(point_s: float, workers: int) -> int:
    """How many points of this length make a task, by the number of workers."""
    wanted_s = max(TASK_S, TASK_S_A_WORKER * workers)
    return max(1, round(wanted_s / max(point_s, wanted_s / MOST_POINTS)))


def run_all(work: Work, tasks: Sequence[Task]) -> list[Timed[PointResult]]:
    """Runs on a worker: the points of one task."""
    return [timed(work, task) for task in tasks]


SAME = "Start workers in the same project folder: PYTHONPATH=. .venv/bin/dask worker ADDRESS --nthreads 1."


def quiet() -> None:
    """Silence Dask's own log lines; some of its loggers have levels of their own."""
    for name in ("distributed", *logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


def differing(where: str, found: Mapping[str, str], facts: Mapping[str, str]) -> list[Fault]:
    """What a worker has otherwise than the study's own process."""
    names = [name for name in facts if found.get(name) != facts[name]]
    return [Fault("--cluster", where, f"{name} {found.get(name)}", f"{name} {facts[name]}", SAME) for name in names]
