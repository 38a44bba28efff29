"""Models that have company on their unit: alone as before, fair turns at graph boundaries, priorities, cancelling."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.cost.step import Phase
from hilsim.cost.timer import boundaries_of
from hilsim.describe.setup import Setup
from hilsim.measure.parts import requests_in_parts
from hilsim.sim.board import Board
from hilsim.sim.company_slot import CompanySlot
from hilsim.sim.device_slot import Process, RequestTag
from hilsim.sim.trace import Span, Trace
from tests.scenes import MS, between_passes, board_of, both, milliseconds, shipped, table_setup

LONE = ("networks=[]", "workload={requests: 3, prompt_tokens: 100, output_tokens: 41}")
BY_CHANCE = "logits={source: synthetic, acceptance: 0.6}"
ON_ONE_NPU = (
    "link=on-chip",
    "draft={model: draft-68m-llama3, chip: sa8775p, unit: npu, precision: w4, widths: [1, 128]}",
    "target={model: llama-3.2-3b, stand_in: models/target, chip: sa8775p, unit: npu, precision: w4}",
)


@pytest.mark.parametrize("place", [(), ON_ONE_NPU], ids=["two chips", "one npu"])
@pytest.mark.parametrize(
    "policy",
    [
        "sync, draft_tokens: 4",
        "async",
        "pearl, draft_tokens: 4",
        "pipelined, draft_tokens: 2",
        "adaptive, rule: schedule",
    ],
)
def test_alone_a_run_with_company_is_todays_to_the_nanosecond(policy: str, place: tuple[str, ...]) -> None:
    """Also where a policy interrupts steps, or both models queue for one unit. Every span, in the same order."""
    given = (*LONE, BY_CHANCE, f"policy={{name: {policy}}}", *place)
    for alone, shared in zip(
        both(shipped("orin_8295_greedy", *given)), both(shipped("orin_8295_greedy", *given, "sharing={}")), strict=True
    ):
        assert (shared.spans, shared.rounds, shared.requests) == (alone.spans, alone.rounds, alone.requests)
        assert shared.end_ns == alone.end_ns
        assert shared.samples
        assert not alone.samples


def test_work_that_wants_no_more_than_is_left_changes_nothing_either() -> None:
    """A camera of 1 GB/s beside a draft that leaves as much; the negative control: one of most of the memory's rate."""

    def with_camera(rate: float) -> Trace:
        camera = f"background=[{{name: camera, chip: drive-orin-x, period_ms: 10, gigabytes_per_s: {rate}}}]"
        return both(shipped("orin_8295_greedy", *LONE, BY_CHANCE, camera))[1]

    alone = both(shipped("orin_8295_greedy", *LONE, BY_CHANCE))[1]
    assert with_camera(1).spans == alone.spans
    assert with_camera(150).end_ns > alone.end_ns


def decoding(tokens_per_s: float, talkers: int, *company: str, folder: Path) -> Trace:
    """Long answers of the target alone, one a session, on a unit that decodes so fast."""
    timer = f"{{prefill: {{'64': 0.001}}, decode: {1000 / tokens_per_s}, verify: {{'8': 200}}, source: measured}}"
    workload = f"{{requests: {talkers}, prompt_tokens: 10, output_tokens: 200, talkers: {talkers}}}"
    return both(table_setup(folder, f"target.timer={timer}", f"workload={workload}", *company))[0]


def rates(trace: Trace) -> list[float]:
    """Tokens/s of every request."""
    return [1e9 * one.output_tokens / (one.finished_ns - one.arrived_ns) for one in trace.requests]


def test_two_processes_on_one_npu_get_half_each(tmp_path: Path) -> None:
    """Measured on SA8797P: 7.8 tok/s alone, 4.0 + 4.0 with two processes. Predicted are fair halves, within 5 %."""
    (alone,) = rates(decoding(7.8, 1, "sharing={}", folder=tmp_path))
    assert alone == pytest.approx(7.8, rel=0.01)
    for rate in rates(decoding(7.8, 2, "sharing={}", folder=tmp_path)):
        assert rate == pytest.approx(4.0, rel=0.05)


def cut(*overrides: str) -> Setup:
    """A model of several graphs on one NPU, and a setup that is known to have company."""
    return shipped("orin_8295_greedy", *LONE, BY_CHANCE, *ON_ONE_NPU, "sharing={}", *overrides)


def decode(board: Board, request: int, steps: int = 1, after_ns: int = 0) -> Process:
    """So many steps of the target for a request."""
    yield board.env.timeout(after_ns)
    for _ in range(steps):
        yield from board.target.work(board.target.step(Phase.DECODE, 1, 100), RequestTag(request, 0))


def holds(board: Board, request: int) -> list[Span]:
    return [span for span in board.trace.spans if span.request == request]


