"""Measures of spoken turns, of a trip on paper."""

from __future__ import annotations

import numpy as np
import pytest

from hilsim.describe.cockpit import STAGES, Budget
from hilsim.measure.trip import Course, background, clocks, memory_rates, temperatures, windows
from hilsim.measure.turns import breaches, by_passenger, gaps_of, held_against, outcomes_of, statistics_of, times_of
from hilsim.measure.why import LOADING, Reasons, without
from hilsim.sim.loading import LOAD
from hilsim.sim.trace import Sample, Span, Trace
from tests.trips import CHIP, FIRST_AUDIO_MS, MS, S, trip_setup, trip_trace


def test_the_stages_of_a_turn_are_those_on_paper_and_add_up_to_the_first_audio():
    times = times_of(trip_trace(1).turns[0])
    assert [times[name] / MS for name in STAGES] == [500, 130, 2, 400, 80]
    assert sum(times[name] for name in STAGES) == times["first_audio"] == FIRST_AUDIO_MS * MS
    assert times["turn"] == (FIRST_AUDIO_MS + 6000) * MS
    assert times["gap"] == 0
    assert "reaction" not in times


def test_an_interrupted_turn_has_a_reaction():
    times = times_of(trip_trace(1, interrupted=(0,)).turns[0])
    assert times["reaction"] == 220 * MS
    assert "turn" in times


def test_a_refused_turn_has_no_first_audio_but_counts_as_over_its_limit():
    turns = trip_trace(4, refused=(2,)).turns
    found = statistics_of(turns)
    assert found["first_audio"]["p90"] == FIRST_AUDIO_MS
    assert outcomes_of(turns) == {"answered": 3, "interrupted": 0, "refused": 1, "given up": 0}
    half, most = (held_against(Budget(first_audio_ms=2000, percentile=share), turns)[0] for share in (50, 99))
    assert (half.turns, half.over, half.value_ms, half.broken) == (4, 1, FIRST_AUDIO_MS, False)
    assert (most.value_ms, most.broken) == (None, True)


def test_gaps_and_passengers_are_counted():
    turns = trip_trace(6).turns
    assert gaps_of(turns) == {"count": 1, "turns": 1, "total_ms": 150}
    assert {name: len(ones) for name, ones in by_passenger(turns).items()} == {"anna": 3, "ben": 3}
    assert times_of(turns[1])["gap"] == 150 * MS


def test_no_turns_break_no_limit():
    assert statistics_of([])["first_audio"] is None
    assert not held_against(Budget(first_audio_ms=1), [])[0].broken


def test_the_stage_that_was_held_up_is_to_blame_and_what_it_waited_for_is_named():
    trace = trip_trace(6, held_up=(3,))
    (breach,) = breaches(Budget(first_audio_ms=1200), trace.turns)
    assert (breach.turn.number, breach.stage, breach.value_ms) == (3, "first_clause", FIRST_AUDIO_MS + 300)
    found = Reasons(trace).causes(breach.turn.request, breach.begin_ns, breach.end_ns)
    assert found.waited_ms == {"camera": 300}
    assert (found.worked_ms, found.other_ms, found.slower_ms, found.slowest_clock) == (400, 0, 0, 0.8)
    # the same stretch of a turn that was not held up waited for nothing
    calm = trace.turns[2]
    found = Reasons(trace).causes(calm.request, calm.asked_ns, calm.clause_ns)
    assert (found.waited_ms, found.worked_ms, found.slowest_clock) == ({}, 400, 1.0)


def test_a_stage_over_its_own_limit_is_to_blame_before_one_that_is_slower_than_usual():
    trace = trip_trace(6, held_up=(3,))
    found = breaches(Budget(first_audio_ms=1200, recognition_ms=100), trace.turns)
    assert {one.stage for one in found if one.measure == "first_audio"} == {"recognition"}


def test_parts_of_a_stretch_add_up_to_it():
    trace = trip_trace(6, held_up=(1, 4))
    reasons = Reasons(trace)
    for turn in trace.turns:
        found = reasons.causes(turn.request, turn.spoken_ns, turn.first_audio_ns)
        parts = found.worked_ms + sum(found.waited_ms.values()) + found.other_ms
        assert parts * MS == pytest.approx(turn.first_audio_ns - turn.spoken_ns, abs=1)
        assert found.other_ms == 502  # the wait for the end of speech, and the prompt


def test_a_stage_on_a_further_chip_waits_for_what_holds_its_unit_while_the_model_decodes_on():
    npu, gpu, asked = f"{CHIP}.npu", "drive-orin-x.gpu", 10 * S
    trace = Trace("target_only", (npu, gpu), (npu, gpu), ())
    for place in range(20):  # the answer goes on, on its own chip
        begin = asked + place * 50 * MS
        trace.add_span(Span(npu, "decode", begin, begin + 50 * MS, 1, place, begin, begin + 50 * MS, 1, 1))
    held, done = asked + 700 * MS, asked + 1000 * MS
    trace.add_span(Span(gpu, "synthesis", asked - 100 * MS, held, 0, -1, asked - 100 * MS, held))
    trace.add_span(Span(gpu, "synthesis", held, done, 1, -1, asked, done))
    reasons = Reasons(trace)
    found = reasons.causes(1, asked, done, "synthesis")
    assert (found.worked_ms, found.waited_ms, found.other_ms) == (300, {"request 0": 700}, 0)
    assert found.by_kind_ms == {"synthesis": 300}
    # of the answer as a whole, and of the model's stages, the steps are work
    assert reasons.causes(1, asked, done).worked_ms == 1000
    assert reasons.causes(1, asked, done, "first_clause").by_kind_ms == {"decode": 1000}


