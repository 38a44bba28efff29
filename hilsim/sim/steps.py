"""The steps that policies are made of: prefill, plain decoding, drafting, verifying, sending, delivering.

Each couples content (the source) with its time and bytes (the board). A policy is a sequence of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import simpy

from hilsim.cost.payload import path_bytes, prompt_bytes, verdict_bytes
from hilsim.cost.step import Phase
from hilsim.describe.drafting import ONE_PASS, passes
from hilsim.sampling.proposals import Draft, TokenTree, Verdict
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import DeviceSlot, Process, RequestTag, TimedStep
from hilsim.sim.request import Beside, Request
from hilsim.sim.trace import Round


def prefill_target(context: RunContext, request: Request) -> Process:
    """Read what is new of the conversation on the target; its last row is the first token of the answer."""
    if context.elsewhere:
        yield from context.up.send("prompt", prompt_bytes(request.to_send), request.cause)
    target, cached = context.board.target, request.target_cached
    step = reading(target, Phase.PREFILL, len(request.tokens) - cached, cached, request.target_beside)
    yield from target.work(step, request.cause)
    request.target_cached = len(request.tokens)


def reading(slot: DeviceSlot, phase: Phase, rows: int, cached: int, beside: Beside) -> TimedStep:
    """A step that reads new rows of a conversation, and what is read beside them."""
    if not any(beside):
        return slot.step(phase, rows, cached)
    return slot.step(phase, rows + beside.rows, cached - beside.missing)._replace(cached=cached)


def prefill_draft(context: RunContext, request: Request, states: simpy.Event | None = None) -> Process:
    """Read what is new of the conversation on the draft's chip, after its text has arrived there.

    A head waits for the target's hidden `states`; one without a cache reads no prompt.
    """
    prompt = len(request.tokens)
    if context.application != context.draft.chip:
        unknown = prompt - request.draft_received + request.passages
        yield from context.down.send("prompt", prompt_bytes(unknown), request.cause)
    request.draft_received = prompt
    cached = request.draft_cached
    if states is not None:
        yield states
    if context.head == "medusa":
        return
    step = reading(context.draft, Phase.DRAFT_PREFILL, prompt - cached, cached, request.draft_beside)
    yield from context.draft.work(step, request.cause)
    request.draft_cached = prompt


def open_target(context: RunContext, request: Request) -> Process:
    """The target reads the question; its last row is the first token of the answer."""
    start = context.now
    token, margin = context.source.next_token(request)
    yield from prefill_target(context, request)
    if context.elsewhere:
        yield from send_verdict(context, request)
    deliver(context, request, start, (token,), (margin,))


def open_both(context: RunContext, request: Request) -> Process:
    """Both chips read the question at once; the target's last row is the first token, which is sent to the draft.

    A draft head reads it after the target, whose hidden states follow that token.
    """
    start, env = context.now, context.board.env
    rows = len(request.tokens) - min(request.target_cached, request.begins) + request.draft_beside.rows
    token, margin = context.source.next_token(request)
    states = None if context.head is None else env.event()
    reading = env.process(prefill_draft(context, request, states))
    yield from prefill_target(context, request)
    read = context.now
    informed = yield from send_verdict(context, request, rows)
    if states is not None:
        states.succeed()
    yield reading
    deliver(context, request, start, (token,), (margin,), delivered_ns=informed if context.elsewhere else read)
    request.draft_received = len(request.tokens)


def decode(context: RunContext, request: Request) -> Process:
    """One decode step of the target alone, which delivers one token."""
    start, cached, target = context.now, request.target_cached, context.board.target
    token, margin = context.source.next_token(request)
    yield from target_step(context, request, target.step(Phase.DECODE, len(request.tokens) - cached, cached))
    request.target_cached = len(request.tokens)
    delivered_ns = context.now
    if context.elsewhere:
        delivered_ns = yield from send_verdict(context, request, 1)
    single_ns = target.single_ns(cached)
    deliver(context, request, start, (token,), (margin,), delivered_ns=delivered_ns, single_ns=single_ns)
    if context.elsewhere:
        request.draft_received = len(request.tokens)


def inform(context: RunContext, request: Request) -> Iterable[simpy.Event]:
    """Send the draft's chip the tokens that the target has decoded alone since the last message, if any."""
    unknown = len(request.tokens) - request.draft_received
    return send_unknown(context, request, unknown) if unknown > 0 else ()


