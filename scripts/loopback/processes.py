"""Agents and link ends as processes of this machine: started, waited for until they listen, and never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile

from hilsim.describe.address import TCP
from hilsim.errors import HilsimError
from hilsim.places import CODE

LISTENING = "listening on "
GOODBYE_S = 5.0


class NotListening(HilsimError):
    """A process that ended before it listened."""

    def __init__(self, command: str, message: str):
        super().__init__(command, message)

    def __str__(self) -> str:
        command, message = self.args
        return f"{command}: ended before it listened.{f' Its output: {message}' if message else ''}"


@contextmanager
def serving(arguments: Sequence[str], prefix: Sequence[str] = ()) -> Iterator[str]:
    """The address, tcp://HOST:PORT, that `python -m hilsim ARGUMENTS` listens on, for as long as it is needed.

    `prefix` comes before the command, such as `ip netns exec NAME`.
    """
    process, address = started(arguments, prefix)
    try:
        yield address
    finally:
        ended(process)


def started(arguments: Sequence[str], prefix: Sequence[str] = ()) -> tuple[subprocess.Popen[str], str]:
    """A process of hilsim that listens, and where. Raises `NotListening`."""
    command = [*prefix, sys.executable, "-m", "hilsim", *arguments]
    # Ctrl-C is for the parent, which then ends it; a thread pool of its own would compete with the simulator for cores.
    with TemporaryFile("w+") as notes:  # no pipe, which would fill up without a reader
        process = subprocess.Popen(
            command,
            cwd=CODE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=notes,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
        except BaseException:  # interrupted while it starts
            ended(process)
            raise
        if not line.startswith(LISTENING):
            ended(process)
            notes.seek(0)
            raise NotListening(" ".join(["hilsim", *arguments]), notes.read().strip())
    return process, f"{TCP}{line.removeprefix(LISTENING).strip()}"


def ended(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, and end it where it does not."""
    process.terminate()
    try:
        process.communicate(timeout=GOODBYE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
