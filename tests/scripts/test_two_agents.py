"""The script that predicts a distributed run and has it happen, with agents and link ends that are processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hilsim.places import CODE as PROJECT
from scripts.loopback.namespaces import refusal

FEW = ("workload.count=1", "workload.max_turns=2", "workload.max_new_tokens=16", "workload.pause_ms=10")
COMMAND = [sys.executable, "scripts/two_agents.py", *(f"--set={setting}" for setting in FEW)]


def left_over(number: int) -> list[str]:
    """Namespaces and devices of a process, and processes that it has started and not ended."""
    found = []
    if not refusal():
        found += subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout.split()
        found += subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout.split()
    names = [name for name in found if name.startswith((f"hilsim-{number}-", f"hs{number}"))]
    started = [int(file.name) for file in Path("/proc").iterdir() if file.name.isdecimal()]
    return names + [f"process {child}" for child in started if parent_of(child) == number]


def parent_of(number: int) -> int:
    """The process that started another; 0 where it has gone."""
    try:
        return int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


OVERLAPPING = pytest.param(["--no-namespaces", "--policy=async"], marks=pytest.mark.slow)


@pytest.mark.parametrize("options", [["--delay=2"], OVERLAPPING])
@pytest.mark.slow
def test_two_agents_do_what_was_predicted(options: list[str], tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    run = subprocess.Popen(
        [*COMMAND, "--trials=1", "--json", f"--csv={table}", *options],
        cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    printed, complaint = run.communicate(timeout=120)
    assert run.returncode == 0, complaint
    found = json.loads(printed)["distributed"]
    assert found["words"]["mismatches"] == 0
    assert found["words"]["checked"] > 20
    if found["policy"] == "sync":  # the schedule is the same whatever the clock shows, and so is what crosses the link
        assert found["difference"]["bytes_up"] == found["difference"]["bytes_down"] == 0
    assert found["measured"]["request_latency_ms"] > found["chips_and_link_alone"]["request_latency_ms"] / 2
    assert (found["shaped_by"] is None) == ("--no-namespaces" in options or bool(refusal()))
    assert len(table.read_text().splitlines()) == 6
    assert left_over(run.pid) == []


@pytest.mark.parametrize("after_s", [0.2, 4])  # while the first agent starts, and somewhat later
@pytest.mark.slow
def test_ctrl_c_in_the_middle_leaves_nothing_behind(after_s: float) -> None:
    run = subprocess.Popen(
        [*COMMAND, "--trials=100"], cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 60
    while not any("process" in name for name in left_over(run.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(after_s)
    during = left_over(run.pid)
    run.send_signal(signal.SIGINT)
    _, complaint = run.communicate(timeout=30)
    assert run.returncode == 130, complaint
    assert "Traceback" not in complaint
    assert left_over(run.pid) == []
    # What it had started has no parent any more where it was left behind.
    children = [name.removeprefix("process ") for name in during if name.startswith("process ")]
    assert children
    until = time.monotonic() + 20  # a process that was ended goes when the machine has time for it
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate=0"], "from 0.01"),
        (["--policy=pearl"], "invalid choice"),
        (["--set=policy={name: pearl, draft_tokens: 3}"], "whose target"),
        (["--set=workload.talkers=2"], "one conversation at a time"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_starts(arguments: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "scripts/two_agents.py", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr
