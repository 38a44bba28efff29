"""Every command in the README and in docs/ is run; the README's scenario, answer and Python are what they claim."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hilsim.places import CODE as PROJECT
from tests.running import run_here

PAGES = {file: file.read_text(encoding="utf-8") for file in (PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md"))}
README = PAGES[PROJECT / "README.md"]


def blocks(text: str, language: str) -> list[str]:
    """The blocks of a page that are marked with a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def has_its_own_test(page: Path) -> bool:
    """Whether another test follows a page: test_tutorial.py, test_import_tutorial.py, hardware/test_protocol.py."""
    return page.parent.name == "tutorials" or page.name in ("logs.md", "protocol.md")


LINES = [
    line.strip()
    for page, text in PAGES.items()
    if not has_its_own_test(page)
    for block in blocks(text, "sh")
    for line in block.splitlines()
]
COMMANDS = list(dict.fromkeys(line for line in LINES if line and not line.startswith("#")))
# Each makes the environment that this test runs in, takes too long for the fast suite, or serves until it is ended; CI
# runs the first two, study/test_campaign_runs.py a part of the campaign, commands/test_ending.py the server.
NOT_HERE = ("make", "git", "python -m hilsim train --out", "python -m hilsim card", "python -m hilsim campaign",
            "python -m hilsim serve", "python -m tests.bench_")  # fmt: skip
# The passenger's pace takes minutes, and so does fitting again without every model and device, or comparing everything;
# one short answer, and a file of a few rows, show the same.
ONE_ANSWER = [f"--set=workload.{cut}" for cut in ("count=1", "max_turns=1", "max_new_tokens=8")]
NARROW = [
    "--set=networks=[]", "--conversations=2", "--drafts=draft-68m-llama3:models/draft-0.8m", "--only=draft.unit=gpu",
    "--only=draft.precision=w4", "--only=target.precision=w4", "--only=target.widths=1-8-128", "--workers=1",
]  # fmt: skip
SHORTER = {
    "--realtime": ONE_ANSWER,
    "scripts/compare_policies.py": ONE_ANSWER,
    "scripts/payloads.py": ONE_ANSWER,
    "hilsim explore": NARROW,
    "hilsim quality": ["--conversations=2", "--dialogues=1"],
    "explore_placement": NARROW,
    "scripts/where_2_5.py": [
        "--targets=llama-3.2-3b",
        "--widths=1-8-128",
        "--links=pcie-gen3-x4",
        "--acceptances=0.7,0.9",
    ],
    "scripts/break_even.py": ["--ratios=0.05,0.5", "--lengths=1,4", "--acceptances=0.1:1:0.3", "--requests=10"],
    "scripts/acceptance.py": ["--acceptances=0.5,0.9", "--lengths=1,5", "--requests=10"],
    "scripts/draft_size.py": ["--precisions=w4", "--lengths=5", "--draft=draft-68m-llama3:models/draft-0.8m"],
    "scripts/widths.py": ["--widths=1-8-128", "--policies=sync"],
    "scripts/link.py": ["--bandwidths=1,1000", "--latencies=0.01,1", "--lengths=5"],
    "scripts/memory_cap.py": ["--caps=0.5,1", "--precisions=w4", "--lengths=5"],
    "scripts/context.py": ["--contexts=1024", "--lengths=5", "--requests=5"],
    "scripts/temperature.py": ["--temperatures=0.7", "--conversations=1", "--lengths=5"],
    "scripts/this_computer.py": ["--repeats=1", "--drafts=draft-0.8m"],
    "scripts/two_agents.py": ["--trials=1", "--no-namespaces"],
    "scripts/passengers.py": ["--passengers=1", "--rates=20", "--set=trip.minutes=2"],
    "scripts/background.py": ["--streams=0", "--gmacs=0", "--set=trip.minutes=2"],
    "scripts/heat.py": ["--ambients=40", "--policies=scenario", "--set=trip.minutes=2"],
    "scenarios/trip.yaml": ["--set=trip.minutes=2"],
    "scripts/ranking.py": ["--draws=5", *ONE_ANSWER],
    "validate --plot": ["--csv=chips/measurements/example.csv"],
}


def test_the_readme_has_commands() -> None:
    assert {"make run", "make test"} <= {command.split("  #")[0].strip() for command in COMMANDS}


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    for command in COMMANDS:
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, flags=re.MULTILINE), command


QUICK = (
    "scenarios/paper_table.yaml",
    "hilsim check scenarios/orin_8295.yaml",
    "hilsim chip",
    "hilsim validate --trace",
)


def runs(command: str) -> Any:
    """A command as a test; those that take more than a second or two run with the slow ones."""
    quick = any(part in command for part in QUICK) and "--profile" not in command
    return pytest.param(command, id=command.split("  #")[0].strip(), marks=() if quick else pytest.mark.slow)


@pytest.mark.parametrize("command", [runs(command) for command in COMMANDS if not command.startswith(NOT_HERE)])
def test_readme_command(command: str, tmp_path: Path) -> None:
    words = shlex.split(command, comments=True)
    assert words[0] == "python"
    for part, extra in SHORTER.items():
        if part in command:
            words += extra
    words = [str(tmp_path / word) if word.startswith("out/") else word for word in words]
    done = run_here(words[1:])
    expected = 2 if "target_on_orin" in command else 0
    assert done.returncode == expected, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_file_and_picture_that_a_page_names_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[page]):
        assert (page.parent / target).exists(), target


def test_every_page_is_named_by_another() -> None:
    named = {
        (page.parent / target).resolve()
        for page, text in PAGES.items()
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    }
    assert not [str(page) for page in PAGES if page not in named and page != PROJECT / "README.md"]


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_the_scenario_of_the_readme_runs(tmp_path: Path) -> None:
    [scenario] = blocks(README, "yaml")
    file = tmp_path / "mine.yaml"
    file.write_text(scenario, encoding="utf-8")
    done = run_here(["simulate.py", str(file), *ONE_ANSWER])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_answer_in_the_readme_is_the_one_that_is_printed() -> None:
    [answer] = blocks(README, "text")
    typed = [sys.executable, "simulate.py", "scenarios/orin_8295.yaml", "--plain"]
    assert answer in subprocess.run(typed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [code] = blocks(README, "python")
    file = tmp_path / "first.py"
    file.write_text(code, encoding="utf-8")
    runpy.run_path(str(file))
    assert re.search(r"^2\.\d+ ", capsys.readouterr().out, flags=re.MULTILINE)
