"""Events on the wall's clock: the policies' processes, waiting for work that is really done.

SimPy's processes stay what they are. Only, an event is due when the wall says so, and what a thread outside has done
comes in as an event at the instant at which it is noticed. Whole nanoseconds since the run began.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import simpy
from simpy.core import EmptySchedule, Infinity
from simpy.events import NORMAL

from hilsim.units import NS_PER_S


class WallEnvironment(simpy.Environment):
    """An environment whose clock is the wall's; it never goes back, and stands still while events are processed.

    The run is over when nothing is due any more and no errand is out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.instant, self.began_ns = 0, time.monotonic_ns()
        self.out = 0  # errands that nobody has come back from
        self.back: SimpleQueue[tuple[simpy.Event, Any, BaseException | None]] = SimpleQueue()

    @property
    def now(self) -> int:
        """Nanoseconds since the run began; SimPy's own figure is when the present event was due, and it may be late."""
        return self.instant

    def schedule(self, event: simpy.Event, priority: Any = NORMAL, delay: float = 0) -> None:
        """As SimPy does, counted from the wall's instant."""
        super().schedule(event, priority, self.instant + delay - super().now)

    def errand(self) -> simpy.Event:
        """An event that something outside will bring about: by `done` or `failed`, from any thread, once."""
        self.out += 1
        return self.event()

    def done(self, errand: simpy.Event, value: object = None) -> None:
        """An errand has come to its end."""
        self.back.put((errand, value, None))

    def failed(self, errand: simpy.Event, error: BaseException) -> None:
        """An errand has failed: who waits for it gets the error, and the run ends where nobody does."""
        self.back.put((errand, None, error))

    def run(self, until: Any = None) -> Any:
        """Start the clock, and process events until there is nothing left to wait for."""
        self.began_ns = time.monotonic_ns() - self.instant
        return super().run(until)

    def step(self) -> None:
        """Wait for what comes first, the next event that is due or somebody who comes back, and process one event."""
        while True:
            wall = max(self.instant, time.monotonic_ns() - self.began_ns)
            if (due := self.peek()) <= wall:
                break
            if due == Infinity and not self.out:
                raise EmptySchedule
            patience_s = None if due == Infinity else (due - wall) / NS_PER_S
            try:
                errand, value, error = self.back.get(timeout=patience_s)
            except Empty:
                continue
            self.instant = max(self.instant, time.monotonic_ns() - self.began_ns)
            self.out -= 1
            if error is None:
                errand.succeed(value)
            else:
                errand.fail(error)  # type: ignore[arg-type]  # whatever a thread died of is told
        self.instant = wall
        super().step()


class Worker:
    """A thread that does one thing after the other, so that the run can wait for it while others work."""

    def __init__(self, name: str):
        self.waiting: SimpleQueue[tuple[WallEnvironment, simpy.Event, Callable[[], object]] | None] = SimpleQueue()
        # Nobody waits at the end for a chip that does not answer.
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def do(self, env: WallEnvironment, job: Callable[[], object]) -> simpy.Event:
        """Have something done; the event comes with its result, or fails with what it raises."""
        errand = env.errand()
        self.waiting.put((env, errand, job))
        return errand

    def close(self) -> None:
        """No more work."""
        self.waiting.put(None)

    def _work(self) -> None:
        while (given := self.waiting.get()) is not None:
            env, errand, job = given
            try:
                found = job()
            except BaseException as error:
                env.failed(errand, error)
            else:
                env.done(errand, found)
