"""Studies by fast timing have the events' numbers, and a study says how much of its time went into its points."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hilsim.commands.main import main
from hilsim.measure.measures import MEASURED, MEASURES
from hilsim.places import CODE as PROJECT
from hilsim.runs import replay
from hilsim.study.point_result import Metrics, PointResult
from hilsim.study.workers import AHEAD_S, AT_HAND, Processes, Task, ThisProcess, failed
from tests.clusters import nothing
from tests.studies import rows


def write(folder: Path, **changes: Any) -> Path:
    """A study of three policies, one of which has no fast timing, by three acceptances."""
    policies = [{"name": "sync", "draft_tokens": 4}, {"name": "target_only"}, {"name": "tree", "branches": [2, 1]}]
    study = {
        "name": "small", "scenario": str(PROJECT / "scenarios" / "paper_table.yaml"),
        "set": {"workload": {"requests": 2, "prompt_tokens": 60, "output_tokens": 20, "pause_ms": 0}},
        "axes": [{"key": "logits.acceptance", "values": [0.3, 0.6, 0.9]}, {"key": "policy", "values": policies}],
        "metrics": list(MEASURED),
    } | changes  # fmt: skip
    file = folder / "small.yaml"
    file.write_text(json.dumps(study))  # JSON is YAML
    return file


@pytest.mark.slow
def test_fast_timing_has_the_numbers_of_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: dict[str, list[dict[str, float | str]]] = {}
    by_events: list[str] = []
    real = replay.run_of
    monkeypatch.setattr(replay, "run_of", lambda setup: (by_events.append(setup.scenario.policy.name), real(setup))[1])
    table = tmp_path / "a.csv"
    for timing in ("events", "fast"):
        file = write(tmp_path, timing=timing)
        command = ["study", str(file), "--out", str(tmp_path / "out"), "--workers", "1", "--csv", str(table)]
        assert main(command) == 0
        found[timing] = [{name: number(value) for name, value in row.items()} for row in rows(table)]
        shares = re.search(r"9 points in .* points/s\. Evaluating .* (\d+) % .* (\d+) %", capsys.readouterr().err)
        assert shares is not None
        assert all(0 < int(share) <= 100 for share in shares.groups())
        assert main(command) == 0
        assert "points/s" not in capsys.readouterr().err  # no point has run
    assert found["fast"] == found["events"]  # one store holds both, each point once a way of timing
    assert {row["state"] for row in found["fast"]} == {"done"}
    assert len({row["request_latency_ms.mean"] for row in found["fast"]}) == 7  # the target alone is one
    assert set(by_events) == {"tree"}  # what fast timing cannot run


def number(text: str) -> float | str:
    """A cell of a table: events count bytes in whole numbers, 968 and not 968.0."""
    try:
        return float(text)
    except ValueError:
        return text


def test_measures_that_need_events_are_refused_with_fast_timing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out"), "--workers", "1"]
    file = write(tmp_path, timing="fast", metrics=["speedup", "target_busy"])
    assert main(["study", str(file), *out]) == 2
    assert "found target_busy with `timing: fast`" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def tasks(count: int) -> list[Task]:
    return [Task(f"{number:064x}", Path("x"), (), (), "", {}, number // 5) for number in range(count)]


@pytest.mark.parametrize("count", [1, 2])
def test_short_points_come_in_groups_each_once(count: int) -> None:
    workers = ThisProcess(nothing) if count == 1 else Processes(nothing, count, failed)
    wanted = tasks(700)
    try:
        groups = list(workers.groups(wanted))
    finally:
        workers.close()
    keys = [outcome.key for group in groups for outcome in group]
    assert sorted(keys) == [task.key for task in wanted]
    assert len(groups) < len(keys) / 2
    assert 0 < workers.useful_s < 10


def test_a_process_has_as_many_short_jobs_as_keep_it_busy() -> None:
    workers: Processes[Task, PointResult] = Processes(nothing, 2, failed)
    workers.unsent = 10_000
    assert workers.at_hand == AT_HAND  # how long they take is not known yet
    for job_s, wanted in ((10.0, AT_HAND), (AHEAD_S / 20, 20), (0.0, 256)):
        workers.job_s = job_s
        assert workers.at_hand == wanted
    workers.unsent = 40
    assert workers.at_hand == 10  # a quarter of what is left, so that both end together
    workers.unsent = 3
    assert workers.at_hand == AT_HAND


def test_results_of_a_study_are_packed(tmp_path: Path) -> None:
    assert isinstance(nothing(tasks(1)[0]).metrics, Metrics)
    assert list(nothing(tasks(1)[0]).metrics) == list(MEASURES)
