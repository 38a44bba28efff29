"""Real-time pacing: events held back until the wall clock has come as far, on a clock that the test turns itself."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import simpy
import simpy.rt
from rich.console import Console

from hilsim.commands.main import simulate_main
from hilsim.cost.memory import ledgers
from hilsim.describe.policy import TargetOnly
from hilsim.show.document import document
from hilsim.show.report import render
from hilsim.sim import pace
from hilsim.sim.pace import LATE_LIMIT_MS, Paced
from hilsim.sim.run import simulate
from hilsim.sim.trace import Pace, RequestRecord, Round, Sample, Span, TurnRecord
from tests.scenes import MS, interrupted, synthetic, table_setup

ALONE = TargetOnly(name="target_only")


class Clock:
    """A wall clock that moves only where somebody sleeps or works; sleeping takes what is asked, and `over` more."""

    def __init__(self, over: float = 0.0):
        self.now_s, self.over, self.slept = 1000.0, over, 0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds + self.over
        self.slept += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (pace, simpy.rt):
        monkeypatch.setattr(module, "monotonic", clock)
        monkeypatch.setattr(module, "sleep", clock.sleep)
    return clock


class Slow:
    """An observer that keeps the wall clock busy at one span."""

    def __init__(self, clock: Clock, at: int, seconds: float):
        self.clock, self.at, self.seconds, self.seen = clock, at, seconds, 0

    def started(self, policy: str, tracks: tuple[str, ...], requests: int) -> None:
        self.clock.now_s += 5  # a first frame

    def asked(self, request: int, conversation: int, user: str, at_ns: int) -> None: ...

    def span(self, span: Span) -> None:
        if self.seen == self.at:
            self.clock.now_s += self.seconds
        self.seen += 1

    def round(self, round: Round, text: str) -> None: ...

    def request(self, record: RequestRecord) -> None: ...

    def sample(self, sample: Sample) -> None: ...

    def turn(self, turn: TurnRecord) -> None: ...


def ticking(env: simpy.Environment, clock: Clock, work_s: list[float], every_ms: int) -> Iterator[simpy.Event]:
    """Ticks every so often, and at each tick works for some wall seconds."""
    for work in work_s:
        yield env.timeout(every_ms * MS)
        clock.now_s += work


def ticks(clock: Clock, factor: float, work_s: list[float], every_ms: int = 100) -> Pace:
    env = Paced(factor)
    env.process(ticking(env, clock, work_s, every_ms))  # type: ignore[arg-type]
    env.run()
    return env.pace()


# A process has an event to start, one a tick, and one at its end: a run of n ticks is n + 2 events.


def test_nothing_is_late_where_nothing_takes_time(clock: Clock) -> None:
    found = ticks(clock, 1.0, [0.0] * 10)
    assert (found.events, found.overruns) == (12, 0)
    assert found.max_late_ms == pytest.approx(0, abs=1e-6)
    assert (found.simulated_s, found.wall_s) == (1.0, pytest.approx(1.0))
    assert found.real_time_factor == pytest.approx(1.0)


@pytest.mark.parametrize(("factor", "asked"), [(0.1, 10.0), (0.5, 2.0), (4.0, 0.25)])
def test_the_option_is_wall_over_simulated_and_the_real_time_factor_the_other_way_round(
    clock: Clock, factor: float, asked: float
) -> None:
    found = ticks(clock, factor, [0.0] * 10)
    assert found.wall_s == pytest.approx(factor)
    assert found.factor == factor
    assert found.asked_real_time_factor == pytest.approx(asked)
    assert found.real_time_factor == pytest.approx(asked)


def test_what_comes_late_delays_nothing_that_is_due_later(clock: Clock) -> None:
    # The tick at 300 ms works until 555 ms: those at 400 and 500 come 155 and 55 ms late, that at 600 in time.
    found = ticks(clock, 1.0, [0.0, 0.0, 0.255, 0.0, 0.0, 0.0, 0.0])
    assert found.overruns == 2
    assert found.max_late_ms == pytest.approx(155)
    assert found.wall_s == pytest.approx(0.7)


def test_a_sleep_that_ends_late_is_late_and_does_not_add_up(clock: Clock) -> None:
    clock.over = 0.004
    found = ticks(clock, 1.0, [0.0] * 1000)
    assert found.overruns == 0
    assert found.max_late_ms == pytest.approx(4)
    assert found.wall_s == pytest.approx(100.004)
    clock.over = 0.012
    found = ticks(clock, 1.0, [0.0] * 50)
    assert found.overruns == 51  # the ticks, and the end at the instant of the last; only the start waits for nothing
    assert found.max_late_ms == pytest.approx(12)


def test_ten_milliseconds_late_are_allowed_and_eleven_are_not(clock: Clock) -> None:
    assert LATE_LIMIT_MS == 10
    for late_ms, overruns in ((9, 0), (11, 1)):
        # The first tick works past the second's instant.
        assert ticks(clock, 1.0, [0.1 + late_ms / 1000, 0.0, 0.0]).overruns == overruns


def test_work_that_never_keeps_up_shows_in_the_real_time_factor(clock: Clock) -> None:
    # 100 ms a tick are asked and 200 are taken: the tick at 100 n comes 100 (n - 1) late; the end 200 after the last.
    found = ticks(clock, 1.0, [0.2] * 10)
    assert found.wall_s == pytest.approx(0.1 + 10 * 0.2)
    assert found.real_time_factor == pytest.approx(1 / 2.1)
    assert found.overruns == 9 + 1
    assert found.max_late_ms == pytest.approx(900 + 200)
    assert clock.slept == 1


def test_a_paced_run_leaves_the_same_trace(tmp_path: Path, clock: Clock) -> None:
    setup = table_setup(tmp_path, "workload.requests=3", "logits.acceptance=0.6")
    quick, paced = simulate(setup, synthetic(setup)), simulate(setup, synthetic(setup), realtime=0.5)
    assert paced == quick
    assert quick.pace is None
    assert paced.pace is not None
    assert paced.pace.simulated_s == paced.end_ns / 1e9
    assert paced.pace.wall_s == pytest.approx(0.5 * paced.end_ns / 1e9)
    assert paced.pace.overruns == 0


def test_an_observer_that_holds_the_run_up_makes_it_late(tmp_path: Path, clock: Clock) -> None:
    # Alone: 100 ms to read, then ten steps of 50. Whoever looks at the first step for 120 ms makes those after it 70
    # and 20 ms late; the next is in time. What an observer does before the run is not of it.
    setup = table_setup(tmp_path)
    trace = simulate(setup, synthetic(setup), ALONE, observer=Slow(clock, 1, 0.120), realtime=1.0)
    assert trace.pace is not None
    assert (trace.pace.events, trace.pace.overruns) == (14, 2)  # a start, a pause, eleven steps, an end
    assert trace.pace.max_late_ms == pytest.approx(70)
    assert trace.pace.wall_s == pytest.approx(trace.end_ns / 1e9)
    assert trace.pace.real_time_factor == pytest.approx(1.0)


def test_the_clock_of_this_machine_is_not_outrun(tmp_path: Path) -> None:
    """The one test with the real clock: it may be late on a busy machine, never early."""
    setup, began = table_setup(tmp_path), time.monotonic()
    trace = simulate(setup, synthetic(setup), realtime=0.3)
    took = time.monotonic() - began
    assert trace.pace is not None
    assert 0.3 * trace.end_ns / 1e9 <= trace.pace.wall_s <= took
    assert trace.pace.real_time_factor <= trace.pace.asked_real_time_factor


def test_the_document_says_how_both_runs_kept_pace(tmp_path: Path, clock: Clock) -> None:
    setup = table_setup(tmp_path)
    alone = simulate(setup, synthetic(setup), ALONE, observer=Slow(clock, 1, 0.120), realtime=2.0)  # a step is 100 ms
    ours = simulate(setup, synthetic(setup), realtime=2.0)
    found = json.loads(json.dumps(document(setup, ledgers(setup), alone, ours)))["realtime"]
    assert (found["factor"], found["asked_real_time_factor"], found["late_limit_ms"]) == (2.0, 0.5, 10)
    assert found["baseline"]["real_time_factor"] == pytest.approx(0.5)
    assert (found["baseline"]["events"], found["baseline"]["overruns"]) == (14, 1)
    assert found["baseline"]["max_lateness_ms"] == pytest.approx(20)
    assert found["speculative"]["overruns"] == 0
    assert found["speculative"]["events"] > 0
    assert document(setup, ledgers(setup), alone, None)["realtime"]["speculative"] is None
    unpaced = simulate(setup, synthetic(setup), ALONE), simulate(setup, synthetic(setup))
    assert "realtime" not in document(setup, ledgers(setup), *unpaced)


@pytest.mark.parametrize("width", [40, 100])
def test_the_report_tells_the_pace_and_how_late_it_was(tmp_path: Path, clock: Clock, width: int) -> None:
    setup = table_setup(tmp_path)
    alone = simulate(setup, synthetic(setup), ALONE, observer=Slow(clock, 1, 0.120), realtime=2.0)  # a step is 100 ms
    ours = simulate(setup, synthetic(setup), realtime=2.0)
    console = Console(file=io.StringIO(), width=width)
    render(json.loads(json.dumps(document(setup, ledgers(setup), alone, ours))), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.split("\n"))) <= width
    words = " ".join(text.split())
    assert "real time" in words
    assert "target_only 0.5x: 600 ms simulated in 1.20 s; " in words
    assert "1 of 14 events over 10 ms late, 20.0 ms at most" in words
    assert f"0 of {ours.pace.events} events over 10 ms late" in words  # type: ignore[union-attr]


def test_a_pace_that_nobody_could_keep_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table_setup(tmp_path)
    many = ["--realtime", "0.000001", "--set", "workload.requests=300"]
    assert simulate_main([str(tmp_path / "table.yaml"), "--json", *many]) == 0
    found = json.loads(capsys.readouterr().out)["realtime"]
    for run in ("baseline", "speculative"):
        assert found[run]["overruns"] > 0
        assert found[run]["max_lateness_ms"] > 10
        assert found[run]["real_time_factor"] < found["asked_real_time_factor"] == pytest.approx(1e6)


def test_ctrl_c_while_waiting_for_the_wall_clock_leaves_cleanly(tmp_path: Path) -> None:
    """At a thousand wall seconds a simulated one all but the start is a wait."""
    table_setup(tmp_path)
    arguments = [str(tmp_path / "table.yaml"), "--plain", "--realtime", "1000", "--out", str(tmp_path / "out")]
    status, printed, complaint = interrupted(*arguments)
    assert status == 130
    assert complaint.strip() == "interrupted; nothing half-written was left behind"
    assert printed == ""
    assert list((tmp_path / "out").iterdir()) == []
