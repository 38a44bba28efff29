"""The comparing scripts: every variant is there, refused ones say why, the CSV holds what the table rests on."""

from __future__ import annotations

import csv
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from hilsim.measure.parts import LOSSES
from hilsim.study.grids import all_payloads, all_policies
from tests.running import run_here

SHORT = ["--set", "workload.count=1", "--set", "workload.max_turns=2", "--set", "workload.max_new_tokens=16"]


def script(name: str, *arguments: str | Path) -> CompletedProcess[str]:
    return run_here([f"scripts/{name}.py", *map(str, arguments)])


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


@pytest.mark.slow
def test_every_policy_is_compared_over_the_same_answers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = script(
        "compare_policies",
        "scenarios/orin_8295_greedy.yaml",
        *SHORT,
        "--csv",
        tmp_path / "a.csv",
        "--plot",
        tmp_path / "a.png",
    )
    assert done.returncode == 0, done.stderr
    assert "tree, not here: tree, with target on sa8295p.npu, whose graphs take no tree mask" in " ".join(
        done.stdout.split()
    )
    found = rows(tmp_path / "a.csv")
    assert {row["group"] for row in found} == {choice.group for choice in all_policies()} - {"tree", "lookahead", "ssd"}
    alone = next(row for row in found if row["variant"] == "target_only")
    assert float(alone["speedup"]) == 1
    for row in found:
        assert row["claim"] == "text"
        parts = sum(float(row[f"{name}_ms"]) for name in LOSSES)
        assert parts == pytest.approx(float(row["request_mean_ms"]), rel=1e-4)
        assert float(alone["request_mean_ms"]) / parts == pytest.approx(float(row["speedup"]), rel=1e-4)
    best = max(found, key=lambda row: float(row["speedup"]))
    assert f"Fastest: {best['set']}" in done.stdout
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_every_payload_is_compared_over_every_link(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = script("payloads", *SHORT, "--links", "1000base-t1,pcie-gen3-x4", "--csv", tmp_path / "a.csv", "--plot",
                  tmp_path / "a.svg")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "a.csv")
    names = [choice.name for choice in all_payloads(40)]
    assert [row["variant"] for row in found if row["link"] == "1000base-t1"] == names
    assert len(found) == 2 * len(names)
    for name in names:
        slow, fast = (row for row in found if row["variant"] == name)
        for same in ("tokens_per_round", "bytes_up_per_round", "bytes_down_per_round", "total_variation_mean"):
            assert slow[same] == fast[same], "what is said does not depend on the link"
        if float(slow["bytes_up_per_round"]) + float(slow["bytes_down_per_round"]) > 1e5:
            assert float(slow["speedup"]) < float(fast["speedup"])
        assert (slow["claim"] == "none") == bool(slow["total_variation_mean"])
    assert "LOSSY" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["payloads", "scenarios/orin_8295_greedy.yaml"], "temperature 0, where token ids are all that must cross"),
        (["payloads", "scenarios/target_alone.yaml"], "a draft on another chip"),
        (["payloads", "--links", "rope"], "'rope'"),
        (["compare_policies", "scenarios/no.yaml"], "no such file"),
        (["compare_policies", "--plot", "a.gif"], "a name that ends in"),
        (["compare_policies", "--set", "seed=x"], "seed"),
        (["compare_policies", "scenarios/target_on_orin.yaml"], "too large"),
    ],
)
def test_faults_are_reported_before_anything_runs(arguments: list[str], words: str) -> None:
    done = script(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
