"""Agents as processes of their own, for tests: started, killed, started again, and never left behind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from hilsim.places import CODE as PROJECT
from scripts.loopback.processes import ended, serving, started

FAULTY = f"{PROJECT}/tests/faulty_engine.py:Faulty"


def agent(*arguments: str) -> contextlib.AbstractContextManager[str]:
    """The address of an agent as long as it is needed."""
    return serving(("agent", "--listen", "127.0.0.1:0", *arguments))


@contextlib.contextmanager
def faulty(at: str, how: str, folder: Path, *, restarts: bool) -> Iterator[str]:
    """An agent whose engine breaks once, at the first step of a kind; started again after its death where asked for."""
    options = ("--engine", FAULTY, "--model", f"any={folder}", "--option", f"at={at}", "--option", f"how={how}")
    process, address = started(("agent", "--listen", "127.0.0.1:0", *options))
    ends = threading.Event()
    running = [process]

    def attend() -> None:
        while not ends.is_set():
            if running[0].poll() is not None:
                ended(running[0])
                running[0], _ = started(("agent", "--listen", address.removeprefix("tcp://"), *options))
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
        ended(running[0])
