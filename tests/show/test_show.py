"""What a person sees: dashboard, plain lines, report, Perfetto trace, timeline and CSV, all from one trace."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from hilsim.cost.memory import ledgers
from hilsim.describe.load import load_setup
from hilsim.describe.policy import TargetOnly
from hilsim.measure.metrics import Active, busy_ns, speculation, speedup
from hilsim.places import CODE as PROJECT
from hilsim.sampling.proposals import Draft, Verdict
from hilsim.show.document import document
from hilsim.show.numbers import clean, duration, nice_step
from hilsim.show.perfetto import micros, trace_events, write_trace
from hilsim.show.report import render
from hilsim.show.terminal import dashboard as dashboard_module
from hilsim.show.terminal.dashboard import Dashboard, snapshot, suits
from hilsim.show.terminal.lanes import Window, lane
from hilsim.show.terminal.plain import PlainLines
from hilsim.sim.run import simulate
from hilsim.sim.trace import RequestRecord, Span
from hilsim.text.prompt import Prompt
from hilsim.units import GIB
from tests.scenes import synthetic as source_of

SCENARIO = PROJECT / "scenarios" / "orin_8295_greedy.yaml"
LENGTHS = "workload={requests: 3, prompt_tokens: 60, output_tokens: 40, pause_ms: 500}"
SYNTHETIC = ("logits={source: synthetic, acceptance: 0.8}", LENGTHS)
TALK = ("workload.count=2", "workload.max_turns=1")
ALONE = TargetOnly(name="target_only")
SGR = re.compile(r"\x1b\[([0-9;]*)m")
HOSTILE = [
    " Take",
    " [red]",
    "the",
    " [/] second",
    " \x1b[31m\x07",
    " exit\n",
    " to",
    " \u202eMünchen",
    " 東京",
    " 🚗.",
]


class Parrot:
    """Says the same words to everybody; every third token of its draft is wrong. Token 0 ends the answer."""

    def __init__(self, words=HOSTILE):
        self.words = ["", *words, "?"]

    def truth(self, prefix, ahead):
        place = len(prefix.tokens) - 3 + ahead
        return place + 1 if place < len(self.words) - 2 else 0

    def prompt(self, conversation, turn, before):
        return Prompt(len(before), [1, 1, 1])

    def draft(self, prefix, count):
        return Draft(tuple(self.truth(prefix, j) if j % 3 < 2 else len(self.words) - 1 for j in range(count)))

    def verify(self, prefix, draft):
        right = [self.truth(prefix, j) == token for j, token in enumerate(draft.tokens)]
        accepted = right.index(False) if False in right else len(right)
        return Verdict(accepted, self.truth(prefix, accepted), (1.0,) * (accepted + 1))

    def next_token(self, prefix):
        return self.truth(prefix, 0), 1.0

    def ends(self, token):
        return token == 0

    def text(self, tokens):
        return "".join(self.words[token] for token in tokens)

    def forget(self, conversation):
        pass


def talking(*overrides):
    """A scenario with words."""
    return load_setup(SCENARIO, [*TALK, *overrides])


def synthetic(*overrides):
    """A scenario of lengths, and what makes its sources."""
    setup = load_setup(SCENARIO, [*SYNTHETIC, *overrides])
    return setup, lambda: source_of(setup)


def both(*overrides, observer=None):
    """The target alone, then speculation, over synthetic requests."""
    setup, source = synthetic(*overrides)
    return setup, simulate(setup, source(), ALONE, observer=observer), simulate(setup, source(), observer=observer)


def screen(width=120, height=36, **options):
    """A terminal that remembers what it was told."""
    options = {"color_system": "truecolor"} | options
    return Console(file=io.StringIO(), force_terminal=True, width=width, height=height, **options)


def dashboard_of(setup, console, words=None, **options):
    return Dashboard(setup, ledgers(setup), console, words or Parrot().text, **options)


def watched(console, *overrides):
    """A dashboard that has seen both runs of the conversation."""
    setup = talking(*overrides)
    seen = dashboard_of(setup, console)
    with seen:
        simulate(setup, Parrot(), ALONE, observer=seen)
        simulate(setup, Parrot(), observer=seen)
        seen._draw()
    return seen


def test_the_trace_is_the_same_with_and_without_the_dashboard():
    setup, source = synthetic()
    with dashboard_of(setup, screen(), source().text) as seen:
        with_it = simulate(setup, source(), observer=seen)
    without = simulate(setup, source())
    assert (with_it.spans, with_it.rounds, with_it.requests) == (without.spans, without.rounds, without.requests)
    assert with_it.levels == without.levels


def test_every_frame_fits_its_terminal():
    setup = talking("workload.talkers=2")
    seen = dashboard_of(setup, screen())
    sizes = [(width, height) for width in (20, 40, 59, 60, 80, 100, 160, 240) for height in (3, 8, 16, 20, 24, 40, 60)]

    def check():
        for width, height in sizes:
            lines = seen.layout.frame(width, height)
            assert len(lines) <= height
            assert {line.cell_len for line in lines} == {width}, (width, height)

    check()
    for policy in (ALONE, None):
        simulate(setup, Parrot(), policy, observer=seen)
        seen._absorb()
        check()


def test_a_frame_fills_a_terminal_of_common_size():
    seen = watched(screen())
    for width, height in ((60, 20), (80, 24), (120, 36)):
        assert len(seen.layout.frame(width, height)) == height


def test_a_window_that_shrinks_during_the_run_gets_smaller_frames():
    console = screen()
    seen = watched(console)
    before = len(console.file.getvalue())
    console.size = (50, 14)
    with seen:
        pass
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()[before:])
    lines = [line for line in re.split(r"[\r\n]+", drawn) if line]
    assert len(lines) == 14
    assert {cell_len(line) for line in lines} == {50}


def test_words_are_shown_as_they_are_and_never_obeyed():
    console = screen()
    seen = watched(console)
    text = "\n".join(line.plain for line in seen.layout.frame(120, 36))
    assert "Take [red]the [/] second" in text
    assert "␛[31m␇" in text
    assert "⏎" in text
    assert "東京" in text
    assert "\u202e" not in text
    assert "\x1b[31m" not in console.file.getvalue()
    assert "\x07" not in console.file.getvalue()


def test_drafted_tokens_are_distinguished_from_the_targets_own_by_more_than_colour():
    seen = watched(screen())
    exchange = seen.tally.exchanges[-1]
    runs = [(text, drafted) for text, drafted in seen.tally.runs(exchange) if text]
    # First the target's own first token; then rounds of two right drafts and a third that is corrected.
    assert runs[:4] == [(" Take", False), (" [red]the", True), (" [/] second", False), (" \x1b[31m\x07 exit\n", True)]
    styles = {str(span.style) for line in seen.layout.wrapped(exchange, 80) for span in line.spans}
    assert any("underline" in style for style in styles)


def test_an_answer_is_drawn_with_its_own_text_in_every_pass():
    setup = talking("workload.count=6")
    seen = dashboard_of(setup, screen())
    drawn = 0
    for policy, words in ((ALONE, HOSTILE), (None, HOSTILE[::-1])):
        for number in range(3):  # a freed exchange leaves its address to one of the next
            simulate(setup, Parrot(words[number:]), policy, observer=seen)
            for exchange in seen.tally.exchanges:
                fresh = seen.layout.on(seen.layout.console).wrapped(exchange, 80)
                assert seen.layout.wrapped(exchange, 80) == fresh
                assert seen.layout.wrapped(exchange, 30) != fresh
                drawn += exchange.finished_ns is not None
    assert drawn == 2 * 3 * 6


def test_no_colour_means_no_colour_codes():
    console = screen(no_color=True)
    watched(console)
    codes = {code for match in SGR.finditer(console.file.getvalue()) for code in match[1].split(";") if code}
    assert codes
    assert codes <= {"0", "1", "2", "3", "4", "7"}


def test_lanes_without_colour_carry_letters():
    spans = [Span("t", "draft", 0, 40, 0, 1, 0, 40), Span("t", "verify", 60, 100, 0, 1, 60, 100)]
    assert lane(spans, Window(0, 100, 10), colour=False).plain == "dddd──VVVV"


def test_lanes_show_edges_within_a_cell():
    # Ten cells of 8 eighths, 10 ns each: 45 ns end in the middle of the fifth cell.
    spans = [Span("t", "verify", 0, 45, 0, 1, 0, 45)]
    shown = lane(spans, Window(0, 100, 10), colour=True)
    assert shown.plain[4] == "▌"
    assert shown.plain[5:] == "─────"


def test_a_message_too_short_to_see_is_an_arrow():
    spans = [Span("link.up", "drafts", 50, 51, 0, 1, 50, 51, nbytes=4)]
    for colour in (True, False):
        assert lane(spans, Window(0, 1000, 10), colour=colour, arrow="▸").plain == "▸─────────"


def test_the_running_figures_end_as_the_metrics():
    setup, source = synthetic()
    seen = dashboard_of(setup, screen(), source().text)
    _, alone, ours = both(observer=seen)
    seen._absorb()
    block = speculation(ours)
    now = seen.tally.current
    assert seen.tally.speedup == pytest.approx(speedup(alone, ours))
    assert (now.drafts, now.drafted, now.accepted) == (
        block["num_drafts"],
        block["num_draft_tokens"],
        block["num_accepted_tokens"],
    )
    assert now.tokens_per_round == pytest.approx(block["tokens_per_round"])
    pairs = zip(block["num_accepted_tokens_per_pos"], block["num_draft_tokens_per_pos"], strict=True)
    assert now.acceptance() == pytest.approx([stood / tried for stood, tried in pairs])
    assert seen.tally.progress == 1.0


class Stopwatch:
    """A clock that stands still unless moved."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("frame_s", "frames"), [(0.050, 10), (0.001, 80)])