def graphs(board: Board) -> list[int]:
    """Nanoseconds after which each graph of a decode step of the target is over."""
    step = board.target.step(Phase.DECODE, 1, 100).step
    assert step is not None
    ends = boundaries_of(board.target.timer, step)
    assert len(ends) > 1, "a model that is cut"
    return list(ends)


def test_two_requests_of_one_priority_take_turns_at_graph_boundaries() -> None:
    """Both begin at once: graph by graph in turn, so each step takes twice its time, less the other's last graph."""
    board = board_of(cut())
    for request in (0, 1):
        board.env.process(decode(board, request))
    board.env.run()
    ends, spans = graphs(board), sorted(board.trace.spans, key=lambda span: span.start_ns)
    assert [span.request for span in spans] == [0, 1] * len(ends)
    assert all(before.end_ns == after.start_ns for before, after in pairwise(spans))
    assert board.env.now == 2 * ends[-1]
    for request in (0, 1):
        mine = holds(board, request)
        assert [span.end_ns - span.start_ns for span in mine] == [b - a for a, b in pairwise([0, *ends])]
        assert [span.rows for span in mine] == [0] * (len(ends) - 1) + [1]  # rows count once


def test_both_models_of_one_request_queue_as_before() -> None:
    """A lone request does not interrupt itself: its draft waits for the whole step of its target."""
    board = board_of(cut())
    draft = board.draft
    assert isinstance(draft, CompanySlot)
    board.env.process(decode(board, 0))
    board.env.run(until=MS)
    board.env.process(draft.work(draft.step(Phase.DRAFT, 1, 100), RequestTag(0, 0)))
    board.env.run()
    assert [span.kind for span in board.trace.spans] == ["decode", "draft"]


def test_one_of_higher_priority_has_the_unit_from_the_next_boundary_on() -> None:
    """It comes 1 ms into the step and stays for three steps of its own; then the rest of the first goes on."""
    board = board_of(cut())
    board.priorities[1] = 0
    board.env.process(decode(board, 0))
    board.env.process(decode(board, 1, steps=3, after_ns=MS))
    board.env.run()
    ends = graphs(board)
    first, *_, last = sorted(board.trace.spans, key=lambda span: span.start_ns)
    assert (first.request, first.end_ns) == (0, ends[0])
    assert [span.start_ns for span in holds(board, 1)] == [ends[0] + ends[-1] * k for k in range(3)]
    assert (last.request, last.end_ns, last.start_ns - first.end_ns) == (0, 4 * ends[-1], 3 * ends[-1])


@pytest.mark.parametrize("later_ns", [-1, 0])
def test_a_second_claim_at_the_boundary_itself_does_not_put_it_off(later_ns: int) -> None:
    """The first comes in the middle of the first graph; the second as that graph ends, or a nanosecond before."""
    board = board_of(cut())
    ends = graphs(board)
    board.priorities[1] = board.priorities[2] = 0
    board.env.process(decode(board, 2, after_ns=ends[0] + later_ns))  # scheduled before the graph's end
    board.env.process(decode(board, 0))
    board.env.process(decode(board, 1, after_ns=MS))
    board.env.run()
    assert [(span.request, span.end_ns) for span in board.trace.spans[:2]] == [(0, ends[0]), (1, 2 * ends[0])]


@pytest.mark.parametrize("priority", [0, 1, 2])
def test_a_network_beside_has_the_priority_of_its_request(priority: int) -> None:
    """A stage of the usual priority waits as well, and came first."""
    board = board_of(shipped("orin_8295_greedy", "sharing={}"))
    (watcher,) = board.networks
    place = watcher.place
    board.priorities[2] = priority
    for work in (
        place.work("stage", MS, RequestTag(0, 0)),
        place.work("stage", MS, RequestTag(1, 0)),
        watcher.work(RequestTag(2, 0)),
        place.work("stage", MS, RequestTag(3, 0)),
    ):
        board.env.process(work)
    board.env.run()
    order = [span.request for span in board.trace.spans if span.kind != "switch"]
    assert order == {0: [0, 2, 1, 3], 1: [0, 1, 2, 3], 2: [0, 1, 3, 2]}[priority]


def test_one_of_lower_priority_waits_for_step_after_step() -> None:
    """The next step of the first is asked for at the very instant at which its last one ends."""
    board = board_of(cut())
    board.priorities[1] = 2
    board.env.process(decode(board, 0, steps=3))
    board.env.process(decode(board, 1, after_ns=MS))
    board.env.run()
    (only,) = holds(board, 1)
    assert (only.start_ns, only.end_ns) == (3 * graphs(board)[-1], 4 * graphs(board)[-1])


