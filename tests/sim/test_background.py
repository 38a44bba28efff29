"""Background tasks: none lost, deadlines counted, releases that nothing else moves, and a run that still ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilsim.cost.demand import priced
from hilsim.cost.network import network_seconds
from hilsim.describe.cockpit import Demand, Shape
from hilsim.describe.compiled import NetworkLoad
from hilsim.errors import ScenarioError
from hilsim.sim.trace import TaskTally, Trace
from hilsim.units import ns
from tests.scenes import MS, both, shipped, table_setup

UNIT = "chip: paper-target, unit: any"


def tasks(folder: Path, *given: str, more: tuple[str, ...] = ()) -> Trace:
    """The target alone for 600 ms (100 ms reading, then 10 tokens of 50 ms), beside tasks."""
    background = f"background=[{', '.join('{' + task + '}' for task in given)}]"
    return both(table_setup(folder, background, *more))[0]


def accounted(tally: TaskTally, trace: Trace) -> bool:
    """Whether every release of a run finished, was skipped and missed, or is the one under way as the run ends."""
    until_end = -(-trace.end_ns // tally.period_ns)
    at_end = trace.end_ns // tally.period_ns + 1
    return tally.released in (until_end, at_end) and tally.released - tally.finished <= tally.missed + 1


def test_a_task_beside_nothing_of_its_own_unit_meets_every_deadline(tmp_path: Path) -> None:
    """The draft's chip is idle: 3 ms of every 40."""
    trace = tasks(tmp_path, "name: drawing, chip: paper-draft, unit: any, period_ms: 40, work: {ms: 3}")
    tally = trace.tasks["drawing"]
    assert (tally.missed, tally.worst_ns, tally.total_ns) == (0, 3 * MS, 3 * MS * tally.finished)
    assert tally.finished == len([span for span in trace.spans if span.kind == "drawing"]) == 15
    assert trace.end_ns == trace.requests[-1].finished_ns  # no task keeps the run alive
    assert accounted(tally, trace)


