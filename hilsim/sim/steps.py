"""The steps that policies are made of: prefill, plain decoding, drafting, verifying, sending, delivering.

Each couples what is said (the source) with what it costs (the board). A policy strings them together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import simpy

from hilsim.cost.payload import answer_bytes, draft_bytes, draft_decides, path_bytes, prompt_bytes, verdict_bytes
from hilsim.cost.step import Phase, Step
from hilsim.describe.scenario import Scenario
from hilsim.logits.source import Draft, LogitsSource, TokenTree, TreeSource, Verdict
from hilsim.sim.board import Board, Cause, Direction, Process, Seat
from hilsim.sim.request import Request
from hilsim.sim.trace import Round


@dataclass(frozen=True)
class Desk:
    """What a policy works with: the board, the source, the scenario's rules, and where the words are wanted."""

    board: Board
    source: LogitsSource
    scenario: Scenario
    vocabulary: int
    application: str

    @property
    def draft(self) -> Seat:
        assert self.board.draft is not None, "this policy needs a draft"
        return self.board.draft

    @property
    def up(self) -> Direction:
        assert self.board.up is not None, "this policy needs a link"
        return self.board.up

    @property
    def down(self) -> Direction:
        assert self.board.down is not None, "this policy needs a link"
        return self.board.down

    @property
    def trees(self) -> TreeSource:
        """The source, where it knows token trees."""
        assert isinstance(self.source, TreeSource), "trees are for live logits"
        return self.source

    @property
    def elsewhere(self) -> bool:
        """Whether the words are heard and spoken on another chip than the target's."""
        return self.application != self.board.target.chip

    @property
    def now(self) -> int:
        return self.board.now

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
    ) -> Round:
        """The target has decided: the tokens are part of the answer. The round stays open until they are delivered."""
        ends = {place for place, token in enumerate(tokens) if self.source.ends(token)}
        position = len(request.tokens)
        kept = request.extend(tokens, ends)
        opened = Round(
            request=request.index,
            number=request.rounds,
            start_ns=start_ns,
            end_ns=self.now,
            delivered_ns=self.now,
            drafted=drafted,
            accepted=accepted,
            emitted=kept,
            kept_drafts=min(kept, accepted),
            tokens=tokens[:kept],
            margins=margins[:kept],
            single_ns=single_ns,
            position=position,
            depth=depth,
            distances=distances,
        )
        request.rounds += 1
        if request.watch is not None:
            request.watch(kept, single_ns)
        return opened

    def judge(
        self, request: Request, start_ns: int, proposed: Draft, verdict: Verdict, cached: int, *, bonus: bool = True
    ) -> Round:
        """Commit what a verdict says: the drafts that stand, then the target's own token.

        Without `bonus` that token comes after a rejection only: where all drafts stand it has no row of its own.
        `cached` is what the target's cache held before.
        """
        whole = verdict.accepted == len(proposed.tokens)
        tokens = proposed.tokens if whole and not bonus else verdict.tokens(proposed)
        return self.commit(
            request,
            start_ns,
            tokens,
            verdict.margins[: len(tokens)],
            drafted=len(proposed.tokens),
            accepted=verdict.accepted,
            depth=len(proposed.tokens),
            single_ns=self.board.target.single_ns(cached),
            distances=verdict.distances,
        )

    def close(self, request: Request, opened: Round, *, delivered_ns: int) -> Round:
        """Both chips know, and at `delivered_ns` the words can be spoken: the round goes to the trace, in its turn."""
        ended = opened._replace(end_ns=self.now, delivered_ns=delivered_ns)
        request.undelivered[ended.number] = ended
        while (closed := request.undelivered.pop(request.closed, None)) is not None:
            request.closed += 1
            request.delivered_ns = closed.delivered_ns
            self.board.trace.add_round(closed, self.source.text(closed.tokens))
        return ended


