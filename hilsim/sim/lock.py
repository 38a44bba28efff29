"""A turn: the right to occupy a unit or a wire, which one process holds at a time, first come first served.

SimPy's own `Resource` schedules an event for every request; a turn that is free is taken without any, and most are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

import simpy


class Lock:
    """Whether it is taken, and who waits for it."""

    __slots__ = ("env", "taken", "waiting")

    def __init__(self, env: simpy.Environment):
        self.env, self.taken = env, False
        self.waiting: deque[simpy.Event] = deque()

    def take(self) -> bool:
        """Take the turn where it is free; where it is not, one has to `wait`."""
        if self.taken:
            return False
        self.taken = True
        return True

    def wait(self) -> Generator[simpy.Event, None, None]:
        """Until those before have left. Whoever is interrupted leaves the queue, or passes on what was just handed."""
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
        """Hand the turn to the first that waits, in whose hands it stays taken, or free it."""
        if self.waiting:
            self.waiting.popleft().succeed()
        else:
            self.taken = False
