"""How soon do commands answer? `python -m tests.bench_start`. The table is for people, the last line is JSON.

Wall seconds of whole commands, imports included: the best of several, after one that is not counted, which compiles
bytecode and fills caches. `_mib` is the most memory that a command, or a process that it started, held. `nothing` is
Python that does nothing, which all of them contain.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from hilsim.places import CODE as PROJECT

SCENARIO = "scenarios/orin_8295.yaml"
GREEDY = "scenarios/orin_8295_greedy.yaml"
TRANSCRIPT = "logits={source: transcript, file: transcripts/shift-draft-0.8m-greedy.npz}"
COMMANDS = {
    "nothing": (["-c", "pass"], 9),
    "help": (["-m", "hilsim", "--help"], 9),
    "check": (["-m", "hilsim", "check", SCENARIO], 7),
    "replayed": (["simulate.py", GREEDY, "--json", "--set", TRANSCRIPT], 5),
    "live": (["simulate.py", GREEDY, "--json"], 2),
}
# Run in a process of its own for each command, so that the memory is that of this one.
MEASURING = """\
import os, resource, subprocess, sys, time
began = time.perf_counter()
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
took, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(took, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**10)
sys.exit(status)"""


def run(arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and the most MiB of one command."""
    # Bytecode is written as it is where nobody forbids it: what is measured is not the compiling of source.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    words = [sys.executable, "-c", MEASURING, sys.executable, *arguments]
    done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    wall_s, cpu_s, mib = map(float, done.stdout.split())
    return wall_s, cpu_s, mib


def measure() -> dict[str, float]:
    """Seconds and memory of every command."""
    found: dict[str, float] = {}
    for name, (arguments, repeats) in COMMANDS.items():
        run(arguments)
        runs = [run(arguments) for _ in range(repeats)]
        wall_s, cpu_s, mib = (min(figures) for figures in zip(*runs, strict=True))
        found |= {f"{name}_s": wall_s, f"{name}_cpu_s": cpu_s, f"{name}_mib": mib}
    return found


def main() -> None:
    began = time.perf_counter()
    figures = measure()
    for name, value in figures.items():
        print(f"{name:20} {value:10,.3f}")
    print(f"in {time.perf_counter() - began:.0f} s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