def test_drawing_keeps_to_its_share_and_to_eight_frames_a_second(frame_s, frames, monkeypatch):
    clock = Stopwatch()
    setup, source = synthetic()
    seen = dashboard_of(setup, screen(), source().text, clock=clock)

    def slow_frame():
        clock.now += frame_s

    span = Span("drive-orin-x.gpu", "draft", 0, 1, 0, 1, 0, 1)
    with seen:
        monkeypatch.setattr(seen._live, "refresh", slow_frame)
        seen.started("sync", ("drive-orin-x.gpu",), 1)
        while clock.now < 10:
            seen.span(span)
            clock.now += 0.001
        # Ten seconds: at a share of 5 %, ten frames of 50 ms, or at 8 a second 80 of 1 ms.
        assert frames - 2 <= seen.frames <= frames + 2
        assert seen.drawing_share <= dashboard_module.SHARE + frame_s / 10
    assert dashboard_module.SHARE < 0.07


def test_the_terminal_is_given_back_when_the_run_fails():
    console = screen()
    setup, source = synthetic()
    with pytest.raises(RuntimeError), dashboard_of(setup, console, source().text):
        raise RuntimeError
    told = console.file.getvalue()
    assert told.index("\x1b[?1049h") < told.index("\x1b[?1049l")
    assert told.rindex("\x1b[?25h") > told.rindex("\x1b[?25l")


