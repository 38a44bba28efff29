"""What is shown of a trip: dashboard, document, report, Perfetto trace and pictures, from a hand-made trace."""

from __future__ import annotations

import io
import json
from itertools import pairwise

import pytest
from rich.console import Console

from hilsim.cost.memory import ledgers
from hilsim.measure.measures import measured
from hilsim.show.document import as_json, document
from hilsim.show.perfetto import trace_events
from hilsim.show.plots import trip as trip_plot
from hilsim.show.plots import turns as turns_plot
from hilsim.show.report import render
from hilsim.show.tables import turns_table
from hilsim.show.terminal.company import AVERAGED_NS, Average
from hilsim.show.terminal.dashboard import Dashboard, snapshot
from hilsim.show.terminal.plain import PlainLines
from hilsim.sim.trace import Fellow, HeatTally
from tests.trips import FIRST_AUDIO_MS, S, trip_setup, trip_trace

SIZES = [(width, height) for width in (20, 49, 60, 80, 100, 120, 160, 200) for height in (3, 10, 16, 24, 30, 36, 50)]


def screen(**options):
    """A terminal that remembers what it was given."""
    return Console(file=io.StringIO(), force_terminal=True, width=120, height=36, **options)


def dashboard_of(setup, **options):
    return Dashboard(setup, ledgers(setup), screen(**options), lambda tokens: " word" * len(tokens))


@pytest.fixture(scope="module")
def trip():
    setup = trip_setup()
    trace = trip_trace(12, held_up=(3, 8), interrupted=(5,), refused=(10,))
    return setup, trace, document(setup, ledgers(setup), trace, None)


def words(found, width=100):
    """The report as text."""
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    render(found, console)
    return console.file.getvalue()


@pytest.mark.parametrize("colour", ["truecolor", None])
def test_every_frame_of_a_trip_fits_its_terminal(colour):
    setup = trip_setup()
    seen = dashboard_of(setup, color_system=colour)
    for turns in (0, 1, 12):
        trip_trace(turns, refused=(0,) if turns == 1 else (10,), interrupted=(5,), observer=seen)
        seen._absorb()
        for width, height in SIZES:
            lines = seen.layout.frame(width, height)
            assert len(lines) <= height
            assert {line.cell_len for line in lines} == {width}, (width, height)


def test_frames_of_common_size_show_passengers_stages_chips_and_words():
    seen = dashboard_of(trip_setup())
    trip_trace(12, held_up=(3, 8), refused=(10,), observer=seen)
    seen._absorb()
    for width, height in ((80, 24), (120, 36), (200, 50)):
        lines = [line.plain for line in seen.layout.frame(width, height)]
        assert len(lines) == height
        text = "\n".join(lines)
        for part in ("anna", "first audio 1.41 s of 1.20 s, p90", "first clause", "GB/s", "71 °C", "missed: camera"):
            assert part in text, (width, part)


def test_stages_without_colour_are_letters():
    seen = dashboard_of(trip_setup(), no_color=True)
    trip_trace(2, observer=seen)
    text = "\n".join(line.plain for line in seen.layout.frame(120, 36))
    assert "eeee" in text
    assert "cccc" in text


def test_a_memory_rate_is_averaged_over_the_last_seconds():
    rate = Average(0.0, 0)
    rate.add(60e9, 0)
    assert rate.until(0) == 0
    assert rate.until(100 * AVERAGED_NS) == pytest.approx(60e9)
    rate.add(0.0, 100 * AVERAGED_NS)
    assert 0 < rate.until(101 * AVERAGED_NS) < 30e9


def test_how_busy_a_unit_is_is_the_same_share_of_the_run_on_the_dashboard_and_in_the_report(trip):
    setup, trace, found = trip
    seen = dashboard_of(setup)
    trip_trace(12, held_up=(3, 8), interrupted=(5,), refused=(10,), observer=seen)
    seen._absorb()
    held = found["baseline"]["units"]["sa8295p.npu"]["busy_of_run"]
    assert held == pytest.approx(sum(found["turns"]["utilisation"]["sa8295p.npu"].values()))
    now = seen.tally.current
    assert now.busy_ns["sa8295p.npu"] == pytest.approx(held * trace.end_ns)
    assert "of run" in "\n".join(line.plain for line in seen.layout.frame(120, 36))
    flowing = " ".join(words(found).split())
    assert "busy, share of the run: sa8295p.cpu busy" in flowing
    assert f"sa8295p.npu busy {100 * held:.0f} %" in flowing


def test_a_batched_step_of_a_turn_is_its_own(trip):
    _, trace, _ = trip
    own = next(span for span in trace.spans if span.kind == "decode" and span.request == 1)
    fellow = Fellow(1, own.round, own.asked_ns, own.rows, own.width, own.cached, own.position)
    batched = own._replace(request=0, fellows=(fellow,))
    turn = next(turn for turn in trace.turns if turn.request == 1)
    assert turns_plot.belongs(batched, turn)
    assert not turns_plot.belongs(batched._replace(fellows=()), turn)