def test_time_in_a_swap_is_named_and_a_fixed_wait_beside_one_is_none():
    trace = trip_trace(2)
    turn = trace.turns[1]
    place = next(place for place, span in enumerate(trace.spans) if span.request == 1 and span.kind == "recognition")
    begin, end = turn.noticed_ns, turn.recognised_ns
    # recognition cannot begin before its weights are there, for 100 of its 130 ms
    trace.spans[place] = trace.spans[place]._replace(start_ns=begin + 100 * MS, asked_ns=begin + 100 * MS)
    assert Reasons(trace).causes(1, begin, end, "recognition").other_ms == 100
    trace.add_span(Span(f"{CHIP}.gpu", LOAD, begin - 50 * MS, begin + 100 * MS, -1, 0, begin, begin + 100 * MS))
    reasons = Reasons(trace)
    found = reasons.causes(1, begin, end, "recognition")
    assert (found.worked_ms, found.waited_ms, found.other_ms) == (30, {LOADING: 100}, 0)
    assert reasons.causes(1, turn.spoken_ns, turn.noticed_ns, "end_of_speech").waited_ms == {}


def test_a_step_in_pieces_is_slower_than_the_same_step_at_a_stretch():
    trace = trip_trace(2)
    place = next(place for place, span in enumerate(trace.spans) if span.request == 1 and span.kind == "decode")
    first = trace.spans[place]
    # the first decode step of the second turn in two pieces, 30 ms longer in all
    pieces = [
        first._replace(end_ns=first.start_ns + 40 * MS, rows=0, width=0),
        first._replace(start_ns=first.start_ns + 40 * MS),
    ]
    pieces[1] = pieces[1]._replace(end_ns=first.end_ns + 30 * MS)
    trace.spans[place : place + 1] = pieces
    turn = trace.turns[1]
    assert Reasons(trace).causes(1, turn.asked_ns, turn.clause_ns).slower_ms == 30


def test_what_is_taken_out_of_intervals_is_gone():
    assert without([(0, 10), (20, 30)], [(5, 8), (25, 40)]) == [(0, 5), (8, 10), (20, 25)]


def test_a_course_is_weighed_by_how_long_each_value_held():
    course = Course((0, 10, 30), (1.0, 4.0, 2.0))
    assert course.mean(40) == pytest.approx((10 * 1 + 20 * 4 + 10 * 2) / 40)
    assert course.share(40, 3.0) == pytest.approx(0.5)
    assert course.within(15, 35) == Course((15, 30), (4.0, 2.0))


def test_temperature_clock_and_memory_rate_over_a_trip():
    trace = trip_trace(6)
    assert temperatures(trace)[CHIP]["junction"] == {"start": 60, "end": 65, "max": 65}
    assert clocks(trace)[CHIP]["npu"] == pytest.approx({"mean": 0.9, "min": 0.8, "throttled": 0.5})
    rate = memory_rates(trace, {CHIP: 60e9})[CHIP]
    busy = 6 * 1.1 / (120 - 2.632)  # 1100 ms at 60 GB/s of each 20 s, from the first sample on
    assert rate["full"] == pytest.approx(busy)
    assert rate["mean"] == pytest.approx(60e9 * busy + 5e9 * (1 - busy))


def test_a_memory_is_full_at_what_it_gives_at_its_level():
    """Half of the capacity from 40 of 100 ns on: full for 10 ns before, and for two times 10 after."""
    trace = Trace("test", (), (), (), end_ns=100)
    for at_ns, rate in ((0, 8.0), (10, 4.0), (50, 3.0), (80, 4.0), (90, 0.0)):
        trace.add_sample(Sample(CHIP, at_ns, "memory rate", "", rate))
    assert memory_rates(trace, {CHIP: 8.0})[CHIP]["full"] == pytest.approx(0.1)
    trace.add_sample(Sample(CHIP, 40, "memory capacity", "", 4.0))
    assert memory_rates(trace, {CHIP: 8.0})[CHIP]["full"] == pytest.approx(0.1 + 0.1 + 0.1)


def test_windows_are_minutes_with_their_turns_and_their_own_extremes():
    first, last = windows(trip_trace(6, held_up=(5,)))
    assert [first["turns"], last["turns"]] == [3, 3]
    assert (first["max_temperature_c"][CHIP], last["max_temperature_c"][CHIP]) == (62, 65)
    assert (first["min_clock"][CHIP], last["min_clock"][CHIP]) == (1.0, 0.8)
    assert first["first_audio_ms"]["p99"] == FIRST_AUDIO_MS < last["first_audio_ms"]["p99"]
    assert first["round_gap_ms"]["p99"] == 50


def test_a_long_trip_has_longer_windows_but_no_more():
    trace = trip_trace(1)
    trace.end_ns = 3 * 3600 * S
    assert len(windows(trace)) <= 60


def test_background_is_summed_up_by_task():
    trace = trip_trace(3, held_up=(1,))
    found = background(list(trace.tasks.values()), {})["camera"]
    assert (found["released"], found["missed"], found["deadline_ms"]) == (1800, 1, 33)


def test_the_scenario_of_the_trace_loads():
    assert trip_setup().scenario.company


def test_an_averaged_course_keeps_its_integral():
    course = Course((10, 20, 40), (3.0, 1.0, 5.0))
    edges = np.arange(0, 61, 7)
    means = course.means(edges)
    whole = 3.0 * 10 + 1.0 * 20 + 5.0 * (edges[-1] - 40)
    assert (means * np.diff(edges)).sum() == pytest.approx(whole)
