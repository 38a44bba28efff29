"""The board: units that take turns, links that queue and delay, memories with a cap, on SimPy's clock."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

import simpy

from hilsim.cost.memory import ledgers
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import StepTimer, network_ns, timer_for
from hilsim.cost.wire import wire_ns
from hilsim.describe.link import Link
from hilsim.describe.load import Placed, PlacedNetwork, Setup
from hilsim.errors import OutOfMemory
from hilsim.logits.noise import JITTER, uniforms
from hilsim.sim.trace import Level, Span, Trace
from hilsim.sim.turn import Turn
from hilsim.units import ns

Process = Generator[simpy.Event, Any, Any]


def now_ns(env: simpy.Environment) -> int:
    """The clock. SimPy types it as a float; whole nanoseconds in, whole nanoseconds out."""
    return int(env.now)


class Cause(NamedTuple):
    """Whom a span is for."""

    request: int
    round: int


class Priced(NamedTuple):
    """A step with its price on the seat that does it; `kind` is that of its span."""

    kind: str
    rows: int
    cached: int
    width: int
    ns: int


class Seat:
    """A role's place on a unit: its timer, and the unit's one turn that every model on it shares."""

    def __init__(self, env: simpy.Environment, chip: str, track: str, turn: Turn, timer: StepTimer, trace: Trace):
        self.env, self.chip, self.track, self.turn, self.timer, self.trace = env, chip, track, turn, timer, trace
        self.priced: dict[tuple[Phase, int, int], Priced] = {}
        self.queued_ns: dict[int, int] = {}  # by request: waiting for the unit, until now

    def step(self, phase: Phase, rows: int, cached: int) -> Priced:
        """A step of `rows` new positions after `cached` ones; the same step always has the same price."""
        priced = self.priced.get((phase, rows, cached))
        if priced is None:
            step = Step(phase, rows, cached)
            priced = Priced(phase.value, rows, cached, self.timer.width(step), self.timer.duration_ns(step))
            self.priced[phase, rows, cached] = priced
        return priced

    def single_ns(self, cached: int) -> int:
        """What one plain decode step takes with so many positions in the cache."""
        return self.step(Phase.DECODE, 1, cached).ns

    def work(self, step: Priced, cause: Cause, position: int = -1) -> Process:
        """Wait for the unit, hold it for as long as the step takes, or until interrupted.

        `position` is the place in the conversation that a draft step proposes a token for.
        """
        asked = start = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
            start = now_ns(self.env)
            self.queued_ns[cause.request] = self.queued_ns.get(cause.request, 0) + start - asked
        try:
            yield self.env.timeout(step.ns)
        finally:  # a step that is interrupted has held the unit as well
            now = now_ns(self.env)
            kind, rows, cached, width, _ = step
            request, number = cause
            self.trace.add_span(
                Span(self.track, kind, start, now, request, number, asked, now, rows, width, 0, cached, position)
            )
            self.turn.leave()


class Watcher:
    """A network beside the language model: it takes its unit's turn once a question."""

    def __init__(self, env: simpy.Environment, network: PlacedNetwork, turn: Turn, trace: Trace):
        self.env, self.track, self.turn, self.trace = env, network.track, turn, trace
        self.pass_ns = network_ns(network)

    def work(self, cause: Cause) -> Process:
        """Wait for the unit and hold it for one pass."""
        asked = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
        start = now_ns(self.env)
        try:
            yield self.env.timeout(self.pass_ns)
        finally:
            self.turn.leave()
        now = now_ns(self.env)
        self.trace.add_span(Span(self.track, "network", start, now, cause.request, cause.round, asked, now, 1, 1))


