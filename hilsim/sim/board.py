"""The simulated hardware on SimPy's clock: units that run one step at a time, links that queue and delay, memories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set

import simpy

from hilsim.cost.between import between_of
from hilsim.cost.governed import level_timers
from hilsim.cost.memory import ledgers
from hilsim.cost.timer import StepTimer, timer_for
from hilsim.cost.wire import wire_ns
from hilsim.describe.chip import Chip
from hilsim.describe.link import Link
from hilsim.describe.scenario import Scenario
from hilsim.describe.setup import Placed, Setup
from hilsim.errors import OutOfMemory
from hilsim.sampling.noise import JITTER, uniforms
from hilsim.sim.batches import BatchSlot
from hilsim.sim.company_slot import CompanySlot
from hilsim.sim.device_slot import (
    DeviceSlot,
    MeasuredSlot,
    MeasuringTimer,
    Process,
    RequestTag,
    UnitLock,
    elapse,
    now_ns,
)
from hilsim.sim.heat import heats
from hilsim.sim.lock import Lock
from hilsim.sim.place import Company, Outside, Place, Watcher
from hilsim.sim.shared_chip import SharedChip, weights_on
from hilsim.sim.trace import Level, Trace
from hilsim.units import ns

Timers = Callable[[Placed, int], StepTimer]
# Makes a board with a clock of its own, for a trace, with a draft or without.
Boards = Callable[[Setup, Trace, bool], "Board"]


class Direction:
    """One way over a link: a rate that queues, then a delay that does not."""

    def __init__(self, env: simpy.Environment, track: str, link: Link, seed: int, trace: Trace):
        self.env, self.track, self.seed, self.trace = env, track, seed, trace
        self.watched, self.add_span = trace.watched, trace.add_span
        self.turn = Lock(env)
        self.link = link
        self.propagation_ns = ns(link.propagation.si)
        self.jitter_ns = 0 if link.jitter is None else ns(link.jitter.si)
        self.messages = 0
        self.arrived_ns = 0
        self.known_ns: dict[int, int] = {}  # what messages of so many bytes hold the wire
        self.cancelled: Set[int] = frozenset()  # requests whose messages are no longer sent

    def wire_ns(self, nbytes: int) -> int:
        """How long a message holds the wire."""
        held = self.known_ns.get(nbytes)
        if held is None:
            held = self.known_ns[nbytes] = wire_ns(self.link, nbytes)
        return held

    def transfer_ns(self, nbytes: int) -> int:
        """From the first byte to arrival on a free wire, without jitter."""
        return self.wire_ns(nbytes) + self.propagation_ns

    def send(self, kind: str, nbytes: int, cause: RequestTag, left: simpy.Event | None = None) -> Process:
        """Queue for the wire and send; returns, when the bytes have arrived, that instant in ns.

        `left` succeeds when the wire is free. Of a cancelled request nothing is sent.
        """
        env, turn, (request, number) = self.env, self.turn, cause
        asked = start = now_ns(env)
        withdrawn = request in self.cancelled
        if not withdrawn and not turn.take():
            withdrawn = not (yield from turn.wait(owner=request))
            start = now_ns(env)
        if withdrawn:
            if left is not None:
                left.succeed()
            return start
        try:
            held_ns = self.wire_ns(nbytes)
            yield elapse(env, held_ns)
        finally:
            turn.leave()
        end = start + held_ns
        if left is not None:
            left.succeed()
        delay = self.propagation_ns
        if self.jitter_ns:
            # Keyed by direction and message number: one message more on one way changes nothing on the other.
            message = (self.messages << 1) | self.track.endswith("down")
            delay += int(uniforms(self.seed, JITTER, message, 0).spare * (self.jitter_ns + 1))
        self.messages += 1
        # A link delivers in order: a delayed message delays those after it.
        arrives = self.arrived_ns = max(end + delay, self.arrived_ns)
        if self.watched:
            self.add_span((self.track, kind, start, end, request, number, asked, arrives, 0, 0, nbytes, 0, -1, ()))
        yield elapse(env, arrives - end)
        return arrives


class SharedMemory:
    """In place of a link where draft and target are on one chip: nothing is sent, and nothing takes time."""

    def __init__(self, env: simpy.Environment):
        self.env = env

    def transfer_ns(self, nbytes: int) -> int:
        return 0

    def send(self, kind: str, nbytes: int, cause: RequestTag, left: simpy.Event | None = None) -> Process:
        """What is in memory is there at once."""
        if left is not None:
            left.succeed()
        return now_ns(self.env)
        yield


class Memory:
    """One chip's memory: what is allocated now, never above the cap."""

    def __init__(self, env: simpy.Environment, chip: str, cap_bytes: int, trace: Trace):
        self.env, self.chip, self.cap_bytes, self.used_bytes, self.trace = env, chip, cap_bytes, 0, trace

    def take(self, what: str, nbytes: int) -> None:
        """Allocate; raises `OutOfMemory` past the cap."""
        if self.used_bytes + nbytes > self.cap_bytes:
            raise OutOfMemory(self.chip, what, nbytes, self.cap_bytes - self.used_bytes)
        self.used_bytes += nbytes
        self.trace.add_level(Level(self.chip, now_ns(self.env), self.used_bytes, what))

    @property
    def free_bytes(self) -> int:
        return self.cap_bytes - self.used_bytes

    def give_back(self, what: str, nbytes: int) -> None:
        """Free what was taken."""
        self.used_bytes -= nbytes
        self.trace.add_level(Level(self.chip, now_ns(self.env), self.used_bytes, f"{what} freed"))


