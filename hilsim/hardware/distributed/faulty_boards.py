"""A board of devices on which the faults of a scenario really happen, and whose units are watched on the wall clock.

The simulated board's injector decides when which fault begins; agents are made to hang, slow down, begin anew and be
lost by their doors, and the simulation's supervisor reacts to what does not come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import simpy

from hilsim.cost.between import Between
from hilsim.cost.step import Phase
from hilsim.cost.timer import StepTimer, timer_for
from hilsim.describe.faults import InjectedFault
from hilsim.describe.link import Link
from hilsim.describe.setup import Placed, Setup
from hilsim.errors import ChipLost
from hilsim.hardware.distributed.boards import REMEDY, Device, Devices, DeviceStep, ExecutingSlot, ExpectedStep
from hilsim.hardware.distributed.faulty_link import FaultyRealDirection
from hilsim.hardware.distributed.injected_agent import RETURN_S, FaultDoor
from hilsim.hardware.distributed.link_wires import LinkWire
from hilsim.hardware.distributed.wall import WallGrouping
from hilsim.hardware.wire.exchange import AgentFault
from hilsim.sim.board import Board, Boards, Direction
from hilsim.sim.device_slot import NO_REQUEST, DeviceSlot, Process, RequestTag, TimedStep, UnitLock, now_ns
from hilsim.sim.faults.board import FaultyBoard
from hilsim.sim.faults.groups import Failure
from hilsim.sim.faults.health import WATCHDOG, Broken, Health
from hilsim.sim.faults.injector import FIRST, Injector
from hilsim.sim.faults.slot import FAULT, FaultySlot
from hilsim.sim.faults.state import PHASE_OF_STEP, FaultState
from hilsim.sim.loading import LOAD
from hilsim.sim.trace import FaultRecord, Span, Trace


class WatchedHealth(Health):
    """The state of a role's device. A hang is noticed on the wall clock, by a step that does not end."""

    def attend(self, ended: simpy.Event) -> Process:
        """Wait for a step that the device executes; returns None, or why it is `Broken`.

        A unit that works feeds its watchdog, as in the simulation. So what is merely late is waited for: a busy machine
        is no fault.
        """
        epoch, due = self.epoch, -1
        for record, _ in self.slow:
            record.strike(now_ns(self.env))
        while not ended.triggered:
            now = now_ns(self.env)
            if self.epoch != epoch or self.down is not None:
                return Broken("", self.emptied_by)
            if self.hung is None:
                due = -1
            elif due < 0:
                self.hung.strike(now)
                due = now + self.watchdog_ns
            elif now >= due:
                return Broken(WATCHDOG, (self.hung,))
            timer = self.env.timeout(self.watchdog_ns if due < 0 else due - now)
            self.sleepers.waiting.append(timer)
            try:
                yield timer | ended
            finally:
                self.sleepers.waiting.remove(timer)
                if timer.callbacks is not None:
                    self.env.vain.add(timer)
        return Broken("", self.emptied_by) if self.epoch != epoch else None


class FaultyRealSlot(FaultySlot, ExecutingSlot):
    """A role's place on a device that may be made to fail."""

    env: WallGrouping
    health: WatchedHealth

    def __init__(
        self,
        state: FaultState,
        health: WatchedHealth,
        chip: str,
        track: str,
        turn: UnitLock,
        timer: StepTimer,
        trace: Trace,
        device: Device,
    ):
        super().__init__(state, health, chip, track, turn, timer, trace)
        self.between, self.prepares, self.device = Between(), False, device

    def step(self, phase: Phase, rows: int, cached: int, tree: bool = False, logits: int | None = None) -> ExpectedStep:
        """The step that would be executed. What the supervisor has read again is committed, and announced by nobody."""
        length = cached + rows
        for request in self.state.answering.values():
            committed = tuple(request.tokens)
            if length <= len(committed) and self.device.context[:length] != committed[:length]:
                self.device.expect(committed, {})
        return ExecutingSlot.step(self, phase, rows, cached, tree, logits)

    def expected_ns(self, phase: Phase, rows: int, cached: int) -> int:
        return ExecutingSlot.expected_ns(self, phase, rows, cached)

    def occupy(self, step: TimedStep, cause: RequestTag, position: int, asked: int, start: int) -> Process:
        """With the unit held: have the device execute the step. Returns None, or why it is broken.

        A step that is interrupted, but not given up, goes on and occupies the device to its end.
        """
        assert isinstance(step, ExpectedStep), "a step of another slot"
        device, ended = self.device, self.env.event()
        self.state.enter(self.track, PHASE_OF_STEP[step.kind], cause)
        done = device.worker.do(self.env, lambda: device.chip.execute(step.ask))

        def over(event: simpy.Event) -> None:
            found: Any = event.value
            if event.ok:
                device.finish(DeviceStep(step.ask, found, start, now_ns(self.env)), step.expected)
            elif isinstance(found, AgentFault):
                event.defused = True
            ended.succeed(found)

        assert done.callbacks is not None, "a task that is over already"
        done.callbacks.append(over)
        given_up = True
        try:
            broken: Broken | None = yield from self.health.attend(ended)
            if broken is None and isinstance(ended.value, AgentFault):
                raise ChipLost(self.track, ended.value.kind, ended.value.found, REMEDY)
            given_up = broken is not None
            return broken
        except simpy.Interrupt as interrupt:
            given_up = isinstance(interrupt.cause, Failure)
            raise
        finally:
            if given_up:
                self.env.abandon(done)
            if given_up or ended.triggered:
                self.leave(step, cause, position, asked, start, given_up=given_up)
            else:
                assert ended.callbacks is not None, "a step that goes on"
                ended.callbacks.append(lambda _: self.leave(step, cause, position, asked, start, given_up=False))

    def leave(
        self, step: TimedStep, cause: RequestTag, position: int, asked: int, start: int, *, given_up: bool
    ) -> None:
        """Hand the unit over."""
        now = self.turn.idle_since_ns = now_ns(self.env)
        self.state.leave(self.track)
        kind, rows, cached, width, *_ = step
        if given_up:
            kind, rows, width = FAULT, 0, 0
        else:
            self.note_done(step, cause)
        self.trace.add_span(Span(self.track, kind, start, now, *cause, asked, now, rows, width, 0, cached, position))
        self.turn.leave()


