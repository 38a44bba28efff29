"""Spoken turns by closed form: every instant of a turn on paper, and a lone passenger as without company."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.cost.memory import ledgers
from hilsim.cost.start_up import flash_bytes, swap_loads
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.cockpit import Trip
from hilsim.describe.setup import Setup
from hilsim.errors import ScenarioError
from hilsim.measure.turns import times_of
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace, TurnRecord
from hilsim.units import ns
from tests.scenes import MS, milliseconds, shipped, synthetic, table_setup

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


def test_a_passenger_who_asks_a_nanosecond_later_is_not_as_without_company(tmp_path: Path) -> None:
    """The negative control: three questions, three nanoseconds in the end."""
    scene = ("workload.requests=3", "workload.output_tokens=40", "logits.acceptance=0.7", f"policy={POLICIES['sync']}")
    today = run(table_setup(tmp_path, *scene, "workload.pause_ms=150"))
    late = "passengers=[{name: driver, arrivals: {kind: pauses, pause_s: 0.150000001}}]"
    lone = run(table_setup(tmp_path, *scene, late))
    for number, (one, other) in enumerate(zip(lone.requests, today.requests, strict=True)):
        assert one.arrived_ns == other.arrived_ns + number + 1
    assert lone.spans != today.spans
    assert lone.end_ns == today.end_ns + 3


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


def test_steps_read_the_prefix_in_the_cache(tmp_path: Path) -> None:
    prompt = "prompt: {system_tokens: 500, tool_tokens: 100, retrieved_tokens: 70}"
    lengths = "workload={requests: 2, prompt_tokens: 40, output_tokens: 30}"
    scene = ("logits={source: synthetic, acceptance: 1}", lengths, "networks=[]")
    setup = shipped("swapped", *scene, f"speech={{{NOTHING}, {prompt}}}", "policy={name: target_only}")
    timer = timer_for(setup.target, setup.scenario.context_tokens)
    spans = [span for span in run(setup).spans if span.track == setup.target.track]
    reads = [span for span in spans if span.kind == "prefill"]
    decodes = [span for span in spans if span.kind == "decode"]
    assert [span.rows for span in reads] == [500 + 100 + 70 + 40, 70 + 40]
    first, second = (timer.duration_ns(Step(Phase.PREFILL, *shape)) for shape in ((710, 0), (110, 600)))
    assert [span.end_ns - span.start_ns for span in reads] == [first, second]
    expected = [timer.duration_ns(Step(Phase.DECODE, 1, 670 + span.cached)) for span in decodes]
    assert [span.end_ns - span.start_ns for span in decodes] == expected
    assert {span.cached for span in decodes} == set(range(40, 69))
    assert expected[0] > timer.duration_ns(Step(Phase.DECODE, 1, decodes[0].cached))


def test_a_cold_start_holds_the_first_answer_up(tmp_path: Path) -> None:
    scene = (*ALONE, f"speech={{{PLAYBACK}, {NOTHING}}}", "workload.requests=2", "workload.pause_ms=0")
    warm = run(table_setup(tmp_path, *scene, "trip={minutes: 1}"))
    assert warm.end_ns == 60_000 * MS
    with pytest.raises(
        ScenarioError, match=r"trip.cold_start.* paper-target has no flash_rate and no units.any.start_up"
    ):
        table_setup(tmp_path, *scene, "trip={minutes: 1, cold_start: true}")
    setup = table_setup(tmp_path, *scene, "trip={minutes: 1}")
    scenario = setup.scenario.model_copy(update={"trip": Trip(minutes=1, cold_start=True)})
    setup = replace(setup, scenario=scenario)
    unit = setup.target.unit.model_copy(update={"start_up": milliseconds(9000), "first_pass": milliseconds(500)})
    slow = replace(setup, target=replace(setup.target, unit=unit))
    cold = run(slow)
    (load,) = (span for span in cold.spans if span.kind == "load")
    assert (load.start_ns, load.end_ns) == (0, 9500 * MS)
    # The first question is asked at 5 s and waits for the rest of the start; the second meets a warm chip.
    first, second = zip(warm.turns, cold.turns, strict=True)
    assert first[0].asked_ns == first[1].asked_ns == 5000 * MS
    assert first[1].first_token_ns == 9600 * MS
    assert [turn.first_token_ns - turn.asked_ns for turn in second] == [100 * MS] * 2


def test_models_that_do_not_fit_together_are_loaded_in_turn(tmp_path: Path) -> None:
    plain = "end_of_speech: {wait_ms: 0}, synthesis: {fixed_ms: 0, real_time_factor: 0}"
    hearing = "recognition: {unit: any, streaming: false, real_time_factor: 0.1}"
    speech = (
        f"speech={{{PLAYBACK}, {plain}, {hearing}, swap: {{stage: recognition, megabytes: 300, flash_mb_per_s: %s}}}}"
    )
    setup = table_setup(tmp_path, *ALONE, "workload.requests=2", speech % 1000)
    loads = swap_loads(setup, setup.scenario.speech.swap)
    target_ns = ns(flash_bytes(setup.target) / 1e9)
    assert loads == {"recognition": (300 * MS, 300_000_000), "target": (target_ns, flash_bytes(setup.target))}
    trace = run(setup)
    for turn in trace.turns:
        assert turn.recognised_ns == turn.spoken_ns + (300 + 500) * MS
        assert turn.first_token_ns == turn.asked_ns + target_ns + 100 * MS
    assert [span.kind for span in trace.spans if span.kind in ("load", "recognition", "prefill")] == [
        "load", "recognition", "load", "prefill",
    ] * 2  # fmt: skip
    (beyond,) = (item.bytes for item in ledgers(setup)["paper-target"].items if item.what.startswith("recognition"))
    assert beyond == 300_000_000 - flash_bytes(setup.target)  # it lies in the target's place


def test_a_swap_waits_until_the_other_model_is_not_in_use(tmp_path: Path) -> None:
    plain = "end_of_speech: {wait_ms: 0}, synthesis: {fixed_ms: 0, real_time_factor: 0}"
    hearing = "recognition: {streaming: false, real_time_factor: 0.1}"
    speech = (
        f"speech={{{PLAYBACK}, {plain}, {hearing}, swap: {{stage: recognition, megabytes: 300, flash_mb_per_s: 1e6}}}}"
    )
    asks = (
        "passengers=[{name: a, arrivals: {kind: times, at_s: [0]}}, {name: b, arrivals: {kind: times, at_s: [0.65]}}]"
    )
    setup = table_setup(tmp_path, *ALONE, "workload.requests=2", speech, asks)
    first, second = run(setup).turns[:2]
    if first.passenger != "a":
        first, second = second, first
    # The second is heard once the first has been answered, though its question ends during that answer.
    assert first.asked_ns < second.spoken_ns < first.finished_ns
    assert second.recognised_ns >= first.finished_ns + 500 * MS
    assert second.outcome == "answered"


def test_a_turn_given_up_ends_at_once_and_has_no_instants_that_it_did_not_reach(tmp_path: Path) -> None:
    hearing = "end_of_speech: {wait_ms: 200}, recognition: {unit: any, streaming: false, real_time_factor: 0.2}"
    speech = f"speech={{{PLAYBACK}, {hearing}, synthesis: {{fixed_ms: 0, real_time_factor: 0}}}}"

    def turns(patience_s: float) -> list[TurnRecord]:
        passenger = f"{{name: a, patience_s: {patience_s}, arrivals: {{kind: times, at_s: [0, 5.4]}}}}"
        trace = run(table_setup(tmp_path, *ALONE, "workload.requests=2", speech, f"passengers=[{passenger}]"))
        assert all(turn.request == -1 for turn in trace.turns if turn.outcome == "given up")
        return trace.turns

    # Questions are 5 s long, noticed 200 ms later, recognised 1 s after that, read in 100 ms, a clause is 3 tokens on.
    first, second = turns(0.5)
    assert (first.outcome, first.spoken_ns, first.noticed_ns) == ("given up", 5000 * MS, 5200 * MS)
    assert (first.recognised_ns, first.asked_ns, first.freed_ns) == (-1, -1, -1)
    assert second.spoke_ns == 5500 * MS
    assert "recognition" not in times_of(first)
    first, second = turns(0.1)
    assert (first.noticed_ns, first.recognised_ns, second.spoke_ns) == (-1, -1, 5400 * MS)
    # While the target reads: the step ends, the next question has begun meanwhile.
    first, second = turns(1.25)
    assert (first.outcome, first.asked_ns, second.spoke_ns, second.spoken_ns) == (
        "given up", 6200 * MS, 6250 * MS, 11250 * MS,
    )  # fmt: skip
    first, second = turns(1.7)  # patient enough, by 50 ms
    assert first.outcome == "answered"
    assert first.first_audio_ns == 6450 * MS
    assert (second.outcome, second.spoken_ns) == ("given up", -1)  # it would wait for the end of playback


def test_one_who_gives_up_waits_no_longer_for_a_model_to_be_loaded(tmp_path: Path) -> None:
    plain = "end_of_speech: {wait_ms: 0}, synthesis: {fixed_ms: 0, real_time_factor: 0}"
    hearing = "recognition: {streaming: false, real_time_factor: 0.1}"
    speech = (
        f"speech={{{PLAYBACK}, {plain}, {hearing}, swap: {{stage: recognition, megabytes: 300, flash_mb_per_s: 100}}}}"
    )
    asks = "passengers=[{name: a, patience_s: 3.6, arrivals: {kind: times, at_s: [0, 8]}}]"
    first, second = run(table_setup(tmp_path, *ALONE, "workload.requests=2", speech, asks)).turns
    # 3 s of loading, 0.5 s of recognition; the target is loaded for many seconds more.
    assert (first.outcome, first.asked_ns, first.recognised_ns) == ("given up", 8500 * MS, 8500 * MS)
    assert second.spoke_ns == 8600 * MS


def test_a_swap_without_a_flash_rate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="flash_rate"):
        table_setup(tmp_path, "speech={swap: {stage: recognition, megabytes: 300}}")