def units_of_others(scenario: Scenario) -> Iterator[tuple[str, str]]:
    """Chip and unit of every stage of a spoken turn and of every background task that occupies one."""
    speech = scenario.speech
    stages = () if speech is None else (speech.end_of_speech, speech.recognition, speech.synthesis)
    for work in (*stages, *scenario.background):
        if work.chip is not None and work.unit is not None:
            yield work.chip, work.unit


class Board:
    """All simulated hardware of a run. `up` runs from the draft's chip to the target's, `down` back, if a link is."""

    def __init__(
        self,
        env: simpy.Environment,
        setup: Setup,
        trace: Trace,
        *,
        with_draft: bool,
        timers: Timers = timer_for,
    ):
        self.env, self.setup, self.trace, self.timers = env, setup, trace, timers
        self.turns: dict[str, UnitLock] = {}
        scenario = setup.scenario
        self.company = Company()
        self.shared: dict[str, SharedChip] = {}  # by chip, where more goes on than one session after another
        if scenario.company:
            for one in setup.chips.values():
                self.shared[one.name] = SharedChip(env, one, trace, weights_on(scenario, one))
        self.heats = heats(env, setup, self.shared, trace)
        self.networks = [Watcher(self.place(beside.chip, beside.unit_name), beside) for beside in setup.networks]
        self.target = self.slot(setup.target)
        self.draft = self.slot(setup.draft) if setup.draft is not None and with_draft else None
        self.up = self.down = None
        elsewhere = setup.application != setup.target.chip.name
        if setup.link is not None and (with_draft or elsewhere):
            self.up, self.down = self.direction(setup.link, "up"), self.direction(setup.link, "down")
        for chip_name, unit_name in units_of_others(scenario):
            self.turn(f"{chip_name}.{unit_name}")
        trace.units = tuple(self.turns)
        trace.directions = tuple(way.track for way in (self.up, self.down) if way is not None)
        trace.tracks = (*reversed(trace.units), *trace.directions)
        self.memories = {}
        self.conversation_bytes: dict[str, int] = {}
        self.make_room: Callable[[], None] | None = None  # called before a conversation's caches are allocated
        for chip, ledger in ledgers(setup).items():
            memory = self.memories[chip] = Memory(env, chip, ledger.cap_bytes, trace)
            sessions = setup.scenario.sessions
            for item in ledger.items:
                if item.per_conversation:
                    share = item.bytes // sessions
                    self.conversation_bytes[chip] = self.conversation_bytes.get(chip, 0) + share
                elif not item.while_room:
                    memory.take(item.what, item.bytes)

    def turn(self, track: str) -> UnitLock:
        """The one lock of a unit."""
        return self.turns.setdefault(track, UnitLock(self.env))

    def place(self, chip: Chip, unit_name: str) -> Place:
        """Where work beside the language model's steps is done: a unit of a chip."""
        track, between = f"{chip.name}.{unit_name}", between_of(chip.units[unit_name])
        shared = self.shared.get(chip.name)
        return Place(self.env, track, self.turn(track), self.trace, between, shared, self.company)

    def outside(self, chip: Chip) -> Outside:
        """Hardware beside a chip's units, which moves bytes through its memory."""
        return Outside(self.shared[chip.name], self.company)

    def cancel(self, request: int) -> None:
        """End all that goes on for a request: what waits for a unit or a wire at once, a step at its next boundary.

        A message on the wire arrives.
        """
        self.company.cancelled.add(request)
        wires = [way.turn for way in (self.up, self.down) if way is not None]
        for turn in (*self.turns.values(), *wires):
            turn.withdraw(request)

    @property
    def priorities(self) -> dict[int, int]:
        """By request, where it is not the usual one: of those who wait for a unit, the lowest goes first."""
        return self.company.priorities

    @property
    def cancelled(self) -> set[int]:
        """Requests of which nothing more is done."""
        return self.company.cancelled

    def slot(self, placed: Placed) -> DeviceSlot:
        """A role's place on its unit."""
        timer = self.timers(placed, self.setup.scenario.context_tokens)
        name, track = placed.chip.name, placed.track
        if isinstance(timer, MeasuringTimer):
            return MeasuredSlot(self.env, name, track, self.turn(track), timer, self.trace)
        if name not in self.shared:
            return DeviceSlot(self.env, name, track, self.turn(track), timer, self.trace)
        kind = BatchSlot if placed.batch > 1 and self.setup.scenario.sessions > 1 else CompanySlot
        made = kind(self.env, name, track, self.turn(track), timer, self.trace, self.shared[name], self.company)
        made.levels = level_timers(self.setup, placed, timer, self.timers)
        made.most = placed.batch
        made.preface = 0 if self.setup.scenario.speech is None else self.setup.scenario.speech.preface_tokens
        return made

    def direction(self, link: Link, way: str) -> Direction:
        """One way over the link."""
        made = Direction(self.env, f"{link.name}.{way}", link, self.setup.scenario.seed, self.trace)
        made.cancelled = self.cancelled
        return made

    @property
    def now(self) -> int:
        return now_ns(self.env)

    def queued_ns(self, request: int) -> int:
        """Nanoseconds that the steps of a request have waited for units that other steps held."""
        slots = [slot for slot in (self.target, self.draft) if slot is not None]
        return sum(slot.queued_ns.get(request, 0) for slot in slots)

    def open_conversation(self) -> None:
        """Allocate the caches of one more conversation on every chip."""
        if self.make_room is not None:
            self.make_room()
        for chip, nbytes in self.conversation_bytes.items():
            self.memories[chip].take("KV cache of a conversation", nbytes)

    def close_conversation(self) -> None:
        """Free the caches of a conversation that is over."""
        for chip, nbytes in self.conversation_bytes.items():
            self.memories[chip].give_back("KV cache of a conversation", nbytes)