def test_the_dashboard_wants_a_terminal_that_knows_block_characters():
    assert suits(screen())
    assert not suits(Console(file=io.StringIO()))
    ascii_terminal = Console(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), force_terminal=True)
    assert not suits(ascii_terminal)


def test_plain_lines_are_plain():
    setup, out = talking(), io.StringIO()
    with PlainLines(out) as seen:
        simulate(setup, Parrot(), ALONE, observer=seen)
        simulate(setup, Parrot(), observer=seen)
    lines = out.getvalue().rstrip("\n").split("\n")
    assert len(lines) == 2 * (1 + 2)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out.getvalue())
    assert setup.conversations[0].turns[0] in lines[1]
    assert "Take [red]the [/] second" in lines[1]
    assert re.search(r"tokens, \d\.\d\d tokens/round, \d\.\d\dx \| passenger: ", lines[-1])


def test_plain_lines_survive_a_terminal_that_knows_ascii_only():
    raw = io.BytesIO()
    setup = talking()
    with PlainLines(io.TextIOWrapper(raw, encoding="ascii")) as seen:
        simulate(setup, Parrot(), ALONE, observer=seen)
        raw_text = raw.getvalue().decode("ascii")
    assert "M?nchen" in raw_text


@pytest.fixture(scope="module")
def run():
    """Both runs of the synthetic scenario."""
    return both()


