"""Continuous batching: priced as the cost model's step of so many sequences, and without effect on any token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st
from simpy.events import URGENT

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import speculation
from hilsim.measure.parts import added, requests_in_parts
from hilsim.runs.run import Sources
from hilsim.sim import batches
from hilsim.sim.batches import BatchSlot, mean_up
from hilsim.sim.board import Board
from hilsim.sim.device_slot import Process, RequestTag
from hilsim.sim.run import simulate
from hilsim.sim.trace import Span, Trace
from hilsim.study.modes import speedup_at_once
from tests.scenes import shipped, synthetic

ALONE = TargetOnly(name="target_only")
GPU = ("target.chip=drive-orin-x", "target.unit=gpu", "target.precision=w4", "target.head=logits", "networks=[]",
       "logits={source: synthetic, acceptance: 0.7}")  # fmt: skip
TARGET = (*GPU, "draft=null", "link=null", "policy={name: target_only}")
BOTH = (*GPU, "draft.chip=drive-orin-x", "draft.unit=gpu", "link=null")  # target and draft on one GPU
POLICIES = ["{name: sync, draft_tokens: 4}", "{name: adaptive}", "{name: async}", "{name: pipelined, draft_tokens: 3}",
            "{name: pearl, draft_tokens: 3}"]  # fmt: skip


def lengths(requests: int, sessions: int, output_tokens: int = 40) -> str:
    """A workload of requests that are all alike."""
    sizes = f"requests: {requests}, prompt_tokens: 20, output_tokens: {output_tokens}"
    return f"workload={{{sizes}, talkers: {sessions}}}"


def run(setup: Setup, policy: TargetOnly | None = None) -> Trace:
    return simulate(setup, synthetic(setup), policy)


def tokens(trace: Trace) -> dict[int, list[int]]:
    """The tokens of every answer."""
    found: dict[int, list[int]] = {record.number: [] for record in trace.requests}
    for closed in trace.rounds:
        found[closed.request] += closed.tokens
    return found


def sizes(trace: Trace, *kinds: str) -> Counter[int]:
    """How many steps computed so many sessions."""
    return Counter(len(span.each) for span in trace.spans if span.kind in kinds)


def require_whole(trace: Trace) -> None:
    """Spans of a track follow each other; the parts of every request add up to its time."""
    for track in trace.tracks:
        mine = sorted((span for span in trace.spans if span.track == track), key=lambda span: span.start_ns)
        assert all(one.end_ns <= later.start_ns for one, later in pairwise(mine))
    for record, rounds in requests_in_parts(trace):
        assert added(parts for _, parts in rounds).total == record.finished_ns - record.arrived_ns


@pytest.mark.parametrize("count", [2, 4, 7])
def test_sessions_that_are_alike_take_one_step_of_so_many_sequences(count: int) -> None:
    """Prefill and every decode step, to the nanosecond."""
    setup = shipped("orin_8295_greedy", *TARGET, lengths(count, count), f"target.batch={count}")
    timer, trace = timer_for(setup.target, setup.scenario.context_tokens), run(setup)
    steps = [Step(Phase.PREFILL, 20, 0, count), *(Step(Phase.DECODE, 1, 20 + place, count) for place in range(39))]
    assert [span.end_ns - span.start_ns for span in trace.spans] == [timer.duration_ns(step) for step in steps]
    assert sizes(trace, "prefill", "decode") == {count: 40}
    assert trace.end_ns == sum(map(timer.duration_ns, steps))
    require_whole(trace)


def test_sessions_join_together_only_as_steps_begin_behind_their_instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: with steps that begin at once the first session is alone, and one joins the other's."""

    def at_once(env: simpy.Environment) -> simpy.Event:
        begun = env.event()
        begun._ok, begun._value = True, None
        env.schedule(begun, priority=URGENT)
        return begun

    setup = shipped("orin_8295_greedy", *TARGET, lengths(2, 2), "target.batch=2")
    assert set(sizes(run(setup), "decode")) == {2}
    monkeypatch.setattr(batches, "behind_all", at_once)
    assert set(sizes(run(setup), "decode")) != {2}


