"""Passengers: when they ask, who goes first, who is refused or gives up, and what memory their conversations take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import pytest

from hilsim.cost.memory import ledgers, prefix_bytes
from hilsim.describe.cockpit import Pauses, Poisson
from hilsim.describe.figure import Figure
from hilsim.describe.setup import Setup
from hilsim.runs.run import Sources
from hilsim.sim.arrivals import instants, pause_ns
from hilsim.sim.run import simulate, turns_of
from hilsim.sim.trace import Trace
from hilsim.sources.transcript import TranscriptSource
from tests.scenes import MS, shipped, synthetic, table_setup

# The target alone: a question of 100 ms and 4 further tokens of 50 ms, 300 ms in all.
ALONE = ("policy={name: target_only}", "workload.output_tokens=5", "workload.clause_tokens=3")
SECOND = 1000 * MS


def run(setup: Setup) -> Trace:
    return simulate(setup, synthetic(setup))


def riding(folder: Path, *passengers: str, requests: int = 20, more: Sequence[str] = ()) -> Trace:
    """A run with these passengers."""
    return run(
        table_setup(folder, *ALONE, f"workload.requests={requests}", f"passengers=[{', '.join(passengers)}]", *more)
    )


def asks(name: str, at_s: str, more: str = "") -> str:
    """A passenger who asks at given instants."""
    return f"{{name: {name}, arrivals: {{kind: times, at_s: [{at_s}]}}{more}}}"


def test_questions_that_come_up_during_a_turn_wait_for_its_end(tmp_path: Path) -> None:
    trace = riding(tmp_path, asks("driver", "1, 1.1, 1.2, 5"))
    assert [turn.wanted_ns for turn in trace.turns] == [SECOND, 1100 * MS, 1200 * MS, 5 * SECOND]
    assert [turn.spoke_ns for turn in trace.turns] == [1000 * MS, 1300 * MS, 1600 * MS, 5000 * MS]
    assert [turn.finished_ns - turn.asked_ns for turn in trace.turns] == [300 * MS] * 4
    assert [turn.clause_ns - turn.asked_ns for turn in trace.turns] == [200 * MS] * 4
    assert [turn.number for turn in trace.turns] == [0, 1, 2, 3]


def test_a_question_beyond_the_queue_limit_is_refused(tmp_path: Path) -> None:
    trace = riding(tmp_path, asks("driver", "1, 1.1, 1.15, 1.2", ", queue_limit: 1"))
    assert sorted((turn.spoke_ns // MS, turn.outcome) for turn in trace.turns) == [
        (1000, "answered"), (1150, "refused"), (1200, "refused"), (1300, "answered"),
    ]  # fmt: skip
    assert len(trace.requests) == 2
    assert [turn.request for turn in trace.turns if turn.outcome == "refused"] == [-1, -1]


def test_a_question_is_given_up_without_an_answer_in_time(tmp_path: Path) -> None:
    trace = riding(tmp_path, asks("driver", "1, 1.05, 1.09", ", patience_s: 0.07"))
    # Reading takes 100 ms: the step ends, its token is dropped. The second waited 50 ms, the third 110 ms.
    assert [(turn.outcome, turn.request) for turn in trace.turns] == [("given up", -1)] * 3
    assert [span.kind for span in trace.spans] == ["prefill", "prefill"]
    assert trace.turns[1].spoke_ns == 1100 * MS
    assert trace.turns[2].asked_ns == -1
    assert not trace.requests
    patient = riding(tmp_path, asks("driver", "1, 1.05", ", patience_s: 0.3"))
    assert [turn.outcome for turn in patient.turns] == ["answered", "answered"]


def test_the_lower_priority_goes_first(tmp_path: Path) -> None:
    guest, driver = asks("guest", "1, 2", ", priority: 3"), asks("driver", "1.01, 2.01", ", priority: 0")
    by_name = {name: [turn for turn in riding(tmp_path, guest, driver).turns if turn.passenger == name] for name in
               ("guest", "driver")}  # fmt: skip
    # The driver waits for the step under way alone, and then takes the unit between two steps of the guest's.
    assert [turn.finished_ns - turn.asked_ns for turn in by_name["driver"]] == [(90 + 300) * MS] * 2
    assert [turn.finished_ns - turn.asked_ns for turn in by_name["guest"]] == [600 * MS] * 2


def test_arrivals_are_poisson_and_the_same_for_every_policy(tmp_path: Path) -> None:
    often = list(islice(instants(Poisson(kind="poisson", per_hour=3600), "driver", 7), 4000))
    gaps = [(later - one) / SECOND for one, later in pairwise(often)]
    mean = sum(gaps) / len(gaps)
    assert abs(mean - 1) < 4 / math.sqrt(len(gaps))  # four standard errors
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert abs(spread - 1) < 4 * math.sqrt(2 / len(gaps))  # that of an exponential is 1, its kurtosis 9
    assert often != list(islice(instants(Poisson(kind="poisson", per_hour=3600), "guest", 7), 4000))
    passenger = "{name: driver, arrivals: {kind: poisson, per_hour: 7200}}"
    first = riding(tmp_path, passenger)
    second = riding(tmp_path, passenger, more=["policy={name: sync, draft_tokens: 4}"])
    assert [turn.wanted_ns for turn in first.turns] == [turn.wanted_ns for turn in second.turns]
    assert len(first.turns) == 20
    assert first.exhausted_ns > 0


def test_pauses_are_lognormal_around_their_length() -> None:
    arrivals = Pauses(kind="pauses", pause_s=2, spread=0.5)
    logs = [math.log(pause_ns(arrivals, "driver", 3, number) / (2 * SECOND)) for number in range(2000)]
    mean = sum(logs) / len(logs)
    assert abs(mean) < 4 * 0.5 / math.sqrt(len(logs))
    deviation = math.sqrt(sum((one - mean) ** 2 for one in logs) / len(logs))
    assert abs(deviation - 0.5) < 4 * 0.5 / math.sqrt(2 * len(logs))
    assert pause_ns(Pauses(kind="pauses", pause_s=2), "driver", 3, 5) == 2 * SECOND


def test_nobody_asks_after_the_trip(tmp_path: Path) -> None:
    """Of a recorded day a trip takes the first part."""
    (tmp_path / "day.csv").write_text("1\n59\n61\n", encoding="utf-8")
    driver = f"{{name: driver, arrivals: {{kind: times, file: {tmp_path / 'day.csv'}}}}}"
    trace = riding(tmp_path, driver, "{name: guest, arrivals: {kind: pauses, pause_s: 14}}",
                   more=["trip={minutes: 1}"])  # fmt: skip
    assert [turn.wanted_ns // SECOND for turn in trace.turns if turn.passenger == "driver"] == [1, 59]
    assert [turn.wanted_ns // SECOND for turn in trace.turns if turn.passenger == "guest"] == [14, 28, 42, 56]
    assert trace.end_ns == 60 * SECOND
    assert trace.exhausted_ns == -1
    short = riding(tmp_path, asks("driver", "1, 2, 3"), requests=2, more=["trip={minutes: 1}"])
    assert len(short.turns) == 2
    assert short.exhausted_ns == 3 * SECOND


def test_questions_that_still_wait_as_the_trip_ends_are_refused(tmp_path: Path) -> None:
    late = riding(tmp_path, asks("driver", "59.5, 59.6, 59.7, 59.8, 59.9"), more=["trip={minutes: 1}"])
    assert [(turn.wanted_ns // MS, turn.outcome) for turn in late.turns] == [
        (59500, "answered"), (59600, "answered"), (59700, "refused"), (59800, "refused"), (59900, "refused"),
    ]  # fmt: skip
    assert max(turn.asked_ns for turn in late.turns) == 59800 * MS
    assert late.exhausted_ns == -1
    longer = riding(tmp_path, asks("driver", "59.5, 59.6, 59.7, 59.8, 59.9"), more=["trip={minutes: 2}"])
    assert [turn.outcome for turn in longer.turns] == ["answered"] * 5


def test_every_passenger_has_a_cache_and_the_kept_prefix_gives_way_to_them(tmp_path: Path) -> None:
    prompt = "speech={end_of_speech: {wait_ms: 0}, prompt: {system_tokens: 40}, playback: {words_per_s: 100}}"
    setup = table_setup(
        tmp_path, *ALONE, "workload.requests=6", prompt,
        f"passengers=[{asks('driver', '1, 10, 20')}, {asks('guest', '20.01, 30, 40')}]",
    )  # fmt: skip
    chip, ledger = setup.target.chip, ledgers(setup)["paper-target"]
    caches = [item.bytes for item in ledger.items if item.per_conversation]
    kept = prefix_bytes(setup)["paper-target"]
    assert len(caches) == 1
    assert 0 < kept < caches[0] / 2
    assert [item.bytes for item in ledger.items if item.while_room] == [kept]

    def with_memory(nbytes: int) -> Setup:
        memory = Figure(value=nbytes, unit="B", kind="assumed", source="just enough")
        smaller = chip.model_copy(update={"memory": memory})
        return replace(setup, target=replace(setup.target, chip=smaller))

    def reads(trace: Trace) -> list[int]:
        return [span.rows for span in trace.spans if span.kind == "prefill"]

    roomy = with_memory(ledger.used_bytes)
    assert reads(run(roomy)) == [50, 10, 10, 10, 10, 10]
    tight = with_memory(ledger.used_bytes - 1)
    assert not [item for item in ledgers(tight)["paper-target"].items if item.while_room]
    trace = run(tight)
    # Kept after the first question; dropped where a second conversation opens beside one; kept again with room for it.
    assert reads(trace) == [50, 10, 50, 50, 50, 10]
    here = [level for level in trace.levels if level.chip == "paper-target"]
    kept_and_dropped = [level.what for level in here if "prefix" in level.what]
    assert kept_and_dropped == ["kept prefix", "kept prefix freed", "kept prefix"]
    assert max(level.used_bytes for level in here) <= ledger.used_bytes - 1


@pytest.mark.parametrize("policy", ["{name: sync, draft_tokens: 4}", "{name: async}"], ids=["sync", "async"])
def test_conversations_are_dealt_whole_and_recorded_text_goes_on_after_a_cut(policy: str) -> None:
    setup = shipped(
        "orin_8295_greedy", "logits={source: transcript, file: scenarios/transcripts/shift-draft-0.8m-greedy.npz}",
        f"policy={policy}", "speech={barge_in: {share: 0.5, after_s: 0.3, notice_ms: 50}}",
        "passengers=[{name: driver, arrivals: {kind: pauses, pause_s: 1}}, {name: guest, priority: 2, arrivals: "
        "{kind: poisson, per_hour: 400}}]",
    )  # fmt: skip
    source = Sources(setup).fresh()
    assert isinstance(source, TranscriptSource)
    trace = simulate(setup, source)
    assert len(trace.requests) == sum(map(len, turns_of(setup)))
    owners: dict[int, set[str]] = {}
    turns = {turn.request: turn for turn in trace.turns}
    for record in trace.requests:
        owners.setdefault(record.conversation, set()).add(turns[record.number].passenger)
        said = [token for closed in trace.rounds if closed.request == record.number for token in closed.tokens]
        assert tuple(said) == source.answers[record.number][: len(said)]
    assert all(len(names) == 1 for names in owners.values())
    assert set().union(*owners.values()) == {"driver", "guest"}
    outcomes = [turn.outcome for turn in trace.turns]
    assert outcomes.count("interrupted") > 3
    assert "answered" in outcomes


@pytest.mark.parametrize(
    ("scenario", "policy"),
    [
        ("orin_8295_greedy", "{name: sync, draft_tokens: 4}"),
        ("swapped", "{name: async}"),
        ("one_chip", "{name: pipelined, draft_tokens: 3}"),
    ],
)
def test_no_question_is_lost_whatever_goes_on(scenario: str, policy: str) -> None:
    passengers = ", ".join(
        f"{{name: p{number}, priority: {number}, queue_limit: 2, patience_s: 6, arrivals: "
        f"{{kind: poisson, per_hour: {200 + 100 * number}}}}}"
        for number in range(3)
    )
    trip = f"trip={{minutes: 4, cold_start: {str(scenario != 'swapped').lower()}}}"  # Jetsons describe no start
    setup = shipped(
        scenario, "logits={source: synthetic, acceptance: 0.7}", "networks=[]", f"policy={policy}",
        "workload={requests: 500, prompt_tokens: 30, output_tokens: 40}", f"passengers=[{passengers}]",
        "speech={barge_in: {share: 0.4, after_s: 0.7}, tools: {share: 0.2, ms: 300}, recognition: {unit: gpu}, "
        "prompt: {system_tokens: 200, retrieved_tokens: 30}, synthesis: {unit: gpu, real_time_factor: 0.05}}",
        "background=[{name: camera, unit: gpu, period_ms: 33, work: {ms: 2}}]", trip,
    )  # fmt: skip
    trace = run(setup)
    wanted = [
        sum(at < 240 * SECOND for at in islice(instants(passenger.arrivals, passenger.name, setup.scenario.seed), 99))
        for passenger in setup.scenario.passengers
        if isinstance(passenger.arrivals, Poisson)
    ]
    interrupted = sum(turn.outcome == "interrupted" for turn in trace.turns)
    late = sum(turn.interrupted_ns >= 240 * SECOND for turn in trace.turns)
    assert len(trace.turns) == sum(wanted) + interrupted - late > 20
    assert sorted(turn.number for turn in trace.turns) == list(range(len(trace.turns)))
    answered = {turn.request for turn in trace.turns if turn.request >= 0}
    assert answered == {record.number for record in trace.requests}
    for record in trace.requests:
        emitted = sum(closed.emitted for closed in trace.rounds if closed.request == record.number)
        assert emitted == record.output_tokens
        assert (record.finish == "cut") or record.output_tokens == 40
    for turn in trace.turns:
        instants_of_turn = [at for at in turn[3:11] if at >= 0]
        assert instants_of_turn == sorted(instants_of_turn)
        assert (turn.heard_ns >= turn.first_audio_ns >= 0) == (turn.outcome == "answered")
    for track in trace.tracks:
        spans = sorted((span for span in trace.spans if span.track == track), key=lambda span: span.start_ns)
        assert all(one.end_ns <= later.start_ns for one, later in pairwise(spans))
    last = [level.used_bytes for level in trace.levels if level.chip == setup.target.chip.name][-1]
    first = max(level.used_bytes for level in trace.levels if level.at_ns == 0 and level.chip == setup.target.chip.name)
    assert last - first in (0, prefix_bytes(setup)[setup.target.chip.name])
