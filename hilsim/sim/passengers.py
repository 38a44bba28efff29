"""Passengers: each asks one question after the other, in conversations that are dealt from the workload on demand.

A passenger waits for the end of a turn before the next: questions that are wanted meanwhile wait. Refused questions,
and those given up before they are spoken, take nothing of the workload.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import simpy

from hilsim.describe.cockpit import Passenger, Pauses
from hilsim.describe.setup import Setup
from hilsim.sim.arrivals import instants, pause_ns
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.policies.fallback import PolicyFunction
from hilsim.sim.prefix import Preface
from hilsim.sim.session import Session, Turn
from hilsim.sim.stages import Stages
from hilsim.sim.trace import TurnRecord
from hilsim.sim.turn import Asked, TurnUnderWay
from hilsim.text.prompt import Prompt
from hilsim.units import ns


class Dealt(NamedTuple):
    """The next question of a passenger's conversation."""

    session: Session
    turn: Turn
    prompt: Prompt


class Cabin:
    """The passengers of a run, and the workload that their questions come from."""

    def __init__(
        self, context: RunContext, policy: PolicyFunction, setup: Setup, conversations: Iterator[list[Turn]]
    ) -> None:
        self.context, self.policy, self.setup, self.conversations = context, policy, setup, conversations
        scenario, board = setup.scenario, context.board
        self.numbers = count()
        self.stages = None if scenario.speech is None else Stages(board, scenario.speech)
        self.preface = None if scenario.speech is None else Preface(board, scenario.speech, scenario.seed)
        self.until_ns = None if scenario.trip is None else ns(scenario.trip.minutes * 60)
        usual = Pauses(kind="pauses", pause_s=scenario.workload.pause_ms / 1000)
        unnamed = tuple(
            Passenger.model_construct(
                name="" if number == 0 else f"{number + 1}",
                arrivals=usual,
                priority=1,
                queue_limit=None,
                patience_s=None,
            )
            for number in range(scenario.workload.talkers)
        )
        self.seats = [Seat(self, passenger) for passenger in scenario.passengers or unnamed]

    def start(self) -> list[simpy.Process]:
        """Let all passengers ask; returns what they are done with."""
        return [self.context.board.env.process(seat.ask_all()) for seat in self.seats]

    def is_over(self, at_ns: int) -> bool:
        """Whether the trip is over at an instant."""
        return self.until_ns is not None and at_ns >= self.until_ns

    def exhausted(self) -> None:
        """A question found the workload used up."""
        trace = self.context.board.trace
        if trace.exhausted_ns < 0:
            trace.exhausted_ns = self.context.now


