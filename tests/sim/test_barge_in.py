"""Barge-in: instants on paper, and text up to the cut that is the target's own for the history that was heard."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.describe.policy import TargetOnly
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import compare_texts
from hilsim.sim.lead import View
from hilsim.sim.run import simulate
from hilsim.sim.trace import RequestRecord, Trace
from hilsim.sources.live import LiveSource, StandIns, load_stand_ins
from hilsim.sources.source import LogitsSource, Relay
from hilsim.text.prompt import Prompt
from tests.scenes import MS, shipped, synthetic, table_setup

LIVE = ("logits.dtype=float64", "workload.count=3", "workload.max_turns=3", "workload.max_new_tokens=48")
QUICK = "synthesis: {fixed_ms: 1, real_time_factor: 0}, end_of_speech: {wait_ms: 0}, recognition: {real_time_factor: 0}"


class Overheard(Relay):
    """Notes the conversation that each question ends."""

    def __init__(self, source: LogitsSource):
        super().__init__(source)
        self.histories: list[list[int]] = []

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        found = super().prompt(conversation, turn, before)
        self.histories.append([*before[: found.prefix_length], *found.tokens])
        return found


@cache
def stand_ins() -> StandIns:
    """Those of the scenario, which no policy changes."""
    return load_stand_ins(shipped("orin_8295_greedy", *LIVE))


def source_of(setup: Setup) -> LiveSource:
    """A fresh source."""
    scenario = setup.scenario
    return LiveSource(stand_ins(), scenario.sampling, scenario.context_tokens, scenario.seed)


def interrupted(policy: str) -> tuple[Setup, Trace, Overheard, LiveSource]:
    """A live run in which every second answer is cut after a moment, and a fresh source of the same networks."""
    barge_in = "{turns: [0, 1, 4, 6], after_s: 0.02, notice_ms: 5}"
    speech = f"speech={{{QUICK}, playback: {{words_per_s: 50}}, barge_in: {barge_in}}}"
    setup = shipped("orin_8295_greedy", *LIVE, speech, f"policy={policy}")
    heard = Overheard(source_of(setup))
    return setup, simulate(setup, heard), heard, source_of(setup)


def generated(trace: Trace, request: int) -> list[int]:
    """The tokens of one answer."""
    return [token for closed in trace.rounds if closed.request == request for token in closed.tokens]


def continued(alone: LiveSource, record: RequestRecord, history: list[int], count: int) -> list[int]:
    """What the target says by itself after a history."""
    own: list[int] = []
    for _ in range(count):
        own.append(alone.next_token(View(record.number, record.conversation, [*history, *own]))[0])
    return own


@pytest.mark.parametrize("policy", ["sync", "async", "pipelined", "pearl"])
def test_text_up_to_the_cut_is_the_targets_own(policy: str) -> None:
    drafted = "" if policy == "async" else ", draft_tokens: 4"
    setup, trace, heard, alone = interrupted(f"{{name: {policy}{drafted}}}")
    turns = {turn.request: turn for turn in trace.turns}
    cut = {number for number, turn in turns.items() if turn.outcome == "interrupted"}
    assert cut == {0, 1, 4, 6}
    differs = 0
    pairs = list(zip(trace.requests, heard.histories, strict=True))
    for record, history in pairs:
        answer = generated(trace, record.number)
        assert answer == continued(alone, record, history, len(answer))
    for (record, history), (after, later) in pairwise(pairs):
        if record.number in cut and after.conversation == record.conversation:
            answer, said = generated(trace, record.number), turns[record.number].heard_tokens
            assert 0 <= said < len(answer)
            assert later[: len(history) + said] == [*history, *answer[:said]]
            # The control: after the whole answer, the target would have said something else.
            whole = [*history, *answer, *later[len(history) + said :]]
            theirs = generated(trace, after.number)
            differs += continued(alone, after, whole, len(theirs)) != theirs
    assert differs
    found = compare_texts(simulate(setup, source_of(setup), TargetOnly(name="target_only")), trace)
    assert found["mismatches"] == found["numerical_ties"] == 0
    assert found["checked_tokens"] > 20
    assert found["not_compared_tokens"] > 0


def test_a_cut_ends_with_the_step_under_way_and_the_next_question_begins_when_the_passenger_speaks_up(
    tmp_path: Path,
) -> None:
    # Questions of 5 s, 100 ms to read, 50 ms a token, a clause of 4 tokens, whose audio is there at once.
    setup = table_setup(
        tmp_path, "workload.requests=2", "workload.output_tokens=41", "workload.clause_tokens=4",
        "workload.pause_ms=1000",
        f"speech={{{QUICK}, playback: {{words_per_s: 2, tokens_per_word: 1}}, "
        "barge_in: {turns: [0], after_s: 1.1, notice_ms: 200}}",
        "policy={name: target_only}", "speech.synthesis.fixed_ms=0",
    )  # fmt: skip
    trace = simulate(setup, synthetic(setup))
    first, second = trace.turns
    asked = 6000 * MS
    assert first.asked_ns == asked
    assert first.first_token_ns == asked + 100 * MS
    assert first.clause_ns == first.first_audio_ns == asked + (100 + 3 * 50) * MS
    assert first.interrupted_ns == first.first_audio_ns + 1100 * MS
    assert first.silent_ns == first.interrupted_ns + 200 * MS
    # 1.3 s of a clause of 4 tokens in 2 s have been heard.
    assert first.heard_tokens == 2
    # The step under way: tokens come at 100, 150 ... after the question; the cut is 1550 ms after it.
    assert first.freed_ns == asked + 1550 * MS
    assert (first.outcome, first.heard_ns) == ("interrupted", -1)
    (cut, whole) = trace.requests
    assert (cut.finish, whole.finish) == ("cut", "length")
    assert cut.output_tokens == 1 + (1550 - 100) // 50 - 1
    assert second.spoke_ns == first.interrupted_ns
    assert second.spoken_ns == second.spoke_ns + 5000 * MS
    assert second.outcome == "answered"


def test_listed_turns_have_the_numbers_of_the_report_which_refused_questions_count_in(tmp_path: Path) -> None:
    setup = table_setup(
        tmp_path, "workload.requests=3", "workload.output_tokens=200", "policy={name: target_only}",
        "passengers=[{name: a, queue_limit: 1, arrivals: {kind: times, at_s: [0, 1, 1.5]}}]",
        f"speech={{{QUICK}, playback: {{words_per_s: 2, tokens_per_word: 1}}, barge_in: {{turns: [2], after_s: 1}}}}",
    )  # fmt: skip
    turns = sorted(simulate(setup, synthetic(setup)).turns, key=lambda turn: turn.number)
    found = [(turn.number, turn.request, turn.outcome) for turn in turns]
    assert found[:3] == [(0, 0, "answered"), (1, -1, "refused"), (2, 1, "interrupted")]


def test_a_lost_cache_is_read_again() -> None:
    rows: dict[str, list[int]] = {}
    for then in ("rewound", "lost"):
        speech = f"speech={{{QUICK}, barge_in: {{turns: [0], after_s: 0.01, notice_ms: 1, cache: {then}}}}}"
        kept = "speech.prompt={system_tokens: 400, tool_tokens: 100, retrieved_tokens: 30}"
        setup = shipped("orin_8295_greedy", *LIVE, "workload.count=1", speech, kept)
        trace = simulate(setup, source_of(setup))
        rows[then] = [span.rows for span in trace.spans if span.kind == "prefill"]
        conversation = trace.requests[0]
        assert rows[then][0] == 530 + conversation.prompt_tokens
        assert trace.turns[0].outcome == "interrupted"
        assert conversation.output_tokens > trace.turns[0].heard_tokens
    assert rows["rewound"][1] < 200
    assert rows["lost"][1] > rows["rewound"][1] + 500


@pytest.mark.parametrize(
    "policy",
    ["target_only", "sync", "adaptive", "pearl", "async", "pipelined", "tree"],
)
def test_every_policy_stops_within_a_step(tmp_path: Path, policy: str) -> None:
    more = {"tree": ", branches: [2, 1]", "async": "", "target_only": "", "adaptive": ", rule: schedule"}
    setup = table_setup(
        tmp_path, "workload.requests=2", "workload.output_tokens=200", "logits.acceptance=0.6",
        f"policy={{name: {policy}{more.get(policy, ', draft_tokens: 4')}}}",
        f"speech={{{QUICK}, barge_in: {{turns: [0], after_s: 0.7, notice_ms: 50}}}}",
    )  # fmt: skip
    trace = simulate(setup, synthetic(setup))
    first, second = trace.turns
    cut, whole = trace.requests
    assert (cut.finish, whole.finish) == ("cut", "length")
    # At most the step of 60 ms under way, of a prompt 100 ms, and the messages of 3 ms behind it.
    assert 0 <= first.freed_ns - first.silent_ns <= (60 + 2 * 3) * MS
    after = [span for span in trace.spans if span.request == 0 and span.start_ns > first.silent_ns]
    assert not after
    assert second.request == 1
    assert sum(closed.emitted for closed in trace.rounds if closed.request == 0) == cut.output_tokens
    kinds = {span.kind for span in trace.spans if span.request == 0 and span.end_ns > first.silent_ns}
    assert kinds <= {"verify", "decode", "draft", "drafts", "verdict"}


def test_a_question_that_is_given_up_stands_unanswered_in_the_conversation() -> None:
    # Recognition of the second question takes longer than the passenger waits.
    slow = "recognition: {streaming: false, real_time_factor: 0, fixed_ms: 2000}"
    speech = f"speech={{{slow}, end_of_speech: {{wait_ms: 0}}}}"
    asks = "passengers=[{name: driver, patience_s: %s, arrivals: {kind: pauses, pause_s: 1}}]"
    setup = shipped("orin_8295_greedy", *LIVE, "workload.count=1", speech, asks % "1")
    heard = Overheard(source_of(setup))
    trace = simulate(setup, heard)
    assert [turn.outcome for turn in trace.turns] == ["given up"] * 3
    assert not trace.requests
    for earlier, later in pairwise(heard.histories):
        assert later[: len(earlier)] == earlier
    patient = shipped("orin_8295_greedy", *LIVE, "workload.count=1", speech, asks % "30")
    assert len(simulate(patient, source_of(patient)).requests) == 3
