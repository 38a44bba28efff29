"""A SimPy environment on the wall clock: the policies' processes wait for work that threads execute.

An event is due at its wall clock time; what a thread has finished comes in as an event at the instant at which it
is noticed. Times are whole nanoseconds since the run began.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Set
from queue import Empty, SimpleQueue
from typing import Any

import simpy
from simpy.core import EmptySchedule, Infinity

from hilsim.sim.faults.groups import Grouping
from hilsim.units import NS_PER_S


class WallEnvironment(simpy.Environment):
    """An environment on the wall clock; it never goes back, and stands still while events are processed.

    The run is over when no event is due and no task is under way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.instant, self.began_ns = 0, time.monotonic_ns()
        self.pending = 0  # tasks under way
        self.abandoned: set[simpy.Event] = set()  # tasks that nothing waits for, whether they end or not
        self.finished: SimpleQueue[tuple[simpy.Event, Any, BaseException | None]] = SimpleQueue()

    @property
    def _now(self) -> int:
        """Nanoseconds since the run began, which SimPy's `now` gives and delays count from."""
        return self.instant

    @_now.setter
    def _now(self, due_ns: float) -> None:
        """SimPy sets its clock to when an event was due, but it may be late."""

    def task(self) -> simpy.Event:
        """A new event for work outside the run, which `done` or `failed` triggers once, from any thread."""
        self.pending += 1
        return self.event()

    def done(self, task: simpy.Event, value: object = None) -> None:
        """A task has ended with this value."""
        self.finished.put((task, value, None))

    def failed(self, task: simpy.Event, error: BaseException) -> None:
        """A task has failed: the process that waits for it gets the error; without one the run ends with it."""
        self.finished.put((task, None, error))

    def abandon(self, task: simpy.Event) -> None:
        """Wait no more for work outside the run, which may never end."""
        if not task.triggered and task not in self.abandoned:
            self.abandoned.add(task)
            self.pending -= 1

    def run(self, until: Any = None) -> Any:
        """Start the clock and process events until none is due and no task is under way."""
        self.began_ns = time.monotonic_ns() - self.instant
        return super().run(until)

    def step(self) -> None:
        """Wait for the next due event or finished task, whichever is first, and process one event."""
        while True:
            wall = max(self.instant, time.monotonic_ns() - self.began_ns)
            if (due := self.peek()) <= wall:
                break
            if due == Infinity and not self.pending:
                raise EmptySchedule
            patience_s = None if due == Infinity else (due - wall) / NS_PER_S
            try:
                task, value, error = self.finished.get(timeout=patience_s)
            except Empty:
                continue
            self.instant = max(self.instant, time.monotonic_ns() - self.began_ns)
            if task in self.abandoned:
                continue
            self.pending -= 1
            if error is None:
                task.succeed(value)
            else:
                task.fail(error)  # type: ignore[arg-type]  # any exception of a thread
        self.instant = wall
        super().step()


class WallGrouping(Grouping, WallEnvironment):
    """A wall clock that knows which processes a request has started."""

    def drain(self, ignored: Set[simpy.Event]) -> int:
        """Wait for what is under way, and not for what is ignored; returns the instant of the last event."""
        while self.pending or any(event not in ignored and event not in self.vain for *_, event in self._queue):
            self.step()
        return self.instant


class WorkerThread:
    """A thread that executes jobs one after the other while the run waits for their events."""

    def __init__(self, name: str):
        self.waiting: SimpleQueue[tuple[WallEnvironment, simpy.Event, Callable[[], object]] | None] = SimpleQueue()
        # A daemon: a chip that does not answer does not keep the process from ending.
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def do(self, env: WallEnvironment, job: Callable[[], object]) -> simpy.Event:
        """Execute a job; the event has its result, or fails with what it raises."""
        task = env.task()
        self.waiting.put((env, task, job))
        return task

    def close(self) -> None:
        """No more work."""
        self.waiting.put(None)

    def _work(self) -> None:
        while (given := self.waiting.get()) is not None:
            env, task, job = given
            try:
                found = job()
            except BaseException as error:
                env.failed(task, error)
            else:
                env.done(task, found)