@pytest.mark.parametrize("policy", POLICIES)
def test_passengers_who_never_meet_are_as_without_batches(policy: str) -> None:
    """To the nanosecond, span by span. The negative control: where both ask at once batches change the run."""
    assert two_passengers(policy, 30, batch=4) == two_passengers(policy, 30, batch=1)
    assert two_passengers(policy, 0, batch=4)[:2] != two_passengers(policy, 0, batch=1)[:2]


def two_passengers(policy: str, later_s: float, batch: int) -> tuple[object, ...]:
    """The run of a question each, the second so much later, on one GPU whose runtime computes so many at once."""
    setup = shipped(
        "orin_8295_greedy", *BOTH, f"policy={policy}", lengths(2, 1), f"target.batch={batch}", f"draft.batch={batch}",
        "passengers=[{name: first, arrivals: {kind: pauses, pause_s: 1}}, "
        f"{{name: second, arrivals: {{kind: pauses, pause_s: {1 + later_s}}}}}]",
    )  # fmt: skip
    board = Board(simpy.Environment(), setup, Trace("", (), (), ()), with_draft=True)
    assert isinstance(board.target, BatchSlot) is (batch > 1)
    trace = run(setup)
    assert len({turn.passenger for turn in trace.turns}) == 2
    assert not later_s or trace.requests[0].finished_ns < trace.requests[1].arrived_ns
    return trace.spans, trace.end_ns, trace.rounds, trace.requests, trace.turns, trace.levels


def test_no_more_than_the_largest_batch_go_together() -> None:
    trace = run(shipped("orin_8295_greedy", *TARGET, lengths(5, 5), "target.batch=2"))
    assert max(sizes(trace, "decode")) == 2
    require_whole(trace)


def test_sessions_leave_and_join_from_step_to_step() -> None:
    """Five requests of two sessions: while a question is read the other one waits, then both go on together."""
    setup = shipped("orin_8295_greedy", *TARGET, lengths(5, 2), "target.batch=2")
    trace = run(setup)
    assert set(sizes(trace, "decode")) == {1, 2}
    assert sum(len(span.each) for span in trace.spans) == 5 * 40
    require_whole(trace)


@pytest.mark.parametrize("policy", POLICIES)
def test_tokens_do_not_depend_on_batches(policy: str) -> None:
    given = (*BOTH, f"policy={policy}", lengths(7, 3))
    turns = run(shipped("orin_8295_greedy", *given, "sharing={}", "target.batch=1", "draft.batch=1"))
    together = run(shipped("orin_8295_greedy", *given, "target.batch=3", "draft.batch=3"))
    assert tokens(turns) == tokens(together)
    assert {record.output_tokens for record in together.requests} == {40}
    assert len(together.requests) == 7
    assert max(sizes(together, "verify", "draft")) > 1
    require_whole(together)
    if policy == POLICIES[0]:
        assert together.end_ns < turns.end_ns


@pytest.mark.parametrize("acceptance", [1.0, 0.7])
@pytest.mark.parametrize("count", [2, 4])
def test_the_closed_form_of_modes_agrees_with_sessions_in_steady_state(acceptance: float, count: int) -> None:
    """Within 1 % where all rounds are alike. Where acceptance parts the sessions they meet less often: 7 %."""
    setup = shipped(
        "orin_8295_greedy", *BOTH, f"logits.acceptance={acceptance}", lengths(count, count, 300),
        "policy={name: sync, draft_tokens: 4}", f"target.batch={count}", f"draft.batch={count}",
    )  # fmt: skip
    ours, plain = run(setup), run(setup, ALONE)
    predicted = speedup_at_once(setup, speculation(ours)["tokens_per_round"], count)
    assert steady_rate(ours) / steady_rate(plain) == pytest.approx(predicted, rel=0.01 if acceptance == 1 else 0.07)


