"""Points on a Dask cluster that is already running: `dask scheduler`, and in the project folder some workers
(`PYTHONPATH=. dask worker ADDRESS --nthreads 1`).

Workers see the same project folder under the same path. Each reports its versions and the digest of the scenario
before anything runs, and again with its first point, so that one that joined late is held to the same.
"""

from __future__ import annotations

import logging
import queue
import re
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from hilsim.errors import Fault, HilsimError, InputError, first_line
from hilsim.study.point_result import PointResult
from hilsim.study.workers import Task, Work
from hilsim.trust import carried
from hilsim.versions import require_package

if TYPE_CHECKING:
    from distributed import Client, Future

ADDRESS = re.compile(r"[a-z]+://.+:[0-9]+")
CONNECT_S = 5
STAYS = "a cluster that stays"
PATIENCE_S = 60  # without a single worker, before the study gives up; what is stored is kept
CHANCES = 3  # times that Dask may give a point up; each time it has tried several workers
AT_HAND = 4  # points a thread of the cluster: enough to keep it busy, few enough to stop at once
Facts = dict[str, str]


class Cluster:
    """The workers of a Dask scheduler."""

    def __init__(self, work: Work, address: str, facts: Mapping[str, str], report: Callable[[], Facts]):
        """Raises `InputError` for a cluster that is not there, or has workers that differ; `report` runs on each."""
        self.work, self.address = carried(work), address
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
        except BaseException:
            self.close()
            raise
        self.run_id = uuid.uuid4().hex[:8]

    @property
    def count(self) -> int:
        """Threads of all workers; each runs one point at a time."""
        threads: dict[str, int] = self.client.nthreads()
        return max(1, sum(threads.values()))

    def hold_against(self, facts: Mapping[str, str], report: Callable[[], Facts]) -> None:
        """Raises `InputError` where there is no worker, or one that runs other versions or sees another scenario."""
        deadline = time.monotonic() + CONNECT_S
        while not self.client.nthreads():
            if time.monotonic() > deadline:
                raise self.fault("a scheduler without workers", "at least one `dask worker`")
            time.sleep(0.1)
        reported: dict[str, Facts | BaseException] = self.client.run(report, on_error="return")
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

    def run(self, tasks: Sequence[Task]) -> Iterator[PointResult]:
        """Raises `InputError` where the cluster goes away or a worker cannot take part."""
        waiting = deque(tasks)
        ended: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        at_work: dict[str, tuple[Task, Future[Any]]] = {}
        given_up: Counter[str] = Counter()
        last_seen = time.monotonic()
        room = AT_HAND * self.count

        def submit(task: Task) -> None:
            name = f"hilsim-{task.key[:12]}-{self.run_id}-{given_up[task.key]}"
            future = self.client.submit(self.work, task, key=name, pure=False)
            at_work[name] = task, future
            future.add_done_callback(ended.put)

        try:
            with self.connected():
                while waiting or at_work:
                    while waiting and len(at_work) < room:
                        submit(waiting.popleft())
                    try:
                        future = ended.get(timeout=1.0)
                    except queue.Empty:
                        last_seen = time.monotonic() if self.alive() else last_seen
                        if time.monotonic() - last_seen > PATIENCE_S:
                            raise self.fault(f"no worker for {PATIENCE_S} s", "a cluster that goes on") from None
                        room = max(room, AT_HAND * self.count)
                        continue
                    last_seen = time.monotonic()
                    task, _ = at_work.pop(str(future.key))
                    if future.status == "finished":
                        yield future.result()
                    elif future.status == "cancelled":
                        raise self.fault("a scheduler that went away", STAYS)
                    elif (outcome := self.unfinished(task, future, given_up)) is None:
                        submit(task)
                    else:
                        yield outcome
        finally:
            if at_work and self.client.status == "running":
                with suppress(OSError, TimeoutError):
                    self.client.cancel([future for _, future in at_work.values()], force=True)

    def unfinished(self, task: Task, future: Future[Any], given_up: Counter[str]) -> PointResult | None:
        """What becomes of a point that raised: another try, or given up. Raises where a worker has other versions."""
        error = future.exception()
        if isinstance(error, HilsimError):
            raise error
        given_up[task.key] += 1
        if given_up[task.key] < CHANCES:
            return None
        lines = str(error).splitlines()
        return PointResult(task.key, "failed", {}, f"{type(error).__name__}: {lines[0] if lines else ''}", 0.0)

    def alive(self) -> bool:
        """Whether there are workers. Raises `InputError` where there is no scheduler any more."""
        if self.client.status != "running":
            raise self.fault("a scheduler that went away", STAYS)
        return bool(self.client.nthreads())

    def fault(self, found: str, expected: str) -> InputError:
        """What is wrong with the cluster; stored points remain in any case."""
        remedy = "Look at it, or leave --cluster out. Finished points stay stored; the same command goes on."
        return InputError([Fault("--cluster", self.address, found, expected, remedy)])

    def close(self) -> None:
        """Leave the cluster as it was."""
        with suppress(OSError, TimeoutError):
            self.client.close(timeout=CONNECT_S)


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
