"""Drafting ahead of the verdict: what the draft's chip assumes, what it has sent, what has arrived at the target.

`Request.tokens` is what the target has committed. The draft's chip has a prefix of it (`confirmed` tokens) and its own
unverified tokens after that (`ahead`). Every shipment carries all drafted tokens since `confirmed`, so the target can
check whether they follow committed tokens; a real runtime numbers its rollbacks to the same effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import simpy

from hilsim.sampling.proposals import Draft, Prefix
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.request import Request
from hilsim.sim.steps import draft_step, send_drafts
from hilsim.sim.unwatched import start, start_within


@dataclass(slots=True)
class View:
    """A part of a request's conversation, such as the draft's chip has received; a `Prefix` for the source."""

    index: int
    conversation: int
    tokens: Sequence[int]


@dataclass
class Lead:
    """The state of the draft's chip in one request."""

    env: simpy.Environment
    request: Request
    confirmed: int
    cached: int
    news: simpy.Event
    ahead: list[int] = field(default_factory=list)
    shipped: list[int] = field(default_factory=list)  # where shipments end that are not confirmed, in tokens
    unsent: int = 0  # tokens at the end of `ahead` that no message carries yet
    sending: bool = False  # a message of drafts is waiting for the wire or on it
    ended: bool = False  # the last token ahead ends the turn
    last: bool = False  # nothing more is drafted until a verdict arrives
    over: bool = False  # the draft's chip knows that the answer is complete

    @staticmethod
    def of(context: RunContext, request: Request) -> Lead:
        """The state in which the draft's chip knows all committed tokens."""
        env = context.board.env
        made = request.lead = Lead(env, request, len(request.tokens), request.draft_cached, env.event())
        return made

    @property
    def length(self) -> int:
        """Tokens of the conversation as the draft's chip assumes it."""
        return self.confirmed + len(self.ahead)

    @property
    def unanswered(self) -> int:
        """Shipments whose last token has no verdict yet."""
        return len(self.shipped)

    def room(self, *, bonus: bool) -> int:
        """Tokens that may still be drafted; one less where the target adds a token of its own."""
        return 0 if self.ended or self.over else self.request.limit - bonus - self.confirmed - len(self.ahead)

    def learn(self, length: int) -> bool:
        """Take over the committed tokens up to `length`; True where they contradict what was drafted."""
        new = self.request.tokens[self.confirmed : length]
        same = next((i for i, (a, b) in enumerate(zip(new, self.ahead, strict=False)) if a != b), None)
        if same is None:
            self.ahead = self.ahead[len(new) :]
            self.unsent = min(self.unsent, len(self.ahead))
            self.ended = self.ended and bool(self.ahead)
        else:
            self.cached = min(self.cached, self.confirmed + same)
            self.ahead, self.shipped, self.unsent, self.ended = [], [], 0, False
        if length > self.confirmed:
            self.confirmed = length
            self.shipped = [end for end in self.shipped if end > length]
        return same is not None

    def notify(self) -> None:
        """Wake the processes that wait for a verdict."""
        if self.news.callbacks:  # an event that nothing waits for has no place in the queue
            self.news.succeed()
            self.news = self.env.event()


class Shipment(NamedTuple):
    """Drafted tokens on their way: all since `confirmed`, and whether the draft stops here until a verdict arrives."""

    confirmed: int
    tokens: tuple[int, ...]
    last: bool


class Inbox:
    """What has arrived at the target's chip; only the newest shipment counts."""

    def __init__(self, env: simpy.Environment):
        self.env, self.newest, self.arrival = env, Shipment(0, (), False), env.event()

    def put(self, shipment: Shipment) -> None:
        self.newest = shipment
        if self.arrival.callbacks:
            self.arrival.succeed()
            self.arrival = self.env.event()

    def fresh(self, request: Request) -> tuple[int, ...]:
        """Tokens that follow the committed ones; none where the shipment continues a rejected token."""
        known = request.tokens[self.newest.confirmed :]
        if list(self.newest.tokens[: len(known)]) != known:
            return ()
        return self.newest.tokens[len(known) :]

    def arrived(self, request: Request) -> int:
        """Tokens that have arrived beyond what is committed, also where they continue a rejected token."""
        return self.newest.confirmed + len(self.newest.tokens) - len(request.tokens)


def draft_one(context: RunContext, lead: Lead) -> Process:
    """Draft one more token; it is dropped where its position was committed meanwhile."""
    request, ahead, confirmed = lead.request, lead.ahead, lead.confirmed
    position = confirmed + len(ahead)
    prefix: Prefix = request
    if confirmed < len(request.tokens):
        prefix = View(request.index, request.conversation, request.tokens[:confirmed])
    (token,) = context.source.draft(prefix, 1, tuple(ahead)).tokens
    yield from draft_step(context, request, position, lead.cached)
    lead.cached = position
    if lead.confirmed <= position:
        lead.ahead.append(token)
        lead.ended = context.source.ends(token)


def ship(context: RunContext, lead: Lead, count: int, inbox: Inbox, *, last: bool) -> None:
    """Send the last `count` drafted tokens on their way; what is drafted while the wire is busy goes in one message."""
    lead.shipped.append(lead.length)
    lead.unsent, lead.last = lead.unsent + count, last
    if not lead.sending:
        lead.sending = True
        start(lead.env, empty(context, lead, inbox))


def empty(context: RunContext, lead: Lead, inbox: Inbox) -> Process:
    """Send message after message until all drafted tokens have left; each arrives by itself."""
    while lead.unsent and lead.ahead:
        shipment = Shipment(lead.confirmed, tuple(lead.ahead), lead.last)
        fresh, lead.unsent = shipment.tokens[-lead.unsent :], 0
        left = lead.env.event()
        start_within(lead.env, arrive(context, lead, inbox, shipment, fresh, left))
        yield left
    lead.sending = False


def arrive(
    context: RunContext, lead: Lead, inbox: Inbox, shipment: Shipment, fresh: tuple[int, ...], left: simpy.Event
) -> Process:
    """One message from the draft's chip into the target's inbox."""
    yield from send_drafts(context, lead.request, Draft(fresh), left)
    inbox.put(shipment)
