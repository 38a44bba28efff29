"""Every command in the README is run, and what it claims to print is printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from hilsim.places import CODE as PROJECT
from tests.running import run_here

README = (PROJECT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line.strip() and not line.startswith("#")]
# Each makes the environment that this test runs in, or takes too long for the fast suite; CI runs the first two.
NOT_HERE = ("make", "git", "python -m hilsim train --out", "python -m hilsim card")
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


def test_every_file_and_picture_that_the_readme_names_exists() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (PROJECT / target).exists(), target