@pytest.mark.parametrize("more", [(), ("speech={barge_in: {share: 0.5, after_s: 0.3}}",)], ids=["asked", "interrupted"])
def test_passengers_who_share_a_gpu_get_the_targets_own_words(more: tuple[str, ...]) -> None:
    """Every answer as far as it was made, and every nanosecond of it accounted for."""
    asks = ", ".join(f"{{name: p{place}, arrivals: {{kind: pauses, pause_s: 0.2}}}}" for place in range(3))
    given = (
        *BOTH, "logits={source: transcript, file: transcripts/shift-draft-0.8m-greedy.npz}", "workload.count=6",
        "policy={name: sync, draft_tokens: 4}",
    )  # fmt: skip
    alone, setup = (
        shipped("orin_8295_greedy", *given),
        shipped("orin_8295_greedy", *given, f"passengers=[{asks}]", *more),
    )
    whole, trace = (simulate(one, Sources(one).fresh()) for one in (alone, setup))
    answers = {(record.conversation, record.turn): record.answer for record in whole.requests}
    assert len(trace.requests) == len(answers) > 20
    for record in trace.requests:
        assert answers[record.conversation, record.turn].startswith(record.answer)
        assert more or answers[record.conversation, record.turn] == record.answer
    assert len({turn.passenger for turn in trace.turns}) == 3
    assert more or max(sizes(trace, "verify")) == 3
    require_whole(trace)


def steady_rate(trace: Trace) -> float:
    """Tokens a nanosecond behind the first ones."""
    first = min(closed.delivered_ns for closed in trace.rounds if closed.number == 0)
    return sum(closed.emitted for closed in trace.rounds if closed.number) / (trace.end_ns - first)


class Scene:
    """A board with a batching target, on which single steps are asked for."""

    def __init__(self, batch: int = 4):
        setup = shipped("orin_8295_greedy", *TARGET, lengths(2, 2), f"target.batch={batch}")
        self.env, self.trace = simpy.Environment(), Trace("", (), (), ())
        self.board = Board(self.env, setup, self.trace, with_draft=False)
        assert isinstance(self.board.target, BatchSlot)
        self.slot = self.board.target
        self.ended: dict[int, int] = {}

    def ask(self, request: int, rows: int = 1, cached: int = 50, phase: Phase = Phase.DECODE) -> simpy.Process:
        """A step of a request, now."""

        def asking() -> Process:
            yield from self.slot.work(self.slot.step(phase, rows, cached), RequestTag(request, 0))
            self.ended[request] = self.board.now

        return self.env.process(asking())

    @property
    def spans(self) -> list[Span]:
        return self.trace.spans

    def step_ns(self, rows: int, cached: int, sequences: int) -> int:
        return self.slot.timer.duration_ns(Step(Phase.DECODE, rows, cached, sequences))


def test_who_waits_when_the_unit_becomes_free_goes_together_with_rows_of_its_own() -> None:
    scene = Scene()
    scene.ask(0)

    def later() -> Iterator[simpy.Event]:
        yield scene.env.timeout(1000)
        scene.ask(1, cached=40)
        scene.ask(2, rows=20, cached=0, phase=Phase.PREFILL)  # another phase
        scene.ask(3, cached=61)

    scene.env.process(later())
    scene.env.run()
    first, together, reads = scene.spans
    assert (first.request, first.fellows) == (0, ())
    assert [one.request for one in together.each] == [1, 3]
    assert [one.cached for one in together.each] == [40, 61]
    assert together.end_ns - together.start_ns == scene.step_ns(1, 51, 2)  # 50.5 positions in the mean, rounded up
    assert (reads.kind, reads.request) == ("prefill", 2)
    assert scene.ended[1] == scene.ended[3] == together.end_ns
    assert scene.slot.queued_ns == dict.fromkeys((1, 3), together.start_ns - 1000) | {2: reads.start_ns - 1000}


def test_the_highest_priority_goes_first_and_takes_others_along() -> None:
    scene = Scene(batch=2)
    scene.board.priorities[3] = 0
    scene.ask(0)

    def later() -> Iterator[simpy.Event]:
        yield scene.env.timeout(1000)
        for request in (1, 2, 3):
            scene.ask(request)

    scene.env.process(later())
    scene.env.run()
    assert [[one.request for one in span.each] for span in scene.spans] == [[0], [3, 1], [2]]


