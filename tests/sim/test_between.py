"""What units cost between passes: how often graphs change, counted by hand, and what that adds to the nanosecond."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.cost.between import Between, between_of
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import timing, where_time_went
from hilsim.measure.parts import requests_in_parts
from hilsim.sim.trace import Trace
from tests.scenes import MS, between_passes, both, shipped, table_setup

REQUESTS, SWITCH_MS = 3, 86


def npu(
    *overrides: str, draft: str = "{model: draft-68m-llama3, chip: drive-orin-x, unit: gpu, precision: w4}"
) -> Setup:
    """A prompt of 100 tokens on an NPU with graphs of 1, 4, 8 and 128 rows; a draft that takes any width."""
    return shipped(
        "orin_8295_greedy", "networks=[]", "target.widths=[1,4,8,128]", f"draft={draft}",
        "logits={source: synthetic, acceptance: 1.0}",
        f"workload={{requests: {REQUESTS}, prompt_tokens: 100, output_tokens: 31}}", *overrides,
    )  # fmt: skip


def switches(trace: Trace, track: str = "sa8295p.npu") -> int:
    return sum(span.kind == "switch" and span.track == track for span in trace.spans)


def answering_ns(trace: Trace) -> int:
    return sum(record.finished_ns - record.arrived_ns for record in trace.requests)


def test_sync_on_one_wide_graph_switches_twice_a_request() -> None:
    """Graph 128 reads the prompt, graph 8 verifies 4 drafts and a row of its own; 6 rounds of 5 tokens follow.

    The target alone changes from 128 to 1 and back as well, so what it costs is not the speculation's.
    """
    free, costly = (both(between_passes(npu("policy={name: sync, draft_tokens: 4}"), cost)) for cost in (0, SWITCH_MS))
    for without, paying in zip(free, costly, strict=True):
        assert switches(paying) == 2 * REQUESTS
        assert switches(without) == 0
        assert answering_ns(paying) - answering_ns(without) == 2 * REQUESTS * SWITCH_MS * MS
        assert [one.tokens for one in paying.rounds] == [one.tokens for one in without.rounds]


def test_a_policy_that_alternates_widths_pays_for_every_change() -> None:
    """Two drafts stand, the third never does: the schedule drafts 2, then 4, 3, 2, 4, 3 ... in graphs 4, 8, 4, 4, 8, 4.

    Every round gives 3 tokens, so 28 tokens are the first and three such cycles: two changes each, beside the two of
    every request.
    """
    policy = "policy={name: adaptive, rule: schedule, draft_tokens: 2, most: 12}"
    rules = "logits={source: synthetic, acceptance: {conditional: [1, 1, 0]}}"
    setup = npu(policy, rules, "workload.output_tokens=28")
    (_, free), (_, paying) = (both(between_passes(setup, cost)) for cost in (0, SWITCH_MS))
    assert [one.drafted for one in paying.rounds if one.request == 0] == [0, 2, 4, 3, 2, 4, 3, 2, 4, 2]
    assert switches(paying) == REQUESTS * (2 + 2 * 3)
    assert answering_ns(paying) - answering_ns(free) == REQUESTS * (2 + 2 * 3) * SWITCH_MS * MS


def test_two_models_on_one_npu_change_the_graph_twice_a_round() -> None:
    """Nothing stands: 29 rounds draft and verify, the last token is decoded alone; before, both read the question."""
    draft = "{model: draft-68m-llama3, chip: sa8295p, unit: npu, precision: w4, widths: [1, 128]}"
    setup = npu(
        "policy={name: sync, draft_tokens: 1}",
        "logits={source: synthetic, acceptance: 0.0}",
        "link=on-chip",
        draft=draft,
    )
    _, trace = both(between_passes(setup, SWITCH_MS))
    drafted = sum(one.drafted > 0 for one in trace.rounds)
    assert drafted == REQUESTS * 29
    assert switches(trace) == 2 * REQUESTS + 2 * drafted + REQUESTS


def test_a_long_prompt_changes_the_graph_within_the_step() -> None:
    """130 tokens are read by graphs 128 and 4."""
    setup = npu("workload={requests: 1, prompt_tokens: 130, output_tokens: 1}", "policy={name: target_only}")
    alone, _ = both(between_passes(setup, SWITCH_MS))
    assert switches(alone) == 2


@pytest.mark.parametrize(("idle_after_ms", "wakes"), [(100, REQUESTS), (2000, 1)])
def test_the_first_step_after_idle_wakes_the_unit(idle_after_ms: float, wakes: int) -> None:
    setup = npu("policy={name: target_only}", "workload.pause_ms=500")
    (free, _), (paying, _) = (both(between_passes(setup, 0, wake, idle_after_ms)) for wake in (0, 17))
    assert sum(span.kind == "wake" for span in paying.spans) == wakes
    assert answering_ns(paying) - answering_ns(free) == 17 * wakes * MS


def test_times_typed_in_hold_what_is_between_passes(tmp_path: Path) -> None:
    setup = table_setup(tmp_path)
    assert both(between_passes(setup, SWITCH_MS, 17))[1].spans == both(setup)[1].spans


def test_a_unit_that_takes_any_width_never_switches() -> None:
    setup = between_passes(npu(), SWITCH_MS)
    assert setup.draft is not None
    assert between_of(setup.draft.unit) == Between(idle_after_ns=0)
    assert switches(both(setup)[1], setup.draft.track) == 0


@pytest.mark.parametrize(
    "policy",
    [
        "sync, draft_tokens: 4",
        "adaptive, rule: schedule",
        "pearl, draft_tokens: 4",
        "async",
        "pipelined, draft_tokens: 2",
    ],
)
def test_spans_still_follow_each_other_and_parts_still_add_up(policy: str) -> None:
    """Also where a policy interrupts the draft while its unit changes the graph."""
    draft = "{model: draft-68m-llama3, chip: sa8295p, unit: npu, precision: w4, widths: [1, 128]}"
    rules = "logits={source: synthetic, acceptance: 0.6}"
    target = "target={model: llama-3.2-3b, stand_in: models/target, chip: sa8775p, unit: npu, precision: w4a16}"
    setup = npu(f"policy={{name: {policy}}}", rules, target, "workload.pause_ms=500", draft=draft)
    _, trace = both(between_passes(setup, SWITCH_MS, 17, 100))
    for track in trace.tracks:
        spans = sorted((span for span in trace.spans if span.track == track), key=lambda span: span.start_ns)
        assert all(before.end_ns <= after.start_ns for before, after in pairwise(spans))
    assert {"switch", "wake"} <= {span.kind for span in trace.spans}
    for record, rounds in requests_in_parts(trace):
        assert sum(parts.total for _, parts in rounds) == record.finished_ns - record.arrived_ns


def test_the_report_has_the_sum_beside_the_other_times() -> None:
    setup = between_passes(npu("policy={name: sync, draft_tokens: 4}"), SWITCH_MS, 17, 100)
    _, trace = both(setup)
    found = timing(trace, setup.chips, setup.link)["units"]["sa8295p.npu"]["between"]
    wakes = sum(span.kind == "wake" and span.track == "sa8295p.npu" for span in trace.spans)
    assert found == {
        "switches": 2 * REQUESTS, "switch_ms": 2.0 * REQUESTS * SWITCH_MS, "wakes": wakes, "wake_ms": 17.0 * wakes,
    }  # fmt: skip
    spent = where_time_went(requests_in_parts(trace))
    assert 0 < spent["of_which_ms"]["between_passes"] <= spent["lost_ms"]["wait"]
    assert "between_passes" not in where_time_went(requests_in_parts(both(npu())[0]))["of_which_ms"]