class Seat:
    """One passenger under way: the conversation, and the questions that wait."""

    def __init__(self, cabin: Cabin, passenger: Passenger):
        self.cabin, self.passenger = cabin, passenger
        self.board, self.env = cabin.context.board, cabin.context.board.env
        self.patience_ns = None if passenger.patience_s is None else ns(passenger.patience_s)
        self.session: Session | None = None
        self.turns: deque[Turn] = deque()
        self.waiting: deque[int] = deque()
        self.news = self.env.event()
        self.free_ns = 0  # since when the last turn is over
        self.more = True  # whether further questions will be wanted

    @property
    def now(self) -> int:
        return self.board.now

    def ask_all(self) -> Process:
        """Ask until the trip or the workload is over."""
        if isinstance(self.passenger.arrivals, Pauses):
            yield from self.ask_after_pauses(self.passenger.arrivals)
        else:
            arriving = self.env.process(self.want(instants(self.passenger.arrivals, self.passenger.name, self.seed)))
            yield from self.ask_as_wanted()
            if arriving.is_alive:
                arriving.interrupt()
        self.close_conversation()

    @property
    def seed(self) -> int:
        return self.cabin.setup.scenario.seed

    def ask_after_pauses(self, arrivals: Pauses) -> Process:
        """One question after the other; after an interruption the next at once."""
        for number in count():
            dealt = self.deal()
            if dealt is None:
                break
            begun = self.free_ns + pause_ns(arrivals, self.passenger.name, self.seed, number)
            if self.cabin.is_over(begun):
                return
            yield self.env.timeout(max(0, begun - self.now))
            yield from self.turn_and_interruptions(dealt, begun, begun)
        if self.cabin.until_ns is not None and not self.cabin.is_over(self.now):
            self.cabin.exhausted()

    def want(self, wanted: Iterator[int]) -> Process:
        """Questions come up, whether or not they can be asked at once."""
        limit = self.passenger.queue_limit
        try:
            for instant in wanted:
                if self.cabin.is_over(instant):
                    break
                yield self.env.timeout(max(0, instant - self.now))
                if limit is not None and len(self.waiting) >= limit:
                    self.refuse("refused", self.now)
                else:
                    self.waiting.append(self.now)
                    self.wake()
        except simpy.Interrupt:
            return
        self.more = False
        self.wake()

    def wake(self) -> None:
        """A question is wanted, or none will be any more."""
        if not self.news.triggered:
            self.news.succeed()

    def ask_as_wanted(self) -> Process:
        """Ask the questions in the order in which they came up; those that still wait as the trip ends are refused."""
        while self.more or self.waiting:
            if not self.waiting:
                self.news = self.env.event()
                yield self.news
                continue
            wanted = self.waiting.popleft()
            begun = max(wanted, self.free_ns)
            if self.patience_ns is not None and begun - wanted > self.patience_ns:
                self.refuse("given up", wanted)
                continue
            if self.cabin.is_over(begun):
                self.refuse("refused", wanted)
                continue
            dealt = self.deal()
            if dealt is None:
                self.cabin.exhausted()
                return
            yield from self.turn_and_interruptions(dealt, wanted, begun)

    def turn_and_interruptions(self, dealt: Dealt, wanted_ns: int, begun: int | None) -> Process:
        """A turn begun at an instant; where the passenger interrupts it, the next question does, and begins then."""
        while begun is not None:
            passenger = self.passenger
            asked = Asked(next(self.cabin.numbers), passenger.name, passenger.priority, self.patience_ns, wanted_ns)
            under_way = TurnUnderWay(asked, *dealt, self.cabin.stages)
            begun = yield from under_way.run(begun)
            self.free_ns = under_way.free_ns
            if not self.turns:
                self.close_conversation()
            if begun is None or self.cabin.is_over(begun):
                return
            further = self.deal()
            if further is None:
                self.cabin.exhausted()
                return
            dealt, wanted_ns = further, begun

    def deal(self) -> Dealt | None:
        """The next question of the conversation, or the first of the next one; None where the workload is used up."""
        cabin = self.cabin
        while True:
            if not self.turns:
                self.close_conversation()
                turns = next(cabin.conversations, None)
                if turns is None:
                    return None
                self.board.open_conversation()
                self.session = Session(cabin.context, cabin.policy, cabin.setup, cabin.preface)
                self.turns.extend(turns)
                self.conversation = turns[0].conversation
            assert self.session is not None, "a conversation that has turns is open"
            turn = self.turns.popleft()
            prompt = self.session.prompt(turn)
            if prompt is not None:
                return Dealt(self.session, turn, prompt)
            self.board.trace.skipped_turns += 1 + len(self.turns)
            self.turns.clear()

    def close_conversation(self) -> None:
        """Free the caches of a conversation that is over."""
        if self.session is not None:
            self.board.close_conversation()
            self.cabin.context.forget(self.conversation)
            self.session = None
            self.turns.clear()

    def refuse(self, outcome: str, wanted_ns: int) -> None:
        """A question that is never asked."""
        number = next(self.cabin.numbers)
        self.board.trace.add_turn(TurnRecord.unasked(number, self.passenger.name, outcome, wanted_ns))