def send_unknown(context: RunContext, request: Request, unknown: int) -> Process:
    """Send the draft's chip so many tokens, the last ones of the conversation."""
    yield from send_down(context, "prompt", prompt_bytes(unknown), request.cause, unknown)
    request.draft_received = len(request.tokens)


def draft(context: RunContext, request: Request, count: int) -> Process:
    """Draft at most `count` tokens, in the passes of the draft. Returns the `Draft`."""
    yield from inform(context, request)
    proposed = context.source.draft(request, count)
    drafted = count if context.head in ONE_PASS else len(proposed.tokens)
    yield from draft_passes(context, request, passes_from(context, request, drafted))
    return proposed


def passes_from(context: RunContext, request: Request, drafted: int) -> tuple[tuple[int, int], ...]:
    """Rows and logits of the passes that draft so many tokens after the committed ones."""
    return passes(context.head, drafted, len(request.tokens) - request.draft_cached)


def draft_passes(
    context: RunContext,
    request: Request,
    executed: Sequence[tuple[int, int]],
    *,
    branching: bool = False,
    anew: bool = False,
) -> Process:
    """Passes of the draft one after another, by rows and logits; of a token tree all but the first are masked.

    `anew`: each of these reads the tree from its root again.
    """
    cached, position = request.draft_cached, len(request.tokens)
    for place, (rows, logits) in enumerate(executed):
        yield from draft_step(context, request, position + place, cached, rows, logits, tree=branching and place > 0)
        cached = position if anew else cached + rows


def draft_step(
    context: RunContext,
    request: Request,
    position: int,
    cached: int,
    rows: int | None = None,
    logits: int = 1,
    *,
    tree: bool = False,
) -> Process:
    """A pass of the draft over `rows`, or over all that its cache lacks; it proposes from `position` on."""
    slot = context.draft
    step = slot.step(Phase.DRAFT, position - cached if rows is None else rows, cached, tree, logits)
    return slot.work(step, request.cause, position)


def verify(context: RunContext, request: Request, proposed: Draft) -> tuple[Verdict, TimedStep]:
    """The target's verdict, and the one step it takes: the pending token and every drafted one."""
    cached = request.target_cached
    rows = len(request.tokens) - cached + len(proposed.tokens)
    return context.source.verify(request, proposed), context.board.target.step(Phase.VERIFY, rows, cached)


def target_step(context: RunContext, request: Request, step: TimedStep) -> Process:
    """A step on the target, which must first know how the last round ended."""
    work = context.board.target.work(step, request.cause)
    return work if request.acknowledged is None else after_acknowledgement(request, work)


def after_acknowledgement(request: Request, work: Process) -> Process:
    """`work` as soon as the target knows how the last round ended."""
    yield from await_acknowledgement(request)
    yield from work


def await_acknowledgement(request: Request) -> Process:
    """Wait until the target knows how the last round ended, where the draft's chip decides rounds."""
    if request.acknowledged is not None:
        yield request.acknowledged
        request.acknowledged = None


def send_drafts(
    context: RunContext, request: Request, proposed: Draft | TokenTree, left: simpy.Event | None = None
) -> Process:
    """Send drafted tokens, with what the payload scheme adds; the shape of a tree is known to both chips."""
    nbytes = context.messages.drafts(len(proposed.tokens))
    return context.up.send("drafts", nbytes, request.cause, left)


def tag_of(opened: Round) -> RequestTag:
    """The tag of spans that belong to a round, which may be another than the request's present one."""
    return tuple.__new__(RequestTag, opened[:2])


def hand_over(context: RunContext, request: Request, opened: Round) -> Process:
    """Deliver a round that the target's chip made alone: over the link, where the application runs elsewhere."""
    if context.elsewhere:
        yield from context.down.send("verdict", verdict_bytes(), tag_of(opened))
    context.close(request, opened, delivered_ns=context.now)


