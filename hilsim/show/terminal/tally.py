"""What the dashboard has seen so far: the conversation, the last spans, and running sums. Nothing of the screen."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hilsim.describe.policy import TargetOnly
from hilsim.describe.scenario import Conversations
from hilsim.describe.setup import Setup
from hilsim.measure.formulas import tokens_a_round
from hilsim.show.kinds import lane_order, tracks_of
from hilsim.show.stretches import TextOf, stretches
from hilsim.show.terminal.company import CompanyTally
from hilsim.sim.trace import RequestRecord, Round, Span, TurnRecord
from hilsim.units import NS_PER_S

REMEMBERED = 40
RECENT_SPANS = 1000  # a track; many more than a few rounds of the longest drafts


@dataclass(eq=False)  # two alike are still two, and what is drawn can be remembered by exchange
class Exchange:
    """A question and its answer as far as it has got: rounds with their text."""

    conversation: int
    user: str
    arrived_ns: int
    rounds: list[tuple[Round, str]] = field(default_factory=list)
    tokens: int = 0
    finished_ns: int | None = None
    passenger: str = ""  # who asked, once the turn is over

    def delivered_ns(self, tokens: int) -> int | None:
        """When so many tokens had been delivered."""
        for closed, _ in self.rounds:
            tokens -= closed.emitted
            if tokens <= 0:
                return closed.delivered_ns
        return None


@dataclass
class RequestTimes:
    """What the passenger waited for in one finished request."""

    latency_ns: int
    clause_ns: int
    tokens: int


@dataclass
class Pass:
    """One run over all requests under one policy."""

    policy: str
    tracks: list[str]
    requests: int
    busy_ns: dict[str, int] = field(default_factory=dict)
    outcomes: dict[int, RequestTimes] = field(default_factory=dict)
    rounds: int = 0
    length_ns: int = 0
    emitted: int = 0
    later: int = 0  # emitted by rounds after the one that reads the question
    drafts: int = 0
    drafted: int = 0
    accepted: int = 0
    verdicts: Counter[tuple[int, int]] = field(default_factory=Counter)  # rounds by (depth, accepted)
    now_ns: int = 0
    answering_ns: int = 0
    answering_since: int | None = None

    @property
    def active_ns(self) -> int:
        """Time so far in which at least one request was being answered."""
        since = self.answering_since
        return self.answering_ns + (0 if since is None else max(0, self.now_ns - since))

    @property
    def tokens_per_round(self) -> float:
        """As `metrics.speculation` has it, so far."""
        return float(tokens_a_round(self.later, self.rounds))

    def acceptance(self) -> list[float]:
        """By position in the draft: the share of the tokens drafted there that were accepted, 0 to 1."""
        longest = max((drafted for drafted, _ in self.verdicts), default=0)
        shares = []
        for place in range(longest):
            offered = sum(rounds for (drafted, _), rounds in self.verdicts.items() if drafted > place)
            standing = sum(rounds for (_, accepted), rounds in self.verdicts.items() if accepted > place)
            shares.append(standing / offered)
        return shares


class Tally:
    """Sums over the runs so far. `text_of` turns tokens into text, by which drafted text is marked."""

    def __init__(self, setup: Setup, text_of: TextOf):
        self.setup, self.text_of = setup, text_of
        self.expected = 1 if isinstance(setup.scenario.policy, TargetOnly) else 2
        self.passes: list[Pass] = []
        self.exchanges: deque[Exchange] = deque(maxlen=REMEMBERED)
        self.open: dict[int, Exchange] = {}
        self.spans: dict[str, deque[Span]] = {}
        self.company = CompanyTally.of(setup)
        self.kinds: set[str] = set()  # of spans, over all runs

    @property
    def current(self) -> Pass:
        if not self.passes:
            self.passes.append(Pass("", [], 0))
        return self.passes[-1]

    @property
    def alone(self) -> Pass | None:
        """The finished run of the target alone, once there is another to compare with it."""
        return self.passes[0] if len(self.passes) > 1 else None

    def started(self, policy: str, tracks: tuple[str, ...], requests: int) -> None:
        alone = [before for before in self.passes if before.policy == "target_only"][-1:]
        if self.expected == 2:
            # The target alone leaves the other lanes idle; showing them keeps the screen as it will be.
            tracks = tuple(dict.fromkeys([*tracks, *tracks_of(self.setup)]))
        self.passes = [*alone, Pass(policy, lane_order(self.setup, tracks), requests)]
        self.exchanges.clear()
        self.open.clear()
        self.company = CompanyTally.of(self.setup)
        self.spans = {track: deque(maxlen=RECENT_SPANS) for track in tracks}

    def asked(self, request: int, conversation: int, user: str, at_ns: int) -> None:
        self.open[request] = exchange = Exchange(conversation, user, at_ns)
        self.exchanges.append(exchange)
        if self.current.answering_since is None:
            self.current.answering_since = at_ns
        self.current.now_ns = max(self.current.now_ns, at_ns)

    def absorb(self, spans: Iterable[Span]) -> None:
        """Take in spans that closed since the last time."""
        now = self.current
        busy, latest = now.busy_ns, now.now_ns
        for span in spans:
            track, end = span.track, span.end_ns
            self.kinds.add(span.kind)
            self.spans[track].append(span)
            busy[track] = busy.get(track, 0) + end - span.start_ns
            latest = max(latest, end)
        now.now_ns = latest

    def recent(self, track: str, since_ns: int) -> list[Span]:
        """The last spans of a track, as far back as one that ends before an instant."""
        found: list[Span] = []
        for span in reversed(self.spans[track]):
            if span.end_ns <= since_ns:
                break
            found.append(span)
        return found[::-1]

    def round(self, closed: Round, text: str) -> None:
        now = self.current
        now.now_ns = max(now.now_ns, closed.end_ns)
        now.emitted += closed.emitted
        if closed.number:
            now.rounds += 1
            now.later += closed.emitted
            now.length_ns += closed.end_ns - closed.start_ns
        if closed.drafted:
            now.drafts += 1
            now.drafted += closed.drafted
            now.accepted += closed.accepted
            now.verdicts[closed.depth, closed.accepted] += 1
        exchange = self.open.get(closed.request)
        if exchange is not None:
            exchange.rounds.append((closed, text))
            exchange.tokens += closed.emitted

    def runs(self, exchange: Exchange) -> Iterator[tuple[str, bool]]:
        """The text of an answer in stretches, each drafted and accepted, or the target's own."""
        for closed, text in exchange.rounds:
            yield from stretches(closed, text, self.text_of)

    def request(self, record: RequestRecord) -> None:
        now = self.current
        exchange = self.open.pop(record.number, None)
        clause = record.finished_ns
        if exchange is not None:
            delivered = exchange.delivered_ns(record.clause_tokens)
            clause = record.finished_ns if delivered is None else delivered
        arrived = record.arrived_ns
        now.outcomes[record.number] = RequestTimes(record.finished_ns - arrived, clause - arrived, record.output_tokens)
        self.end(exchange, record.finished_ns)

    def turn(self, turn: TurnRecord) -> None:
        """A spoken turn is over; one that was given up before its answer began ends here."""
        self.company.turn(turn)
        for number, exchange in list(self.open.items()):
            if turn.request < 0 and not exchange.tokens and exchange.arrived_ns == turn.asked_ns:
                self.end(self.open.pop(number), max(self.current.now_ns, turn.asked_ns))
                exchange.passenger = turn.passenger
        for exchange in reversed(self.exchanges):
            if exchange.arrived_ns == turn.asked_ns and exchange.finished_ns is not None:
                exchange.passenger = turn.passenger

    def end(self, exchange: Exchange | None, at_ns: int) -> None:
        """An answer is over."""
        now = self.current
        if exchange is not None:
            exchange.finished_ns = at_ns
        now.now_ns = max(now.now_ns, at_ns)
        if not self.open and now.answering_since is not None:
            now.answering_ns += at_ns - now.answering_since
            now.answering_since = None

    @property
    def speedup(self) -> float | None:
        """Latencies of the target alone over those so far, over the requests that both have finished."""
        if self.alone is None:
            return None
        both = [(self.alone.outcomes[n], mine) for n, mine in self.current.outcomes.items() if n in self.alone.outcomes]
        spent = sum(mine.latency_ns for _, mine in both)
        return sum(theirs.latency_ns for theirs, _ in both) / spent if spent else None

    def first_clause_ns(self, which: Pass) -> float | None:
        """Mean wait for the first clause in a pass, over the requests that the current one has finished."""
        waits = [which.outcomes[n].clause_ns for n in self.current.outcomes if n in which.outcomes]
        return sum(waits) / len(waits) if waits else None

    @property
    def progress(self) -> float:
        """Share of all passes that is done, tokens of open answers counted."""
        now = self.current
        if not now.requests:
            return 0.0
        done = float(len(now.outcomes))
        for number, exchange in self.open.items():
            done += min(0.95, exchange.tokens / self._expected_tokens(number))
        share, trip = done / now.requests, self.setup.scenario.trip
        if trip is not None:  # it ends by the clock, and not all that could be asked is asked
            share = max(share, now.now_ns / (60 * NS_PER_S * trip.minutes))
        before = self.expected - 1 if self.alone is not None else 0
        return min(1.0, (before + min(1.0, share)) / self.expected)

    def _expected_tokens(self, request: int) -> int:
        if self.alone is not None and request in self.alone.outcomes:
            return max(1, self.alone.outcomes[request].tokens)
        workload = self.setup.scenario.workload
        return workload.max_new_tokens if isinstance(workload, Conversations) else workload.output_tokens