class RealInjector(Injector):
    """Has the faults of chips happen to agents. `doors` are their ways in, by role; roles of one agent share one."""

    env: WallGrouping

    def __init__(self, board: FaultyRealBoard, doors: Mapping[str, FaultDoor]):
        super().__init__(board.state, board.setup, board.ways, board.turns, board.memories)
        self.doors, self.by_role = doors, board.by_role

    def apply(self, fault: InjectedFault, record: FaultRecord) -> None:
        super().apply(fault, record)
        self.command(fault)

    def undo(self, fault: InjectedFault, record: FaultRecord) -> None:
        super().undo(fault, record)
        self.command(fault)

    def command(self, fault: InjectedFault) -> None:
        """Have the agents that a fault is about do as their units are meant to; a moment, before anything else goes on.

        What is down is being reset, and has no fault then.
        """
        if fault.scope == "chip":
            for health in self.healths(fault):
                if health.gone:
                    self.doors[health.role].inject("lost", None)
                elif health.down is None:
                    self.have_fault(health)

    def have_fault(self, health: Health) -> None:
        """Have the agent of a role hang, be slow, or neither."""
        hangs, slow = health.hung is not None, health.factor > 1
        fault = "hang" if hangs else "slow" if slow else "none"
        self.doors[health.role].inject(fault, None, health.factor if slow and not hangs else None)

    def load(self, track: str, took_ns: int, record: FaultRecord, healths: list[Health]) -> Process:
        """Have the agent of a unit begin anew, and hold the unit until its models are loaded."""
        role = healths[0].role
        device, door, asked = self.by_role[role], self.doors[role], now_ns(self.env)
        door.reset()
        turn = self.turns[track]
        if not turn.take():
            yield from turn.wait(FIRST)
        start = now_ns(self.env)
        try:
            # Behind the step that the agent was at, which fails as its process goes.
            yield device.worker.do(self.env, lambda: self.await_return(health.role for health in healths))
        except AgentFault as fault:
            raise ChipLost(track, fault.kind, fault.found, REMEDY) from None
        finally:
            now = turn.idle_since_ns = now_ns(self.env)
            self.state.trace.add_span(Span(track, LOAD, start, now, NO_REQUEST, 0, asked, now))
            turn.leave()
        for health in healths:
            if health.down is record:
                health.come_back()
            self.have_fault(health)
        self.end_reset(record)

    def await_return(self, roles: Iterable[str]) -> None:
        """Wait until the agent of these roles is back with its models; in a thread beside the run."""
        for role in roles:
            self.doors[role].await_return(self.by_role[role].facts.name, RETURN_S)

    def repair(self) -> None:
        """After a run: have all agents go on without faults, but those that are lost."""
        for health in self.state.healths.values():
            if health.role in self.doors and not health.gone:
                if health.down is not None:
                    self.await_return([health.role])
                self.doors[health.role].inject("none", None)


class FaultyRealBoard(FaultyBoard):
    """Devices and a physical link on the wall clock, with the faults of a scenario."""

    def __init__(
        self,
        setup: Setup,
        trace: Trace,
        with_draft: bool,
        by_role: Mapping[str, Device],
        wires: Mapping[str, LinkWire],
        doors: Mapping[str, FaultDoor],
    ):
        self.by_role, self.wires, self.wall = by_role, wires, WallGrouping()
        super().__init__(self.wall, setup, trace, with_draft=with_draft)
        self.injector = self.real_injector = RealInjector(self, doors)

    def slot(self, placed: Placed) -> DeviceSlot:
        name, track, reaction = placed.chip.name, placed.track, self.state.reaction
        watchdog_ns = round(reaction.watchdog_ms * 1e6)
        health = WatchedHealth(self.wall, placed.role, name, self.state.clock(name), watchdog_ns)
        self.state.healths[placed.role] = health
        timer, device = timer_for(placed, self.setup.scenario.context_tokens), self.by_role[placed.role]
        return FaultyRealSlot(self.state, health, name, track, self.turn(track), timer, self.trace, device)

    def direction(self, link: Link, way: str) -> Direction:
        setup, state = self.setup, self.state
        assert setup.draft is not None, "two chips and no draft"
        sender = (setup.draft if way == "up" else setup.target).chip.name
        clock, ends = state.clock(sender), tuple(state.healths.values())
        made = FaultyRealDirection(state, way, link, setup.scenario.seed, self.trace, clock, ends, self.wires[way])
        self.ways[way] = made
        return made

    def run(self, sessions: list[simpy.Event]) -> int:
        try:
            return super().run(sessions)
        finally:
            with suppress(AgentFault):  # one that has really gone has ended the run
                self.real_injector.repair()


def faulty_boards(devices: Devices, wires: Mapping[str, LinkWire], doors: Mapping[str, FaultDoor]) -> Boards:
    """Boards of devices and a link that faults are injected into."""

    def board(setup: Setup, trace: Trace, with_draft: bool) -> Board:
        devices.begin()
        return FaultyRealBoard(setup, trace, with_draft, devices.by_role, wires, doors)

    return board
