"""Inputs by the hundred through a reader in a process of its own: it must accept or refuse each, and nothing else.

A reader is a function `(Path) -> None` of an importable module. What it may do: return, or raise a `HilsimError` whose
message is not empty. A process of its own with limits of memory and of processor time (not of the wall's, so that a
loaded machine fails no test) makes a crash of a library, a hang and greed into outcomes. All else is a failure.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hilsim.places import CODE as PROJECT

CPU_S, WALL_S = 60, 300  # of one input: computing, and waiting for something that never comes
MORE_BYTES = 2 * 2**30  # of memory, beyond what the imported reader has
FINE = ("accepted", "refused")
Reader = Callable[[Path], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one input: accepted, refused, raised, hang or killed; and words about it."""

    what: str
    text: str

    @property
    def fine(self) -> bool:
        return self.what in FINE

    @property
    def cause(self) -> str:
        """What is equal for two failures of one cause: kind, exception and place, without its numbers and names."""
        where = self.text.rpartition(" (")[2] if self.what == "raised" else ""
        return f"{self.what} {self.text.partition(':')[0]} {where}"


def survive(
    reader: Reader,
    inputs: Sequence[tuple[str, bytes]],
    folder: Path,
    *,
    accepted: range | None = None,
    worker: Worker | None = None,
) -> list[str]:
    """Read every input; fail with what went wrong; return the refusals. `accepted`: how many may be read without one.

    State a range for `accepted` where mutations are mild, so that a reader that refuses all, or none, is found out.
    A `worker` of the caller's stays open.
    """
    wrong, refusals = [], []
    with contextlib.nullcontext(worker) if worker else Worker() as worker:
        for file, data in inputs:
            path = folder / file
            outcome = worker.read(name_of(reader), path, data)
            if outcome.what == "refused":
                refusals.append(outcome.text)
            if outcome.fine:
                path.unlink()
            else:
                wrong.append(f"{path}: {outcome.what}: {outcome.text}")
    assert not wrong, f"{len(wrong)} of {len(inputs)} inputs:\n" + "\n".join(wrong[:12])
    read = len(inputs) - len(refusals)
    assert accepted is None or read in accepted, f"{read} of {len(inputs)} were read without a refusal"
    return refusals


def name_of(reader: Reader) -> str:
    """A reader as another process finds it."""
    return f"{reader.__module__}:{reader.__qualname__}"


class Worker:
    """A process that reads one file after another, made anew where one of them ended it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> subprocess.Popen[bytes]:
        # A group of its own: Ctrl-C at a terminal ends the search, not the input that is being read.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker"], cwd=PROJECT, env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        return self.process

    def read(self, reader: str, path: Path, data: bytes) -> Outcome:
        """Write an input and have it read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        process = self.process or self.start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([reader, str(path)]).encode() + b"\n")
        process.stdin.flush()
        line, ends = b"", time.monotonic() + WALL_S
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                self.close()
                return Outcome("hang", f"no answer within {WALL_S} s")
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                status = process.wait()
                self.close()
                if status == -signal.SIGXCPU:
                    return Outcome("hang", f"over {CPU_S} s of computing")
                return Outcome("killed", f"exit status {status}")
            line += piece
        what, text = json.loads(line)
        return Outcome(what, text)

    def close(self) -> None:
        """End the process and all that it has started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.communicate()
            self.process = None


def serve() -> None:
    """The worker's side: a reader and a path a line in, an outcome a line out."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a reader prints is no outcome
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    known: dict[str, Reader] = {}
    for line in sys.stdin:
        name, path = json.loads(line)
        if name not in known:
            known[name] = found(name)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + MORE_BYTES
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        used = resource.getrusage(resource.RUSAGE_SELF)
        ends = int(used.ru_utime + used.ru_stime) + 1 + CPU_S
        resource.setrlimit(resource.RLIMIT_CPU, (ends, resource.RLIM_INFINITY))
        outcome = outcome_of(known[name], Path(path))
        answers.write(json.dumps([outcome.what, outcome.text]) + "\n")
        answers.flush()


def found(name: str) -> Reader:
    """A reader by its name; importing it has no limit of memory."""
    module, _, function = name.partition(":")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    reader: Reader = getattr(importlib.import_module(module), function)
    return reader


def outcome_of(reader: Reader, path: Path) -> Outcome:
    """What a reader does with a file."""
    from hilsim.errors import HilsimError

    try:
        reader(path)
        return Outcome("accepted", "")
    except HilsimError as error:
        if str(error).strip():
            return Outcome("refused", str(error))
        return Outcome("raised", f"{type(error).__name__} without words")
    except BaseException as error:  # a panic of a library is no Exception
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return Outcome("raised", f"{type(error).__name__}: {str(error)[:400]} ({place})")


if __name__ == "__main__":
    serve()
