"""Runs that really happen: chips that execute every step, a link that carries every message, the policies as ever.

The words are known before, so that asking for them takes no time; the chips compute them all the same, and what they
find is held against what was said. Spans have the wall's instants, a command's way to the chip and back included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from statistics import median
from typing import Protocol

import simpy

from hilsim.cost.step import Phase, Step, passes
from hilsim.cost.timer import StepTimer, timer_for
from hilsim.describe.link import Link
from hilsim.describe.setup import Placed, Setup
from hilsim.errors import ChipLost, Fault, ScenarioError
from hilsim.hardware.distributed.expected import Said, Told, Words, held_against
from hilsim.hardware.distributed.wall import WallEnvironment, Worker
from hilsim.hardware.wire.exchange import AgentFault, Chip, ModelFacts, StepRequest, StepResult
from hilsim.sim.board import Board, Direction
from hilsim.sim.device_slot import DeviceSlot, Process, RequestTag, TimedStep, now_ns
from hilsim.sim.lock import Lock
from hilsim.sim.trace import Span, Trace
from hilsim.sources.source import LogitsSource

# Their target's steps follow the words that they read. A step of `pearl` is asked for before; trees are no chains.
POLICIES = ("target_only", "sync", "adaptive", "async", "pipelined", "prompt_lookup")
LATELY = 15
REMEDY = "A run that really happens is not resumed; start what was lost, and run again."


@dataclass(frozen=True)
class Executed:
    """A step that a chip executed: what was asked, what came back, and when it was begun and over for who asked."""

    ask: StepRequest
    answer: StepResult
    start_ns: int
    end_ns: int

    @property
    def command_ns(self) -> int:
        """What having it done cost beside the step itself."""
        return self.end_ns - self.start_ns - self.answer.duration_ns


@dataclass
class Player:
    """A role and the chip that plays it: what it has heard last, and all that it has done since the run began."""

    role: str
    chip: Chip
    facts: ModelFacts
    worker: Worker
    heard: tuple[int, ...] = ()
    said: Mapping[int, Said] = field(default_factory=dict)
    done: list[Executed] = field(default_factory=list)
    lately: dict[int, deque[int]] = field(default_factory=dict)  # by rows: nanoseconds that the last steps took
    words: Words = field(default_factory=Words)

    def hear(self, tokens: Sequence[int], said: Mapping[int, Said]) -> None:
        """What it reads next, and what it must find there."""
        self.heard, self.said = tuple(tokens), said

    def begin(self) -> None:
        """A run begins."""
        self.done, self.lately, self.words = [], {}, Words()

    def over(self, step: Executed, said: Mapping[int, Said]) -> None:
        """A step is over, of which this must have come."""
        self.done.append(step)
        self.lately.setdefault(step.ask.rows, deque(maxlen=LATELY)).append(step.answer.duration_ns)
        self.words += held_against(step.answer.ids or (), len(step.ask.tokens), said)


class Wire(Protocol):
    """One way over a link that is really there."""

    def put(self, env: WallEnvironment, nbytes: int) -> tuple[simpy.Event, simpy.Event]:
        """Send a message: an event for when it is out of the sender's hands, one for when it has arrived whole."""
        ...


class Wanted(TimedStep):
    """A step that will be executed, what its chip is asked for it, and what must come of it."""

    ask: StepRequest
    said: Mapping[int, Said]


class RealSlot(DeviceSlot):
    """A role's place on a chip that is really there."""

    env: WallEnvironment

    def __init__(
        self, env: WallEnvironment, chip: str, track: str, turn: Lock, timer: StepTimer, trace: Trace, player: Player
    ):
        super().__init__(env, chip, track, turn, timer, trace)
        self.player = player

    def step(self, phase: Phase, rows: int, cached: int) -> Wanted:
        """What would be executed; its words are those that the role has heard last."""
        player, length = self.player, cached + rows
        assert len(player.heard) >= length, f"{phase} of {length} tokens, of which {len(player.heard)} are known"
        width = sum(width for _, width in passes(rows, player.facts.widths))
        wanted = Wanted(phase.value, rows, cached, width, 0)
        count = 1 if phase.reads else rows
        wanted.ask = StepRequest(player.facts.name, phase.value, player.heard[:length], cached, count, "tokens")
        wanted.said = player.said
        return wanted

    def expected_ns(self, phase: Phase, rows: int, cached: int) -> int:
        """What steps with the nearest number of rows took lately; what the chip model says before there are any."""
        known = self.player.lately
        if not known:
            return self.timer.duration_ns(Step(phase, rows, cached))
        return round(median(known[min(known, key=lambda count: abs(log(count / rows)))]))

    def work(self, step: TimedStep, cause: RequestTag, position: int = -1) -> Process:
        """Wait for the chip, and have it execute the step.

        Who is interrupted no longer waits, but a step under way cannot be called back: the chip is taken to its end.
        """
        assert isinstance(step, Wanted), "a step of another slot"
        asked = start = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
            start = now_ns(self.env)
            self.queued_ns[cause.request] = self.queued_ns.get(cause.request, 0) + start - asked
        player, (kind, rows, cached, width, _) = self.player, step

        def over(event: simpy.Event) -> None:
            now = now_ns(self.env)
            self.trace.add_span(
                Span(self.track, kind, start, now, *cause, asked, now, rows, width, 0, cached, position)
            )
            if event.ok:
                answer: StepResult = event.value  # type: ignore[assignment]  # SimPy knows no type of it
                player.over(Executed(step.ask, answer, start, now), step.said)
            self.turn.leave()

        done = player.worker.do(self.env, lambda: executed(self.track, player.chip, step.ask))
        assert done.callbacks is not None, "an errand that is over already"
        done.callbacks.append(over)
        yield done


