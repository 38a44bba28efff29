"""Background tasks: work that comes back every period, beside the assistant, and has its own deadline.

A task runs its executions one after another. A release while the last one is unfinished is skipped and counts as
missed, as does one that finishes after its deadline. When a task is released depends on its name and number alone, or
on the task that it follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from hilsim.cost.between import Graph
from hilsim.cost.demand import priced
from hilsim.describe.cockpit import BackgroundTask
from hilsim.sampling.noise import TASKS, named_uniforms
from hilsim.sim.board import Board
from hilsim.sim.device_slot import Process, RequestTag
from hilsim.sim.trace import Sample, TaskTally
from hilsim.units import NS_PER_S, ns

NO_REQUEST = -1  # what a span of work beside all requests is tagged with
DRAWS = 1024  # releases whose jitter is drawn at once
GIGA = 10**9


def start_background(board: Board) -> list[Task]:
    """Begin all background tasks of the scenario, in its order."""
    tasks = {task.name: Task(board, task) for task in board.setup.scenario.background}
    for task in tasks.values():
        if task.task.after is None:
            board.env.process(task.process)
        else:
            tasks[task.task.after].followers.append(task)
    return list(tasks.values())


class Task:
    """One background task and what became of it so far."""

    def __init__(self, board: Board, task: BackgroundTask):
        assert task.chip is not None, "names are looked up when a scenario is loaded"
        self.board, self.task = board, task
        chip = board.setup.chips[task.chip]
        self.period_ns = ns(task.period_ms / 1000)
        deadline_ms = task.period_ms if task.deadline_ms is None else task.deadline_ms
        self.execute: Callable[[RequestTag], Process]
        if task.work is not None and task.unit is not None:
            place = board.place(chip, task.unit)
            took_ns, nbytes = priced(task.work, chip.units[task.unit])
            track, graph = place.track, Graph(task.name, task.work.precision or "", 1)
            work = partial(place.work, priority=task.priority, requester=task.name, graph=graph)
        else:
            assert task.gigabytes_per_s is not None, "a task has work or a rate"
            took_ns, track = ns(task.duty * task.period_ms / 1000), f"{chip.name}.memory"
            nbytes = round(task.gigabytes_per_s * GIGA * took_ns / NS_PER_S)
            work = partial(board.outside(chip).work, requester=task.name)
        self.execute = lambda cause: work(task.name, took_ns, cause, nbytes)
        self.tally = TaskTally(task.name, track, self.period_ns, ns(deadline_ms / 1000))
        board.trace.tasks[task.name] = self.tally
        self.begun_ns = -1  # the release of the execution under way
        self.followers: list[Task] = []  # released as an execution ends
        self.process = self.run()

    def releases(self) -> Iterator[int]:
        """The instants at which the task is released."""
        jitter_ns, seed = ns(self.task.jitter_ms / 1000), self.board.setup.scenario.seed
        number, draws = 0, [0.0]
        while True:
            if jitter_ns and number % DRAWS == 0:
                draws = named_uniforms(seed, TASKS, self.task.name, number // DRAWS, DRAWS)
            yield number * self.period_ns + int(draws[number % len(draws)] * (jitter_ns + 1))
            number += 1

    def run(self) -> Process:
        """Release after release; the board's clock ends it."""
        board, tally = self.board, self.tally
        for number, release_ns in enumerate(self.releases()):
            if release_ns < board.now:
                tally.released += 1
                self.miss()
                continue
            if release_ns > board.now:
                yield board.env.timeout(release_ns - board.now)
            tally.released += 1
            self.begun_ns = release_ns
            yield from self.execution(number, release_ns)

    def release(self) -> None:
        """The task that this one follows is done: run, or miss where the last execution is unfinished."""
        number = self.tally.released
        self.tally.released += 1
        if self.begun_ns >= 0:
            self.miss()
            return
        self.begun_ns = self.board.now
        self.process = self.execution(number, self.begun_ns)
        self.board.env.process(self.process)

    def execution(self, number: int, release_ns: int) -> Process:
        """One execution, from its release to its end."""
        tally = self.tally
        yield from self.execute(RequestTag(NO_REQUEST, number))
        self.begun_ns = -1
        took_ns = self.board.now - release_ns
        tally.finished += 1
        if took_ns > tally.deadline_ns:
            self.miss()
        tally.worst_ns = max(tally.worst_ns, took_ns)
        tally.total_ns += took_ns
        for follower in self.followers:
            follower.release()

    def miss(self) -> None:
        """An execution was late, or skipped."""
        board, tally = self.board, self.tally
        tally.missed += 1
        chip = tally.track.split(".", 1)[0]
        board.trace.add_sample(Sample(chip, board.now, "missed", tally.name, tally.missed))

    def close(self) -> None:
        """The run is over: count what an execution under way kept from being released, and that one if late; end it."""
        now, tally = self.board.now, self.tally
        if self.begun_ns >= 0:
            tally.missed += now - self.begun_ns > tally.deadline_ns
            for number, release_ns in enumerate(self.releases() if self.task.after is None else ()):
                if release_ns >= now:
                    break
                if number >= tally.released:
                    tally.released += 1
                    tally.missed += 1
        self.process.close()
