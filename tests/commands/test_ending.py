"""Ctrl-C, SIGTERM and SIGHUP in every command: one message, the right exit status, nothing left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_core import SchemaError

from hilsim.commands.ending import Ended, ending_by_signals
from hilsim.commands.main import guarded
from hilsim.places import CODE as PROJECT
from tests.commands.lines import COMMANDS, ENDLESS, LONG, UNANSWERED, furnished, line_of
from tests.scenes import table_setup
from tests.warm import Done, Running, Warm

SEED = 20_261_130
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST_S = 1.0  # before the signal comes


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    opened = Warm()
    yield opened
    opened.close()


def require_whole(folder: Path) -> None:
    """Files that a command wrote are whole: no unfinished names, documents that can be read, whole tables."""
    for file in folder.rglob("*"):
        assert ".part" not in file.name, file
        if file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".csv":
            assert file.read_bytes().endswith(b"\n"), file


def require_clean(done: Done, running: Running, folder: Path) -> None:
    """What holds however a command ended."""
    assert not done.traceback, done.errors
    assert not done.orphans, done.orphans
    assert not done.temporary, done.temporary
    require_whole(folder)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_ends_by_every_signal(command: tuple[str, ...], warm: Warm, tmp_path: Path) -> None:
    """At random moments of its first second; what was quicker than the signal has ended, or is just about to."""
    chance = random.Random(f"{SEED} {command}")
    for number in SIGNALS:
        folder = furnished(tmp_path / number.name)
        running = warm.start(line_of(command), folder)
        moment = chance.uniform(0.02, LONGEST_S)
        while running.over() is None and not running.heeds(signal.SIGHUP):
            time.sleep(0.002)
        by = time.monotonic() + moment
        while time.monotonic() < by and running.over() is None:
            time.sleep(0.01)
        if command in ENDLESS:
            wait_for_words(running, "listening")
        # A terminal sends to all processes of its group; others to the one that they know.
        running.send(number, group=number is signal.SIGINT)
        done = running.ended()
        require_clean(done, running, folder)
        if command in ENDLESS and number is signal.SIGTERM:
            assert done.status == 0  # asked to end, and it does (docs/protocol.md)
        elif done.status == -number:  # the command was done, and Python itself about to end: a shell says 128 + number
            assert command not in (*ENDLESS, *LONG), f"{number.name} was not handled: {done}"
        elif done.status not in (0, 1, 2):
            assert done.status == 128 + number, (done.status, done.errors)
            assert done.errors.strip(), "ended without a message"
        else:
            assert command not in (*ENDLESS, *LONG), f"{number.name} was not heard: {done}"
            assert done.status != 2 or command in UNANSWERED, f"it refuses its own line: {done.errors}"


def wait_for_words(running: Running, words: str) -> None:
    """Until a command has printed something."""
    by = time.monotonic() + 60
    while words not in (running.beside / "output").read_text():
        assert time.monotonic() < by
        assert running.over() is None, running.errors()
        time.sleep(0.01)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_whole_process_ends_by_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    """From Python's start on, as a shell sees it."""
    table_setup(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "simulate.py", str(tmp_path / "table.yaml"), "--plain", "--realtime", "1"], cwd=PROJECT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()  # it is at work
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    word = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}[number]
    assert errors.splitlines()[-1] == f"{word}; nothing half-written was left behind"
    assert "Traceback" not in errors


def test_signals_are_put_back_and_what_is_ignored_stays_so() -> None:
    """As nohup has it: a command that is to outlive its terminal is not ended by SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    outer = signal.getsignal(signal.SIGTERM)
    try:
        with ending_by_signals() as ending:
            os.kill(os.getpid(), signal.SIGHUP)
            assert ending.first is None
            with pytest.raises(Ended):
                os.kill(os.getpid(), signal.SIGTERM)
            assert (ending.first, ending.status) == (signal.SIGTERM, 143)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is outer


def test_a_forked_process_ends_by_the_signal_itself() -> None:
    with ending_by_signals() as ending:
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        time.sleep(0.05)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert ending.first is None


@pytest.mark.parametrize("made", [RuntimeError, ImportError, SchemaError], ids=lambda made: made.__name__)
def test_a_signal_is_known_in_what_a_library_makes_of_it(
    made: type[Exception], capfd: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as stop:
            raise made("of the signal") from stop
        return 0

    def at_fault() -> int:
        raise made("of its own")

    assert guarded(command) == 128 + signal.SIGTERM
    assert "terminated" in capfd.readouterr().err
    with pytest.raises(made, match="of its own"):  # control: without a signal it stays what it is
        guarded(at_fault)


LAST = """\
import atexit, sys, threading, time
from hilsim.commands.main import run_command_line
sys.argv[0] = "hilsim"
status = run_command_line()
atexit.register(print, "handler")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
sys.exit(status)"""


@pytest.mark.parametrize(("line", "status"), [("check no.yaml", 2), ("explain link", 0)])
def test_a_process_that_ends_at_once_has_ended_its_threads_and_handlers(line: str, status: int) -> None:
    """And all that it printed is there. Negative control: a process that ends before them prints neither."""

    def run(code: str) -> str:
        words = [sys.executable, "-c", code, *line.split()]
        done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout

    printed = run(LAST)
    assert printed.endswith("thread\nhandler\n")
    sooner = LAST.replace("sys.exit(status)", "from hilsim.commands.main import leave; leave([status])")
    assert run(sooner) == printed.removesuffix("thread\nhandler\n")
