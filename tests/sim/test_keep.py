"""Runs that keep no trace: the observer sees all of it, and memory does not grow with the rounds."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import simpy

from hilsim.sim.board import Board
from hilsim.sim.context import RunContext
from hilsim.sim.run import simulate
from hilsim.sim.trace import RequestRecord, Round, Sample, Span, Trace, TurnRecord
from hilsim.sources.source import Relay
from tests.scenes import synthetic, table_setup
from tests.trips import trip_setup

BUSY = (
    "logits={source: synthetic, acceptance: 0.8}",
    "workload={requests: 200, prompt_tokens: 8, output_tokens: 12}",
    "passengers=[{name: anna, arrivals: {kind: pauses, pause_s: 2}}]",
    "background=[{name: camera, chip: sa8295p, unit: npu, period_ms: 20, work: {ms: 3}}]",
)
SCENE = ("logits.acceptance=0.7", "workload.output_tokens=80")


class Watcher:
    """An observer that writes down what it is shown."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.rounds: list[tuple[Round, str]] = []
        self.records: list[RequestRecord] = []

    def started(self, policy: str, tracks: tuple[str, ...], requests: int) -> None:
        pass

    def asked(self, request: int, conversation: int, user: str, at_ns: int) -> None:
        pass

    def span(self, span: Span) -> None:
        self.spans.append(span)

    def round(self, round: Round, text: str) -> None:
        self.rounds.append((round, text))

    def request(self, record: RequestRecord) -> None:
        self.records.append(record)

    def sample(self, sample: Sample) -> None: ...

    def turn(self, turn: TurnRecord) -> None: ...


def ran(folder: Path, requests: int, *, keep: bool, observer: Watcher | None = None) -> Trace:
    setup = table_setup(folder, *SCENE, f"workload.requests={requests}")
    return simulate(setup, synthetic(setup), keep=keep, observer=observer)


def test_what_is_not_kept_is_shown_all_the_same(tmp_path: Path) -> None:
    kept, watcher = ran(tmp_path, 3, keep=True), Watcher()
    bare = ran(tmp_path, 3, keep=False, observer=watcher)
    assert (bare.spans, bare.rounds, bare.levels) == ([], [], [])
    assert watcher.spans == kept.spans
    assert watcher.rounds == [(closed, "■" * closed.emitted) for closed in kept.rounds]
    assert watcher.records == bare.requests == kept.requests
    assert bare.end_ns == kept.end_ns


def test_memory_does_not_grow_with_the_rounds(tmp_path: Path) -> None:
    """Ten times the conversations: what stays is a record and an answer of each."""

    def peak_bytes(requests: int, *, keep: bool) -> int:
        setup = table_setup(tmp_path, *SCENE, f"workload.requests={requests}")
        simulate(setup, synthetic(setup), keep=keep)  # whatever is computed once
        tracemalloc.start()
        try:
            simulate(setup, synthetic(setup), keep=keep)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = (peak_bytes(requests, keep=False) for requests in (8, 80))
    assert many < 2 * few
    assert many - few < 72 * 1024, "a kilobyte a conversation"
    assert peak_bytes(80, keep=True) > 5 * many, "the comparison above can fail"


def test_what_belongs_to_a_conversation_goes_with_it(tmp_path: Path) -> None:
    """A source and a policy that keep something of every conversation: after four times as many, no more is left."""

    class Keeping(Relay):
        forgotten = 0

        def forget(self, conversation: int) -> None:
            self.forgotten += 1

    def left(conversations: int) -> int:
        setup = table_setup(tmp_path, *SCENE)
        board = Board(simpy.Environment(), setup, Trace("", (), (), ()), with_draft=True)
        source = Keeping(synthetic(setup))
        context = RunContext(board, source, setup.scenario, 100, setup.application)
        for conversation in range(conversations):
            context.kept_of[conversation]["n-grams"] = [conversation] * 10
            context.forget(conversation)
        assert source.forgotten == conversations
        return len(context.kept_of)

    assert left(2) == left(8) == 0


def test_memory_grows_with_the_turns_of_a_trip_and_not_with_its_minutes() -> None:
    """Four times the minutes with speech, background and heat: what stays is a few kilobytes a turn."""

    def ran_for(minutes: int, *, keep: bool) -> tuple[int, int]:
        """The most bytes held, and the turns."""
        setup = trip_setup(*BUSY, f"trip.minutes={minutes}")
        source = synthetic(setup)
        tracemalloc.start()
        try:
            trace = simulate(setup, source, keep=keep)
            assert keep or not (trace.spans or trace.rounds or trace.levels or trace.samples)
            return tracemalloc.get_traced_memory()[1], len(trace.turns)
        finally:
            tracemalloc.stop()

    ran_for(1, keep=False)  # whatever is computed once
    (short, few), (long, many) = (ran_for(minutes, keep=False) for minutes in (1, 4))
    assert many >= 3 * few
    assert long - short < 8 * 1024 * (many - few)
    assert ran_for(1, keep=True)[0] > 3 * long, "the comparison above can fail"


def test_nothing_is_added_to_a_trace_that_is_over() -> None:
    """What is under way at the end of a trip gives up its unit whenever it is collected: in the middle of the next."""
    setup = trip_setup(*BUSY, "trip.minutes=0.2")
    watcher = Watcher()
    trace = simulate(setup, synthetic(setup), observer=watcher)
    seen = len(watcher.spans)
    assert max(span.end_ns for span in watcher.spans) <= trace.end_ns
    trace.add_span(watcher.spans[-1])
    assert len(watcher.spans) == len(trace.spans) == seen
