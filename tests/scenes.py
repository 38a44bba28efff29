"""Small scenarios for tests: round table times, so that every timeline can be done on paper."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import simpy

from hilsim.describe.figure import Figure
from hilsim.describe.load import load_setup
from hilsim.describe.policy import TargetOnly
from hilsim.describe.scenario import Lengths
from hilsim.describe.setup import Placed, Setup
from hilsim.places import CODE as PROJECT
from hilsim.sim.board import Board
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.luck import luck_of
from hilsim.sources.source import LogitsSource
from hilsim.sources.synthetic import SyntheticSource

MS = 1_000_000
# Target: 100 ms to read, 50 ms a token, 60 ms to verify up to 8 rows, 90 ms up to 16. Draft: 20 ms to read, 5 ms a
# token, the two-row catch-up step included. Link: 2 ms a message, 1 ms on the way, bytes free.
TABLE = """
name: table
seed: 1
target:
  model: paper-target
  chip: paper-target
  unit: any
  precision: fp16
  timer: {prefill: {"64": 100}, decode: 50, verify: {"8": 60, "16": 90}, source: a test's own round numbers}
draft:
  model: paper-draft
  chip: paper-draft
  unit: any
  precision: fp16
  timer: {prefill: {"64": 20}, decode: 5, verify: {"2": 5}, source: a test's own round numbers}
link: LINK
context_tokens: 2000
policy: {name: sync, draft_tokens: 4}
payload: token_ids
logits: {source: synthetic, acceptance: 1.0}
workload: {requests: 1, prompt_tokens: 10, output_tokens: 11}
"""
LINK = """
name: test-link
title: a test's own round numbers
rate: {value: 10000000000, unit: GB/s, kind: assumed, source: bytes cost nothing here}
message_overhead: {value: 2, unit: ms, kind: assumed, source: a round number}
propagation: {value: 1, unit: ms, kind: assumed, source: a round number}
"""


def table_setup(folder: Path, *overrides: str) -> Setup:
    """The table scenario with `--set` overrides."""
    (folder / "link.yaml").write_text(LINK)
    file = folder / "table.yaml"
    file.write_text(TABLE.replace("LINK", "link.yaml"))
    return load_setup(file, overrides)


def shipped(name: str, *overrides: str) -> Setup:
    """A shipped scenario."""
    return load_setup(PROJECT / "scenarios" / f"{name}.yaml", overrides)


def milliseconds(value: float) -> Figure:
    """A test's own figure."""
    return Figure(value=value, unit="ms", kind="assumed", source="a round number")


def between_passes(setup: Setup, switch_ms: float, wake_ms: float = 0, idle_after_ms: float = 0) -> Setup:
    """The setup with units that take so long to change graphs, and to wake up after so long without work."""
    figures = {"graph_switch": switch_ms, "power_up": wake_ms, "idle_after": idle_after_ms}
    update = {name: milliseconds(value) for name, value in figures.items()}

    def changed(placed: Placed) -> Placed:
        return replace(placed, unit=placed.unit.model_copy(update=update))

    draft = None if setup.draft is None else changed(setup.draft)
    return replace(setup, target=changed(setup.target), draft=draft)


def synthetic(setup: Setup) -> SyntheticSource:
    """The source that a synthetic scenario asks for."""
    assert isinstance(setup.scenario.workload, Lengths)
    return SyntheticSource(luck_of(setup), setup.scenario.workload)


def both(setup: Setup, source: type | None = None) -> tuple[Trace, Trace]:
    """Target alone and the scenario's policy over the same requests."""
    make = source or (lambda: synthetic(setup))
    first: LogitsSource = make()
    second: LogitsSource = make()
    return simulate(setup, first, TargetOnly(name="target_only")), simulate(setup, second)


def board_of(setup: Setup, *, with_draft: bool = True) -> Board:
    """The hardware of a scenario on a clock of its own, with a trace that keeps all."""
    return Board(simpy.Environment(), setup, Trace("test", (), (), ()), with_draft=with_draft)


def interrupted(*arguments: str) -> tuple[int, str, str]:
    """`simulate.py`, stopped by Ctrl-C after its first line: exit status, what it printed then, what it complained."""
    run = subprocess.Popen(
        [sys.executable, "simulate.py", *arguments],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    run.stdout.readline()
    time.sleep(0.3)
    run.send_signal(signal.SIGINT)
    printed, complaint = run.communicate(timeout=20)
    return run.returncode, printed, complaint