def told(found, width=100, **options):
    """The report as text."""
    console = Console(file=io.StringIO(), width=width, **options)
    render(json.loads(json.dumps(found)), console)
    return console.file.getvalue()


def document_of(setup, alone, ours):
    return document(setup, ledgers(setup), alone, ours)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_the_report_fits_and_is_plain_without_a_terminal(run, width):
    text = told(document_of(*run), width)
    assert max(map(len, text.split("\n"))) <= width
    assert "\x1b" not in text
    for key in (
        "time_to_first_clause_ms",
        "request_latency_ms",
        "draft_acceptance_rate",
        "num_accepted_tokens_per_pos",
    ):
        assert key in text
    assert "0 mismatches" in " ".join(text.split())


def test_the_report_names_assumptions_and_says_whose_text_it_is(run):
    found = document_of(*run)
    text = " ".join(told(found).split())
    assert f"assumptions: {len(found['assumptions'])}" in text
    assert "no model generates the text" in text


def test_the_report_of_a_target_alone_has_no_speculation():
    setup, source = synthetic("policy={name: target_only}")
    text = told(document_of(setup, simulate(setup, source()), None))
    assert "the target alone" in text
    for absent in ("speedup", "num_drafts", "lossless", "lost_ms"):
        assert absent not in text


def test_a_lost_bet_is_explained_by_its_largest_loss():
    # Nothing is ever accepted, and whole rows of logits cross a slow link.
    found = document_of(
        *both("logits.acceptance=0.0", "link=1000base-t1", "payload=full_rows", "policy.draft_tokens=7")
    )
    lost = found["speculative"]["lost_ms"]
    largest = max((name for name in lost if name != "verify"), key=lost.get)
    text = " ".join(told(found).split())
    assert found["speedup"] < 1
    assert "slower" in text
    assert f"is {largest}: " in text
    assert lost["draft"] == 0


def test_a_report_of_mismatches_is_loud(run):
    found = document_of(*run)
    found["lossless"]["mismatches"] = 2
    assert "NOT lossless" in told(found)
    found["lossless"] |= {"mismatches": 0, "numerical_ties": 1, "not_compared_tokens": 7}
    assert "7 tokens after a tie" in " ".join(told(found).split())


def test_the_report_of_nothing_answered_still_renders(run):
    found = document_of(*run)
    for block in ("baseline", "speculative"):
        found[block] |= {
            name: None
            for name in found[block]
            if name.endswith("_ms") and isinstance(found[block][name], dict) and "p50" in found[block][name]
        }
    assert "–" in told(found)


def test_the_report_tells_planned_memory_from_its_peak(run):
    found = document_of(*run)
    found["memory"]["sa8295p"] |= {"cap_bytes": 4 * GIB, "used_bytes": 3 * GIB, "peak_bytes": 2 * GIB}
    assert "sa8295p: 3.00 of 4.00 planned, peak 2.00\n     75 % " in told(found)


def test_hostile_names_do_not_reach_the_terminal(run):
    found = document_of(*run)
    found["question"] = "[bold]why\x1b[2J?"
    found["assumptions"][0]["source"] = "\x1b]0;title\x07"
    text = told(found)
    assert "[bold]why␛[2J?" in text
    assert "\x1b" not in text


def test_the_report_knows_ascii(run):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    render(document_of(*run), Console(file=stream, width=80))
    assert "#####" in raw.getvalue().decode("ascii")


@pytest.fixture(scope="module")
def events(run):
    setup, alone, ours = run
    return json.loads(json.dumps(trace_events(setup, {"target_only": alone, "sync": ours}), allow_nan=False))


def ns_of(value):
    return round(value * 1000)


