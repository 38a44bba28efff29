"""scripts/this_computer.py: profile, chip file, prediction and measurement end to end, in small."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path

import pytest

from hilsim.commands.main import guarded
from hilsim.describe.catalogue import load_chip
from hilsim.hardware.measured.profile import ProfileGrid
from hilsim.hardware.recordings.recording import entries_of, read_recording
from hilsim.places import CODE as PROJECT

SHORT = [f"--set=workload.{cut}" for cut in ("count=1", "max_turns=2", "max_new_tokens=12")]


@pytest.mark.slow
def test_answers_are_measured_on_this_computer_and_predicted_from_its_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """How well, the README says; here only that both are there, and of one size whatever else this computer does."""
    monkeypatch.chdir(PROJECT)
    spec = importlib.util.spec_from_file_location("scripts_this_computer", PROJECT / "scripts" / "this_computer.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "GRID", ProfileGrid(rows=(1, 2, 5, 16), cached=(0, 128), prompts=(32,)))
    kept, table = tmp_path / "kept", tmp_path / "rows.csv"
    words = [*SHORT, "--drafts=draft-0.2m", "--repeats=2", "--keep", str(kept), "--csv", str(table)]
    drawn = ["--plot", str(tmp_path / "a.png")] if importlib.util.find_spec("matplotlib") else []
    assert guarded(lambda: module.main([*words, *drawn])) == 0
    assert not drawn or (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with table.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    assert [(row["run"], row["request"]) for row in rows] == [
        (run, request) for run in ("target alone", "draft-0.2m") for request in ("0", "1")
    ]
    assert all(0.2 < float(row["predicted_ms"]) / float(row["measured_ms"]) < 3 for row in rows)
    told = capsys.readouterr().out
    for words_there in ("mean absolute error", "PyTorch", "one thread", "Load"):
        assert words_there in told
    # What was kept: the profile, the chip made of it, and what the board said while it was talked to.
    chip = load_chip(str(kept / "this-computer.yaml"), PROJECT / "scenarios" / "x.yaml")
    assert chip.units["cpu"].precisions["fp32"].memory_rate.kind in ("fitted", "assumed")
    steps = entries_of(read_recording(kept / "this-computer.jsonl"))
    assert {entry.use for entry in steps} == {"warm-up", "profile"}
    assert list((kept / "draft-0.2m").glob("*.jsonl"))


def test_a_draft_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.scripts.test_scripts_questions import answered

    monkeypatch.chdir(PROJECT)
    assert answered("this_computer", "--drafts=draft-9b") == 2
    assert "models/draft-9b; expected folders in models/" in capsys.readouterr().err
