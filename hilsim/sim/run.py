"""One run: a workload's conversations over simulated hardware under a policy, from first event to last, as a trace."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import simpy

from hilsim.cost.timer import timer_for
from hilsim.describe.policy import Policy
from hilsim.describe.scenario import Conversations, Lengths
from hilsim.describe.setup import Setup
from hilsim.errors import ChipLost
from hilsim.sim.background import start_background
from hilsim.sim.board import Board, Boards, Timers
from hilsim.sim.device_slot import Process
from hilsim.sim.pace import Paced
from hilsim.sim.policies.fallback import PolicyFunction
from hilsim.sim.policies.registry import policy_function
from hilsim.sim.request import Request
from hilsim.sim.steps import RunContext, await_acknowledgement, open_both, open_target
from hilsim.sim.trace import Observer, RequestRecord, Trace
from hilsim.sources.source import LogitsSource
from hilsim.text.prompt import without_end
from hilsim.units import ns

T = TypeVar("T")
CLAUSE_END = re.compile(r"[,.?!;:](?=\s|$)")


@dataclass(frozen=True)
class Turn:
    """One question in the workload; `index` counts over all conversations and keys the noise."""

    index: int
    conversation: int
    number: int
    user: str
    max_new_tokens: int


def turns_of(setup: Setup) -> list[list[Turn]]:
    """The workload as conversations of turns. Requests known by length alone are conversations of one turn."""
    workload = setup.scenario.workload
    if isinstance(workload, Lengths):
        return [[Turn(index, index, 0, "", workload.output_tokens)] for index in range(workload.requests)]
    conversations: list[list[Turn]] = []
    index = 0
    for number, conversation in enumerate(setup.conversations):
        turns = []
        for turn, user in enumerate(conversation.turns):
            turns.append(Turn(index, number, turn, user, workload.max_new_tokens))
            index += 1
        conversations.append(turns)
    return conversations


def of_workload(setup: Setup, by_request: Mapping[int, T]) -> dict[int, T]:
    """What belongs to the workload's requests, by their number, of what is known of more; skipped ones have none."""
    numbers = [turn.index for turns in turns_of(setup) for turn in turns]
    return {number: by_request[number] for number in numbers if number in by_request}


def simulate(
    setup: Setup,
    source: LogitsSource,
    policy: Policy | None = None,
    *,
    observer: Observer | None = None,
    realtime: float | None = None,
    keep: bool = True,
    timers: Timers = timer_for,
    boards: Boards | None = None,
) -> Trace:
    """Run the scenario's workload under `policy` (the scenario's own, unless given) and return its trace.

    `realtime` is wall seconds per simulated second; how well that was met is `trace.pace`. Where `keep` is False only
    requests are stored; all else is for the observer alone. `timers` give each role's step times: the chip model's,
    unless a board executes the steps. `boards` makes a board that brings its own clock, in place of the last two. Where
    a chip is lost for good, the run ends and `trace.lost` has the reason.
    """
    policy = policy or setup.scenario.policy
    trace = Trace(policy.name, (), (), (), observer=observer, keep=keep)
    if boards is not None:
        board = boards(setup, trace, policy.needs_draft)
    else:
        clock = simpy.Environment() if realtime is None else Paced(realtime)
        board = Board(clock, setup, trace, with_draft=policy.needs_draft, timers=timers)
    env = board.env
    context = RunContext(board, source, setup.scenario, setup.target.model.vocabulary.entries, setup.application)
    conversations = turns_of(setup)
    if observer is not None:
        observer.started(policy.name, trace.tracks, sum(len(turns) for turns in conversations))
    queue = iter(conversations)
    function = policy_function(policy, setup.file)
    sessions = [
        env.process(run_conversations(context, function, setup, queue)) for _ in range(setup.scenario.workload.talkers)
    ]
    background = start_background(board)
    for heat in board.heats:
        env.process(heat.govern())
    if isinstance(env, Paced):
        env.sync()  # what came before, such as a dashboard's first frame, makes no event late
    try:
        # Other work never ends: with company a run is over with its last session.
        env.run(until=env.all_of(sessions) if board.shared else None)
    except ChipLost as lost:
        trace.lost = lost
    for task in background:
        task.close()
    for chip in board.shared.values():
        chip.notify()
    for heat in board.heats:
        heat.close()
    trace.end_ns = int(env.now) + (0 if trace.lost is None else trace.lost.cost_ns)
    if isinstance(env, Paced):
        trace.pace = env.pace()
    return trace


