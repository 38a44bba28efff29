"""A lock: the right to occupy a unit or a wire, which one process holds at a time, first come first served.

SimPy's own `Resource` schedules an event for every request; a free lock is taken without one, and most are free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

import simpy


class Lock:
    """A first-come-first-served lock for SimPy processes."""

    __slots__ = ("env", "taken", "waiting")

    def __init__(self, env: simpy.Environment):
        self.env, self.taken = env, False
        self.waiting: deque[simpy.Event] = deque()

    def take(self) -> bool:
        """Take the lock if it is free; False where the caller has to `wait`."""
        if self.taken:
            return False
        self.taken = True
        return True

    def wait(self) -> Generator[simpy.Event, None, None]:
        """Queue for the lock. A process that is interrupted leaves the queue, or passes on a lock just handed to it."""
        handed = self.env.event()
        self.waiting.append(handed)
        try:
            yield handed
        except BaseException:
            if handed.triggered:
                self.leave()
            else:
                self.waiting.remove(handed)
            raise

    def leave(self) -> None:
        """Hand the lock to the first process in the queue, or free it."""
        if self.waiting:
            self.waiting.popleft().succeed()
        else:
            self.taken = False
