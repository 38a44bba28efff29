"""docs/logs.md: its logs are read, what it claims to print is printed, and short and long logs say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hilsim.commands.main import main
from hilsim.places import CODE as PROJECT

PAGE = (PROJECT / "docs" / "logs.md").read_text(encoding="utf-8")
SHORT, LONG = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL))
(CLAIMED,) = re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL)


def printed(folder: Path, log: object, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    file = folder / "my_log.json"
    file.write_text(json.dumps(log), encoding="utf-8")
    assert main(["validate", "--trace", str(file), *options]) == 0
    return capsys.readouterr().out


def samples(folder: Path, log: object, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(printed(folder, log, capsys, "--json"))["samples"]
    return found


def test_the_page_prints_what_it_claims(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(tmp_path, SHORT, capsys)
    assert " ".join(out[out.index("Sample 0") :].split()) == " ".join(CLAIMED.split())


def test_every_number_that_is_printed_has_its_row_on_the_page() -> None:
    rows = " ".join(re.findall(r"^\| (.+?) \|", PAGE, flags=re.MULTILINE))
    names = re.findall(
        r"^(sync, replayed|sync, from medians|async, predicted|Explained|Medians)", CLAIMED, re.MULTILINE
    )
    assert len(names) == 5
    for name in (
        *names,
        "Handshake",
        "start",
        "first sync steps",
        "alpha",
        "draft steps",
        "rollbacks",
        "speed-up",
        "deviation",
    ):
        assert name in rows, name


def test_steps_and_what_lies_between_them_make_up_the_total(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's arithmetic: 339.4 ms of steps of 356 ms; 16.6 ms over four rounds."""
    steps_s = sum(SHORT["draft_times"]) + sum(SHORT["verify_times"])
    (found,) = samples(tmp_path, SHORT, capsys)
    assert found["sync_replayed"]["predicted_s"] == pytest.approx(steps_s)
    assert found["step_times_ms"]["handshake"] == pytest.approx(1000 * (0.356 - steps_s) / 4)
    assert f"{steps_s / 0.356:.1%}" in CLAIMED


def test_short_and_long_logs_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = [{"sample_index": 0, "strategy": "sd", "metrics": SHORT | {"tokens_generated": 10}}]
    assert samples(tmp_path, SHORT, capsys) == samples(tmp_path, long, capsys)
    # A list of short ones is a prompt each.
    assert [one["sample_index"] for one in samples(tmp_path, [SHORT, SHORT], capsys)] == [0, 1]


def test_with_the_target_alone_speed_ups_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = samples(tmp_path, LONG, capsys)
    assert found["sync_replayed"]["speedup_measured"] == pytest.approx(0.520 / 0.356)
    assert found["start_from"] == "greedy"


BAD = {
    "milliseconds": ({"draft_times": [10.1, 10.2]}, "found 0.356 s for draft_times and verify_times of"),
    "one verdict too few": ({"accepted_tokens": [4, 2, 1]}, "found 3 accepted_tokens and 4 verify_times"),
    "no total": ({"total_time": None}, "[0].metrics.total_time: found None; expected a time in seconds"),
    "text for a count": ({"accepted_tokens": "4, 2, 1, 3"}, "a list of 1 to"),
    "more than was drafted": ({"accepted_tokens": [9, 9, 9, 9]}, "32 drafts accepted of 13 drafted"),
}


@pytest.mark.parametrize(("change", "expected"), BAD.values(), ids=list(BAD))
def test_a_short_log_that_does_not_add_up_is_refused_with_its_place(
    change: dict[str, Any], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my_log.json"
    file.write_text(json.dumps(SHORT | change), encoding="utf-8")
    assert main(["validate", "--trace", str(file)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f"{file}: [0].metrics" in told.err
    assert expected in told.err


def test_help_and_readme_lead_to_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["validate", "--help"])
    assert "docs/logs.md" in capsys.readouterr().out
    assert "docs/logs.md" in (PROJECT / "README.md").read_text(encoding="utf-8")
