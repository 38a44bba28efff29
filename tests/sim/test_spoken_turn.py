"""Spoken turns by closed form: every instant of a turn on paper, and a lone passenger as without company."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.describe.setup import Setup
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from tests.scenes import MS, synthetic, table_setup

# Questions of 10 tokens at 2 a second are 5 s long; answers are read in 100 ms and said by the target at 50 ms a token.
PLAYBACK = "playback: {words_per_s: 2, tokens_per_word: 1}"
ALONE = (
    "policy={name: target_only}", "workload.requests=1", "workload.output_tokens=8", "workload.clause_tokens=4",
    "workload.pause_ms=1000",
)  # fmt: skip
NOTHING = (
    "end_of_speech: {wait_ms: 0}, recognition: {real_time_factor: 0}, synthesis: {fixed_ms: 0, real_time_factor: 0}"
)


def run(setup: Setup) -> Trace:
    return simulate(setup, synthetic(setup))


def spoken(folder: Path, speech: str, *overrides: str) -> Trace:
    """A run of one answer of two clauses of 2 s each, by the target alone."""
    return run(table_setup(folder, *ALONE, f"speech={{{PLAYBACK}, {speech}}}", *overrides))


POLICIES = {
    "target_only": "{name: target_only}", "sync": "{name: sync, draft_tokens: 4}",
    "pearl": "{name: pearl, draft_tokens: 4}", "async": "{name: async}",
    "pipelined": "{name: pipelined, draft_tokens: 4}", "tree": "{name: tree, branches: [2, 1]}",
}  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_a_lone_passenger_is_as_without_company_to_the_nanosecond(tmp_path: Path, policy: str) -> None:
    scene = ("workload.requests=3", "workload.output_tokens=40", "logits.acceptance=0.7", f"policy={policy}")
    today = run(table_setup(tmp_path, *scene, "workload.pause_ms=150"))
    lone = run(table_setup(tmp_path, *scene, "passengers=[{name: driver, arrivals: {kind: pauses, pause_s: 0.15}}]"))
    assert lone.spans == today.spans
    assert lone.rounds == today.rounds
    assert lone.requests == today.requests
    assert lone.levels == today.levels
    assert lone.end_ns == today.end_ns
    assert [turn.asked_ns for turn in lone.turns] == [record.arrived_ns for record in today.requests]
    assert [turn.finished_ns for turn in lone.turns] == [record.finished_ns for record in today.requests]


def test_a_voice_changes_nothing_in_the_language_models_times(tmp_path: Path) -> None:
    scene = ("workload.requests=3", "workload.output_tokens=40", "logits.acceptance=0.7")
    today = run(table_setup(tmp_path, *scene))
    voiced = run(table_setup(tmp_path, *scene, "speech={}"))

    def durations(trace: Trace) -> list[list[int]]:
        return [
            [closed.delivered_ns - record.arrived_ns for closed in trace.rounds if closed.request == record.number]
            for record in trace.requests
        ]

    assert durations(voiced) == durations(today)


def test_the_instants_of_a_turn(tmp_path: Path) -> None:
    trace = spoken(
        tmp_path,
        "end_of_speech: {wait_ms: 300}, recognition: {streaming: true, real_time_factor: 0.5, chunk_ms: 400, "
        "fixed_ms: 250}, prompt: {ms: 40}, synthesis: {fixed_ms: 70, real_time_factor: 0.2, first_share: 0.25}",
    )
    (turn,) = trace.turns
    assert turn.spoke_ns == turn.wanted_ns == 1000 * MS
    assert turn.spoken_ns == 6000 * MS
    assert turn.noticed_ns == 6300 * MS
    assert turn.recognised_ns == 6450 * MS  # 400 ms x 0.5 + 250 ms after the end of speech
    assert turn.asked_ns == 6490 * MS
    assert turn.first_token_ns == 6590 * MS
    assert turn.clause_ns == 6740 * MS  # three more tokens
    assert turn.first_audio_ns == (6740 + 70 + 100) * MS  # a quarter of 2 s x 0.2
    assert turn.finished_ns == 6940 * MS
    assert turn.heard_ns == turn.first_audio_ns + 4000 * MS
    assert turn.gaps == ()
    assert turn.outcome == "answered"


def test_whole_recognition_begins_when_the_end_is_known(tmp_path: Path) -> None:
    trace = spoken(
        tmp_path,
        "end_of_speech: {wait_ms: 300}, recognition: {streaming: false, real_time_factor: 0.1, fixed_ms: 20}, "
        "synthesis: {fixed_ms: 0, real_time_factor: 0}",
    )
    (turn,) = trace.turns
    assert turn.recognised_ns == 6000 * MS + (300 + 500 + 20) * MS
    assert turn.asked_ns == turn.recognised_ns


def test_speech_that_is_made_more_slowly_than_it_is_said_has_gaps(tmp_path: Path) -> None:
    # A clause of 2 s takes 3 s: half of it 1.5 s, then 1 s sounds while the rest takes 1.5 s, streaming out at the end.
    trace = spoken(
        tmp_path,
        "end_of_speech: {wait_ms: 0}, recognition: {real_time_factor: 0}, "
        "synthesis: {fixed_ms: 0, real_time_factor: 1.5, first_share: 0.5}",
    )
    (turn,) = trace.turns
    begun = turn.clause_ns
    assert turn.first_audio_ns == begun + 1500 * MS
    # First half until 2.5 s; the rest is whole at 3 s, so it sounds from 2 s on at the earliest: no gap yet.
    # The second clause's first half is there at 4.5 s, the first clause is over at 3.5 s.
    assert turn.gaps == ((begun + 3500 * MS, begun + 4500 * MS),)
    assert turn.heard_ns == begun + 6500 * MS


def test_stages_take_turns_with_the_language_model_on_one_unit(tmp_path: Path) -> None:
    trace = spoken(
        tmp_path,
        "end_of_speech: {wait_ms: 100, unit: any, model: {ms: 7}}, "
        "recognition: {unit: any, streaming: false, real_time_factor: 0.1}, wake_word: {ms: 30}, "
        "synthesis: {unit: any, fixed_ms: 20, real_time_factor: 0.01, first_share: 1}",
    )
    (turn,) = trace.turns
    on_unit = [span for span in trace.spans if span.track == "paper-target.any"]
    assert [span.kind for span in on_unit[:4]] == ["wake_word", "end_of_speech", "recognition", "prefill"]
    assert turn.spoken_ns == turn.spoke_ns + (30 + 5000) * MS
    assert turn.noticed_ns == turn.spoken_ns + 107 * MS
    assert turn.recognised_ns == turn.noticed_ns + 500 * MS
    # The first clause waits for the step under way, the fifth token's, which begins as the fourth is there.
    assert turn.first_audio_ns == turn.clause_ns + (50 + 40) * MS
    assert all(one.end_ns <= later.start_ns for one, later in pairwise(on_unit))


def rows(trace: Trace) -> list[int]:
    """Rows that the target read, prompt by prompt."""
    return [span.rows for span in trace.spans if span.kind == "prefill"]


def test_a_kept_prefix_is_read_once(tmp_path: Path) -> None:
    # Lengths are conversations of one turn: each begins with the prefix.
    prompt = "prompt: {system_tokens: 30, tool_tokens: 10, retrieved_tokens: 4, kept: %s}"
    more = "workload.requests=3"
    kept = spoken(tmp_path, f"{NOTHING}, {prompt % 'true'}", more)
    again = spoken(tmp_path, f"{NOTHING}, {prompt % 'false'}", more)
    assert rows(kept) == [54, 14, 14]
    assert rows(again) == [54, 54, 54]
    chip = "paper-target"
    assert [level.what for level in kept.levels if level.chip == chip and "prefix" in level.what] == ["kept prefix"]
    assert not [level for level in again.levels if "prefix" in level.what]


def test_a_tool_call_stops_the_answer_until_its_result_is_read(tmp_path: Path) -> None:
    tools = "tools: {share: 1, ms: 400, call_tokens: 6, result_tokens: 20}"
    (turn,) = spoken(tmp_path, f"{NOTHING}, {tools}").turns
    # The question's last row is the call's first token: five more, the tool, then call and result are read.
    assert turn.first_token_ns == turn.asked_ns + (100 + 5 * 50 + 400 + 100) * MS
    trace = spoken(tmp_path, f"{NOTHING}, tools: {{share: 1, ms: 400, call_tokens: 6, result_tokens: 20}}")
    assert [span.kind for span in trace.spans[:7]] == ["prefill", *["tool call"] * 5, "prefill"]
    assert rows(trace) == [10, 21]
    (without,) = spoken(tmp_path, f"{NOTHING}, {tools.replace('share: 1', 'share: 0')}").turns
    assert without.first_token_ns == without.asked_ns + 100 * MS


def test_a_cold_start_holds_the_first_answer_up(tmp_path: Path) -> None:
    warm = spoken(tmp_path, NOTHING, "trip={minutes: 1}")
    cold = spoken(tmp_path, NOTHING, "trip={minutes: 1, cold_start: true}")
    assert warm.end_ns == 60_000 * MS
    # The paper chips describe no start: they are ready at once.
    assert cold.turns == warm.turns
