"""The steps of the hardware loop on this machine: each returns its result as text, or raises `Broken`."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from hilsim.hardware.recordings.recording import read_recording
from hilsim.places import CODE
from scripts.loopback.processes import ended, serving, started

MODELS = ("--model", "target=models/target", "--model", "draft=models/draft-0.8m")
AGENT = ("agent", "--listen", "127.0.0.1:0", *MODELS)
SCENARIO = "scenarios/orin_8295_greedy.yaml"
FAR_OFF = 0.5  # beyond this a prediction is no prediction, however busy the machine is
FEW = ("workload.count=1", "workload.max_turns=3", "workload.max_new_tokens=24")


class Broken(Exception):
    """A step that did not hold."""


def command(*arguments: str, status: int = 0) -> str:
    """What a command of hilsim prints; it must end with a status."""
    done = subprocess.run([sys.executable, *arguments], cwd=CODE, capture_output=True, text=True, check=False)
    if done.returncode != status:
        last = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise Broken(f"{' '.join(arguments[:3])}: exit status {done.returncode}: {' '.join(last)}")
    return done.stdout


def simulated(*settings: str, out: Path | None = None, status: int = 0) -> dict[str, Any]:
    """The document of a run of the first scenario."""
    given = [argument for setting in (*FEW, *settings) for argument in ("--set", setting)]
    where = [] if out is None else ["--out", str(out)]
    found: dict[str, Any] = json.loads(command("simulate.py", SCENARIO, "--json", *given, *where, status=status))
    return found


def behind(values: dict[str, str], *more: str) -> list[str]:
    """Settings that put something behind both units."""
    return [f"units.{unit}.{setting}" for unit, value in values.items() for setting in (f"backend={value}", *more)]


def protocol(folder: Path) -> str:
    with serving(AGENT) as address:
        output = command("-m", "hilsim", "agent", "--test", address)
    return output.strip().splitlines()[-1]


def run(folder: Path) -> str:
    plain = simulated()
    with serving(AGENT) as address:
        found = simulated(*behind(dict.fromkeys(("npu", "gpu"), address)), out=folder / "board")
    for key in ("num_accepted_tokens", "output_tokens"):
        if found["speculative"][key] != plain["speculative"][key]:
            raise Broken(f"{key} differs between boards and simulation")
    steps = sum(unit["steps"]["said"] for unit in found["hardware"])
    return f"{steps} steps computed tokens, {found['lossless']['mismatches']} mismatches"


def replay(folder: Path) -> str:
    files = {unit: f"recording://{folder}/board/orin_8295_greedy-{unit}.jsonl" for unit in ("npu", "gpu")}
    simulated(*behind(files), out=folder / "replay")
    for name in ("rounds.csv", "requests.csv"):
        if (folder / "board" / name).read_bytes() != (folder / "replay" / name).read_bytes():
            raise Broken(f"{name} differs")
    events = [traced(folder / name / "trace.json") for name in ("board", "replay")]
    if events[0] != events[1]:
        raise Broken("trace.json differs")
    rounds = (folder / "board" / "rounds.csv").read_text().count("\n") - 1
    return f"{rounds} rounds, every instant the same"


def traced(file: Path) -> list[Any]:
    """The events of a trace; what stands beside them names the board."""
    return list(json.loads(file.read_text(encoding="utf-8"))["traceEvents"])


def lost(folder: Path) -> str:
    """The agent is killed as soon as its recording has begun."""
    process, address = started(AGENT)
    file = folder / "lost.jsonl"
    given = behind({"npu": address}, f"record={file}", "repeats=20")
    arguments = [argument for setting in (*FEW, *given) for argument in ("--set", setting)]
    running = subprocess.Popen(
        [sys.executable, "simulate.py", SCENARIO, "--json", *arguments], cwd=CODE, stdout=subprocess.PIPE, text=True
    )
    try:
        while not file.exists() or file.stat().st_size < 20_000:
            if running.poll() is not None:
                raise Broken("the run ended before its agent was killed")
            time.sleep(0.01)
        process.kill()
        output, _ = running.communicate()
    finally:
        ended(process)
    if running.returncode != 1:
        raise Broken(f"exit status {running.returncode}")
    found = json.loads(output)["lost"]
    entries = len(read_recording(file).sessions[-1].entries)
    return f"{found['kind']} after {found['at_ms']:.0f} ms of the {found['run']} run, {entries} entries recorded"


def board(folder: Path) -> str:
    command("scripts/this_computer.py", "--csv", str(folder / "computer.csv"), "--drafts", "draft-0.8m")
    with (folder / "computer.csv").open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    off = fmean(abs(float(row["error"])) for row in rows)
    output = f"{len(rows)} answers predicted with a mean absolute error of {off:.1%}"
    if off > FAR_OFF:
        raise Broken(output)
    return output


def distributed(folder: Path) -> str:
    found = json.loads(command("scripts/two_agents.py", "--json", "--trials", "1"))["distributed"]
    tokens, off = found["words"], found["difference"]
    if tokens["mismatches"] or off["bytes_up"] or off["bytes_down"]:
        raise Broken(f"tokens {tokens}, bytes {off['bytes_up']:+.1%} up and {off['bytes_down']:+.1%} down")
    times = f"request time {off['request_latency_ms']:+.1%}, first token {off['time_to_first_token_ms']:+.1%}"
    return f"{times}, bytes as predicted, {tokens['checked']} tokens equal ({found['shaped_by']})"


def faults(folder: Path) -> str:
    found = json.loads(command("scripts/faults_on_boards.py", "--json", "--short"))
    rows = [row for row in found["faults"] if "reacted" in row["measured_ms"]]
    worst = max(
        (abs(row["difference"]["reacted"]), row["kind"]) for row in rows if row["by"] in ("time-out", "watchdog")
    )
    kinds = ", ".join(row["kind"] for row in rows)
    return f"{kinds}: in the predicted order, reactions by time-outs at most {worst[0]:.1%} off ({worst[1]})"


STEPS: tuple[Callable[[Path], str], ...] = (protocol, run, replay, lost, board, distributed, faults)