def run_conversations(
    context: RunContext, policy: PolicyFunction, setup: Setup, queue: Iterator[list[Turn]]
) -> Process:
    """One concurrent session: takes the next conversation when the last is over."""
    for turns in queue:
        context.board.open_conversation()
        yield from converse(context, policy, setup, turns)
        context.board.close_conversation()
        context.source.forget(turns[0].conversation)


def converse(context: RunContext, policy: PolicyFunction, setup: Setup, turns: list[Turn]) -> Process:
    """Turn after turn with the caches carried over, until the conversation ends or the context is full."""
    context_tokens = setup.scenario.context_tokens
    tokens: list[int] = []
    target_cached = draft_cached = draft_received = 0
    for turn in turns:
        standing = without_end(tokens, context.source.ends)
        prompt = context.source.prompt(turn.conversation, turn.number, tokens)
        if prompt.prefix_length + len(prompt.tokens) >= context_tokens:
            context.board.trace.skipped_turns += len(turns) - turn.number
            return
        yield context.board.env.timeout(ns(setup.scenario.workload.pause_ms / 1000))
        if prompt.prefix_length < standing:
            context.board.trace.reread.append(standing - prompt.prefix_length)
        tokens[prompt.prefix_length :] = prompt.tokens
        request = Request(
            turn.index,
            turn.conversation,
            turn.number,
            turn.user,
            tokens,
            turn.max_new_tokens,
            context_tokens,
            prompt_tokens=len(prompt.tokens),
            target_cached=min(target_cached, prompt.prefix_length),
            draft_cached=min(draft_cached, prompt.prefix_length),
            draft_received=min(draft_received, prompt.prefix_length),
            arrived_ns=context.now,
        )
        if context.board.trace.observer is not None:
            context.board.trace.observer.asked(turn.index, turn.conversation, turn.user, context.now)
        for network in context.board.networks:
            yield from network.work(request.cause)
        yield from (open_target if context.board.draft is None else open_both)(context, request)
        yield from policy(context, request)
        yield from await_acknowledgement(request)
        target_cached, draft_cached = request.target_cached, request.draft_cached
        draft_received = request.draft_received
        context.board.trace.add_request(record_of(context, request, setup))


def record_of(context: RunContext, request: Request, setup: Setup) -> RequestRecord:
    """The record of a request that is over."""
    assert request.finish is not None
    workload = setup.scenario.workload
    text = context.source.text(request.answer)
    if isinstance(workload, Conversations):
        clause = clause_tokens(context.source, request.answer, text)
    else:
        clause = min(workload.clause_tokens, len(request.answer))
    return RequestRecord(
        request.index,
        request.conversation,
        request.turn,
        request.user,
        text,
        request.arrived_ns,
        request.delivered_ns,
        request.prompt_tokens,
        len(request.answer),
        clause,
        request.finish,
    )


def clause_tokens(source: LogitsSource, answer: list[int], text: str | None = None) -> int:
    """How many tokens complete the first clause: up to , . ? ! ; or : before a space or the end.

    `text` is that of the answer, where it is known.
    """
    text = source.text(answer) if text is None else text
    end = CLAUSE_END.search(text)
    if end is None:
        return len(answer)

    def long_enough(count: int) -> bool:
        return len(source.text(answer[:count])) >= end.end()

    counts = range(1, len(answer) + 1)
    if text.isascii():  # a longer answer has a longer text
        return counts[bisect_left(counts, True, key=long_enough)]
    return next(filter(long_enough, counts))  # half a character can decode to a longer text than the whole one