def test_a_task_waits_for_the_step_under_way_and_the_model_for_the_task(tmp_path: Path) -> None:
    """Released at 0 and 70: before the first step of 100 ms, then behind it. 10 ms each; a deadline of 30 is missed.

    0-10 task, 10-110 reading, 110-120 task (50 after its release), 120-170 token, 170-180 task (of 140: 40 late).
    """
    task = f"name: monitor, {UNIT}, period_ms: 70, deadline_ms: 30, work: {{ms: 10}}"
    trace = tasks(tmp_path, task, more=("workload.output_tokens=3",))
    spans = [(span.kind, span.start_ns // MS, span.end_ns // MS) for span in trace.spans]
    assert spans == [
        ("monitor", 0, 10), ("prefill", 10, 110), ("monitor", 110, 120), ("decode", 120, 170), ("monitor", 170, 180),
        ("decode", 180, 230),
    ]  # fmt: skip
    tally = trace.tasks["monitor"]
    assert (tally.released, tally.finished, tally.missed) == (4, 3, 2)  # the one of 210 waits as the run ends
    assert (tally.worst_ns, tally.total_ns) == (50 * MS, (10 + 50 + 40) * MS)


@pytest.mark.parametrize("graph_ms", ["20", "null"])
def test_recognition_gives_way_to_a_monitor_between_its_graphs(tmp_path: Path, graph_ms: str) -> None:
    """909 ms of recognition beside 3 ms at 30 Hz that goes first: it waits for one graph at most, or for all."""
    stage = f"{{unit: any, streaming: false, real_time_factor: 0, fixed_ms: 909, graph_ms: {graph_ms}}}"
    speech = f"speech={{recognition: {stage}, end_of_speech: {{wait_ms: 0}}, synthesis: {{fixed_ms: 0}}}}"
    task = f"name: monitor, {UNIT}, period_ms: 33.3, priority: 0, work: {{ms: 3}}"
    trace = tasks(tmp_path, task, more=(speech, "workload.output_tokens=3"))
    (turn,) = trace.turns
    heard = [span for span in trace.spans if span.kind == "recognition"]
    assert sum(span.end_ns - span.start_ns for span in heard) == pytest.approx(909 * MS, abs=len(heard))
    assert sum(span.rows for span in heard) == 1
    beside = [
        span for span in trace.spans if span.kind == "monitor" and turn.noticed_ns <= span.asked_ns < turn.recognised_ns
    ]
    waited = max(span.start_ns - span.asked_ns for span in beside)
    if graph_ms == "null":
        assert len(heard) == 1
        assert waited > 800 * MS
        assert trace.tasks["monitor"].missed > 20
    else:
        assert len(heard) >= 27
        assert waited <= 20 * MS
        monitored = [span for span in trace.spans if span.kind == "monitor" and span.start_ns < turn.recognised_ns]
        held = sum(max(0, span.end_ns - max(span.start_ns, turn.noticed_ns)) for span in monitored)
        assert turn.recognised_ns - turn.noticed_ns == pytest.approx(909 * MS + held, abs=100)
    alone = tasks(tmp_path, more=(speech, "workload.output_tokens=3")).turns[0]
    assert alone.recognised_ns - alone.noticed_ns == 909 * MS


def test_a_task_gives_way_between_its_graphs_and_a_stream_has_none(tmp_path: Path) -> None:
    slow = f"name: map, {UNIT}, period_ms: 1000, priority: 5, work: {{ms: 100}}"
    first = [tasks(tmp_path, f"{slow}, graph_ms: {graph}").requests[0] for graph in (10, 200)]
    # Both come at 0 and the task has the unit first: reading waits for its first graph, or for all of it.
    spans = [
        [span.end_ns // MS for span in tasks(tmp_path, f"{slow}, graph_ms: {graph}").spans if span.kind == "prefill"]
        for graph in (10, 200)
    ]
    assert spans == [[110], [200]]
    assert first[0].finished_ns < first[1].finished_ns
    with pytest.raises(ScenarioError, match="graph_ms 5 of a stream"):
        tasks(tmp_path, "name: camera, chip: paper-target, period_ms: 33, gigabytes_per_s: 1, graph_ms: 5")


def test_releases_while_the_last_is_unfinished_are_skipped_and_missed(tmp_path: Path) -> None:
    """A period of 30 beside a step of 100: the release of 30 ends at 120, those of 60 and 90 are skipped."""
    trace = tasks(
        tmp_path, f"name: monitor, {UNIT}, period_ms: 30, work: {{ms: 10}}", more=("workload.output_tokens=1",)
    )
    tally = trace.tasks["monitor"]
    assert (trace.end_ns, tally.released, tally.finished, tally.missed) == (110 * MS, 4, 1, 3)
    assert accounted(tally, trace)


@pytest.mark.parametrize("lowest", [0, 2])
def test_priorities_decide_between_tasks_and_the_model(tmp_path: Path, lowest: int) -> None:
    """Two tasks released while a step runs: the lower number goes first, one above the model's 1 only after it."""
    first = f"name: first, {UNIT}, period_ms: 1000, jitter_ms: 90, priority: {lowest}, work: {{ms: 10}}"
    second = f"name: second, {UNIT}, period_ms: 1000, jitter_ms: 80, priority: 1, work: {{ms: 10}}"
    trace = tasks(tmp_path, first, second, more=("workload.output_tokens=3",))
    order = [span.kind for span in trace.spans]
    assert order.index("first") < order.index("second") if lowest == 0 else "first" not in order


def test_jitter_is_of_the_name_and_number_alone(tmp_path: Path) -> None:
    """Another task and another policy's steps change nothing; another seed does."""

    def releases(*given: str, more: tuple[str, ...] = ()) -> list[int]:
        trace = tasks(tmp_path, *given, more=("workload.output_tokens=200", *more))
        return [span.asked_ns for span in trace.spans if span.kind == "camera"]

    camera = "name: camera, chip: paper-draft, unit: any, period_ms: 10, jitter_ms: 5, work: {ms: 1}"
    other = f"name: other, {UNIT}, period_ms: 70, work: {{ms: 10}}"
    plain = releases(camera)
    late = [at_ns - number * 10 * MS for number, at_ns in enumerate(plain)]
    assert 0 <= min(late) < 0.2 * MS
    assert 4.8 * MS < max(late) <= 5 * MS
    assert sum(late) / len(late) == pytest.approx(2.5 * MS, rel=0.05)  # five of its errors: 5 / sqrt(12 x 1000) ms
    assert releases(camera, other)[: len(plain)] == plain
    assert releases(camera, more=("seed=2",)) != plain


def test_a_stream_moves_its_bytes_and_occupies_no_unit(tmp_path: Path) -> None:
    """A tenth of 1000 GB/s for half of every 10 ms. Then two of 4.5 GB in 7.5 ms, together 1.2 times the rate: 9 ms

    for both; or 7.5 for the one of weight 3, while the other has 3 GB done, and 2.5 ms more for the rest.
    """
    light = tasks(tmp_path, "name: camera, chip: paper-target, period_ms: 10, gigabytes_per_s: 100, duty: 0.5")
    assert {span.kind for span in light.spans} == {"prefill", "decode"}
    assert light.tasks["camera"].worst_ns == 5 * MS
    assert [(sample.at_ns // MS, sample.value) for sample in light.samples[:4]] == [
        (0, 1e11), (5, 0), (10, 1e11), (15, 0),
    ]  # fmt: skip
    stream = "chip: paper-target, period_ms: 10, gigabytes_per_s: 600, duty: 0.75"
    for weight, left_ms, right_ms in ((1, 9, 9), (3, 7.5, 10)):
        found = tasks(tmp_path, f"name: left, {stream}, weight: {weight}", f"name: right, {stream}").tasks
        assert [found[name].worst_ns / MS for name in ("left", "right")] == [left_ms, right_ms]
        assert not found["left"].missed + found["right"].missed


def test_a_stream_that_lacks_memory_moves_its_bytes_later(tmp_path: Path) -> None:
    """Two want 600 of 1000 GB/s, the second for half of every 10 ms: 500 each for 6 ms, then 600 for the first's rest.

    So 5.4 of the first's 6 GB move in 10 ms: nine tenths of all periods in 600 ms, each of them late. The control:
    beside a second of 300 GB/s none is.
    """
    first = "name: first, chip: paper-target, period_ms: 10, gigabytes_per_s: 600"
    second = "name: second, chip: paper-target, period_ms: 10, duty: 0.5, gigabytes_per_s"
    trace = tasks(tmp_path, first, f"{second}: 600")
    scarce, other = trace.tasks["first"], trace.tasks["second"]
    assert (scarce.released, scarce.finished, scarce.missed) == (55, 54, 55)  # one is over as the run ends
    assert scarce.worst_ns == 600 * MS - 53 * 10 * MS
    assert (other.released, other.finished, other.missed, other.worst_ns) == (61, 60, 0, 6 * MS)
    control = tasks(tmp_path, first, f"{second}: 300").tasks["first"]
    assert (control.released, control.finished, control.missed, control.worst_ns) == (61, 60, 0, 10 * MS)


def test_a_stream_with_pauses_catches_up(tmp_path: Path) -> None:
    """6 GB at 900 GB/s, for 20/3 ms, leave it 100: its 2.5 GB take 31/3 ms, the next begin then, the third on time."""
    burst = "name: burst, chip: paper-target, period_ms: 6000, duty: 0.001, gigabytes_per_s: 1000, weight: 9"
    stream = "name: stream, chip: paper-target, period_ms: 10, duty: 0.5, gigabytes_per_s: 500"
    tally = tasks(tmp_path, burst, stream).tasks["stream"]
    assert (tally.released, tally.finished, tally.missed) == (61, 60, 1)
    assert tally.worst_ns == pytest.approx(31 / 3 * MS, abs=2)
    assert tally.total_ns == pytest.approx((31 / 3 + 16 / 3 + 58 * 5) * MS, abs=4)


def test_a_shape_is_priced_as_the_network_that_it_is() -> None:
    unit = shipped("orin_8295_greedy").target.chip.units["npu"]
    demand = Demand(shape=Shape(gmacs=2, parameters_m=5), megabytes=3)
    precision = unit.precisions[unit.of_networks]
    took_ns, nbytes = priced(demand, unit)
    assert took_ns == ns(network_seconds(NetworkLoad(2, 0.005, 100), unit, precision))
    assert nbytes == 5e6 * precision.weight_bits.si / 8 + 3e6
    assert priced(Demand(ms=2.5, megabytes=1), unit) == (2_500_000, 10**6)
