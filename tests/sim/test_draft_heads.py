"""Draft heads in a run: timelines on paper, what crosses a link, what each kind executes a round."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hilsim.cost.payload import HEADER_BYTES
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.drafting import HEAD_KINDS, ONE_PASS, level_passes, passes, retained
from hilsim.describe.setup import Setup
from hilsim.show.document import hidden_states
from hilsim.sim.trace import Trace
from tests.scenes import MS, both, shipped, table_setup

# 20 ms to read, 5 ms a token, 7 ms for up to 8 rows at once.
TIMER = 'timer: {prefill: {"64": 20}, decode: 5, verify: {"8": 7}, source: a round number}'
FAR = "chip: paper-draft, unit: any, precision: fp16"


def on_target(folder: Path, kind: str, *overrides: str, head: str = "") -> Setup:
    """The table scenario with a head on the target's unit, and no link."""
    return table_setup(folder, f"draft={{head_kind: {kind}, {TIMER}{head}}}", "link=null", *overrides)


def far_away(folder: Path, kind: str, *overrides: str, head: str = "") -> Setup:
    """The table scenario with a head where its draft model was."""
    return table_setup(folder, f"draft={{head_kind: {kind}, {FAR}, {TIMER}{head}}}", *overrides)


def kinds(trace: Trace) -> list[tuple[str, float, float]]:
    """Every span as (kind, start, end) in ms, in order of start."""
    spans = sorted(trace.spans, key=lambda span: (span.start_ns, span.kind))
    return [(span.kind, span.start_ns / MS, span.end_ns / MS) for span in spans]


@pytest.mark.parametrize("kind", ["eagle", "eagle3", "mtp"])
def test_a_head_on_the_targets_unit_waits_for_it_and_catches_up_in_its_first_pass(tmp_path: Path, kind: str) -> None:
    alone, trace = both(on_target(tmp_path, kind))
    assert kinds(trace) == [
        ("prefill", 0, 100),
        ("draft prefill", 100, 120),  # the prompt's hidden states are there now, and nothing crosses
        *[("draft", 120 + 5 * i, 125 + 5 * i) for i in range(4)],
        ("verify", 140, 200),
        # Four accepted tokens and the target's own are read together: 5 rows at the width of 8.
        ("draft", 200, 207),
        *[("draft", 207 + 5 * i, 212 + 5 * i) for i in range(3)],
        ("verify", 222, 282),
    ]
    assert [span.rows for span in trace.spans if span.kind == "draft"] == [1, 1, 1, 1, 5, 1, 1, 1]
    assert [closed.emitted for closed in trace.rounds] == [1, 5, 5]
    assert trace.rounds[0].delivered_ns == alone.rounds[0].delivered_ns == 100 * MS
    assert trace.requests[0].finished_ns == 282 * MS
    assert trace.directions == ()
    assert trace.tracks == ("paper-target.any",)


def test_a_head_never_reads_a_rejected_token_again(tmp_path: Path) -> None:
    """Where nothing is accepted the next round reads one token: the target's own."""
    _, trace = both(on_target(tmp_path, "eagle", "logits.acceptance=0.0"))
    assert {span.rows for span in trace.spans if span.kind == "draft"} == {1}
    # Rounds of 4 x 5 + 60 ms; then 3, 2 and 1 drafts, and a plain step.
    assert trace.requests[0].finished_ns == (120 + 6 * 80 + (75 + 70 + 65) + 50) * MS


def test_medusa_proposes_all_tokens_in_one_pass_and_reads_no_prompt(tmp_path: Path) -> None:
    _, trace = both(on_target(tmp_path, "medusa", head=", positions: 4"))
    assert kinds(trace) == [
        ("prefill", 0, 100),
        ("draft", 100, 105),
        ("verify", 105, 165),
        ("draft", 165, 170),
        ("verify", 170, 230),
    ]
    assert [(span.rows, span.cached) for span in trace.spans if span.kind == "draft"] == [(1, 0)] * 2


