"""Has faults begin and end: at their instants, at random, or as a phase begins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import simpy

from hilsim.cost.start_up import flash_bytes
from hilsim.describe.faults import (
    WAYS,
    ClockJump,
    Hang,
    Injected,
    InjectedFault,
    Lost,
    MemoryPressure,
    Reloading,
    Reset,
    Slow,
    WrongRow,
)
from hilsim.describe.setup import Setup
from hilsim.sampling.noise import FAULTS, uniforms
from hilsim.sim.board import Memory
from hilsim.sim.device_slot import NO_REQUEST, Process, RequestTag, UnitLock, now_ns
from hilsim.sim.faults.direction import FaultyDirection
from hilsim.sim.faults.groups import end
from hilsim.sim.faults.health import Health
from hilsim.sim.faults.reload import evicted_role, reload_ns, roles_on
from hilsim.sim.faults.state import Active, FaultState
from hilsim.sim.loading import LOAD
from hilsim.sim.trace import FaultRecord, Span
from hilsim.units import MEGA, ns

FIRST = 0  # priority of loading: before all that waits for the unit
OTHER_SOFTWARE = "other software"


@dataclass(eq=False)
class Loading:
    """Models of a unit that are being loaded, by which process; `holds` says whether it has the unit."""

    process: simpy.Process
    record: FaultRecord
    healths: list[Health]
    holds: bool = False


class Injector:
    """The faults of a scenario: those to come, and those that have begun.

    `directions` are the ways of the link by name; `turns` the locks of units by track.
    """

    def __init__(
        self,
        state: FaultState,
        setup: Setup,
        directions: dict[str, FaultyDirection],
        turns: dict[str, UnitLock],
        memories: dict[str, Memory],
    ):
        assert setup.scenario.faults is not None, "a scenario without faults has no injector"
        self.state, self.setup, self.env = state, setup, state.env
        self.directions, self.turns, self.memories = directions, turns, memories
        self.faults: tuple[InjectedFault, ...] = setup.scenario.faults.inject
        self.awaited = [(number, fault) for number, fault in enumerate(self.faults) if fault.on is not None]
        self.rows: list[Active] = []  # wrong rows that no pass has had yet
        self.evicted: set[str] = set()  # roles whose model had to go
        self.taken: dict[int, int] = {}  # bytes that other software has, by the identity of the fault's record
        self.processes: list[simpy.Process] = []
        self.loading: list[Loading] = []
        state.on_phase, state.on_reset = self.enter_phase, self.reset

    def start(self) -> None:
        """Begin to count time."""
        for number, fault in enumerate(self.faults):
            if fault.on is None:
                self.begin_process(self.begin_at_instants(number, fault))

    def stop(self) -> None:
        """The run is over: nothing begins or ends any more."""
        for process in self.processes:
            end(process)

    def begin_process(self, generator: Process) -> None:
        """Start a process that ends with the run."""
        self.processes = [process for process in self.processes if process.is_alive]
        self.processes.append(self.env.apart(generator))

    def timer(self, for_ns: int) -> simpy.Event:
        """A time-out that no run is kept up by."""
        event = self.env.timeout(for_ns)
        self.env.injected.add(event)
        return event

    def begin_at_instants(self, number: int, fault: InjectedFault) -> Process:
        """Have a fault begin at each of its instants."""
        for instant in instants(fault, self.state.seed, number):
            yield self.timer(max(0, instant - now_ns(self.env)))
            self.begin(number, fault)

    def enter_phase(self, phase: str, cause: RequestTag) -> None:
        """A phase begins: so do the faults that wait for it."""
        for one in [one for one in self.awaited if not isinstance(one[1], WrongRow) and matches(one[1], phase, cause)]:
            self.awaited.remove(one)
            self.begin(*one, phase=phase, cause=cause)

    def wrong_row(self, role: str, phase: str, cause: RequestTag) -> FaultRecord | None:
        """The fault by which a row that a role computes in a phase is wrong, if there is one."""
        for one in [one for one in self.awaited if isinstance(one[1], WrongRow)]:
            if matches(one[1], phase, cause) and self.is_of(one[1], role):
                self.awaited.remove(one)
                self.begin(*one, phase=phase, cause=cause)
        due = next((one for one in self.rows if self.is_of(one.fault, role)), None)
        if due is None:
            return None
        self.rows.remove(due)
        due.record.strike(self.state.now)
        due.record.ended_ns = self.state.now
        return due.record

    def is_of(self, fault: Injected, role: str) -> bool:
        """Whether a wrong row is one of a role's."""
        return fault.where == role or (
            fault.where not in self.setup.roles and roles_on(self.setup, fault.where)[0].role == role
        )

    def begin(
        self, number: int, fault: InjectedFault, phase: str | None = None, cause: RequestTag | None = None
    ) -> None:
        """A fault begins, now."""
        if phase is None:
            phase, cause = self.phase_at(fault)
        request, of_round = cause or (NO_REQUEST, -1)
        record = FaultRecord(number, fault.kind, fault.where, self.state.now, -1, phase, request, of_round)
        self.state.trace.faults.append(record)
        self.apply(fault, record)
        if fault.for_ms is not None:
            self.begin_process(self.end_later(fault, record))

    def end_later(self, fault: InjectedFault, record: FaultRecord) -> Process:
        """Wait for the end of a fault."""
        assert fault.for_ms is not None, "a fault that ends"
        yield self.timer(ns(fault.for_ms / 1000))
        if record.ended_ns < 0:
            record.ended_ns = self.state.now
            self.undo(fault, record)

    def phase_at(self, fault: Injected) -> tuple[str, RequestTag | None]:
        """What is going on now where a fault hits, or else anywhere; idle where nothing is."""
        doing, setup = self.state.doing, self.setup
        if fault.where in WAYS:
            near = [way.track for way in self.directions.values()]
        else:
            near = [placed.track for placed in roles_on(setup, fault.where)]
        for track in (*near, *doing):
            if track in doing:
                return doing[track]
        return "idle", None

    def apply(self, fault: InjectedFault, record: FaultRecord) -> None:
        """Do what a fault does as it begins."""
        if fault.where in WAYS:
            for way, direction in self.directions.items():
                if fault.where in (way, "link"):
                    direction.begin(fault, record)
            return
        match fault:
            case WrongRow():
                self.rows.append(Active(fault, record))
            case ClockJump():
                record.ended_ns = self.state.now
                self.state.clock(roles_on(self.setup, fault.where)[0].chip.name).jump(
                    round(fault.jump_ms * 1e6), record
                )
            case MemoryPressure():
                self.take_memory(fault, record)
            case Reset():
                self.go_down(fault, record)
            case Lost():
                for health in self.healths(fault):
                    health.go_down(record, for_good=True)
            case Hang():
                for health in self.healths(fault):
                    health.hang(record)
            case Slow():
                for health in self.healths(fault):
                    health.slow_down(record, fault.factor)

    def undo(self, fault: InjectedFault, record: FaultRecord) -> None:
        """Do what happens as a fault ends."""
        match fault:
            case Hang():
                for health in self.healths(fault):
                    health.go_on(record)
            case Slow():
                for health in self.healths(fault):
                    health.speed_up(record)
            case MemoryPressure():
                self.give_memory_back(fault, record)

    def healths(self, fault: Injected) -> list[Health]:
        """The state of every role on the chip that a fault names."""
        found = self.state.healths
        return [found[placed.role] for placed in roles_on(self.setup, fault.where) if placed.role in found]

    def reset(self, health: Health, record: FaultRecord) -> None:
        """The watchdog resets a chip."""
        fault = self.faults[record.number]
        assert isinstance(fault, Reloading), "a chip that hangs"
        self.go_down(fault, record)
        if record.ended_ns < 0:
            record.ended_ns = self.state.now

    def go_down(self, fault: Reloading, record: FaultRecord) -> None:
        """All roles on a chip lose everything, and are loaded again."""
        healths = self.healths(fault)
        for health in healths:
            health.go_down(record)
        self.load_again(fault, record, healths)

    def load_again(self, fault: Reloading, record: FaultRecord, healths: list[Health]) -> None:
        """Load the models of some roles of a chip; those of one unit together."""
        took_ns = reload_ns(self.setup, fault, fault.where)
        assert took_ns is not None, "checked before the run"
        by_track: dict[str, list[Health]] = {}
        for health in healths:
            by_track.setdefault(self.setup.roles[health.role].track, []).append(health)
        for track, together in by_track.items():
            self.begin_process(self.load(track, took_ns, record, together))

    def load(self, track: str, took_ns: int, record: FaultRecord, healths: list[Health]) -> Process:
        """Hold a unit while its models are loaded. A load of theirs that is under way is dropped: this starts over."""
        process = self.env.active_process
        assert process is not None, "loading is a process"
        turn, asked, mine = self.turns[track], now_ns(self.env), Loading(process, record, healths)
        for older in [one for one in self.loading if all(health in healths for health in one.healths)]:
            self.drop(older, mine)
        self.loading.append(mine)
        try:
            if not mine.holds and not turn.take():
                yield from turn.wait(FIRST)
            mine.holds, start = True, now_ns(self.env)
            try:
                yield self.env.timeout(took_ns)
            finally:
                now = turn.idle_since_ns = now_ns(self.env)
                self.state.trace.add_span(Span(track, LOAD, start, now, NO_REQUEST, 0, asked, now))
                if mine.holds:
                    turn.leave()
        finally:
            self.loading.remove(mine)
        for health in healths:
            if health.down is record:
                health.come_back()
        self.end_reset(record)

    def drop(self, older: Loading, newer: Loading) -> None:
        """End a load; one that starts over keeps the unit, which nobody else gets in between."""
        newer.holds, older.holds = newer.holds or older.holds, False
        end(older.process)
        self.end_reset(older.record)

    def end_reset(self, record: FaultRecord) -> None:
        """A reset is over with the load that follows it."""
        if isinstance(self.faults[record.number], Reset) and record.ended_ns < 0:
            record.ended_ns = self.state.now

    def take_memory(self, fault: MemoryPressure, record: FaultRecord) -> None:
        """Other software takes memory; a model that is in its way goes. What is not to be had it does not get."""
        placed, nbytes = evicted_role(self.setup, fault), round(fault.megabytes * MEGA)
        memory, health = self.memories[placed.chip.name], self.state.healths.get(placed.role)
        if nbytes > memory.free_bytes and health is not None and placed.role not in self.evicted:
            memory.give_back(f"{placed.role}, evicted", flash_bytes(placed))
            self.evicted.add(placed.role)
            health.go_down(record)
        if nbytes <= memory.free_bytes:
            memory.take(OTHER_SOFTWARE, nbytes)
            self.taken[id(record)] = nbytes

    def give_memory_back(self, fault: MemoryPressure, record: FaultRecord) -> None:
        """That memory is free again, and the model that had to go is loaded."""
        placed = evicted_role(self.setup, fault)
        memory, health = self.memories[placed.chip.name], self.state.healths.get(placed.role)
        if nbytes := self.taken.pop(id(record), 0):
            memory.give_back(OTHER_SOFTWARE, nbytes)
        if health is not None and health.down is record:
            memory.take(placed.role, flash_bytes(placed))
            self.evicted.remove(placed.role)
            self.load_again(fault, record, [health])


def instants(fault: Injected, seed: int, number: int) -> Iterator[int]:
    """The instants in ns at which a fault begins; at random as a Poisson process."""
    if fault.per_hour is None:
        yield from sorted(ns(at / 1000) for at in fault.at_ms)
        return
    seconds = 0.0
    for place in count():
        seconds -= math.log1p(-uniforms(seed, FAULTS, 0, place, number + 3).spare) * 3600 / fault.per_hour
        yield ns(seconds)


def matches(fault: Injected, phase: str, cause: RequestTag) -> bool:
    """Whether a fault waits for what begins."""
    on = fault.on
    return (
        on is not None and on.phase == phase and on.request in (None, cause.request) and on.round in (None, cause.round)
    )
