"""A lock: the right to occupy a unit or a wire, which one process holds at a time.

Of those who wait the lowest priority number goes first, and of one priority whoever came first. SimPy's own `Resource`
schedules an event for every request; a free lock is taken without one, and most are free.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Hashable

import simpy

USUAL_PRIORITY = 1


class Claim(simpy.Event):
    """A place in the queue for a lock. Its value, once it has one, is whether the lock was handed over."""

    def __init__(self, env: simpy.Environment, priority: int, owner: Hashable):
        super().__init__(env)
        self.priority, self.owner = priority, owner


class Lock:
    """A lock for SimPy processes, first come first served inside a priority."""

    __slots__ = ("env", "taken", "waiting")

    def __init__(self, env: simpy.Environment):
        self.env, self.taken = env, False
        self.waiting: deque[Claim] = deque()

    def take(self) -> bool:
        """Take the lock if it is free; False where the caller has to `wait`."""
        if self.taken:
            return False
        self.taken = True
        return True

    def wait(self, priority: int = USUAL_PRIORITY, owner: Hashable = None) -> Generator[simpy.Event, bool, bool]:
        """Queue for the lock. Returns whether it is held: False where the `owner` withdrew.

        A process that is interrupted leaves the queue, or passes on a lock just handed to it.
        """
        claim = Claim(self.env, priority, owner)
        self.enter(claim)
        try:
            return (yield claim)
        except BaseException:
            if not claim.triggered:
                self.waiting.remove(claim)
            elif claim.value:
                self.leave()
            raise

    def enter(self, claim: Claim) -> None:
        """Queue behind all claims that go before this one."""
        place = len(self.waiting)
        while place and self.waiting[place - 1].priority > claim.priority:
            place -= 1
        self.waiting.insert(place, claim)

    def withdraw(self, owner: Hashable) -> None:
        """Take all claims of an owner out of the queue."""
        for claim in [claim for claim in self.waiting if claim.owner == owner]:
            self.waiting.remove(claim)
            claim.succeed(False)

    def leave(self) -> None:
        """Hand the lock to the first process in the queue, or free it."""
        if self.waiting:
            self.waiting.popleft().succeed(True)
        else:
            self.taken = False
