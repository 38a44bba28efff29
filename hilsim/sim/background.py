"""Background tasks: work that comes back every period, beside the assistant, and has its own deadline.

A task runs its executions one after another, and one that finishes after its deadline counts as missed. Work that is
released while the last is unfinished is skipped and counts as missed too. A stream skips nothing: its next period
begins as soon as the last is over, so that its bytes move later. It never moves faster than its rate: one without
pauses (a duty of 1) that fell behind stays behind. When a task is released depends on its name and number alone, or on
the task that it follows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from itertools import count, islice

from hilsim.cost.between import Graph
from hilsim.cost.demand import priced, stream_demand
from hilsim.describe.cockpit import BackgroundTask
from hilsim.sampling.noise import TASKS, named_uniforms
from hilsim.sim.board import Board
from hilsim.sim.device_slot import NO_REQUEST, Process, RequestTag, elapse, now_ns
from hilsim.sim.shared_chip import Job
from hilsim.sim.trace import TaskTally
from hilsim.units import ns

DRAWS = 1024  # releases whose jitter is drawn at once


def start_background(board: Board) -> list[Task]:
    """Begin all background tasks of the scenario, in its order."""
    tasks: dict[str, Task] = {}
    for task in board.setup.scenario.background:
        tasks[task.name] = Stream(board, task) if task.work is None else Work(board, task)
    for one in tasks.values():
        if one.task.after is None:
            board.env.process(one.process)
        else:
            tasks[one.task.after].followers.append(one)
    return list(tasks.values())


class Task(ABC):
    """One background task and what became of it so far."""

    def __init__(self, board: Board, task: BackgroundTask):
        assert task.chip is not None, "names are looked up when a scenario is loaded"
        self.board, self.task, self.name = board, task, task.name
        self.chip = board.setup.chips[task.chip]
        self.period_ns = ns(task.period_ms / 1000)
        deadline_ms = task.period_ms if task.deadline_ms is None else task.deadline_ms
        track = f"{task.chip}.{task.unit or 'memory'}"
        self.tally = TaskTally(task.name, track, self.period_ns, ns(deadline_ms / 1000))
        board.trace.tasks[task.name] = self.tally
        self.begun_ns = -1  # the release of the execution under way
        self.followers: list[Task] = []  # released as an execution ends
        self.watched = board.trace.watched
        self.process = self.run()

    @abstractmethod
    def run(self) -> Process:
        """Release after release; the board's clock ends it."""

    @abstractmethod
    def release(self) -> None:
        """The task that this one follows is done."""

    def releases(self) -> Iterator[int]:
        """The instants at which the task is released."""
        jitter_ns = ns(self.task.jitter_ms / 1000)
        return self.jittered(jitter_ns) if jitter_ns else count(0, self.period_ns)

    def jittered(self, jitter_ns: int) -> Iterator[int]:
        """Periods that begin up to so many nanoseconds late."""
        begin_ns = 0
        for block in count():
            for draw in named_uniforms(self.board.setup.scenario.seed, TASKS, self.task.name, block, DRAWS):
                yield begin_ns + int(draw * (jitter_ns + 1))
                begin_ns += self.period_ns

    def finish(self) -> None:
        """The execution under way is done."""
        tally, took_ns = self.tally, now_ns(self.board.env) - self.begun_ns
        self.begun_ns = -1
        tally.finished += 1
        if took_ns > tally.deadline_ns:
            self.miss()
        if took_ns > tally.worst_ns:
            tally.worst_ns = took_ns
        tally.total_ns += took_ns
        for follower in self.followers:
            follower.release()

    def miss(self) -> None:
        """An execution was late, or skipped."""
        board, tally = self.board, self.tally
        tally.missed += 1
        if self.watched:
            board.trace.add_sample((self.chip.name, board.now, "missed", tally.name, tally.missed))

    def close(self) -> None:
        """The run is over: end what is under way, and count it if it is late by now."""
        if self.begun_ns >= 0:
            self.tally.missed += self.board.now - self.begun_ns > self.tally.deadline_ns
        self.process.close()


