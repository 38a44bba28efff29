"""Scripts that ask how much a cockpit carries before the first audio is late: curves rise."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilsim.places import CODE as PROJECT
from hilsim.study.trips import listed, load_trip
from tests.scripts.test_scripts_questions import answered, rows

VOICE = "scenarios/voice_orin_nano.yaml"
# No tool is called, so that the first audio is 0.285 + 0.6 + 0.1 s: below a second and a half, alone.
SHORT = [
    "--set=speech.tools=null",
    "--set=workload={requests: 8, prompt_tokens: 12, output_tokens: 12, clause_tokens: 8}",
    "--set=speech.synthesis.fixed_ms=100",
    "--limit=1500",
]
MEDIAN = "first_audio_ms.p50"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)


def test_more_passengers_wait_longer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(tmp_path, "passengers", VOICE, *SHORT, "--passengers=1,4", "--rates=10,400")
    first = {(float(row["per_hour"]), int(row["passengers"])): float(row[MEDIAN]) for row in found}
    assert first[10, 1] <= first[10, 4] <= 1.2 * first[10, 1]  # they seldom meet
    assert first[400, 4] > first[400, 1]
    assert "per_hour 10: longer than 1500 ms nowhere here" in " ".join(capsys.readouterr().out.split())


def test_what_cannot_be_served_is_refused_with_its_utilisation(tmp_path: Path) -> None:
    found = rows(tmp_path, "passengers", VOICE, *SHORT, "--passengers=16", "--rates=1000")
    assert "utilisation" in found[0]["why_not"]
    assert not found[0][MEDIAN]


def test_more_background_makes_it_later(tmp_path: Path) -> None:
    found = rows(tmp_path, "background", VOICE, *SHORT, "--streams=0,90", "--gmacs=0,40")
    first = {(float(row["gmacs"]), float(row["gb_per_s"])): float(row[MEDIAN]) for row in found}
    assert first[0, 90] > 1.05 * first[0, 0]  # steps of the language model stretch
    assert first[40, 0] > first[0, 0]
    assert {row["turns"] for row in found} == {"8"}


def test_hotter_air_never_makes_it_sooner(tmp_path: Path) -> None:
    found = rows(tmp_path, "heat", VOICE, *SHORT, "--ambients=20,100", "--policies=scenario")
    cool, hot = (float(row[MEDIAN]) for row in found)
    assert hot >= cool
    assert float(found[0]["throttled"]) == 0
    assert float(found[1]["throttled"]) > 0.5


def test_a_scenario_without_speech_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert answered("passengers", "scenarios/paper_table.yaml") == 2
    assert "speech: found no speech; expected spoken turns of passengers" in capsys.readouterr().err


def test_lists_are_given_as_they_are_loaded() -> None:
    setup = load_trip(PROJECT / VOICE, [])
    again = load_trip(PROJECT / VOICE, [listed("passengers", setup.scenario.passengers)])
    assert again.scenario.passengers == setup.scenario.passengers
    assert again.digest == setup.digest
