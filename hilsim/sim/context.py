"""What a policy works with, and how it commits and closes rounds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Protocol

import simpy

from hilsim.describe.drafting import HeadKind
from hilsim.describe.scenario import Scenario
from hilsim.sampling.proposals import Draft, Verdict
from hilsim.sim.board import Board, Direction, SharedMemory
from hilsim.sim.device_slot import DeviceSlot, Process, now_ns
from hilsim.sim.messages import Messages
from hilsim.sim.request import Request
from hilsim.sim.trace import Round
from hilsim.sources.source import LogitsSource, TreeSource


@dataclass
class RunContext:
    """What a policy works with: the board, the source, the scenario's rules, and the chip that runs the application.

    `head` is the kind of draft head that proposes, None where a draft model does, or nothing. `messages` gives the
    bytes of what crosses the link, and `elsewhere` says whether the application runs on another chip than the target's.
    """

    board: Board
    source: LogitsSource
    scenario: Scenario
    vocabulary: int
    application: str
    supervisor: Supervising | None = None  # reacts to faults, where some are injected
    env: simpy.Environment = field(init=False)
    head: HeadKind | None = field(init=False)
    up: Direction | SharedMemory = field(init=False)
    down: Direction | SharedMemory = field(init=False)
    messages: Messages = field(init=False)
    elsewhere: bool = field(init=False)

    def __post_init__(self) -> None:
        board = self.board
        draft = board.setup.draft if board.draft is not None else None
        self.env, self.head = board.env, None if draft is None else draft.head_kind
        self.up, self.down = board.up or SharedMemory(board.env), board.down or SharedMemory(board.env)
        crossing = board.down is not None and self.head is not None
        self.messages = Messages(self.scenario, self.vocabulary, draft if crossing else None)
        self.elsewhere = self.application != board.target.chip

    @property
    def draft(self) -> DeviceSlot:
        assert self.board.draft is not None, "this policy needs a draft"
        return self.board.draft

    @cached_property
    def round_trip_ns(self) -> Callable[[int], int]:
        """Nanoseconds of so many drafted tokens up and the verdict down, on an idle link without jitter."""

        def both_ways_ns(drafted: int) -> int:
            up, down = self.messages.drafts(drafted), self.messages.answer(drafted, drafted, drafted + 1)
            return self.up.transfer_ns(up) + self.down.transfer_ns(down)

        return cache(both_ways_ns)

    @cached_property
    def trees(self) -> TreeSource:
        """The source, which must support token trees."""
        assert isinstance(self.source, TreeSource), "a transcript has no token trees"
        return self.source

    @cached_property
    def kept(self) -> dict[object, Any]:
        """What a policy keeps from one request of the run to the next, under keys of its own."""
        return {}

    @cached_property
    def kept_of(self) -> defaultdict[int, dict[object, Any]]:
        """The same by conversation, until that is over."""
        return defaultdict(dict)

    def forget(self, conversation: int) -> None:
        """A conversation is over: drop what the source and the policy keep of it."""
        self.source.forget(conversation)
        self.kept_of.pop(conversation, None)

    @property
    def now(self) -> int:
        return now_ns(self.env)

    def commit(
        self,
        request: Request,
        start_ns: int,
        tokens: tuple[int, ...],
        margins: tuple[float, ...],
        *,
        drafted: int = 0,
        accepted: int = 0,
        depth: int = 0,
        single_ns: int = 0,
        distances: tuple[float, ...] = (),
        delivered_ns: int | None = None,
    ) -> Round:
        """The target has decided: the tokens are part of the answer. The round stays open until they are delivered."""
        position, now, cancelled = len(request.tokens), now_ns(self.env), request.cancelled
        committed = tokens if cancelled else request.extend(tokens, self.source.ends)
        emitted = 0 if cancelled else len(committed)
        opened = tuple.__new__(
            Round,
            (
                request.index,
                request.rounds,
                start_ns,
                now,
                now if delivered_ns is None else delivered_ns,
                drafted,
                accepted,
                emitted,
                min(emitted, accepted),
                committed,
                margins[:emitted],
                single_ns,
                position,
                depth,
                distances,
            ),
        )
        if cancelled:
            return opened
        request.next_round()
        if request.delivered is not None and self.delivers_at_once(drafted, accepted):
            request.delivered(opened)
        if request.watch is not None:
            request.watch(emitted, single_ns)
        return opened

    def delivers_at_once(self, drafted: int, accepted: int) -> bool:
        """Whether the application has the tokens of a round as soon as the target commits them."""
        return not self.elsewhere and not self.messages.draft_decides(drafted, accepted)

    def judge(
        self, request: Request, start_ns: int, proposed: Draft, verdict: Verdict, cached: int, *, bonus: bool = True
    ) -> Round:
        """Commit a verdict: the accepted drafts, then the target's own token.

        Without `bonus` that token comes after a rejection only: where all drafts are accepted it has no row of its own.
        `cached` is what the target's cache held before.
        """
        drafted = len(proposed.tokens)
        whole = verdict.accepted == drafted
        tokens = proposed.tokens if whole and not bonus else verdict.tokens(proposed)
        return self.commit(
            request,
            start_ns,
            tokens,
            verdict.margins[: len(tokens)],
            drafted=drafted,
            accepted=verdict.accepted,
            depth=drafted,
            single_ns=self.board.target.single_ns(cached),
            distances=verdict.distances,
        )

    def close(self, request: Request, opened: Round, *, delivered_ns: int) -> Round:
        """Both chips know the verdict, the application has the tokens at `delivered_ns`: add the round to the trace.

        What a cancelled request would have committed is no round.
        """
        ended = opened.ended(now_ns(self.env), delivered_ns)
        if request.cancelled and not opened.emitted:
            return ended
        closed: Round | None = ended
        if ended.number != request.closed:
            request.undelivered[ended.number], closed = ended, None
        while closed is not None:
            request.closed += 1
            request.delivered_ns = closed.delivered_ns
            if request.delivered is not None and not self.delivers_at_once(closed.drafted, closed.accepted):
                request.delivered(closed)
            self.board.trace.add_round(closed, self.source.text)
            closed = request.undelivered.pop(request.closed, None)
        return ended


class Supervising(Protocol):
    """What keeps a request going on hardware that fails."""

    def answer(
        self,
        request: Request,
        opening: Callable[[RunContext, Request], Process],
        policy: Callable[[RunContext, Request], Process],
    ) -> Process:
        """Read the question as `opening` does, and go on with `policy`, whatever fails."""
        ...