def test_slices_of_a_track_follow_each_other(events, run):
    by_track = defaultdict(list)
    for event in events["traceEvents"]:
        if event["ph"] == "X":
            by_track[event["pid"], event["tid"]].append((ns_of(event["ts"]), ns_of(event["dur"])))
    # One track for the target alone; draft, target and two directions with speculation; a row of requests for each.
    assert len(by_track) == 1 + 4 + 2
    for slices in by_track.values():
        assert all(start + length <= later for (start, length), (later, _) in pairwise(slices))
    steps = sum(event["ph"] == "X" and event["cat"] != "request" for event in events["traceEvents"])
    assert steps == len(run[1].spans) + len(run[2].spans)


def test_every_arrow_starts_steps_and_ends_inside_slices(events, run):
    slices = defaultdict(list)
    arrows = defaultdict(list)
    for event in events["traceEvents"]:
        if event["ph"] == "X":
            slices[event["pid"], event["tid"]].append(
                (ns_of(event["ts"]), ns_of(event["ts"]) + ns_of(event["dur"]), event["name"])
            )
        elif event["ph"] in "stf":
            arrows[event["id"]].append(event)
    assert len(arrows) == sum(closed.drafted > 0 for closed in run[2].rounds)
    for chain in arrows.values():
        assert [event["ph"] for event in chain] == ["s", "t", "t", "f"]
        assert chain[-1]["bp"] == "e"
        assert [event["ts"] for event in chain] == sorted(event["ts"] for event in chain)
        through = []
        for event in chain:
            at = ns_of(event["ts"])
            through += [name for start, end, name in slices[event["pid"], event["tid"]] if start <= at < end]
        assert through == ["draft", "drafts", "verify", "verdict"]


def test_processes_threads_and_counters_are_named(events):
    names = [event["args"]["name"] for event in events["traceEvents"] if event["name"] == "process_name"]
    assert "target_only: sa8295p" in names
    assert {"sync: drive-orin-x", "sync: pcie-gen3-x4", "sync: sa8295p"} <= set(names)
    threads = [(event["pid"], event["tid"]) for event in events["traceEvents"] if event["name"] == "thread_name"]
    assert len({tid for _, tid in threads}) == len(threads)
    used = [
        event["args"]["MiB"] for event in events["traceEvents"] if event["ph"] == "C" and event["name"] == "memory used"
    ]
    assert max(used) <= 16 * 1024
    accepted = sum(event["args"].get("accepted", 0) for event in events["traceEvents"] if event["ph"] == "C")
    drafted = sum(event["args"].get("drafted", 0) for event in events["traceEvents"] if event["ph"] == "C")
    assert 0 < accepted < drafted


def test_a_streamed_trace_is_the_same_document(run, tmp_path):
    setup, alone, ours = run
    write_trace(tmp_path / "trace.json", setup, {"target_only": alone, "sync": ours})
    written = json.loads((tmp_path / "trace.json").read_text())
    assert written == json.loads(json.dumps(trace_events(setup, {"target_only": alone, "sync": ours})))


@pytest.mark.parametrize(
    "nanoseconds", [0, 1, 999, 873_292_580, 60_031_610_658, 9_007_199_254_740, 123_456_789_012_345]
)
def test_microseconds_are_exact_however_they_are_read(nanoseconds):
    value = json.loads(json.dumps(micros(nanoseconds)))
    assert int(value * 1000) == round(value * 1000) == nanoseconds


def asked_at(arrived_ns, finished_ns):
    """A request of which only the time matters."""
    return RequestRecord(0, 0, 0, "", "", arrived_ns, finished_ns, 1, 1, 1, "end")


def test_only_what_happens_during_an_answer_counts_as_busy():
    # Answers from 10 to 40 (two that overlap, one within) and from 60 to 70.
    active = Active([asked_at(60, 70), asked_at(20, 40), asked_at(10, 30), asked_at(12, 15)])
    assert active.total_ns == 40
    spans = [(0, 10), (5, 12), (30, 65), (68, 90), (70, 80)]  # 0, 2, 10 + 5, 2 and 0 within them
    assert busy_ns([Span("t", "draft", start, end, 0, 1, start, end) for start, end in spans], active) == {"t": 19}
    assert busy_ns([], Active([])) == {}


