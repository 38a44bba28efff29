"""docs/tutorials/import.md: its table is saved, its commands are run in order, and each prints what the page shows.

And docs/logs.md: its import commands run, and its table of formats is that of the program.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from hilsim.commands.main import main
from hilsim.fidelity.importers.formats import FORMATS
from hilsim.places import CODE as PROJECT

PAGE = (PROJECT / "docs" / "tutorials" / "import.md").read_text(encoding="utf-8")
LOGS = (PROJECT / "docs" / "logs.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|text)\n(.*?)```", PAGE, flags=re.DOTALL)


def words_of(text: str) -> str:
    return " ".join(text.split())


def run(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints, on either stream."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "hilsim"]
    assert main(words[3:]) == 0
    told = capsys.readouterr()
    return words_of(told.out + told.err)


@pytest.mark.slow  # validate fits the families again without every model and device
def test_the_page_goes_from_a_table_to_a_chip_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (_, table), *rest = BLOCKS
    Path("bench.md").write_text(table, encoding="utf-8")
    printed, claims = "", 0
    for kind, block in rest:
        if kind == "sh":
            printed = "".join(run(command, capsys) for command in block.splitlines())
        else:
            assert words_of(block) in printed
            claims += 1
    assert claims == 3
    assert "kind: fitted" in Path("my-orin.yaml").read_text(encoding="utf-8")


IMPORTED = [line for line in LOGS.splitlines() if line.startswith("python -m hilsim import")]


@pytest.mark.parametrize("command", IMPORTED, ids=lambda line: line.split()[4])
def test_the_import_commands_of_the_logs_page_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "rows, of which validate compares" in run(command.replace("tests/", f"{PROJECT}/tests/"), capsys)


def test_the_logs_page_lists_every_format_once() -> None:
    assert len(IMPORTED) == 3
    rows = re.findall(r"^\| (`[^|]+`) \|", LOGS[LOGS.index("| `--format`") :], flags=re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert set(named) >= {one.name for one in FORMATS}
    assert all(named.count(one.name) == 1 for one in FORMATS)