def send_verdict(context: RunContext, request: Request, positions: int = 0) -> Process:
    """Send a bare verdict to the draft's chip, after new `positions` of the target; see `send_down`."""
    return send_down(context, "verdict", verdict_bytes(), request.cause, positions)


def send_down(context: RunContext, kind: str, nbytes: int, cause: RequestTag, positions: int) -> Process:
    """Send a message to the draft's chip; behind it the hidden states of new `positions` that a draft head reads there.

    Returns, when all has arrived, the instant at which the message had.
    """
    message, hidden = context.down.send(kind, nbytes, cause), context.messages.hidden(positions)
    return with_states(context, message, hidden, cause) if hidden else message


def with_states(context: RunContext, message: Process, hidden: int, cause: RequestTag) -> Process:
    """A message to the draft's chip with so many bytes of hidden states behind it; see `send_down`."""
    # They queue for the wire behind the message, which takes it first.
    behind = context.board.env.process(context.down.send("hidden states", hidden, cause))
    yield from message
    received_ns = context.now
    yield behind
    return received_ns


def tell(context: RunContext, request: Request, opened: Round, rows: int, path: int = 0) -> Process:
    """Send the draft's chip the result of a round, and close the round; returns when that chip has it.

    `rows` are the rows of the target that were needed: what comes down where the draft's chip tests. Where it
    decides, its result goes up again, and the target's next step waits for that. Of a tree, `path` nodes are named.
    """
    length = len(request.tokens)
    received_ns = yield from send_answer(context, request, opened, rows, path)
    if length > request.draft_received:
        request.draft_received = length
    concluding = conclude(context, request, opened, received_ns)
    if concluding is not None:
        request.acknowledged = context.board.env.process(concluding)


def announce(
    context: RunContext, request: Request, opened: Round, rows: int, learn: Callable[[int, bool], None]
) -> simpy.Process:
    """As `tell`, but in the background: the policy goes on at once.

    `learn` is called on the draft's chip with the length that is committed and whether that is all.
    """
    length, done = len(request.tokens), request.done

    def under_way() -> Process:
        received_ns = yield from send_answer(context, request, opened, rows)
        request.draft_received = max(request.draft_received, length)
        learn(length, done)
        yield from conclude(context, request, opened, received_ns) or ()

    announcing = context.board.env.process(under_way())
    if context.messages.draft_decides(opened.drafted, opened.accepted):
        request.acknowledged = announcing
    return announcing


def send_answer(context: RunContext, request: Request, opened: Round, rows: int, path: int = 0) -> Process:
    """Send the target's result of a round down; returns as `send_down` does."""
    accepted = opened.accepted
    nbytes = path_bytes(path) + context.messages.answer(opened.drafted, accepted, rows)
    return send_down(context, "verdict", nbytes, tag_of(opened), accepted + 1)


def conclude(context: RunContext, request: Request, opened: Round, received_ns: int) -> Process | None:
    """The draft's chip has the target's result: close the round.

    Where that chip decides, the round closes after its own result, by the process that this returns.
    """
    delivered_ns = received_ns if context.elsewhere else opened.delivered_ns
    if context.messages.draft_decides(opened.drafted, opened.accepted):
        return acknowledge(context, request, opened, delivered_ns)
    context.close(request, opened, delivered_ns=delivered_ns)
    return None


def acknowledge(context: RunContext, request: Request, opened: Round, delivered_ns: int) -> Process:
    """The draft's chip has decided a round: send its result to the target's chip, and close the round."""
    known_ns = yield from context.up.send("verdict", verdict_bytes(), tag_of(opened))
    context.close(request, opened, delivered_ns=delivered_ns if context.elsewhere else known_ns)


def deliver(
    context: RunContext,
    request: Request,
    start_ns: int,
    tokens: tuple[int, ...],
    margins: tuple[float, ...],
    *,
    delivered_ns: int | None = None,
    single_ns: int = 0,
) -> Round:
    """Commit tokens to the answer and close the round: the application has them at `delivered_ns` (now by default)."""
    opened = context.commit(request, start_ns, tokens, margins, single_ns=single_ns, delivered_ns=delivered_ns)
    return context.close(request, opened, delivered_ns=context.now if delivered_ns is None else delivered_ns)
