"""The chip model against the chip: errors by kind of step on paper, and what a report prints of boards."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from hilsim.hardware.measured.shadow import compared, errors_of, fill_of
from hilsim.hardware.measured.timer import StepPair
from hilsim.show.hardware import render_hardware, render_lost, render_shadow
from hilsim.show.terminal.page import Page


def pair(measured: int, predicted: int, phase: str = "decode", width: int = 1, cached: int = 0) -> StepPair:
    """A step of the target."""
    return StepPair("board.cpu", "target", phase, width, width, cached, measured, predicted)


def test_a_model_that_is_right_is_off_by_nothing() -> None:
    found = compared([pair(100, 100), pair(300, 300, "verify", 8)])
    assert [kind.medians.error for kind in found] == [0, 0]
    assert errors_of(found) == (0, 0)


def test_errors_are_of_medians_and_the_worst_is_of_one_step() -> None:
    (found,) = compared([pair(100, 110), pair(200, 110), pair(50, 110)])
    assert (found.steps, found.medians.measured, found.medians.predicted) == (3, 100, 110)
    assert found.medians.error == pytest.approx(0.10)
    assert found.worst == pytest.approx(1.20)
    assert found.scatter == pytest.approx((150 - 75) / 100)  # quartiles of 50, 100, 200


def test_kinds_are_distinguished_by_phase_width_and_fill() -> None:
    pairs = [pair(1, 1), pair(1, 1, cached=127), pair(1, 1, cached=128), pair(1, 1, width=8), pair(1, 1, "verify")]
    assert [(kind.phase, kind.width, kind.fill, kind.steps) for kind in compared(pairs)] == [
        ("decode", 1, (0, 127), 2),
        ("decode", 1, (128, 255), 1),
        ("decode", 8, (0, 127), 1),
        ("verify", 1, (0, 127), 1),
    ]


def test_kinds_weigh_by_their_time_and_errors_of_two_signs_cancel_in_the_bias_alone() -> None:
    """300 ns measured and 330 predicted beside 100 and 70: errors of +10 and -30 %."""
    error, bias = errors_of(compared([pair(300, 330), pair(100, 70, "verify", 8)]))
    assert error == pytest.approx((0.10 * 300 + 0.30 * 100) / 400)
    assert bias == pytest.approx(0)


@pytest.mark.parametrize(("cached", "fill"), [(0, (0, 127)), (128, (128, 255)), (256, (256, 511)), (1023, (512, 1023))])
def test_fills_double(cached: int, fill: tuple[int, int]) -> None:
    assert fill_of(cached) == fill


def printed(render: object, block: object, width: int = 80) -> list[str]:
    """What a part of the report prints."""
    out = io.StringIO()
    render(Page(Console(file=out, width=width)), block)  # type: ignore[operator]
    return out.getvalue().splitlines()


KIND = {
    "unit": "sa8295p.npu", "role": "target", "phase": "draft prefill", "width": 128, "cached": [512, 1023],
    "steps": 1000, "measured_ms": 12345.678, "predicted_ms": 12345.678, "error": -0.123, "worst": 1.0, "scatter": 0.5,
}  # fmt: skip
FAULT = {
    "run": "policy", "request": 2, "role": "target", "phase": "verify", "kind": "died", "found": "gone",
    "then": "tried again", "cost_ms": 0.0,
}  # fmt: skip
UNIT = {
    "unit": "sa8295p.npu", "backend": "tcp://[::1]:7295", "words": "logits", "device": {"name": "a [red]board[/]"},
    "models": {"target": "t"}, "steps": {"said": 3, "interpolated": 2}, "device_ms": 3.0, "wall_ms": 4.0,
    "energy_mj": 1200.0, "max_temperature_c": 71.4, "recording": "recordings/x.jsonl", "present": True,
    "other_models": ["target"], "other_weights": ["target"],
    "doubts": [{"kind": "wide scatter", "sentence": "so it is."}], "faults": [FAULT] * 9,
}  # fmt: skip


def test_the_report_of_boards_fits_into_80_columns_and_hides_nothing() -> None:
    table = printed(
        render_shadow, {"other_models": ["target"], "kinds": [KIND] * 30, "mean_absolute_error": 0.1, "bias": -0.1}
    )
    assert max(map(len, table)) <= 80
    assert not [line for line in table if "…" in line]
    assert "6 more kinds" in " ".join(table)
    told = printed(render_hardware, [UNIT])
    assert max(map(len, told)) <= 80
    text = " ".join(" ".join(told).split())
    for words in (
        "1.2 J",
        "71 °C",
        "wide scatter",
        "4 more faults",
        "not the stand-in",
        "2 steps interpolated",
        "[red]board[/]",
    ):
        assert words in text


def test_a_lost_board_is_reported_with_how_far_the_run_came(tmp_path: Path) -> None:
    lost = {
        "run": "sync", "unit": "sa8295p.npu", "kind": "stalled", "found": "nothing for 3 s", "remedy": "Retry.",
        "at_ms": 512.0, "requests_answered": 1, "cost_ms": 3000.0, "request_latency_ms": 120.0,
        "output_tokens": 9,
    }  # fmt: skip
    text = " ".join(printed(render_lost, lost))
    assert "sa8295p.npu was lost: stalled: nothing for 3 s." in text
    assert "1 request of 9 tokens, 120 ms each" in text
    assert "Retry." in text
