"""One run: a workload's conversations over simulated hardware under a policy, from first event to last, as a trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import simpy

from hilsim.cost.timer import timer_for
from hilsim.describe.cockpit import Pauses
from hilsim.describe.policy import Policy
from hilsim.describe.scenario import Lengths, Scenario
from hilsim.describe.setup import Setup
from hilsim.errors import ChipLost
from hilsim.sim.background import start_background
from hilsim.sim.board import Board, Boards, Timers
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.loading import load_models
from hilsim.sim.pace import Paced
from hilsim.sim.passengers import Cabin
from hilsim.sim.policies.fallback import PolicyFunction
from hilsim.sim.policies.registry import policy_function
from hilsim.sim.session import Session, Turn
from hilsim.sim.trace import Observer, Trace
from hilsim.sources.source import LogitsSource
from hilsim.units import ns

if TYPE_CHECKING:
    from hilsim.sim.faults.board import FaultyBoard

T = TypeVar("T")


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
    faulty: FaultyBoard | None = None
    if boards is not None or setup.fails or setup.compares_rows:
        from hilsim.sim.faults import board as faults  # most runs inject none

        if boards is not None:
            board = boards(setup, trace, policy.needs_draft)
        else:
            board = faults.faulty_board(setup, trace, realtime, timers, with_draft=policy.needs_draft)
        faulty = board if isinstance(board, faults.FaultyBoard) else None
    else:
        clock = simpy.Environment() if realtime is None else Paced(realtime)
        board = Board(clock, setup, trace, with_draft=policy.needs_draft, timers=timers)
    env = board.env
    if faulty is not None:
        context: RunContext = faulty.context(source, setup.application)
    else:
        context = RunContext(board, source, setup.scenario, setup.target.model.vocabulary.entries, setup.application)
    conversations = turns_of(setup)
    function, queue = policy_function(policy, setup.file), iter(conversations)
    cabin = Cabin(context, function, setup, queue) if has_passengers(setup.scenario) else None
    if observer is not None:
        observer.started(policy.name, trace.tracks, sum(len(turns) for turns in conversations))
    if setup.scenario.trip is not None and setup.scenario.trip.cold_start:
        load_models(board)
    sessions: list[simpy.Event] = []
    if cabin is not None:
        sessions += cabin.start()
    else:
        for _ in range(setup.scenario.workload.talkers):
            sessions.append(env.process(run_conversations(context, function, setup, queue)))
    if setup.scenario.trip is not None:
        sessions.append(env.timeout(ns(setup.scenario.trip.minutes * 60)))
    background = start_background(board)
    for heat in board.heats:
        env.process(heat.govern())
    if isinstance(env, Paced):
        env.sync()  # what came before, such as a dashboard's first frame, makes no event late
    end_ns = None
    try:
        if faulty is not None:
            end_ns = faulty.run(sessions)
        else:
            env.run(until=env.all_of(sessions) if goes_on(setup.scenario) else None)
    except ChipLost as lost:
        trace.lost = lost
    for task in background:
        task.close()
    for chip in board.shared.values():
        chip.close()
    for heat in board.heats:
        heat.close()
    end_ns = int(env.now) if end_ns is None else end_ns
    trace.close(end_ns + (0 if trace.lost is None else trace.lost.cost_ns))
    if isinstance(env, Paced):
        trace.pace = env.pace()
    return trace


def has_passengers(scenario: Scenario) -> bool:
    """Whether questions come from passengers or by voice; else one follows another in as many sessions as there are."""
    return bool(scenario.passengers) or scenario.speech is not None or scenario.trip is not None


def goes_on(scenario: Scenario) -> bool:
    """Whether anything of a run outlives its last answer: then that ends it."""
    waits = any(
        passenger.patience_s is not None or not isinstance(passenger.arrivals, Pauses)
        for passenger in scenario.passengers
    )
    interrupts = scenario.speech is not None and scenario.speech.barge_in is not None
    return waits or interrupts or bool(scenario.background) or scenario.climate is not None


def run_conversations(
    context: RunContext, policy: PolicyFunction, setup: Setup, queue: Iterator[list[Turn]]
) -> Process:
    """One concurrent session: takes the next conversation when the last is over."""
    for turns in queue:
        context.board.open_conversation()
        yield from converse(context, policy, setup, turns)
        context.board.close_conversation()
        context.forget(turns[0].conversation)


def converse(context: RunContext, policy: PolicyFunction, setup: Setup, turns: list[Turn]) -> Process:
    """Turn after turn with the caches carried over, until the conversation ends or the context is full."""
    session = Session(context, policy, setup)
    for turn in turns:
        prompt = session.prompt(turn)
        if prompt is None:
            context.board.trace.skipped_turns += len(turns) - turn.number
            return
        yield context.board.env.timeout(ns(setup.scenario.workload.pause_ms / 1000))
        yield from session.answer(session.ask(turn, prompt))