def test_where_changing_the_graph_costs_equals_run_whole_steps() -> None:
    setup = between_passes(cut(), 10)
    board = board_of(setup)
    for request in (0, 1):
        board.env.process(decode(board, request))
    board.env.run()
    assert [(span.request, span.kind) for span in board.trace.spans] == [(0, "switch"), (0, "decode"), (1, "decode")]


def test_one_that_comes_back_pays_for_its_graph() -> None:
    """A stage of higher priority has run its own graph meanwhile."""
    setup = between_passes(cut(), 10)
    board = board_of(setup)
    place = board.place(board.setup.target.chip, "npu")
    place.between, place.prepares = board.target.between, True

    def stage() -> Process:
        yield board.env.timeout(11 * MS)
        yield from place.work("recognition", 5 * MS, RequestTag(1, 0), priority=0)

    board.env.process(decode(board, 0))
    board.env.process(stage())
    board.env.run()
    kinds = [(span.request, span.kind) for span in sorted(board.trace.spans, key=lambda span: span.start_ns)]
    assert kinds == [
        (0, "switch"), (0, "decode"), (1, "switch"), (1, "recognition"), (0, "switch"), (0, "decode"),
    ]  # fmt: skip
    assert board.env.now == graphs(board)[-1] + 35 * MS


def test_cancelling_ends_a_step_at_its_next_boundary_and_all_that_waits_at_once() -> None:
    board = board_of(cut())
    over: dict[str, int] = {}

    def named(name: str, process: Process) -> Process:
        yield from process
        over[name] = board.now

    def cancel() -> Process:
        yield board.env.timeout(MS)
        board.cancel(0)

    board.env.process(named("running", decode(board, 0, steps=5)))
    board.env.process(named("waiting", decode(board, 0)))
    board.env.process(named("other", decode(board, 1, after_ns=2 * MS)))
    board.env.process(named("later", decode(board, 0, after_ns=3 * MS)))
    board.env.process(cancel())
    board.env.run()
    ends = graphs(board)
    assert over == {"waiting": MS, "later": 3 * MS, "running": ends[0], "other": ends[0] + ends[-1]}
    assert [(span.end_ns - span.start_ns, span.rows) for span in holds(board, 0)] == [(ends[0], 0)]


def test_messages_of_a_cancelled_request_are_not_sent(tmp_path: Path) -> None:
    """The one on the wire arrives (2 ms and 1 ms), the one that waits for it does not leave."""
    board = board_of(table_setup(tmp_path, "sharing={}"))
    way, over = board.up, []
    assert way is not None

    def send(request: int) -> Process:
        left = board.env.event()
        yield from way.send("drafts", 100, RequestTag(request, 0), left)
        assert left.triggered
        over.append(board.now)

    for request in (0, 0, 1):
        board.env.process(send(request))
    board.env.run(until=MS)
    board.cancel(0)
    board.env.process(send(0))
    board.env.run()
    assert over == [MS, MS, 3 * MS, 5 * MS]
    assert [span.request for span in board.trace.spans] == [0, 1]


def test_levels_have_timers_of_their_own() -> None:
    setup = cut()
    board, slow = board_of(setup), 2
    slot = board.target
    assert isinstance(slot, CompanySlot)
    step = slot.step(Phase.DECODE, 1, 100)
    assert slot.ns_at(step, 0) == slot.ns_at(step, 3) == step.ns
    unit = setup.target.unit
    overhead = (unit.graph_overhead.value if unit.graph_overhead else 0) + 10
    changed = replace(setup.target, unit=unit.model_copy(update={"graph_overhead": milliseconds(overhead)}))
    slot.levels = (slot.timer, board.timers(changed, setup.scenario.context_tokens))
    board.shared["sa8775p"].set_level(slow)
    board.env.process(decode(board, 0))
    board.env.run()
    assert board.env.now == slot.ns_at(step, 1) == step.ns + 10 * MS * len(graphs(board))


def test_parts_of_requests_with_company_still_add_up() -> None:
    """Steps that give way, a task that goes first, and spans of one unit that never overlap."""
    task = "{name: monitor, chip: sa8775p, unit: npu, period_ms: 33, jitter_ms: 5, priority: 0, work: {ms: 4}}"
    _, trace = both(cut(f"background=[{task}]", "workload.talkers=2", "workload.requests=4"))
    for track in trace.tracks:
        spans = sorted((span for span in trace.spans if span.track == track), key=lambda span: span.start_ns)
        assert all(before.end_ns <= after.start_ns for before, after in pairwise(spans))
    assert any(span.kind in ("decode", "verify") and not span.rows for span in trace.spans)
    assert len(trace.requests) == 4
    for record, rounds in requests_in_parts(trace):
        assert sum(parts.total for _, parts in rounds) == record.finished_ns - record.arrived_ns
