"""Units that were likely mistaken are said aloud, with the remedy, and nothing that may be right is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hilsim.commands.main import main
from hilsim.errors import Fault, InputError
from hilsim.fidelity.cases import resolve
from hilsim.fidelity.doubts import doubtful_rows, doubtful_steps
from hilsim.fidelity.from_file import families
from hilsim.fidelity.measurements import SHIPPED, read_measurements
from hilsim.fidelity.step_log import UNITS, read_log
from hilsim.places import CODE as PROJECT
from tests.tiny import csv_file

# 12 drafts of 11 ms and 4 verify steps of 48 ms, some 5 ms a round between them.
SECONDS: dict[str, Any] = {
    "draft_times": [0.0135, *[0.011, 0.0112, 0.0109] * 3, 0.0111, 0.011], "verify_times": [0.05, 0.0485, 0.048, 0.0482],
    "accepted_tokens": [3, 1, 4, 2], "total_time": 0.3498,
}  # fmt: skip
GREEDY: dict[str, Any] = {"token_times": [0.044, 0.0435, 0.0441, 0.0438], "total_time": 0.31, "tokens_generated": 5}


def scaled(log: dict[str, Any], factor: float, *keys: str) -> dict[str, Any]:
    """A log with its times, or some of them, multiplied."""
    times = keys or ("draft_times", "verify_times", "token_times", "total_time")
    return {
        key: value if key not in times
        else [factor * one for one in value] if isinstance(value, list) else factor * value
        for key, value in log.items()
    }  # fmt: skip


def doubts(folder: Path, *runs: tuple[str, dict[str, Any]]) -> list[Fault]:
    entries = [
        {"sample_index": 0, "strategy": strategy,
         "metrics": {"tokens_generated": sum(metrics.get("accepted_tokens", [])), **metrics}}
        for strategy, metrics in runs
    ]  # fmt: skip
    file = folder / "log.json"
    file.write_text(json.dumps(entries), encoding="utf-8")
    return doubtful_steps(read_log(file), file)


def test_a_short_run_in_microseconds_is_doubted_by_that_name(tmp_path: Path) -> None:
    short = {"draft_times": [11e3, 11e3], "verify_times": [5e4], "accepted_tokens": [2], "total_time": 72e3}
    (found,) = doubts(tmp_path, ("sd", short))
    assert "microseconds" in found.found
    assert '"unit": "us"' in found.remedy


@pytest.mark.parametrize(("unit", "factor"), [("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_steps_in_finer_units_are_doubted_by_the_name_of_the_unit(unit: str, factor: float, tmp_path: Path) -> None:
    log = scaled(SECONDS, factor)
    if unit != "ms":  # beyond what any run takes in seconds
        with pytest.raises(InputError, match="Is it the unit"):
            doubts(tmp_path, ("sd", log))
    else:
        (found,) = doubts(tmp_path, ("sd", log))
        assert UNITS[unit][1] in found.found
        assert f'"unit": "{unit}"' in found.remedy
    # With its unit stated it is no doubt, and so is one that is said to be slow.
    assert doubts(tmp_path, ("sd", log | {"unit": unit})) == []
    assert doubts(tmp_path, ("sd", SECONDS)) == []
    assert doubts(tmp_path, ("sd", scaled(SECONDS, 1000) | {"unit": "s"})) == []


@pytest.mark.parametrize(("unit", "factor"), [("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_a_log_in_its_own_unit_is_the_log_in_seconds(
    unit: str, factor: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(metrics: dict[str, Any]) -> Any:
        file = tmp_path / "log.json"
        file.write_text(json.dumps(metrics), encoding="utf-8")
        assert main(["validate", "--trace", str(file), "--json"]) == 0
        return json.loads(capsys.readouterr().out)["samples"][0]

    ours, theirs = answer(SECONDS), answer(scaled(SECONDS, factor) | {"unit": unit})
    assert theirs["step_times_ms"] == pytest.approx(ours["step_times_ms"], rel=1e-6)
    for part in ("sync_replayed", "sync_predicted", "async_predicted"):
        assert theirs[part]["predicted_s"] == pytest.approx(ours[part]["predicted_s"], rel=1e-6)
    assert theirs["alpha"] == ours["alpha"]


def test_a_doubted_log_ends_with_status_1_and_says_why_in_text_and_in_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "log.json"
    file.write_text(json.dumps(scaled(SECONDS, 1000)), encoding="utf-8")
    assert main(["validate", "--trace", str(file)]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("more likely milliseconds") == 2  # before the numbers and after them
    assert main(["validate", "--trace", str(file), "--json"]) == 1
    (doubt,) = json.loads(capsys.readouterr().out)["doubts"]
    assert 'Write "unit": "ms" beside them' in doubt


ODD = {
    "rates for times": (
        [("sd", SECONDS), ("greedy", GREEDY | {"token_times": [22.7] * 4, "total_time": 91.0})], "tokens a second"),
    "drafts alone in milliseconds": ([("amusd", scaled(SECONDS, 1000, "draft_times")), ("sd", SECONDS)], "in one unit"),
    "the total alone in milliseconds": ([("sd", scaled(SECONDS, 1000, "total_time"))], "total_time in the same unit"),
    "divided twice": ([("sd", scaled(SECONDS, 1e-3))], "divided by 1000 twice"),
    "instants": (
        [("amusd", SECONDS | {"draft_times": [0.013 * n for n in range(1, 13)]}), ("sd", SECONDS)], "how long each"),
}  # fmt: skip


@pytest.mark.parametrize(("runs", "words"), ODD.values(), ids=ODD)
def test_what_only_a_mistake_explains_is_doubted(runs: Any, words: str, tmp_path: Path) -> None:
    found = doubts(tmp_path, *runs)
    assert any(words in f"{doubt}" for doubt in found), found


REFUSED = {
    "negative": ({"draft_times": [-0.01] * 12}, "its end less its beginning"),
    "instants since 1970": ({"total_time": 1_750_000_000.5}, "An instant?"),
    "steps that overlap": ({"total_time": 0.2}, "do steps overlap?"),
    "an unknown unit": ({"unit": "msec"}, "one of s, ms, us, ns"),
    "the unit in the key": ({"draft_times_ms": [11.0], "draft_times": None}, "'draft_times' for 'draft_times_ms'"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_with_the_remedy(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    metrics = {key: value for key, value in (SECONDS | change).items() if value is not None}
    with pytest.raises(InputError) as caught:
        doubts(tmp_path, ("sd", metrics))
    assert words in str(caught.value)


def test_a_unit_in_another_place_is_not_overlooked(tmp_path: Path) -> None:
    file = tmp_path / "log.json"
    metrics = SECONDS | {"tokens_generated": 10}
    file.write_text(
        json.dumps([{"sample_index": 0, "strategy": "sd", "unit": "ms", "metrics": metrics}]), encoding="utf-8"
    )
    with pytest.raises(InputError, match="beside the times, in metrics"):
        read_log(file)


def test_nothing_that_was_measured_is_doubted() -> None:
    """The control: every shipped row, and the shipped log of two devices."""
    cases, _, _ = resolve(read_measurements(SHIPPED))
    assert len(cases) > 400
    assert doubtful_rows(cases, families()) == []
    trace = PROJECT / "chips/measurements/traces/amusd_humaneval.json"
    assert doubtful_steps(read_log(trace), trace) == []


# A model of 3 billion 4-bit weights makes some 45 tokens a second on this board and reads 512 in about 0.6 s.
DECODE, PROMPT = {"value": "40"}, {"kind": "llm_prefill", "context_len": "512", "metric": "ttft_ms", "value": "600"}
ROWS = {
    "a rate as a time": (DECODE | {"metric": "latency_ms", "value": "0.025"}, "in seconds? Multiply it by 1000"),
    "microseconds a token": (DECODE | {"metric": "latency_ms", "value": "25000"}, "in microseconds? Divide it by 1000"),
    "tokens a second under milliseconds": (
        {"params_b": "0.5", "metric": "latency_ms", "value": "220"}, "Write tok_s as its metric"),
    "milliseconds under tokens a second": ({"params_b": "0.4", "value": "4.5"}, "Write latency_ms as its metric"),
    "seconds of a prompt": (PROMPT | {"value": "0.6"}, "in seconds? Multiply it by 1000"),
    "nanoseconds of a prompt": (PROMPT | {"value": "600000000"}, "in nanoseconds"),
    "a lost point": (DECODE | {"value": "40125"}, "Is the point of a decimal lost?"),
    "thousands of tokens": (PROMPT | {"metric": "tok_s", "value": "0.85"}, "thousands of tokens a second"),
    "another model": (DECODE | {"value": "2"}, "Are unit, model, precision"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), ROWS.values(), ids=ROWS)
def test_a_row_far_from_its_prediction_is_doubted_with_the_likeliest_reading(
    change: dict[str, str], words: str, tmp_path: Path
) -> None:
    cases, left, faults = resolve(
        read_measurements(csv_file(tmp_path, DECODE, PROMPT | {"model": "a"}, change | {"model": "b"}))
    )
    assert (left, faults) == ([], [])
    (found,) = doubtful_rows(cases, families())
    assert found.place.startswith("line 4,")
    assert words in found.remedy


def test_rows_with_one_mistake_are_one_doubt(tmp_path: Path) -> None:
    rows = [DECODE | {"metric": "latency_ms", "value": "0.025", "model": name} for name in "abc"]
    cases, _, _ = resolve(read_measurements(csv_file(tmp_path, DECODE, *rows)))
    (found,) = doubtful_rows(cases, families())
    assert found.place == "lines 3-5, value in latency_ms"


def test_validate_and_calibrate_say_it_and_end_with_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = csv_file(tmp_path, {"metric": "latency_ms", "value": "0.025"})
    assert main(["validate", "--csv", str(file), "--json"]) == 1
    assert "Multiply it by 1000" in json.loads(capsys.readouterr().out)["doubts"][0]
    assert main(["validate", "--csv", str(file)]) == 1
    assert "Doubtful" in capsys.readouterr().out
    # So far off that nothing can be fitted: the refusal names the likely reason too. Ten times as long can be.
    far = csv_file(tmp_path, {"metric": "latency_ms", "value": "25000"})
    assert main(["calibrate", str(far), "--chip", "orin-nx-16gb"]) == 2
    assert "Divide it by 1000" in capsys.readouterr().err
    slow = csv_file(tmp_path, {"metric": "latency_ms", "value": "400"})
    assert main(["calibrate", str(slow), "--chip", "orin-nx-16gb"]) == 1
    assert "times as long as predicted" in " ".join(capsys.readouterr().out.split())
    assert main(["validate", "--csv", str(csv_file(tmp_path, DECODE)), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["doubts"] == []
