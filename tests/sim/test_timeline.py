"""Timelines that can be done on paper, to the nanosecond. See `scenes` for the round numbers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.measure.metrics import speedup, where_time_went
from hilsim.measure.parts import requests_in_parts
from hilsim.sim.trace import Trace
from tests.scenes import MS, both, table_setup


def kinds(trace: Trace) -> list[tuple[str, int, int]]:
    """Every span as (kind, start, end) in ms, in order of start."""
    spans = sorted(trace.spans, key=lambda span: (span.start_ns, span.kind))
    return [(span.kind, span.start_ns // MS, span.end_ns // MS) for span in spans]


def test_target_only_is_the_sum_of_its_steps(tmp_path: Path) -> None:
    alone, _ = both(table_setup(tmp_path))
    # One prefill makes the first of 11 tokens, ten decode steps the rest.
    assert alone.requests[0].finished_ns == (100 + 10 * 50) * MS
    assert len(alone.spans) == 11


def test_a_perfect_draft_gives_a_timeline_known_in_advance(tmp_path: Path) -> None:
    _, trace = both(table_setup(tmp_path))
    assert kinds(trace) == [
        # Both read at once; the words are in the target's car, so the prompt crosses to the draft first.
        ("prefill", 0, 100),
        ("prompt", 0, 2),
        ("draft prefill", 3, 23),
        ("verdict", 100, 102),  # the first token, told to the draft, there at 103
        # Round 1: four drafts of 5 ms, 3 ms to cross, one verify of 5 rows at the width of 8, 3 ms back.
        *[("draft", 103 + 5 * i, 108 + 5 * i) for i in range(4)],
        ("drafts", 123, 125),
        ("verify", 126, 186),
        ("verdict", 186, 188),
        # Round 2: the bonus token and the last draft are fed together, so it is still four steps.
        *[("draft", 189 + 5 * i, 194 + 5 * i) for i in range(4)],
        ("drafts", 209, 211),
        ("verify", 212, 272),
        ("verdict", 272, 274),
    ]
    # 1 + 5 + 5 tokens, the last one spoken when the target has verified, before the verdict crosses.
    assert [closed.emitted for closed in trace.rounds] == [1, 5, 5]
    assert trace.requests[0].finished_ns == 272 * MS


def test_a_hostile_draft_gives_one_token_a_round(tmp_path: Path) -> None:
    alone, trace = both(table_setup(tmp_path, "logits.acceptance=0.0"))
    assert [closed.emitted for closed in trace.rounds] == [1] * 11
    assert [closed.accepted for closed in trace.rounds] == [0] * 11
    # Rounds of 20 + 3 + 60 + 3 ms; near the end there is room for 3, 2 and 1 drafts only, then for a plain decode.
    total = 103 + 6 * 86 + (81 + 76 + 71) + 50
    assert trace.requests[0].finished_ns == total * MS
    assert speedup(alone, trace) == pytest.approx(600 / total)


def test_a_catch_up_without_its_own_entry_costs_two_draft_steps(tmp_path: Path) -> None:
    """After a full acceptance the draft's cache lacks its own last token and the bonus token (gpt-fast feeds both)."""
    timer = 'draft.timer={prefill: {"64": 20}, decode: 5, source: no entry for two rows}'
    _, trace = both(table_setup(tmp_path, timer))
    assert [(s.rows, (s.end_ns - s.start_ns) // MS) for s in trace.spans if s.kind == "draft" and s.round == 2] == [
        (2, 10),
        (1, 5),
        (1, 5),
        (1, 5),
    ]


def test_the_last_round_drafts_no_more_than_is_left(tmp_path: Path) -> None:
    _, trace = both(table_setup(tmp_path, "workload.output_tokens=9"))
    assert [(closed.drafted, closed.emitted) for closed in trace.rounds] == [(0, 1), (4, 5), (2, 3)]


def test_one_token_answers_need_no_round(tmp_path: Path) -> None:
    alone, trace = both(table_setup(tmp_path, "workload.output_tokens=1"))
    assert [closed.emitted for closed in trace.rounds] == [1]
    assert trace.requests[0].finished_ns == alone.requests[0].finished_ns == 100 * MS
    assert trace.requests[0].finish == "length"


def test_the_context_limit_ends_an_answer(tmp_path: Path) -> None:
    alone, trace = both(table_setup(tmp_path, "context_tokens=16"))
    for run in (alone, trace):
        assert run.requests[0].output_tokens == 6
        assert run.requests[0].finish == "context"


def test_a_verify_is_charged_the_next_width_up(tmp_path: Path) -> None:
    _, narrow = both(table_setup(tmp_path, "policy.draft_tokens=7", "workload.output_tokens=9"))
    _, wide = both(table_setup(tmp_path, "policy.draft_tokens=8", "workload.output_tokens=10"))
    verifies = [[s for s in run.spans if s.kind == "verify"] for run in (narrow, wide)]
    assert [(s.rows, s.width, (s.end_ns - s.start_ns) // MS) for s in verifies[0]] == [(8, 8, 60)]
    assert [(s.rows, s.width, (s.end_ns - s.start_ns) // MS) for s in verifies[1]] == [(9, 16, 90)]


def test_a_prompt_longer_than_the_widest_graph_is_read_in_chunks(tmp_path: Path) -> None:
    alone, _ = both(table_setup(tmp_path, "workload.prompt_tokens=130"))
    assert alone.spans[0].end_ns == 3 * 100 * MS  # 64 + 64 + 2, padded to 64


def test_tokens_wanted_on_the_drafts_chip_wait_for_the_link(tmp_path: Path) -> None:
    alone, trace = both(table_setup(tmp_path, "application=paper-draft"))
    # The prompt crosses before the target can read, and every verdict crosses before it can be spoken.
    assert trace.rounds[0].delivered_ns == (3 + 100 + 3) * MS
    assert trace.rounds[1].delivered_ns == (106 + 20 + 3 + 60 + 3) * MS
    # Alone, too: 3 ms there, and each token 3 ms back before the next step.
    assert alone.requests[0].finished_ns == (3 + 103 + 10 * 53) * MS


def test_two_sessions_queue_for_the_target(tmp_path: Path) -> None:
    one, _ = both(table_setup(tmp_path, "workload.requests=2"))
    two, trace = both(table_setup(tmp_path, "workload.requests=2", "workload.talkers=2"))
    assert one.end_ns == two.end_ns == 2 * 600 * MS  # one NPU: alone or in turn, the work takes as long
    assert where_time_went(requests_in_parts(trace))["lost_ms"]["wait"] > 0
    assert trace.end_ns < 2 * 272 * MS  # but drafting hides behind the other talker's verify


def test_draft_and_target_on_one_unit_never_overlap(tmp_path: Path) -> None:
    _, trace = both(table_setup(tmp_path, "draft.chip=paper-target", "link=on-chip"))
    assert len(trace.units) == 1
    spans = sorted((s for s in trace.spans if s.track == trace.units[0]), key=lambda span: span.start_ns)
    assert all(a.end_ns <= b.start_ns for a, b in pairwise(spans))
    assert spans[0].kind == "prefill"  # the passenger waits for the target, so it goes first
    assert spans[1].asked_ns < spans[1].start_ns