def test_plain_lines_end_with_how_much_of_the_workload_was_asked():
    asked, whole = io.StringIO(), io.StringIO()
    with PlainLines(asked) as lines:
        trip_trace(12, refused=(10,), observer=lines)  # the refused one is of the workload, and not asked
    with PlainLines(whole) as lines:
        trip_trace(12, observer=lines)
    assert asked.getvalue().splitlines()[-1] == "11 asked of 12 in the workload"
    assert "in the workload" not in whole.getvalue()


def test_the_snapshot_of_a_trip_is_a_picture(tmp_path):
    seen = dashboard_of(trip_setup())
    trip_trace(3, observer=seen)
    snapshot(seen, tmp_path / "dashboard.svg")
    assert "anna" in (tmp_path / "dashboard.svg").read_text()


def test_the_document_of_a_trip_has_its_blocks_and_is_json(trip):
    found = json.loads(as_json(trip[2]))
    assert found["turns"]["first_audio_ms"]["p50"] == FIRST_AUDIO_MS
    assert found["turns"]["outcomes"] == {"answered": 10, "interrupted": 1, "refused": 1, "given up": 0}
    assert not found["turns"]["within_budget"]
    assert {breach["stage"] for breach in found["turns"]["furthest_over"]} == {"first_clause", "gap"}
    held_up = [breach for breach in found["turns"]["furthest_over"] if breach["turn"] == 3]
    assert all(breach["causes"]["waited_ms"] == {"camera": 300} for breach in held_up)
    assert found["background"]["camera"]["missed"] == 2
    assert found["passengers"]["anna"]["outcomes"]["refused"] == 1
    assert all(0 <= sum(kinds.values()) <= 1 for kinds in found["turns"]["utilisation"].values())
    assert len(found["windows"]) == 4
    assert not any("heat" in note or "recognition" in note for note in found["notes"] if "Not in these" in note)


def test_a_scenario_without_company_has_no_such_blocks():
    setup = trip_setup("speech=null", "passengers=null", "background=[]", "climate=null", "trip=null")
    trace = trip_trace(2)
    trace.turns.clear()
    found = document(setup, ledgers(setup), trace, None)
    assert not {"turns", "passengers", "background", "memory_rate", "heat", "windows"} & set(found)
    assert any(note.startswith("Not in these times: speech recognition") for note in found["notes"])


@pytest.mark.parametrize("width", [60, 80, 110])
def test_the_report_of_a_trip_fits_and_says_what_broke_the_budget(trip, width):
    text = words(trip[2], width)
    assert max(map(len, text.splitlines())) <= width
    flowing = " ".join(text.split())
    broken = "first_clause p90 700 ms of 500 ms; first_audio p90 1.41 s (1 turn refused as never) of 1.20 s."
    assert f"The budget is broken: {broken}" in flowing
    assert "First audio, p99 of a minute: 1.11 s from 0:00 min on, 1.11 s from 3:00 min on." in flowing
    assert "400 ms its own work, most of it decode, 300 ms behind camera; clock at 80 %." in flowing
    headline = "First audio 1.11 s after the end of speech (p90 1.41 s, without 1 turn refused); the budget is broken: "
    assert headline in flowing
    assert "first_audio. Deadlines missed: camera 2 of 6600." in flowing
    assert "junction 60 to 71 °C, throttled 75 % of the time, clock down to 80 %" in flowing


def test_energy_is_by_answer_hour_unit_and_cause_and_a_critical_temperature_is_loud():
    setup, trace = trip_setup(), trip_trace(3)
    joules = {("", "idle"): 60.0, ("npu", "target"): 27.0, ("npu", "camera"): 3.0, ("memory", "target"): 10.0}
    hottest = {"junction": 130.0}
    trace.heat["sa8295p"] = HeatTally("sa8295p", joules, [45 * S, 15 * S], 1, hottest, 125.0, 40.0, 60.0)
    found = document(setup, ledgers(setup), trace, None)
    energy = found["heat"]["energy"]["sa8295p"]
    assert energy["drawn_j"] == pytest.approx(100)
    assert energy["per_answer_j"] == pytest.approx(100 / 3)
    assert energy["per_hour_j"] == pytest.approx(100 * 60)  # three turns are a minute
    assert energy["by_unit_j"] == {"chip": 60, "npu": 30, "memory": 10}
    assert energy["by_cause_j"] == {"idle": 60, "target": 37, "camera": 3}
    assert energy["throttled"] == pytest.approx(0.25)
    flowing = " ".join(words(found).split())
    assert "energy_j, below, counts units and link only while answers are under way." in flowing
    assert "sa8295p reaches 130 °C; a real one shuts down at 125." in flowing
    assert "33.3 J an answer, 1.67 Wh an hour, idle time included; idle 60 %, target 37 %, camera 3 %" in flowing


