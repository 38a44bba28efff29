"""A request: one question, the answer as it grows, and what each chip's cache holds of the conversation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import simpy

from hilsim.describe.drafting import HeadKind, retained
from hilsim.sim.device_slot import RequestTag
from hilsim.sim.trace import Round


class Beside(NamedTuple):
    """Positions known by number alone: `rows` are read with a prompt beside its tokens.

    `missing` of those that stand before every conversation are not in the cache then; below 0, there are more.
    """

    rows: int = 0
    missing: int = 0


NOTHING_BESIDE = Beside()


class Drafted(Protocol):
    """What the draft's chip has in a policy that drafts ahead: `cached` positions, the `confirmed` ones for good."""

    confirmed: int
    cached: int


@dataclass
class Request:
    """State of one request. `tokens` is the whole conversation, shared with later turns.

    `target_cached` and `draft_cached` are the positions that the deployed caches hold, by which time is charged; the
    source holds the stand-ins' caches.
    """

    index: int
    conversation: int
    turn: int
    user: str
    tokens: list[int]
    max_new_tokens: int
    context: int
    prompt_tokens: int = 0
    target_cached: int = 0
    draft_cached: int = 0
    draft_received: int = 0  # tokens of the conversation that the draft's chip has received
    answer: list[int] = field(default_factory=list)
    rounds: int = 0
    arrived_ns: int = 0
    delivered_ns: int = 0
    watch: Callable[[int, int], None] | None = None  # called every round: tokens emitted, one decode step's time in ns
    acknowledged: simpy.Event | None = None  # succeeds when the target knows how the last round ended
    paused: bool = False  # speculation is slower at the moment: the target decodes alone
    finish: str | None = None
    undelivered: dict[int, Round] = field(default_factory=dict)  # rounds that closed before an earlier one
    closed: int = 0
    delivered: Callable[[Round], None] | None = None  # called as the application gets the tokens of a round
    target_beside: Beside = NOTHING_BESIDE
    draft_beside: Beside = NOTHING_BESIDE
    lead: Drafted | None = None  # what the draft's chip has done ahead of the verdict, where a policy lets it
    passages: int = 0  # tokens that the draft's chip is sent beside those of the conversation
    to_send: int = field(init=False)  # tokens that the target's chip is sent before it reads
    limit: int = field(init=False)  # the length of the conversation at which the answer must stop
    cause: RequestTag = field(init=False)  # tag of spans: the current round

    def __post_init__(self) -> None:
        self.cause = RequestTag(self.index, self.rounds)
        self.to_send = self.prompt_tokens
        self.limit = min(len(self.tokens) + self.max_new_tokens - len(self.answer), self.context)

    @property
    def done(self) -> bool:
        return self.finish is not None

    @property
    def cancelled(self) -> bool:
        """Whether the passenger wants no more of the answer."""
        return self.finish == "cut"

    @property
    def speculates(self) -> bool:
        """Whether a policy should begin another round."""
        return self.finish is None and not self.paused

    @property
    def room(self) -> int:
        """Tokens that may still be emitted."""
        return self.limit - len(self.tokens)

    @property
    def begins(self) -> int:
        """Where this turn's question begins in the conversation."""
        return len(self.tokens) - len(self.answer) - self.prompt_tokens

    def extend(self, tokens: tuple[int, ...], ends: Callable[[int], bool]) -> tuple[int, ...]:
        """Commit tokens up to one that ends the turn or to a limit; returns those that were committed."""
        room = self.limit - len(self.tokens)
        committed = tokens[:room]
        for place, token in enumerate(committed):
            if ends(token):
                committed = committed[: place + 1]
                self.finish = "end"
                break
        else:
            if len(committed) == room:
                self.finish = "length" if len(self.answer) + room >= self.max_new_tokens else "context"
        self.tokens += committed
        self.answer += committed
        return committed

    def next_round(self) -> None:
        """Begin the next round: later spans belong to it."""
        self.rounds += 1
        self.cause = tuple.__new__(RequestTag, (self.index, self.rounds))

    def after_block(self, before: int, fed: int, accepted: int) -> None:
        """Rewind the target's cache alone: it fed what was committed `before` and `fed` drafted tokens."""
        self.target_cached = min(before + min(fed, accepted), len(self.tokens) - 1)

    def after_verdict(self, before: int, drafted: int, accepted: int, head: HeadKind | None = None) -> None:
        """Rewind both caches: the target fed the pending token and every draft, the draft all but its last token.

        `before` is the length of the conversation when the round began, `drafted` the longest row of drafts, `head` the
        kind of draft head that made it, if one did. What was rejected is forgotten; the last committed token is always
        fed by the next step, so no cache holds it.
        """
        last = len(self.tokens) - 1
        target, draft = before + accepted, retained(head, before, drafted - 1, accepted)
        self.target_cached = target if target < last else last
        self.draft_cached = draft if draft < last else last
