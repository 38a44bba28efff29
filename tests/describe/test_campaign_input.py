"""Campaign files that are at fault: every fault comes at once, at the campaign's own key, with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hilsim.commands.main import main
from hilsim.describe.campaign import Instants
from hilsim.describe.campaign_load import load_campaign
from hilsim.describe.faults import PHASES
from hilsim.errors import InputError
from tests.campaigns import ALONE, DROP, HANG, SYNC, write_campaign


def faults(folder: Path, *given: str, **changes: Any) -> list[str]:
    """What is wrong with a small campaign, without the name of its file."""
    file = write_campaign(folder, **changes)
    with pytest.raises(InputError) as caught:
        load_campaign(file, given)
    return [str(fault).removeprefix(f"{file}: ") for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"faults": [DROP, {"kind": "link_drip", "for_ms": 5}]}, ["faults[1] (line 1): found kind 'link_drip'"]),
        ({"faults": [{**DROP, "for_ms": [50, -3]}]}, ["faults[0].for_ms (line 1): found -3"]),
        ({"faults": [{**DROP, "fro_ms": 3}]}, ["faults[0].fro_ms (line 1): found an unknown key"]),
        ({"faults": [{"kind": "link_drop"}]}, ["faults[0] (line 1): found link_drop without for_ms"]),
        ({"faults": [{**DROP, "at_ms": 3}]}, ["faults[0].at_ms (line 1): found 3; expected no instant of its own"]),
        ({"faults": [{**DROP, "for_ms": []}]}, ["faults[0].for_ms (line 1): found an empty list"]),
        (
            {"faults": [DROP, {**DROP, "where": "up"}]},
            ["faults[1] (line 1): found 'link_drop up, 50 ms', as in faults[0]"],
        ),
        ({"faults": []}, ["faults (line 1): found an empty list"]),
        ({"faults": None}, ["faults (line 1): found nothing; expected the key 'faults'"]),
        ({"faults": ["lost"]}, ["faults[0] (line 1): found 'lost'"]),
        ({"faults": [{"kind": "reset", "where": "up"}]}, ["faults[0].where (line 1): found where 'up' of reset"]),
        ({"policies": [SYNC, {"name": "sink"}]}, ["policies[1] (line 1): found"]),
        ({"policies": [SYNC, {**SYNC, "draft_tokens": 0}]}, ["policies[1].draft_tokens (line 1): found 0"]),
        ({"policies": [SYNC, SYNC]}, ["policies (line 1): found the policy"]),
        ({"policies": []}, ["policies (line 1): found an empty list"]),
        ({"instants": {"phases": ["drafting"]}}, ["instants.phases[0] (line 1): found 'drafting'"]),
        ({"instants": {"phases": ["up", "up"]}}, ["instants.phases (line 1): found a value twice"]),
        ({"instants": {"phases": []}}, ["instants (line 1): found no instant"]),
        ({"instants": {"at_ms": [3], "each": 2}}, ["instants.each (line 1): found each without phases"]),
        ({"instants": {"at_ms": [-1]}}, ["instants.at_ms[0] (line 1): found -1"]),
        ({"tolerance_ms": 0}, ["tolerance_ms (line 1): found 0"]),
        ({"reaction": {"retries": -1}}, ["reaction.retries (line 1): found -1"]),
        ({"reaction": {"fallbak": "none"}}, ["reaction.fallbak (line 1): found an unknown key"]),
        (
            {"scenario": "nowhere.yaml"},
            ["scenario (line 1): found 'nowhere.yaml'; expected a file beside the campaign or in hilsim"],
        ),
        ({"set": {"link": "nothing"}}, ["set.link (line 1): found 'nothing'"]),
        ({"repeats": 0}, ["repeats (line 1): found 0"]),
        ({"colour": "red"}, ["colour (line 1): found an unknown key"]),
    ],
)
def test_a_fault_is_named_at_the_campaigns_own_key(
    changes: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    found = faults(tmp_path, **changes)
    assert len(found) == len(expected), found
    for text, beginning in zip(found, expected, strict=True):
        assert text.startswith(beginning), found


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    found = faults(
        tmp_path,
        faults=[{**DROP, "where": "sideways"}, {**HANG, "at_ms": 3}],
        policies=[ALONE, {"name": "sync", "draft_tokens": -1}],
        instants={"phases": ["never"]},
        reaction={"retries": -1},
    )
    assert sorted(text.split(" ")[0] for text in found) == [
        "faults[0].where", "faults[1].at_ms", "instants.phases[0]", "policies[1].draft_tokens",
        "reaction.retries",
    ]  # fmt: skip


def test_a_chip_that_the_scenario_does_not_have_is_a_fault_of_the_campaign(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, faults=[{"kind": "slow", "where": "a-third-chip", "factor": 2, "for_ms": 5}])
    assert found.startswith("faults[0]")
    assert "a-third-chip" in found


def test_a_key_that_the_campaign_varies_is_not_set(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, "policy={name: target_only}")
    assert found == (
        "--set: policy={name: target_only}: found policy, which policies varies; expected a key that no axis has. "
        "Change the campaign."
    )


@pytest.mark.parametrize(("kind", "command"), [("scenarios/table.yaml", "simulate"), ("studies", "study")])
def test_a_file_of_another_kind_names_its_command(
    kind: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_campaign(tmp_path)
    study = tmp_path / "study.yaml"
    study.write_text("{name: s, scenario: table.yaml, axes: [{key: seed, values: [1]}]}")
    file = tmp_path / "table.yaml" if command == "simulate" else study
    assert main(["campaign", str(file), "--out", str(tmp_path / "out")]) == 2
    assert f"Run it by `hilsim {command} {file}`." in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), kind


def test_too_many_runs_are_refused_before_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_campaign(tmp_path, most_points=35)
    assert main(["campaign", str(file), "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "found 36 points (36 combinations, each with 1 seed); expected at most 35" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ({}, list(PHASES)),
        ({"at_ms": (1.5, 20.0)}, ["at 1.5 ms", "at 20 ms"]),
        ({"at_ms": (9999998.0, 9999999.0, 1e9)}, ["at 9999998 ms", "at 9999999 ms", "at 1000000000 ms"]),
        ({"at_ms": (1234567.25, 1234567.5)}, ["at 1234567.25 ms", "at 1234567.5 ms"]),
        ({"phases": ("up",), "each": 2, "at_ms": (7.0,)}, ["up 1", "up 2", "at 7 ms"]),
        (
            {"each": 2},
            [f"{phase} {n}" for phase in ("prefill", "draft", "up", "verify", "down", "idle") for n in (1, 2)],
        ),
    ],
)
def test_instants_are_all_phases_unless_named(given: dict[str, Any], labels: list[str]) -> None:
    assert [label for label, _ in Instants(**given).choices()] == labels


def test_instants_that_differ_late_in_their_digits_are_two(tmp_path: Path) -> None:
    described = load_campaign(write_campaign(tmp_path, instants={"at_ms": [9999998, 9999999]})).described
    assert len(described.study.axes[2].rows) == 2


def test_rounds_count_from_the_first_after_the_question_was_read() -> None:
    found = {label: keys["on"] for label, keys in Instants(phases=("prefill", "down"), each=2).choices()}
    assert found == {
        "prefill 1": {"phase": "prefill", "request": 0}, "prefill 2": {"phase": "prefill", "request": 1},
        "down 1": {"phase": "down", "request": 0, "round": 1}, "down 2": {"phase": "down", "request": 1, "round": 2},
    }  # fmt: skip