def test_the_report_of_a_budget_that_holds_says_so():
    setup = trip_setup("speech.budget={first_audio_ms: 1500}")
    text = words(document(setup, ledgers(setup), trip_trace(4, held_up=(3,)), None))
    assert "The budget holds." in text
    assert "turn 3 of" not in text


def test_a_perfetto_trace_has_turns_with_stages_inside_and_counters(trip):
    setup, trace, _ = trip
    events = trace_events(setup, {"sync": trace})["traceEvents"]
    names = {event["args"]["name"]: event["pid"] for event in events if event["name"] == "process_name"}
    slices = [event for event in events if event["ph"] == "X" and event["pid"] == names["passengers"]]
    whole = [event for event in slices if event["cat"] == "turn"]
    assert len(whole) == 12
    for turn in whole:
        inside = [event for event in slices if event["cat"] == "stage" and within(event, turn)]
        assert len(inside) == (7 if turn["args"]["outcome"] in ("answered", "interrupted") else 2) + gaps_in(inside)
        for before, after in pairwise(inside):
            assert before["ts"] + before["dur"] == pytest.approx(after["ts"])
    counters = {event["name"] for event in events if event["ph"] == "C" and event["pid"] == names["sa8295p"]}
    assert {"memory rate, GB/s", "temperature, C", "clock, share", "power, W"} <= counters


def within(event, turn):
    """Whether a slice lies inside another on its row."""
    end = turn["ts"] + turn["dur"] + 1e-3
    return event["tid"] == turn["tid"] and turn["ts"] <= event["ts"] and event["ts"] + event["dur"] <= end


def gaps_in(slices):
    """A gap is one slice more, and parts playback in two."""
    return 2 * sum(event["name"] == "gap" for event in slices)


def test_turns_at_once_of_one_passenger_are_on_rows_of_their_own(trip):
    setup, both = trip[0], trip_trace(2)
    both.turns[1] = both.turns[0]._replace(number=1, spoke_ns=both.turns[0].spoke_ns + 1)
    events = trace_events(setup, {"sync": both})["traceEvents"]
    assert len({event["tid"] for event in events if event.get("cat") == "turn"}) == 2


def test_pictures_of_a_trip_and_of_one_without_turns_are_drawn(trip, tmp_path):
    setup, trace, _ = trip
    for name, one in (("whole", trace), ("empty", trip_trace(0)), ("refused", trip_trace(1, refused=(0,)))):
        turns_plot.draw(tmp_path / f"{name}_turns.png", one, setup)
        trip_plot.draw(tmp_path / f"{name}_trip.png", one, setup)
        assert (tmp_path / f"{name}_trip.png").read_bytes()[1:4] == b"PNG"


def test_the_turns_drawn_are_the_usual_the_slowest_and_an_interrupted_one(trip):
    chosen = turns_plot.chosen(trip[1].turns)
    assert [title for title, _ in chosen] == ["a usual turn", "the slowest", "an interrupted one"]
    assert chosen[1][1].number in (3, 8)
    assert chosen[2][1].number == 5


def test_plain_lines_have_a_line_a_turn():
    text = io.StringIO()
    with PlainLines(text) as lines:
        trip_trace(3, interrupted=(1,), refused=(2,), observer=lines)
    turns = [line for line in text.getvalue().splitlines() if line.startswith("turn ")]
    assert turns == [
        "turn 0 of anna | answered, first audio 1.11 s",
        "turn 1 of ben | interrupted, first audio 1.11 s, reaction 220 ms, 1 gap",
        "turn 2 of anna | refused",
    ]


def test_turns_are_a_table_of_instants(trip):
    table = turns_table(trip[1])
    rows = table.records()
    assert len(rows) == 12
    assert (rows[0]["first_audio_ms"], rows[0]["spoken_ms"]) == ("3112.000000", "2000.000000")
    assert (rows[10]["outcome"], rows[10]["first_audio_ms"]) == ("refused", "")


def test_studies_have_measures_of_turns_background_and_heat(trip):
    setup, trace, _ = trip
    found = measured(setup, ledgers(setup), trace, trace)
    assert found["first_audio_ms.p50"] == FIRST_AUDIO_MS
    assert found["first_audio_ms.p99"] is None  # one of twelve was refused
    assert found["unheard"] == pytest.approx(1 / 12)
    assert found["missed"] == pytest.approx(2 / 6600)
    assert found["gap_ms.mean"] == pytest.approx(150 / 11)
