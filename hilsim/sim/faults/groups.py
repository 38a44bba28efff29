"""Processes by the request that they work for, so that all of a round that is given up end at one instant."""

from __future__ import annotations

from collections.abc import Set
from functools import partial
from heapq import heappop
from typing import Any, Literal, NamedTuple

import simpy
from simpy.events import Interruption

from hilsim.sim.device_slot import Process
from hilsim.sim.pace import Paced
from hilsim.sim.trace import FaultRecord

Failing = Literal["link", "target", "draft"]
MOST_CHILDREN = 64  # of a request, before those that have ended are forgotten


class Failure(NamedTuple):
    """What does not answer, what noticed that, and the faults behind it. `attempt` is the one that it ends."""

    what: Failing
    by: str
    records: tuple[FaultRecord, ...]
    attempt: int


class Group:
    """The processes of a request: the session's own, and those that the policy has started beside it."""

    def __init__(self, main: simpy.Process, request: int):
        self.main, self.request = main, request
        self.children: list[simpy.Process] = []
        self.attempt = 0  # counts rounds that were given up
        self.open = True  # as long as the session's own process is inside the request


class GivenUp(Interruption):
    """Interrupts the session's own process, unless what failed is over by then."""

    def __init__(self, group: Group, failure: Failure):
        super().__init__(group.main, failure)
        self.group, self.failure = group, failure

    def _interrupt(self, event: simpy.Event) -> None:
        if self.group.open and self.group.attempt == self.failure.attempt:
            super()._interrupt(event)


class Grouping(simpy.Environment):
    """An environment that knows which processes a request has started, and which events a run does not wait for."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self.groups: dict[simpy.Process, Group] = {}
        self.injected: set[simpy.Event] = set()  # timers of faults to come
        self.vain: set[simpy.Event] = set()  # what nothing waits for any more

    def process(self, generator: Process) -> simpy.Process:
        """Start a process, as one of the request whose process starts it."""
        made = self.apart(generator)
        active = self.active_process
        group = None if active is None else self.groups.get(active)
        if group is not None and group.open:
            if len(group.children) >= MOST_CHILDREN:
                self.forget_ended(group)
            group.children.append(made)
            self.groups[made] = group
        return made

    def apart(self, generator: Process) -> simpy.Process:
        """Start a process that belongs to no request."""
        return simpy.Process(self, generator)

    def forget_ended(self, group: Group) -> None:
        """Drop the processes of a group that have ended."""
        for child in group.children:
            if not child.is_alive:
                self.groups.pop(child, None)
        group.children = [child for child in group.children if child.is_alive]

    def join(self, request: int) -> Group:
        """A group whose main process is the active one."""
        main = self.active_process
        assert main is not None, "a request is answered by a process"
        group = self.groups[main] = Group(main, request)
        return group

    def leave(self, group: Group) -> None:
        """The request is over: its processes end by themselves."""
        group.open = False
        self.groups.pop(group.main, None)
        for child in group.children:
            self.groups.pop(child, None)

    def end_children(self, group: Group) -> None:
        """End all processes of a group but its main one, at this instant; what they hold they leave."""
        group.attempt += 1
        children, group.children = group.children, []
        for child in children:
            self.groups.pop(child, None)
            end(child)

    def drain(self, ignored: Set[simpy.Event]) -> int:
        """Process what is left, except what is ignored; returns the instant of the last event."""
        while self._queue:
            if self._queue[0][-1] in ignored:
                heappop(self._queue)
            else:
                self.step()
        return int(self.now)


class PacedGrouping(Grouping, Paced):
    """The same in real time."""


def end(process: simpy.Process) -> None:
    """End a process at this instant: its `finally` blocks run, and it waits for nothing any more."""
    if not process.is_alive:
        return
    waited_for, env = process.target, process.env
    if isinstance(env, Grouping):
        env.vain.add(waited_for)
    if waited_for.callbacks is not None and process._resume in waited_for.callbacks:
        waited_for.callbacks.remove(process._resume)
    process._generator.close()
    process._ok, process._value = True, None


class Sleepers:
    """Processes that wait for an instant, and may be woken before it."""

    def __init__(self, env: Grouping):
        self.env = env
        self.waiting: list[simpy.Event] = []

    def sleep(self, for_ns: int) -> Process:
        """Wait for so long, or until woken."""
        yield from self.until_woken(self.env.timeout(for_ns))

    def until_woken(self, event: simpy.Event | None = None) -> Process:
        """Wait until woken, or until an event."""
        if event is None:
            event = self.env.event()
            event._ok, event._value = True, None  # `resume` passes it on as one that has happened
        self.waiting.append(event)
        try:
            yield event
        finally:
            self.waiting.remove(event)
            if event.callbacks is not None:
                self.env.vain.add(event)

    def wake(self) -> None:
        """Let all go on, at this instant and behind what is under way."""
        for event in self.waiting:
            ring = self.env.timeout(0)
            assert ring.callbacks is not None, "a new event has not happened"
            ring.callbacks.append(partial(resume, self.env, event))


def resume(env: Grouping, event: simpy.Event, _: simpy.Event) -> None:
    """Resume what waits for an event, as if it had happened now."""
    if event.callbacks:
        waiting, event.callbacks = event.callbacks, []
        env.vain.add(event)
        for one in waiting:
            one(event)
