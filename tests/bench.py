"""All speeds in one run: `make bench`, or `python -m tests.bench [--out FILE]`. JSON with machine facts.

live, replayed and screened rounds a second, configurations a second, start-up times, peak memory, and the ratio to bare
SimPy that holds as many resources and waits as often. Every figure is of this run; nothing is asserted about it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

from hilsim.describe.load import load_setup
from hilsim.files import written
from hilsim.places import CODE as PROJECT
from hilsim.runs.run import Sources, run_both
from hilsim.versions import versions
from tests import bench_events, bench_record, bench_screen

SCENARIO = "scenarios/orin_8295_greedy.yaml"
TRANSCRIPT = "logits={source: transcript, file: transcripts/shift-draft-0.8m-greedy.npz}"
COMMANDS = {
    "help": ["simulate.py", "--help"],
    "check": ["-m", "hilsim", "check", SCENARIO],
    "run live": ["simulate.py", SCENARIO, "--json"],
    "run replayed": ["simulate.py", SCENARIO, "--json", "--set", TRANSCRIPT],
    "explore 60,000": ["-m", "hilsim", "explore", SCENARIO],
}


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    facts: dict[str, object] = {"cores": os.cpu_count(), "machine": platform.machine(), "system": platform.platform()}
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        facts["processor"] = names[0] if names else ""
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {**facts, "load_average": list(load), "versions": versions()}


def live() -> dict[str, float]:
    """Rounds a second with networks speaking."""
    setup = load_setup(PROJECT / SCENARIO)
    sources = Sources(setup, remember=True)
    began = time.perf_counter()
    outcome = run_both(setup, sources)
    took = time.perf_counter() - began
    assert outcome.speculative is not None
    return {"rounds_per_s": (len(outcome.baseline.rounds) + len(outcome.speculative.rounds)) / took, "run_s": took}


def command(arguments: list[str]) -> dict[str, float]:
    """Wall seconds of a whole command, and the most memory that it or a child of its held, in MiB."""
    measuring = "import resource, subprocess, sys; status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL); "
    measuring += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10); sys.exit(status)"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", measuring, sys.executable, *arguments],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {"wall_s": time.perf_counter() - began, "peak_mib": float(done.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="FILE", type=Path, default=PROJECT / "out" / "bench.json")
    out: Path = parser.parse_args().out
    found: dict[str, object] = {"machine": machine()}
    sections = {
        "live": live,
        "replayed": bench_events.measure,
        "screened": bench_screen.measure,
        "recorded": bench_record.measure,
    }
    for name, measure in sections.items():
        found[name] = show(name, measure())
    found["commands"] = {name: show(name, command(arguments)) for name, arguments in COMMANDS.items()}
    found["this process"] = show(
        "this process", {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10}
    )
    with written(out) as path:
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"written: {out}")


def show(name: str, figures: dict[str, float]) -> dict[str, float]:
    """Print a section."""
    print(f"\n{name}")
    for what, value in figures.items():
        print(f"  {what:32} {value:16,.3f}")
    return figures


if __name__ == "__main__":
    main()