def prefill_target(desk: Desk, request: Request) -> Process:
    """Read what is new of the conversation on the target; its last row is the first token of the answer."""
    cause = Cause(request.index, 0)
    if desk.elsewhere:
        yield from desk.up.send("prompt", prompt_bytes(request.prompt_tokens), cause)
    rows = len(request.tokens) - request.target_cached
    yield from desk.board.target.work(Step(Phase.PREFILL, rows, request.target_cached), cause)
    request.target_cached = len(request.tokens)


def prefill_draft(desk: Desk, request: Request) -> Process:
    """Read what is new of the conversation on the draft's chip, after the words have got there."""
    cause = Cause(request.index, 0)
    prompt = len(request.tokens)
    if desk.application != desk.draft.chip:
        yield from desk.down.send("prompt", prompt_bytes(prompt - request.draft_heard), cause)
    request.draft_heard = prompt
    yield from desk.draft.work(Step(Phase.DRAFT_PREFILL, prompt - request.draft_cached, request.draft_cached), cause)
    request.draft_cached = prompt


def open_target(desk: Desk, request: Request) -> Process:
    """The target reads the question; its last row is the first token of the answer."""
    start = desk.now
    token, margin = desk.source.next_token(request)
    yield from prefill_target(desk, request)
    if desk.elsewhere:
        yield from send_verdict(desk, request)
    deliver(desk, request, start, (token,), (margin,))


def open_both(desk: Desk, request: Request) -> Process:
    """Both chips read the question at once; the target's last row is the first token, which the draft is told."""
    start = desk.now
    token, margin = desk.source.next_token(request)
    reading = desk.board.env.process(prefill_draft(desk, request))
    yield from prefill_target(desk, request)
    read = desk.now
    yield from send_verdict(desk, request)
    told = desk.now
    yield reading
    deliver(desk, request, start, (token,), (margin,), delivered_ns=told if desk.elsewhere else read)
    request.draft_heard = len(request.tokens)


def decode(desk: Desk, request: Request) -> Process:
    """One token by the target alone."""
    start, cached = desk.now, request.target_cached
    token, margin = desk.source.next_token(request)
    yield from target_step(desk, request, Step(Phase.DECODE, len(request.tokens) - cached, cached))
    request.target_cached = len(request.tokens)
    if desk.elsewhere:
        yield from send_verdict(desk, request)
    deliver(desk, request, start, (token,), (margin,), single_ns=desk.board.target.single_ns(cached))
    if desk.elsewhere:
        request.draft_heard = len(request.tokens)


def inform(desk: Desk, request: Request) -> Process:
    """Tell the draft's chip what the target has said alone since it was last told; nothing where it knows."""
    untold = len(request.tokens) - request.draft_heard
    if untold > 0:
        yield from desk.down.send("prompt", prompt_bytes(untold), cause_of(request))
        request.draft_heard = len(request.tokens)


def draft(desk: Desk, request: Request, count: int) -> Process:
    """At most `count` tokens, a step each, the first of which also reads what the cache lacks. Returns the `Draft`."""
    yield from inform(desk, request)
    proposed, cached = desk.source.draft(request, count), request.draft_cached
    for place in range(len(proposed.tokens)):
        known = len(request.tokens) + place
        yield from desk.draft.work(Step(Phase.DRAFT, known - cached, cached), cause_of(request, known))
        cached = known
    return proposed


def verify(desk: Desk, request: Request, proposed: Draft) -> tuple[Verdict, Step]:
    """The target's verdict, and the one step it takes: the pending token and every drafted one."""
    cached = request.target_cached
    rows = len(request.tokens) - cached + len(proposed.tokens)
    return desk.source.verify(request, proposed), Step(Phase.VERIFY, rows, cached)


def target_step(desk: Desk, request: Request, step: Step) -> Process:
    """A step on the target, which must first know what the last one came to."""
    yield from settled(request)
    yield from desk.board.target.work(step, cause_of(request))


