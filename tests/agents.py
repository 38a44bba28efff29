"""Agents as processes of their own, for tests: started, killed, started again, and never left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from hilsim.describe.catalogue import PROJECT

COMMAND = (sys.executable, "-m", "hilsim", "agent")
FAULTY = f"{PROJECT}/tests/faulty_engine.py:Faulty"


def start(*arguments: str, listen: str = "127.0.0.1:0") -> tuple[subprocess.Popen[str], str]:
    """An agent that listens, and its address."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    agent = subprocess.Popen(
        [*COMMAND, "--listen", listen, *arguments],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert agent.stdout is not None
    line = agent.stdout.readline()
    assert line.startswith("listening on "), line
    return agent, f"tcp://{line.removeprefix('listening on ').strip()}"


def stop(agent: subprocess.Popen[str]) -> None:
    """End a process, whatever it is at."""
    agent.kill()
    agent.wait()
    assert agent.stdout is not None
    agent.stdout.close()


@contextlib.contextmanager
def agent(*arguments: str) -> Iterator[str]:
    """The address of an agent as long as it is needed."""
    process, address = start(*arguments)
    try:
        yield address
    finally:
        stop(process)


@contextlib.contextmanager
def faulty(at: str, how: str, folder: Path, *, restarts: bool) -> Iterator[str]:
    """An agent whose engine breaks once, at the first step of a kind; started again after its death where asked for."""
    options = ("--engine", FAULTY, "--model", f"any={folder}", "--option", f"at={at}", "--option", f"how={how}")
    process, address = start(*options)
    ends = threading.Event()
    running = [process]

    def attend() -> None:
        while not ends.is_set():
            if running[0].poll() is not None:
                running[0] = start(*options, listen=address.removeprefix("tcp://"))[0]
            ends.wait(0.02)

    attendant = threading.Thread(target=attend)
    if restarts:
        attendant.start()
    try:
        yield address
    finally:
        ends.set()
        if restarts:
            attendant.join()
        stop(running[0])