def executed(track: str, chip: Chip, ask: StepRequest) -> StepResult:
    """Have a step executed. Raises `ChipLost`: a run on the wall's clock cannot wait for a chip to recover."""
    try:
        return chip.execute(ask)
    except AgentFault as fault:
        raise ChipLost(track, fault.kind, fault.found, REMEDY) from None


class RealDirection(Direction):
    """One way over a link that is really there. A message occupies it until it is out of the sender's hands."""

    env: WallEnvironment

    def __init__(self, env: WallEnvironment, track: str, link: Link, seed: int, trace: Trace, wire: Wire):
        super().__init__(env, track, link, seed, trace)
        self.wire = wire

    def send(self, kind: str, nbytes: int, cause: RequestTag, left: simpy.Event | None = None) -> Process:
        asked = start = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
            start = now_ns(self.env)
        sent, arrived = self.wire.put(self.env, nbytes)
        try:
            yield sent
        finally:
            self.turn.leave()
        end = now_ns(self.env)
        if left is not None:
            left.succeed()
        yield arrived
        self.trace.add_span(Span(self.track, kind, start, end, *cause, asked, now_ns(self.env), 0, 0, nbytes))


class RealBoard(Board):
    """Chips and a link that are really there, on the wall's clock."""

    env: WallEnvironment

    def __init__(
        self, setup: Setup, trace: Trace, with_draft: bool, players: Mapping[str, Player], wires: Mapping[str, Wire]
    ):
        self.players, self.wires = players, wires
        self.slots: dict[str, RealSlot] = {}
        self.ways: dict[str, RealDirection] = {}
        super().__init__(WallEnvironment(), setup, trace, with_draft=with_draft)

    def slot(self, placed: Placed) -> DeviceSlot:
        timer, player = timer_for(placed, self.setup.scenario.context_tokens), self.players[placed.role]
        made = RealSlot(self.env, placed.chip.name, placed.track, self.turn(placed.track), timer, self.trace, player)
        return self.slots.setdefault(placed.role, made)

    def direction(self, link: Link, way: str) -> Direction:
        seed = self.setup.scenario.seed
        made = RealDirection(self.env, f"{link.name}.{way}", link, seed, self.trace, self.wires[way])
        return self.ways.setdefault(way, made)


class Stage:
    """Chips by role and wires by direction, for run after run of one scenario. Roles on one chip share its thread."""

    def __init__(self, chips: Mapping[str, tuple[Chip, ModelFacts]], wires: Mapping[str, Wire]):
        self.workers = {id(chip): Worker(role) for role, (chip, _) in chips.items()}
        self.wires = wires
        self.players = {
            role: Player(role, chip, facts, self.workers[id(chip)]) for role, (chip, facts) in chips.items()
        }

    def source(self, source: LogitsSource) -> LogitsSource:
        """A source that tells the chips what it says."""
        return Told(source, lambda role, tokens, said: self.players[role].hear(tokens, said))

    def board(self, setup: Setup, trace: Trace, with_draft: bool) -> RealBoard:
        """A board for a run that begins; what chips did before is forgotten."""
        for player in self.players.values():
            player.begin()
        return RealBoard(setup, trace, with_draft, self.players, self.wires)

    def close(self) -> None:
        """Send the threads home."""
        for worker in self.workers.values():
            worker.close()


def require_real(setup: Setup) -> None:
    """Refuse what cannot really happen, or could not be held against what the chips find."""
    scenario, faults = setup.scenario, []
    if scenario.policy.name not in POLICIES:
        expected = f"{', '.join(POLICIES)}, whose target's steps follow the words that they read"
        faults.append(Fault(setup.file, "policy", scenario.policy.name, expected))
    if scenario.workload.talkers > 1:
        expected = "1: a chip executes one conversation at a time"
        faults.append(Fault(setup.file, "workload.talkers", str(scenario.workload.talkers), expected))
    if scenario.sampling.temperature or scenario.sampling.repetition_penalty or setup.guarantee.level != "text":
        found = "a distribution to sample from"
        expected = "greedy decoding, where the chips' likeliest tokens are the text"
        faults.append(
            Fault(setup.file, "sampling", found, expected, "Set sampling.temperature to 0, accept to greedy.")
        )
    if setup.networks:
        found = ", ".join(network.track for network in setup.networks)
        faults.append(Fault(setup.file, "networks", f"networks on {found}", "none: agents run language models"))
    if faults:
        raise ScenarioError(faults)