class Direction:
    """One way over a link: a rate that queues, then a delay that does not."""

    def __init__(self, env: simpy.Environment, track: str, link: Link, seed: int, trace: Trace):
        self.env, self.track, self.seed, self.trace = env, track, seed, trace
        self.turn = Turn(env)
        self.link = link
        self.propagation_ns = ns(link.propagation.si)
        self.jitter_ns = 0 if link.jitter is None else ns(link.jitter.si)
        self.messages = 0
        self.arrived_ns = 0
        self.known_ns: dict[int, int] = {}  # what messages of so many bytes hold the wire

    def wire_ns(self, nbytes: int) -> int:
        """How long a message holds the wire."""
        held = self.known_ns.get(nbytes)
        if held is None:
            held = self.known_ns[nbytes] = wire_ns(self.link, nbytes)
        return held

    def transfer_ns(self, nbytes: int) -> int:
        """From the first byte to arrival on a free wire, without jitter."""
        return self.wire_ns(nbytes) + self.propagation_ns

    def send(self, kind: str, nbytes: int, cause: Cause, left: simpy.Event | None = None) -> Process:
        """Queue for the wire, put the bytes on it, return when they have arrived; `left` tells when they are gone."""
        asked = start = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
            start = now_ns(self.env)
        try:
            yield self.env.timeout(self.wire_ns(nbytes))
        finally:
            self.turn.leave()
        end = now_ns(self.env)
        if left is not None:
            left.succeed()
        delay = self.propagation_ns
        if self.jitter_ns:
            # Direction and message number, not a stream: one message more on one way moves nothing on the other.
            request = (self.messages << 1) | self.track.endswith("down")
            delay += int(uniforms(self.seed, JITTER, request, 0).spare * (self.jitter_ns + 1))
        self.messages += 1
        # A link delivers in order: what dawdles holds up what was sent after it.
        delay = max(delay, self.arrived_ns - end)
        self.arrived_ns = end + delay
        self.trace.add_span(
            Span(self.track, kind, start, end, cause.request, cause.round, asked, end + delay, 0, 0, nbytes)
        )
        yield self.env.timeout(delay)


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

    def give_back(self, what: str, nbytes: int) -> None:
        """Free what was taken."""
        self.used_bytes -= nbytes
        self.trace.add_level(Level(self.chip, now_ns(self.env), self.used_bytes, f"{what} freed"))


class Board:
    """Everything that time passes on. `up` runs from the draft's chip to the target's, `down` back."""

    def __init__(self, env: simpy.Environment, setup: Setup, trace: Trace, *, with_draft: bool):
        self.env, self.setup, self.trace = env, setup, trace
        context = setup.scenario.context_tokens
        turns: dict[str, Turn] = {}

        def seat(placed: Placed) -> Seat:
            track = f"{placed.chip.name}.{placed.placement.unit}"
            turn = turns.setdefault(track, Turn(env))
            return Seat(env, placed.chip.name, track, turn, timer_for(placed, context), trace)

        self.networks = [
            Watcher(env, network, turns.setdefault(network.track, Turn(env)), trace) for network in setup.networks
        ]
        self.target = seat(setup.target)
        self.draft = seat(setup.draft) if setup.draft is not None and with_draft else None
        self.up = self.down = None
        elsewhere = setup.application != setup.target.chip.name
        if setup.link is not None and (with_draft or elsewhere):
            self.up = Direction(env, f"{setup.link.name}.up", setup.link, setup.scenario.seed, trace)
            self.down = Direction(env, f"{setup.link.name}.down", setup.link, setup.scenario.seed, trace)
        trace.units = tuple(turns)
        trace.directions = tuple(way.track for way in (self.up, self.down) if way is not None)
        trace.tracks = (*reversed(trace.units), *trace.directions)
        self.memories = {}
        self.conversation_bytes: dict[str, int] = {}
        for chip, ledger in ledgers(setup).items():
            memory = self.memories[chip] = Memory(env, chip, ledger.cap_bytes, trace)
            talkers = setup.scenario.workload.talkers
            for item in ledger.items:
                if item.per_conversation:
                    share = item.bytes // talkers
                    self.conversation_bytes[chip] = self.conversation_bytes.get(chip, 0) + share
                else:
                    memory.take(item.what, item.bytes)

    @property
    def now(self) -> int:
        return now_ns(self.env)

    def queued_ns(self, request: int) -> int:
        """How long the steps of a request have waited for units that others held."""
        seats = [seat for seat in (self.target, self.draft) if seat is not None]
        return sum(seat.queued_ns.get(request, 0) for seat in seats)

    def open_conversation(self) -> None:
        """Allocate the caches of one more conversation on every chip."""
        for chip, nbytes in self.conversation_bytes.items():
            self.memories[chip].take("KV cache of a conversation", nbytes)

    def close_conversation(self) -> None:
        """Free the caches of a conversation that is over."""
        for chip, nbytes in self.conversation_bytes.items():
            self.memories[chip].give_back("KV cache of a conversation", nbytes)