class Work(Task):
    """A task that occupies a unit."""

    def __init__(self, board: Board, task: BackgroundTask):
        super().__init__(board, task)
        assert task.work is not None, "a task of work"
        assert task.unit is not None, "work has a unit"
        self.place = board.place(self.chip, task.unit)
        self.took_ns, self.nbytes = priced(task.work, self.chip.units[task.unit])
        self.graph = Graph(task.name, task.work.precision or "", 1)
        self.graph_ns = None if task.graph_ms is None else ns(task.graph_ms / 1000)
        self.priority = task.priority

    def run(self) -> Process:
        env, tally = self.board.env, self.tally
        for number, release_ns in enumerate(self.releases()):
            early_ns = release_ns - now_ns(env)
            tally.released += 1
            if early_ns < 0:
                self.miss()
                continue
            if early_ns:
                yield elapse(env, early_ns)
            self.begun_ns = release_ns
            yield from self.work(number)
            self.finish()

    def release(self) -> None:
        """Run, or miss where the last execution is unfinished."""
        number = self.tally.released
        self.tally.released += 1
        if self.begun_ns >= 0:
            self.miss()
            return
        self.begun_ns = self.board.now
        self.process = self.execution(number)
        self.board.env.process(self.process)

    def execution(self, number: int) -> Process:
        """One execution, from its release to its end."""
        yield from self.work(number)
        self.finish()

    def work(self, number: int) -> Process:
        """The work of one execution."""
        name, cause = self.name, tuple.__new__(RequestTag, (NO_REQUEST, number))
        return self.place.work(
            name, self.took_ns, cause, self.nbytes, self.priority,
            requester=name, graph=self.graph, graph_ns=self.graph_ns,
        )  # fmt: skip

    def close(self) -> None:
        """Count as well what an execution under way kept from being released."""
        now, tally = self.board.now, self.tally
        if self.begun_ns >= 0 and self.task.after is None:
            for number, release_ns in enumerate(self.releases()):
                if release_ns >= now:
                    break
                if number >= tally.released:
                    tally.released += 1
                    tally.missed += 1
        super().close()


class Stream(Task):
    """A task that moves bytes through a memory, and occupies no unit.

    Periods that follow each other without a pause are one job on the chip.
    """

    def __init__(self, board: Board, task: BackgroundTask):
        super().__init__(board, task)
        self.took_ns, self.nbytes = stream_demand(task)
        self.coming = self.releases() if task.after is None else iter(())
        self.due = deque(islice(self.coming, 1))  # releases of periods that have not begun; of its own, the next one

    def run(self) -> Process:
        env, name, chip = self.board.env, self.name, self.board.shared[self.chip.name]
        while self.due:
            early_ns = self.due[0] - now_ns(env)
            if early_ns > 0:
                yield elapse(env, early_ns)
            cause = RequestTag(NO_REQUEST, self.tally.released)
            self.begin()
            yield from chip.run(Job(chip.chip.name, name, name, cause, self.full_ns, self.nbytes, again=self.goes_on))

    def full_ns(self, _: int) -> int:
        """How long a period moves bytes at its full rate, at any level of the chip."""
        return self.took_ns

    def begin(self) -> None:
        """The next period that is due begins, whenever it was released."""
        self.begun_ns = self.due.popleft()
        self.due.extend(islice(self.coming, 1))
        self.tally.released += 1

    def goes_on(self) -> bool:
        """A period is over: whether the next one begins at once."""
        self.finish()
        if not self.due or self.due[0] > now_ns(self.board.env):
            return False
        self.begin()
        return True

    def release(self) -> None:
        """Begin, or be due where the last period is not over."""
        self.due.append(self.board.now)
        if self.begun_ns < 0 and len(self.due) == 1:
            self.process = self.run()
            self.board.env.process(self.process)
