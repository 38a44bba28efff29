"""How fast is hilsim itself? `python -m tests.bench_run`. The table is for people, the last line is JSON.

- events/s: SimPy events of a long synthetic run, everything recorded.
- simulated tokens/s: tokens of both runs of the first scenario over the wall time of the runs.
- live overhead: wall time over the bare forward passes made in it, of the runs and of the whole command.
- heads: the same of the runs alone, with a draft head under the ratio rule.
- dashboard: share of the runs' wall time spent drawing, on a terminal of 120 x 40.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import simpy
from rich.console import Console

from hilsim.cost.memory import ledgers
from hilsim.describe.load import load_setup
from hilsim.places import CODE as PROJECT
from hilsim.runs.run import Sources, run_both
from hilsim.show.terminal.dashboard import Dashboard
from hilsim.sim.run import simulate
from tests.scenes import synthetic, table_setup

SCENARIO = PROJECT / "scenarios" / "orin_8295_greedy.yaml"
REPEATS = 3


def kernel() -> dict[str, float]:
    """Events, rounds and spans a second of a synthetic run of about 20,000 rounds."""
    with tempfile.TemporaryDirectory() as folder:
        setup = table_setup(
            Path(folder), "logits.acceptance=0.7", "workload.requests=50", "workload.output_tokens=1200"
        )
    events = 0
    step = simpy.Environment.step

    def counted(env: simpy.Environment) -> None:
        nonlocal events
        events += 1
        step(env)

    with mock.patch.object(simpy.Environment, "step", counted):
        simulate(setup, synthetic(setup))
    began = time.perf_counter()
    trace = simulate(setup, synthetic(setup))
    wall = time.perf_counter() - began
    tokens = sum(request.output_tokens for request in trace.requests)
    assert tokens == sum(closed.emitted for closed in trace.rounds) == 50 * 1200, "less work would be no speed"
    return {
        "events_per_s": events / wall,
        "rounds_per_s": len(trace.rounds) / wall,
        "spans_per_s": len(trace.spans) / wall,
    }


def live() -> dict[str, float]:
    """The first scenario, in this process: tokens a second and overhead over the forward passes."""
    setup = load_setup(SCENARIO)
    outcome = run_both(setup, Sources(setup))
    runs = [run for run in (outcome.baseline, outcome.speculative) if run is not None]
    tokens = sum(request.output_tokens for run in runs for request in run.requests)
    assert len(runs) == 2
    assert tokens > 500
    return {
        "simulated_tokens_per_s": tokens / outcome.run_seconds,
        "run_s": outcome.run_seconds,
        "run_over_forward": outcome.run_seconds / outcome.forward_seconds,
    }


def heads() -> dict[str, float]:
    """A draft head that is verified by the ratio rule: its distributions are made on top of the forward passes."""
    drawing = "sampling={temperature: 0.7, top_k: 40, top_p: 0.95}"
    setup = load_setup(PROJECT / "scenarios" / "eagle3.yaml", [drawing, "accept=ratio", "payload=full_rows"])
    outcome = run_both(setup, Sources(setup))
    return {"heads_over_forward": outcome.run_seconds / outcome.forward_seconds}


def command() -> dict[str, float]:
    """The first scenario as a user starts it, imports and loading included."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "simulate.py", str(SCENARIO), "--json"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    wall = time.perf_counter() - began
    forward = json.loads(done.stdout)["wall"]["forward_s"]
    return {"command_s": wall, "command_over_forward": wall / forward}


def dashboard() -> dict[str, float]:
    """Share of the runs' wall time that drawing takes."""
    setup = load_setup(SCENARIO)
    sources = Sources(setup)
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=40)
    with Dashboard(setup, ledgers(setup), console, sources.fresh().text) as view:
        outcome = run_both(setup, sources, view)
    return {"dashboard_share": view.drawing_s / outcome.run_seconds, "dashboard_frames": float(view.frames)}


def measure() -> dict[str, float]:
    """The medians of all of them."""
    figures: dict[str, float] = {}
    for part in (kernel, live, heads, command, dashboard):
        runs = [part() for _ in range(REPEATS)]
        figures |= {name: sorted(run[name] for run in runs)[REPEATS // 2] for name in runs[0]}
    return figures


def main() -> None:
    figures = measure()
    for name, value in figures.items():
        print(f"{name:24} {value:12,.3f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