def test_a_verdict_after_the_last_word_is_not_busy():
    setup, alone, ours = both("workload.requests=1", "link=1000base-t1")
    last = max(ours.spans, key=lambda span: span.end_ns)
    assert (last.kind, last.start_ns) == ("verdict", ours.requests[0].finished_ns)
    sent = sum(span.end_ns - span.start_ns for span in ours.spans if span.track in ours.directions and span != last)
    latency = ours.requests[0].finished_ns - ours.requests[0].arrived_ns
    (link,) = document_of(setup, alone, ours)["speculative"]["links"].values()
    assert link["busy"] == pytest.approx(sent / 2 / latency)


def test_the_timeline_is_a_picture_of_the_promised_size(run, tmp_path):
    pytest.importorskip("matplotlib")
    from hilsim.show.plots.timeline import draw

    setup, alone, ours = run
    draw(tmp_path / "both.part", alone, ours, setup)
    data = (tmp_path / "both.part").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (1600, 700)
    draw(tmp_path / "alone.part", alone, None, setup)
    assert (tmp_path / "alone.part").stat().st_size > 1000


def test_a_step_in_pieces_has_the_rows_of_its_last_piece_in_the_timeline(run):
    from hilsim.show.plots.timeline import annotation

    _, _, ours = run
    closed = next(closed for closed in ours.rounds if closed.drafted)
    (whole,) = [span for span in ours.spans if span.kind == "verify" and span.round == closed.number][:1]
    pieces = [whole._replace(end_ns=whole.start_ns + 1, rows=0, width=0), whole._replace(start_ns=whole.start_ns + 1)]
    assert annotation("verify", pieces, closed) == annotation("verify", [whole], closed)
    assert annotation("draft", pieces, closed).startswith("1 draft step,")


def test_the_timeline_takes_words_for_words(tmp_path, recwarn):
    pytest.importorskip("matplotlib")
    from hilsim.show.plots.timeline import draw

    setup = talking()
    asked = dataclasses.replace(setup.conversations[0], turns=("From $5 \\frac{ to $7 in 東京?",))
    setup = dataclasses.replace(setup, conversations=(asked,))
    draw(tmp_path / "words.png", simulate(setup, Parrot(), ALONE), simulate(setup, Parrot()), setup)
    assert not recwarn.list


def test_the_snapshot_is_a_picture_that_needs_no_network(tmp_path):
    seen = watched(screen())
    snapshot(seen, tmp_path / "dashboard.svg")
    picture = (tmp_path / "dashboard.svg").read_text(encoding="utf-8")
    root = ET.fromstring(picture)
    assert root.tag.endswith("svg")
    assert "@font-face" not in picture
    assert "url(http" not in picture
    words = "".join(root.itertext()).replace("\xa0", " ")
    assert "conversation" in words
    assert "orin_8295_greedy" in words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\x1bb", "a␛b"),
        ("a\nb", "a ⏎ b"),
        ("\x7f\x9b", "␡\ufffd"),
        ("\ud800", "\ufffd"),
        ("a\u202eb\u200d", "ab"),
    ],
)
def test_text_is_made_harmless(text, shown):
    assert clean(text) == shown


@pytest.mark.parametrize(
    ("value_ms", "shown"),
    [(0, "0 ms"), (0.0312, "31.2 µs"), (3.14159, "3.14 ms"), (373.2, "373 ms"), (1041.4, "1.04 s")],
)
def test_durations_keep_three_digits(value_ms, shown):
    assert duration(value_ms) == shown


@pytest.mark.parametrize(("least", "step"), [(0.1, 1), (3, 5), (11, 20), (801, 1000)])
def test_axes_step_by_one_two_or_five(least, step):
    assert nice_step(least) == step


def test_a_dashboard_that_is_not_on_a_screen_only_counts(tmp_path: Path):
    console = screen()
    setup, source = synthetic()
    seen = dashboard_of(setup, console, source().text)
    simulate(setup, source(), observer=seen)
    assert console.file.getvalue() == ""
    assert len(seen.tally.current.outcomes) == 3
