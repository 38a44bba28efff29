"""Every value of the manifest is what it was; a changed one is found and printed."""

from __future__ import annotations

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.golden import __main__ as command
from tests.golden import manifest
from tests.golden.entries import ENTRIES
from tests.golden.manifest import FOLDER, REGENERATE, Entry, differences, processor, stored, values_of

# Networks add in another order on another processor, and six digits of a sum are then rounded otherwise. The command
# compares to the last digit; here a million is as good as a million and ten.
WITHIN = 1e-5
ALL = [pytest.param(entry, id=entry.name, marks=[] if entry.quick else pytest.mark.slow) for entry in ENTRIES]


@pytest.mark.parametrize("entry", ALL)
def test_values_are_what_they_were(entry: Entry) -> None:
    values, _ = values_of(entry, in_process=True)
    found = differences(stored(entry), values, WITHIN)
    assert not found, explained(entry, found)


def explained(entry: Entry, found: list[str]) -> str:
    """The first ten differences, what was run, and how new values are stored."""
    first = "\n  ".join(found[:10])
    made_on = json.loads(command.WALL.read_text(encoding="utf-8"))["processor"]
    return (
        f"{len(found)} values of {entry.name} differ:\n  {first}\nof: {entry.command}\n"
        f"stored on {made_on}, run on {processor()}\n"
        f"Where that is meant: {REGENERATE} --only '{entry.name}', and say why in CHANGES.md."
    )


def test_every_entry_is_stored_and_nothing_else() -> None:
    names = [entry.name for entry in ENTRIES]
    assert len(set(names)) == len(names)
    assert sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.rglob("*.json")) == sorted(
        names
    )


def test_a_changed_number_is_found_and_printed() -> None:
    entry = next(entry for entry in ENTRIES if entry.name == "papers/chen_humaneval")
    values: dict[str, Any] = stored(entry)
    assert differences(values, copy.deepcopy(values)) == []
    changed = copy.deepcopy(values)
    speedup = values["document"]["speedup"]
    changed["document"]["speedup"] = speedup * (1 + 1e-12)
    changed["document"]["added"] = None
    del changed["status"]
    found = differences(values, changed)
    assert found == [
        f"document.speedup: {speedup!r} -> {speedup * (1 + 1e-12)!r} (+1e-12)",
        "document.added: new, None",
        "status: gone, was 0",
    ]
    assert differences(values, changed, 1e-11) == found[1:]
    assert all(line in explained(entry, found) for line in (*found, entry.command, "--only 'papers/chen_humaneval'"))


def test_the_command_prints_what_changed_and_stores_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that answers 2.5, then 2.0: `--check` fails and stores nothing, the plain command stores."""
    monkeypatch.setattr(manifest, "FOLDER", tmp_path / "values")
    monkeypatch.setattr(command, "FOLDER", tmp_path / "values")
    monkeypatch.setattr(command, "WALL", tmp_path / "wall.json")

    def answers(speedup: float, *arguments: str) -> tuple[int, str]:
        shown = json.dumps({"speedup": speedup, "wall": speedup, "note": "two words", "rule": "greedy"})
        monkeypatch.setattr(command, "ENTRIES", [Entry("one/case", f"python -c {shlex.quote(f'print({shown!r})')}")])
        return command.main(arguments), capsys.readouterr().out

    assert answers(2.5)[0] == 0
    assert json.loads((tmp_path / "values/one/case.json").read_text()) == {
        "document": {"rule": "greedy", "speedup": 2.5},
        "status": 0,
    }
    assert answers(2.5, "--check")[0] == 0
    status, printed = answers(2.0, "--check")
    assert status == 1
    assert "document.speedup: 2.5 -> 2.0 (-0.2)" in printed
    assert answers(2.5, "--check")[0] == 0
    assert answers(2.0)[0] == 0
    assert answers(2.0, "--check")[0] == 0