def test_a_block_is_one_pass_over_what_is_new_and_the_tokens_to_come(tmp_path: Path) -> None:
    _, trace = both(on_target(tmp_path, "block", head=", positions: 4"))
    drafts = [span for span in trace.spans if span.kind == "draft"]
    # The last token and four masks; later the last one's predecessor and the four accepted ones as well: 10 rows take
    # two graphs of 8, the second for two rows.
    assert [(span.rows, (span.end_ns - span.start_ns) // MS) for span in drafts] == [(5, 7), (10, 14)]
    assert [span.kind for span in trace.spans][:2] == ["prefill", "draft prefill"]


def test_the_targets_hidden_states_follow_the_prompt_and_every_verdict_over_a_link(tmp_path: Path) -> None:
    setup = far_away(tmp_path, "eagle3")
    _, trace = both(setup)
    assert kinds(trace)[:8] == [
        ("prefill", 0, 100),
        ("prompt", 0, 2),
        ("verdict", 100, 102),
        ("hidden states", 102, 104),  # 2 ms a message, behind the verdict on the same wire, 1 ms on the way
        ("draft prefill", 105, 125),
        *[("draft", 125 + 5 * i, 130 + 5 * i) for i in range(3)],
    ]
    hidden = setup.target.model.architecture.hidden
    sent = [span.nbytes for span in trace.spans if span.kind == "hidden states"]
    # Ten positions of the prompt; four accepted tokens and the one before them; the same again. Three layers, 2 bytes.
    assert sent == [HEADER_BYTES + 3 * 2 * hidden * positions for positions in (10, 5, 5)]
    assert hidden_states(setup, trace) == {
        "bytes": sum(sent), "messages": 3, "bytes_a_position": 3 * 2 * hidden,
        "bytes_of_other_messages": sum(span.nbytes for span in trace.spans) - sum(sent),
    }  # fmt: skip
    # The passenger has the first token when it is decided, not when the states have arrived.
    assert trace.rounds[0].delivered_ns == 100 * MS


def test_a_passenger_on_the_heads_chip_hears_the_verdict_before_the_states_arrive(tmp_path: Path) -> None:
    _, trace = both(far_away(tmp_path, "eagle", "application=paper-draft"))
    verdicts = [span for span in trace.spans if span.kind == "verdict"]
    assert [closed.delivered_ns for closed in trace.rounds] == [span.done_ns for span in verdicts]


def test_medusa_is_sent_the_state_of_one_position(tmp_path: Path) -> None:
    setup = far_away(tmp_path, "medusa", head=", positions: 4")
    _, trace = both(setup)
    sent = {span.nbytes for span in trace.spans if span.kind == "hidden states"}
    assert sent == {HEADER_BYTES + 2 * setup.target.model.architecture.hidden}
    model = table_setup(tmp_path)
    assert hidden_states(model, both(model)[1]) is None  # of a draft model nothing of the kind crosses


def test_passes_by_kind() -> None:
    assert passes(None, 3, 2) == passes("eagle", 3, 2) == passes("mtp", 3, 2) == ((2, 1), (1, 1), (1, 1))
    assert passes("medusa", 3, 2) == ((1, 3),)
    assert passes("block", 3, 2) == ((5, 3),)
    # A tree of 2, then 2 x 3 nodes: the logits of the whole first level are wanted, those of its last level never.
    assert level_passes("eagle3", (2, 6), 2) == ((2, 1), (2, 2))
    assert level_passes("medusa", (2, 6), 2) == ((1, 2),)
    assert [retained(kind, 20, 3, 2) for kind in (None, *HEAD_KINDS)] == [22, 20, 20, 20, 0, 19]
    assert retained(None, 20, 3, 4) == 23  # the last draft of a model was never fed


@pytest.mark.parametrize("kind", HEAD_KINDS)
@pytest.mark.parametrize("rule", ["schedule", "expected"])
def test_a_draft_of_variable_length_runs_the_same_passes(tmp_path: Path, kind: str, rule: str) -> None:
    head = ", positions: 6" if kind in ONE_PASS else ""
    policy = f"policy={{name: adaptive, rule: {rule}, draft_tokens: 3, most: 6}}"
    setup = on_target(tmp_path, kind, policy, "logits.acceptance=0.7", "workload.output_tokens=40", head=head)
    _, trace = both(setup)
    for closed in trace.rounds:
        mine = [span for span in trace.spans if span.kind == "draft" and span.round == closed.number]
        assert len(mine) == (min(1, closed.drafted) if kind in ONE_PASS else closed.drafted)
    assert max(closed.drafted for closed in trace.rounds) > 1


def test_times_of_a_chip_are_those_of_the_heads_shape() -> None:
    """On one unit a round is the sum of its passes; each takes what the chip takes for a decoder of that shape."""
    setup = shipped("eagle_8775", "workload.requests=2", "logits.acceptance=0.7")
    _, trace = both(setup)
    context = setup.scenario.context_tokens
    assert setup.draft is not None
    head, target = timer_for(setup.draft, context), timer_for(setup.target, context)
    at = 0
    for closed in trace.rounds[: 1 + next(i for i, one in enumerate(trace.rounds[1:]) if one.number == 0)]:
        mine = [span for span in trace.spans if (span.request, span.round) == (0, closed.number)]
        work = [span for span in mine if span.kind not in ("wake", "switch")]
        paid = sum(span.end_ns - span.start_ns for span in mine if span not in work)
        for span in work:
            timer = head if span.kind.startswith("draft") else target
            step = Step(Phase(span.kind), span.rows, span.cached)
            assert span.end_ns - span.start_ns == timer.duration_ns(step)
        at += paid + sum(span.end_ns - span.start_ns for span in work)
    assert at == trace.requests[0].finished_ns - trace.requests[0].arrived_ns


def test_without_a_link_a_draft_model_beside_the_target_is_as_over_one_that_costs_nothing() -> None:
    given = (
        "logits={source: synthetic, acceptance: 0.6}",
        "workload={requests: 2, prompt_tokens: 9, output_tokens: 40}",
    )
    setup = shipped("one_chip", *given)
    assert setup.link is not None
    free = {
        name: getattr(setup.link, name).model_copy(update={"value": value, "unit": unit, "range": None})
        for name, value, unit in (("rate", 1e15, "B/s"), ("message_overhead", 0.0, "s"), ("propagation", 0.0, "s"))
    }
    _, over = both(replace(setup, link=setup.link.model_copy(update=free)))
    _, without = both(shipped("one_chip", *given, "link=null"))
    assert [request.finished_ns for request in without.requests] == pytest.approx(
        [request.finished_ns for request in over.requests], abs=1000
    )
    assert without.directions == ()
    assert sum(span.nbytes for span in without.spans) == 0 < sum(span.nbytes for span in over.spans)
