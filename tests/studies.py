"""Small studies for tests: table times and synthetic words, so that a point takes milliseconds."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hilsim.places import CODE as PROJECT
from tests.scenes import LINK, TABLE

# A policy that does what `sync` does, leaves a line for every run, and ends its process where it is told to.
OWN = """
import os, signal
from pathlib import Path
from hilsim.describe.policy import Sync
from hilsim.sim.policies.sync import sync

HERE = Path(__file__).parent
with (HERE / "ran").open("a") as file:
    file.write("x\\n")

def counted(context, request, draft_tokens, deaths=0):
    died = HERE / "died"
    if deaths and (len(died.read_text()) if died.exists() else 0) < deaths:
        with died.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    yield from sync(context, request, Sync(name="sync", draft_tokens=draft_tokens))
"""
POLICY = {"name": "own", "function": "own.py:counted", "parameters": {"draft_tokens": 4}}
AXES = [
    {"key": "logits.acceptance", "from": 0.3, "to": 0.9, "steps": 7, "name": "acceptance"},
    {"key": "policy.parameters.draft_tokens", "values": [1, 2, 3, 4], "name": "draft_tokens"},
]


def write_study(folder: Path, **changes: Any) -> Path:
    """A study of 28 combinations with its scenario, link and policy beside it; keys of the study can be changed."""
    folder.mkdir(exist_ok=True)
    (folder / "link.yaml").write_text(LINK)
    (folder / "own.py").write_text(OWN)
    (folder / "table.yaml").write_text(
        TABLE.replace("LINK", "link.yaml").replace("requests: 1, prompt", "requests: 2, prompt").replace(
            "output_tokens: 11", "output_tokens: 30"
        )
    )  # fmt: skip
    study = {"name": "small", "scenario": "table.yaml", "set": {"policy": POLICY}, "axes": AXES} | changes
    file = folder / "small.yaml"
    file.write_text(json.dumps(study))  # JSON is YAML
    return file


def command(file: Path, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "hilsim", "study", str(file), *map(str, arguments)]


def start(file: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """A study in a process group of its own, as a terminal would have it."""
    return subprocess.Popen(
        command(file, *arguments), cwd=PROJECT, text=True, start_new_session=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def finished(file: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(file, *arguments), cwd=PROJECT, capture_output=True, text=True, check=False)


def ran(folder: Path) -> int:
    """How often a point has begun to run."""
    file = folder / "ran"
    return len(file.read_text()) // 2 if file.exists() else 0


def until(condition: Callable[[], bool], process: subprocess.Popen[str] | None = None, seconds: float = 60) -> None:
    """Wait for something, or for the end of a process."""
    deadline = time.monotonic() + seconds
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def stop(process: subprocess.Popen[str], how: signal.Signals, *, group: bool = False) -> None:
    """Send a signal to a process that is perhaps over, or to all of its group."""
    if process.poll() is None:
        (os.killpg if group else os.kill)(process.pid, how)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))
