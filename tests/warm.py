"""Commands without Python's start: a process with the packages loaded, which forks itself for each of them.

A command started so is in a session of its own, with its output in files, and can be given other surroundings: an
environment, a user, limits, a standard output that breaks. What it leaves behind is seen: processes, temporary files.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hilsim.places import CODE as PROJECT

LOADED = ("torch", "scipy.optimize", "scipy.linalg", "numba", "matplotlib.pyplot", "rich.progress", "rich.console",
          "hilsim.api", "hilsim.study.execution", "hilsim.study.explorer", "hilsim.compiler.planner",
          "hilsim.training.recipe", "hilsim.fidelity.validate", "hilsim.show.report")  # fmt: skip
OF_ONNXRUNTIME = ".ses"  # an empty file that this library leaves
ENDS_S = 60  # for a command to end after a signal, and for what it has started


@dataclass(frozen=True)
class Surroundings:
    """What is unusual around a command."""

    environment: dict[str, str | None] = field(default_factory=dict)  # None: not set
    most_file_bytes: int | None = None  # as if the disk were full behind them
    user: int | None = None
    output: str = ""  # "closed": a pipe without a reader; a path: that device


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    output: str
    errors: str
    orphans: list[str]  # processes that were left
    temporary: list[str]  # files that were left in the folder for temporary files

    @property
    def traceback(self) -> bool:
        return "Traceback (most recent call last)" in self.errors + self.output


class Warm:
    """The process that forks."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.warm"], cwd=PROJECT, env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def asked(self, *question: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, words: Sequence[str], folder: Path, around: Surroundings = Surroundings()) -> Running:
        """Begin a command in a folder; its output and temporary files are in folders beside it."""
        beside = folder.with_name(f"{folder.name}.beside")
        (beside / "tmp").mkdir(parents=True, exist_ok=True)
        (beside / "tmp").chmod(0o777)
        return Running(self, self.asked("start", list(words), str(folder), str(beside), asdict(around)), beside)

    def run(self, words: Sequence[str], folder: Path, around: Surroundings = Surroundings()) -> Done:
        return self.start(words, folder, around).ended()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class Running:
    """A command that was started."""

    warm: Warm
    pid: int
    beside: Path

    def over(self) -> int | None:
        """Its exit status, minus the number of the signal that killed it; None as long as it runs."""
        status: int | None = self.warm.asked("over", self.pid)
        return status

    def heeds(self, number: signal.Signals) -> bool:
        """Whether it has a handler of its own for a signal by now."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        except OSError:  # it is over
            return False
        (caught,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
        return bool(caught >> (number - 1) & 1)

    def send(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process, or to all of its session's first group; nothing where it is over."""
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except ProcessLookupError:
            return

    def ended(self, seconds: float = ENDS_S) -> Done:
        """Wait for the end of it and of what it started."""
        by = time.monotonic() + seconds
        while (status := self.over()) is None:
            assert time.monotonic() < by, f"it runs on: {self.errors()}"
            time.sleep(0.01)
        by = time.monotonic() + 10
        while (orphans := members(self.pid)) and time.monotonic() < by:
            time.sleep(0.02)
        for process in orphans:
            os.kill(process, signal.SIGKILL)
        temporary = [
            str(path) for path in (self.beside / "tmp").rglob("*") if path.is_file() and path.name != OF_ONNXRUNTIME
        ]
        output = (self.beside / "output").read_text(encoding="utf-8", errors="replace")
        return Done(status, output, self.errors(), [str(process) for process in orphans], temporary)

    def errors(self) -> str:
        return (self.beside / "errors").read_text(encoding="utf-8", errors="replace")


def members(session: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                state, _, _, of, *_ = (place / "stat").read_text().rpartition(") ")[2].split()
            except OSError:  # it has just ended
                continue
            if int(of) == session and state != "Z":
                found.append(int(place.name))
    return found


def serve() -> None:
    """The process that forks: a question a line in, an answer a line out."""
    for name in LOADED:
        importlib.import_module(name)
    questions, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    over: dict[int, int] = {}
    while line := questions.readline():
        what, *given = json.loads(line)
        if what == "start":
            pid = os.fork()
            if pid == 0:
                questions.close()
                answers.close()
                become(*given)
            answer: int | None = pid
        else:
            (pid,) = given
            if pid not in over:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    over[pid] = os.waitstatus_to_exitcode(status)
            answer = over.get(pid)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def become(words: list[str], folder: str, beside: str, around: dict[str, Any]) -> None:
    """Be the command `hilsim WORDS` from here on."""
    os.setsid()
    for number, name in ((0, "/dev/null"), (1, f"{beside}/output"), (2, f"{beside}/errors")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666), number)
    if around["output"] == "closed":
        ours, theirs = os.pipe()
        os.dup2(theirs, 1)
        os.close(ours)
        os.close(theirs)
    elif around["output"]:
        os.dup2(os.open(around["output"], os.O_WRONLY), 1)
    os.chdir(folder)
    os.environ["TMPDIR"] = f"{beside}/tmp"
    for name, value in around["environment"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if around["user"] is not None:
        os.setgid(around["user"])
        os.setuid(around["user"])
    if around["most_file_bytes"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (around["most_file_bytes"],) * 2)
    from hilsim.commands.main import run_command_line

    sys.argv = ["hilsim", *words]
    sys.exit(run_command_line())


if __name__ == "__main__":
    serve()
