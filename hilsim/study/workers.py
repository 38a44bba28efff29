"""Who runs the points: this process, or processes beside it. What they return does not depend on how many there are.

Each process has one point at work and one waiting, so a process that dies leaves no doubt about the point that it died
of. That one gets a second chance in a new process and is then given up; the study goes on.
"""

from __future__ import annotations

import multiprocessing
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
from typing import Protocol

from hilsim.errors import HilsimError
from hilsim.study.store import Outcome

CHANCES = 2
PATIENCE_S = 5
AT_HAND = 2  # points that a process has: one at work, one waiting


@dataclass(frozen=True)
class Task:
    """One point to run, and what must hold wherever it runs.

    `scenario` is the digest of the scenario file's bytes; `facts` are versions and digests of the study's own process.
    """

    key: str
    file: Path
    base: tuple[str, ...]
    overrides: tuple[str, ...]
    scenario: str
    facts: Mapping[str, str]
    alike: Hashable = None  # the same for points that share the run of the target alone


Work = Callable[[Task], Outcome]


class Workers(Protocol):
    """Runs tasks and hands back what became of them, in the order in which they end."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]: ...

    def close(self) -> None: ...


class Here:
    """This very process."""

    def __init__(self, work: Work):
        self.work = work

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        return map(self.work, tasks)

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Seat:
    """A process, the pipe to it, the tasks it was sent, in order, and those it will be sent next."""

    process: BaseProcess
    pipe: Connection
    sent: deque[Task] = field(default_factory=deque)
    next: deque[Task] = field(default_factory=deque)

    def send(self, task: Task) -> None:
        """Hand over a task; that the process is gone shows when it is listened to."""
        self.sent.append(task)
        with suppress(OSError):
            self.pipe.send(task)


class Processes:
    """Processes beside this one, each with its own memory of what was said and of the target's runs."""

    def __init__(self, work: Work, count: int):
        self.work, self.count = work, count
        self.seats: list[Seat] = []

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Raises what a process raises of the family `HilsimError`: it could not take part at all."""
        groups: dict[Hashable, deque[Task]] = {}
        for task in tasks:
            groups.setdefault(task.alike, deque()).append(task)
        open_groups = deque(groups.values())
        deaths: Counter[str] = Counter()
        while len(self.seats) < min(self.count, len(tasks)):
            self.seats.append(self.seat())
        for seat in self.seats:
            self.supply(seat, open_groups)
        while working := [seat for seat in self.seats if seat.sent]:
            for pipe in wait([seat.pipe for seat in working]):
                seat = next(seat for seat in working if seat.pipe is pipe)
                try:
                    answer: Outcome | HilsimError = seat.pipe.recv()
                except (EOFError, OSError):
                    if (given_up := self.replaced(seat, open_groups, deaths)) is not None:
                        yield given_up
                    continue
                seat.sent.popleft()
                self.supply(seat, open_groups)
                if isinstance(answer, HilsimError):
                    raise answer
                yield answer

    def supply(self, seat: Seat, groups: deque[deque[Task]]) -> None:
        """Keep a seat busy: with its own group first, then a new one, then half of what another has left."""
        while len(seat.sent) < AT_HAND:
            if not seat.next and groups:
                seat.next = groups.popleft()
            if not seat.next:
                richest = max(self.seats, key=lambda other: len(other.next))
                seat.next = deque(richest.next.pop() for _ in range((len(richest.next) + 1) // 2))
            if not seat.next:
                return
            seat.send(seat.next.popleft())

    def replaced(self, seat: Seat, groups: deque[deque[Task]], deaths: Counter[str]) -> Outcome | None:
        """A new process for one that died; the point that it died of is given up where that was its last chance."""
        seat.pipe.close()
        seat.process.join()
        suspect, *others = seat.sent
        deaths[suspect.key] += 1
        again = [suspect, *others] if deaths[suspect.key] < CHANCES else others
        fresh = self.seat()
        fresh.next = deque([*again, *seat.next])
        self.seats[self.seats.index(seat)] = fresh
        self.supply(fresh, groups)
        if suspect in again:
            return None
        code = seat.process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return Outcome(suspect.key, "failed", {}, f"its process died {CHANCES} times, at last with {how}", 0.0)

    def seat(self) -> Seat:
        """A new process, with nothing to do yet."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, self.work), daemon=True)
        with undisturbed():
            process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        return Seat(process, ours)

    def close(self) -> None:
        """End all processes, whatever they are at: what they have not handed back runs again another time."""
        for seat in self.seats:
            seat.pipe.close()
            if seat.sent:
                seat.process.terminate()
        for seat in self.seats:
            seat.process.join(PATIENCE_S)
            seat.process.kill()
            seat.process.join()
        self.seats = []


def serve(pipe: Connection, work: Work) -> None:
    """A worker process: one task after the other, until the study's own process closes the pipe or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; one of them decides
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # tidily: what libraries hold open is theirs to close
    try:
        while True:
            task = pipe.recv()
            try:
                pipe.send(work(task))
            except HilsimError as error:
                pipe.send(error)
    except (EOFError, OSError):
        return


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
