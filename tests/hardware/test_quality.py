"""Doubts about a chip's own times: each is raised where it must be, and none where nothing is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from hilsim.hardware.measured.quality import (
    QualityWarning,
    Reading,
    Sample,
    quality_warnings,
    sample_of,
    shape_of,
    unjudged,
)
from hilsim.hardware.wire.exchange import StepRequest, StepResult
from hilsim.show.step_times import print_profile

MS = 1_000_000


def series(times_ms: list[float] | np.ndarray, shape: str = "toy, 1 row", **fields: float) -> list[Sample]:
    """Steps of one shape; we wait 0.2 ms beside each."""
    took = [round(time * MS) for time in times_ms]
    return [Sample(shape, time, wall_ns=time + MS // 5) for time in took]


def kinds(found: list[QualityWarning]) -> list[str]:
    return [doubt.kind for doubt in found]


def test_a_steady_series_raises_no_doubt() -> None:
    """Noise of 3 % on 60 steps, 200 times: the drift of 10 % is over 11 standard errors of its 0.9 % away."""
    for seed in range(200):
        noise = np.random.default_rng(seed).normal(10, 0.3, 60)
        assert quality_warnings(series(noise)) == []


def test_noise_alone_is_no_drift() -> None:
    """Noise of 14 % on 9 steps: thirds differ by over 10 % in two series of five, by chance in about one of a hundred.

    The limit is three standard errors, and sigma from 8 differences is rough: 5 % of 400 series are allowed.
    """
    alarms = 0
    for seed in range(400):
        noise = np.random.default_rng(seed).normal(10, 1.4, 9)
        alarms += "thermal drift" in kinds(quality_warnings(series(noise)))
    assert alarms <= 20


def test_wide_scatter_is_the_interquartile_range() -> None:
    """Quartiles of 8, 9, ..., 16 ms are 10, 12 and 14: a third of the median."""
    shuffled = [12, 8, 16, 10, 14, 9, 15, 11, 13]
    (found,) = (doubt for doubt in quality_warnings(series(shuffled)) if doubt.kind == "wide scatter")
    assert found.figure == pytest.approx(4 / 12)
    assert "10.000 to 14.000 ms, 33% of their median" in found.sentence
    assert "wide scatter" in kinds(quality_warnings(series(shuffled[:7])))  # as many as a profile takes of a shape
    assert "wide scatter" not in kinds(quality_warnings(series(shuffled[:3])))  # too few to say, and said to be
    assert unjudged(series(shuffled[:3])).startswith("1 of 1 shapes were timed fewer than 4 times")
    assert unjudged(series(shuffled[:4])) == ""
    assert "wide scatter" not in kinds(quality_warnings(series([time + 40 for time in shuffled])))


def test_a_chip_that_grows_slow_drifts() -> None:
    """From 10 to 13 ms in 30 steps: the medians of the thirds are 10.47 and 12.53, a fifth more."""
    rising = series(np.linspace(10, 13, 30))
    warm = [
        Sample(one.shape, one.duration_ns, one.wall_ns, temperature_c=50.0 + place) for place, one in enumerate(rising)
    ]
    (found,) = quality_warnings(warm)
    assert found.kind == "thermal drift"
    assert found.figure == pytest.approx(0.198, abs=0.002)
    assert "20% more" in found.sentence
    assert "at 74 after 54 degrees" in found.sentence


def test_a_chip_whose_clock_ramps_up_is_reported_as_that() -> None:
    assert kinds(quality_warnings(series(np.linspace(13, 10, 30)))) == ["speeding up"]


def test_drift_is_weighed_over_shapes_and_not_taken_for_another_shape() -> None:
    """Prompts come first and decodes later: no drift, though the later steps are others."""
    assert quality_warnings([*series([30] * 20, "prompt"), *series([10] * 20, "decode")]) == []
    mixed = [*series(np.linspace(10, 13, 12), "few"), *series([10] * 120, "many")]
    assert quality_warnings(mixed) == []


def test_a_slow_first_step_asks_for_warm_up() -> None:
    (found,) = quality_warnings(series([40, *[10] * 20]))
    assert (found.kind, found.figure) == ("slow first", 4.0)
    assert quality_warnings(series([29, *[10] * 20])) == []
    assert quality_warnings(series([40, 10, 10])) == []


def test_a_chip_shared_with_others_is_contended() -> None:
    (found,) = quality_warnings(series([10] * 10 + [25] + [10] * 10 + [31] + [10] * 10 + [22] + [10] * 5))
    assert (found.kind, found.figure) == ("contended", 3)
    assert quality_warnings(series([10] * 20 + [25, 30] + [10] * 20)) == []


def test_a_step_longer_than_the_wait_for_it_is_impossible() -> None:
    (found,) = quality_warnings(
        [Sample("toy", 5 * MS, 6 * MS), Sample("toy", 9 * MS, 6 * MS), Sample("toy", 9 * MS, 0)]
    )
    assert (found.kind, found.figure) == ("longer than the wait", 1.5)
    assert "1 of 2 steps" in found.sentence


def readings(rate: float, wide_ms: float, seconds: float = 100, count: int = 40, seed: int = 1) -> list[Reading]:
    """Pings of a clock that runs at `rate`, each read anywhere in its round trip."""
    rng = np.random.default_rng(seed)
    found = []
    for at_s in np.linspace(5, 5 + seconds, count):
        wide_ns = round(wide_ms * MS * rng.uniform(0.5, 3))
        read_ns = at_s * 1e9 - rng.uniform(0, wide_ns)
        found.append(Reading(round(7e12 + rate * read_ns), round(at_s * 1e9), wide_ns))
    return found


@pytest.mark.parametrize("rate", [1.002, 0.998, 1.1, 0.5])
def test_a_clock_that_drifts_is_found(rate: float) -> None:
    """Readings within 3 ms of 75 s or more apart tell the rate to 4 in 100,000."""
    (found,) = quality_warnings([], readings(rate, 1))
    assert found.kind == "clock drift"
    assert found.figure == pytest.approx(rate - 1, abs=4e-5)


def test_one_bad_reading_hides_no_drift() -> None:
    """The first ping took 12 s, which alone would explain 6 % of drift; the next ones tell of 2 %."""
    found = readings(1.02, 1)
    slow = Reading(found[0].clock_ns, found[0].at_ns, 12 * 10**9)
    assert kinds(quality_warnings([], [slow, *found[1:]])) == ["clock drift"]


def test_a_good_clock_raises_no_doubt_however_bad_the_line() -> None:
    """Whatever happens inside the round trips is no drift: 100 seeds with round trips of up to 0.9 s."""
    for seed in range(100):
        assert quality_warnings([], readings(1.0, 300, seed=seed)) == []
        assert (
            quality_warnings([], readings(1.0004, 1, seed=seed)) == []
        )  # quartz is no better, and 0.1 % does not matter


def test_a_short_run_over_a_bad_line_tells_nothing_of_the_clock() -> None:
    assert quality_warnings([], readings(1.01, 20, seconds=0.5)) == []


def test_answers_are_readings_as_well() -> None:
    """A step of 9 ms in a wait of 10 leaves 1 ms of doubt."""
    samples = [
        Sample("toy", 9 * MS, 10 * MS, clock_ns=round(1.01 * at * 1e9), at_ns=round(at * 1e9))
        for at in np.linspace(1, 31, 20)
    ]
    assert kinds(quality_warnings(samples)) == ["clock drift"]


def test_a_clock_set_back_is_reported_and_not_taken_for_drift() -> None:
    before, after = readings(1, 1), readings(1, 1)
    later = [Reading(one.clock_ns - 10**9, one.at_ns + 200 * 10**9, one.wide_ns) for one in after]
    again = [Reading(5, before[-1].at_ns + 10**9, MS), *later]
    (found,) = quality_warnings([], [*before, *again])
    assert found.kind == "clock set back"


def test_clocks_that_nobody_read_are_no_readings() -> None:
    assert quality_warnings([Sample("toy", MS, 2 * MS) for _ in range(50)]) == []


def test_an_answer_as_a_sample() -> None:
    ask = StepRequest("toy", "verify", (0,) * 305, 300, 5, "logits")
    sample = sample_of(ask, StepResult(5, wall_ns=7, clock_ns=3, at_ns=9, temperature_c=40.0))
    assert sample == Sample("toy, 5 rows after 256 to 511", 5, 7, 3, 9, 40.0)
    assert shape_of("toy", 1, 0) == "toy, 1 row after 0 to 255"


def test_a_profile_judges_every_shape_by_itself_though_a_steady_one_lies_near() -> None:
    """Seven repeats, as `profile` takes them: one fill of the cache is steady, the next scatters by 132 %."""
    wild, steady = (1, 1.2, 4.0, 1.1, 2.6, 3.0, 1.0), [2.0] * 7
    answers = [(256, time) for time in wild] + [(320, time) for time in steady]
    asked = [
        (
            StepRequest("toy", "decode", (0,) * (cached + 1), cached, 1, "nothing"),
            StepResult(round(time * MS), wall_ns=10 * MS),
        )
        for cached, time in answers
    ]
    (found,) = (
        doubt
        for doubt in quality_warnings([sample_of(*one, exact=True) for one in asked])
        if doubt.kind == "wide scatter"
    )
    assert found.shape == "toy, 1 row after 256"
    assert found.figure > 1
    together = [doubt for doubt in quality_warnings([sample_of(*one) for one in asked]) if doubt.kind == "wide scatter"]
    assert all(doubt.figure < found.figure for doubt in together)  # what is measured as one hides it
    prompt = StepRequest("toy", "prefill", (0,) * 16, 0, 1, "nothing")
    assert sample_of(prompt, StepResult(1), exact=True).shape == "toy, a prompt of 16 rows after 0"


def test_times_taken_too_seldom_are_not_called_beyond_doubt(capsys: pytest.CaptureFixture[str]) -> None:
    for repeats, words in ((2, "1 of 1 shapes were timed fewer than 4 times"), (4, "No warnings about")):
        samples = series([2.0] * repeats)
        print_profile(Console(width=200), {}, [], quality_warnings(samples), unjudged(samples), "x.jsonl")
        told = capsys.readouterr().out
        assert words in told
        assert ("No warnings about" in told) == (repeats == 4)