@pytest.mark.parametrize("interrupted", [0, 1])
def test_a_session_that_is_interrupted_leaves_its_batch_which_goes_on(interrupted: int) -> None:
    scene = Scene()
    asking = [scene.ask(request) for request in (0, 1, 2)]

    def interrupting() -> Iterator[simpy.Event]:
        yield scene.env.timeout(1000)
        asking[interrupted].defused = True
        asking[interrupted].interrupt()

    scene.env.process(interrupting())
    scene.env.run()
    whole = scene.step_ns(1, 50, 3)
    left = [request for request in (0, 1, 2) if request != interrupted]
    assert scene.ended == dict.fromkeys(left, whole)
    assert not scene.slot.turn.taken
    assert sum(span.end_ns - span.start_ns for span in scene.spans) == whole
    if interrupted == 0:
        assert [one.request for one in scene.spans[-1].each] == left


def test_a_lone_session_that_is_interrupted_frees_the_unit() -> None:
    scene = Scene()
    asking = scene.ask(0)

    def interrupting() -> Iterator[simpy.Event]:
        yield scene.env.timeout(1000)
        asking.defused = True
        asking.interrupt()
        scene.ask(1)

    scene.env.process(interrupting())
    scene.env.run()
    assert [(span.request, span.start_ns) for span in scene.spans] == [(0, 0), (1, 1000)]


def test_a_cancelled_session_waits_no_longer_and_a_batch_of_others_goes_on() -> None:
    scene = Scene()
    for request in (0, 1):
        scene.ask(request)

    def cancelling() -> Iterator[simpy.Event]:
        yield scene.env.timeout(1000)
        scene.ask(2)
        yield scene.env.timeout(1000)
        scene.board.cancel(2)
        scene.board.cancel(1)

    scene.env.process(cancelling())
    scene.env.run()
    assert scene.ended[2] == 2000
    assert scene.ended[0] == scene.step_ns(1, 50, 2)
    assert [[one.request for one in span.each] for span in scene.spans] == [[0, 1]]
    assert not scene.slot.turn.taken


asks = st.tuples(
    st.integers(0, 30), st.integers(0, 2), st.integers(1, 3), st.booleans(), st.sampled_from(["", "cut", "off"])
)


@settings(max_examples=50, deadline=None)
@given(st.lists(asks, min_size=1, max_size=12), st.integers(2, 4))
def test_no_session_is_lost_and_the_unit_never_idles_while_one_waits(sessions: list[tuple], most: int) -> None:
    """Sessions at random instants with random priorities, rows and phases, some interrupted, some cancelled."""
    scene, unit_ns = Scene(most), 4_000_000
    gone: set[int] = set()

    def session(request: int, at: int, priority: int, rows: int, reads: bool, end: str) -> Process:
        yield scene.env.timeout(at * unit_ns)
        scene.board.priorities[request] = priority
        asking = scene.ask(request, rows, phase=Phase.PREFILL if reads else Phase.VERIFY)
        yield scene.env.timeout(unit_ns * 3 // 2)
        if end and asking.is_alive:
            gone.add(request)
            if end == "cut":
                asking.defused = True
                asking.interrupt()
            else:
                scene.board.cancel(request)

    for request, one in enumerate(sessions):
        scene.env.process(session(request, *one))
    scene.env.run()
    assert set(scene.ended) >= set(range(len(sessions))) - gone
    assert not scene.slot.turn.taken
    assert not scene.slot.turn.waiting
    spans = [span for span in scene.spans if span.end_ns > span.start_ns]
    assert all(one.end_ns <= later.start_ns for one, later in pairwise(spans))
    assert all(len(span.each) <= most for span in spans)
    for one, later in pairwise(spans):
        idle = later.start_ns > one.end_ns
        assert not (idle and any(mine.asked_ns < later.start_ns for mine in later.each)), "idle while one waited"
    done = [mine.request for span in spans for mine in span.each if mine.request not in gone]
    assert all(request in done for request in set(range(len(sessions))) - gone)


def test_means_are_rounded_up() -> None:
    assert [mean_up(counts) for counts in ([3], [1, 2], [2, 2], [0, 0, 1])] == [3, 2, 2, 1]