def settled(request: Request) -> Process:
    """Until the target knows how the last round ended, where the draft's chip had the last word."""
    if request.settled is not None:
        yield request.settled
        request.settled = None


def send_drafts(desk: Desk, request: Request, proposed: Draft | TokenTree, left: simpy.Event | None = None) -> Process:
    """Drafted tokens, with whatever the payload scheme adds; the shape of a tree is known to both chips."""
    rules = desk.scenario
    nbytes = draft_bytes(rules.payload, len(proposed.tokens), desk.vocabulary, rules.verify_at)
    yield from desk.up.send("drafts", nbytes, cause_of(request), left)


def round_trip_ns(desk: Desk, drafted: int) -> int:
    """What drafts up and their answer down take on a link where nothing queues, jitter left out."""
    rules = desk.scenario
    up = draft_bytes(rules.payload, drafted, desk.vocabulary, rules.verify_at)
    down = answer_bytes(rules.payload, rules.sampling, rules.verify_at, drafted, drafted, drafted + 1, desk.vocabulary)
    return desk.up.transfer_ns(up) + desk.down.transfer_ns(down)


def send_verdict(desk: Desk, request: Request) -> Process:
    """A bare verdict on its way to the draft's chip."""
    yield from desk.down.send("verdict", verdict_bytes(), cause_of(request))


def announce(
    desk: Desk, request: Request, opened: Round, rows: int, learn: Callable[[int, bool], None], path: int = 0
) -> simpy.Process:
    """Tell the draft's chip how a round ended, and close it; nobody waits for this but who asks to.

    `learn` is called there with the length that is committed and whether that is all. `rows` are the rows of the target
    that were needed: what comes down where the draft's chip tests. Where it has the last word, its word goes up again,
    and the target's next step waits for it. Of a tree, `path` nodes are named.
    """
    rules, length, done = desk.scenario, len(request.tokens), request.done
    last_word_below = draft_decides(rules.payload, rules.verify_at, opened.drafted, opened.accepted)
    cause = Cause(request.index, opened.number)

    def under_way() -> Process:
        nbytes = path_bytes(path) + answer_bytes(
            rules.payload, rules.sampling, rules.verify_at, opened.drafted, opened.accepted, rows, desk.vocabulary
        )
        yield from desk.down.send("verdict", nbytes, cause)
        delivered_ns = desk.now if desk.elsewhere else opened.delivered_ns
        request.draft_heard = max(request.draft_heard, length)
        learn(length, done)
        if last_word_below:
            yield from desk.up.send("verdict", verdict_bytes(), cause)
            delivered_ns = delivered_ns if desk.elsewhere else desk.now
        desk.close(request, opened, delivered_ns=delivered_ns)

    telling = desk.board.env.process(under_way())
    if last_word_below:
        request.settled = telling
    return telling


def tell(desk: Desk, request: Request, opened: Round, rows: int, path: int = 0) -> Process:
    """As `announce`; returns when the draft's chip knows."""
    heard = desk.board.env.event()

    def learn(length: int, done: bool) -> None:
        heard.succeed()

    announce(desk, request, opened, rows, learn, path)
    yield heard


def deliver(
    desk: Desk,
    request: Request,
    start_ns: int,
    tokens: tuple[int, ...],
    margins: tuple[float, ...],
    *,
    delivered_ns: int | None = None,
    single_ns: int = 0,
) -> Round:
    """Commit tokens to the answer and close the round: at `delivered_ns` (now, unless said) the words can be spoken."""
    opened = desk.commit(request, start_ns, tokens, margins, single_ns=single_ns)
    return desk.close(request, opened, delivered_ns=desk.now if delivered_ns is None else delivered_ns)


def cause_of(request: Request, position: int = -1) -> Cause:
    """The request's round that is under way; `position` is that of the token a draft step proposes."""
    return Cause(request.index, request.rounds, position)
