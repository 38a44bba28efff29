"""Broken files by the hundred: a reader must accept or refuse each, and may not raise, hang, die or grow.

A test names a reader, a function `(Path) -> None` of an importable module, and gives it files:

    def read(path: Path) -> None:
        load_chip(str(path), path)

    def test_no_broken_chip_file_breaks_the_program(tmp_path: Path) -> None:
        good = Path("chips/sa8295p.yaml").read_bytes()
        chance = random.Random(20_261_129)
        survive(read, [(f"{n}.yaml", changed_bytes(good, chance)) for n in range(300)], tmp_path)

The reader runs in a process of its own (a crash of a library is then an outcome, not the end of the tests), with limits
of memory and of processor time (not of the wall's, so that a loaded machine fails no test). What it may do: return, or
raise a `HilsimError` whose message is not empty. All else is a failure, reported with the file kept.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
CPU_S, WALL_S = 20, 180  # of one input: computing, and waiting for something that never comes
MORE_BYTES = 2 * 2**30  # of memory, beyond what the imported reader has

ODDITIES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 1e-320, 0.5, 1e308, 2**31, 2**63, -(2**63), 10**40,
    "", " ", "x", "\0", "\ud800", "é" * 40, "x" * 5000, "1e999", ".nan", "../../etc/passwd", "~",
    [], {}, [[]], {"": None}, {"x": {"y": []}}, [0] * 300, ["x"] * 300,
)  # fmt: skip


def survive(
    reader: Callable[[Path], None], inputs: Sequence[tuple[str, bytes]], folder: Path, *, accepted: range | None = None
) -> list[str]:
    """Read every input; fail with what went wrong; return the refusals. `accepted`: how many may be read without one.

    State a range for `accepted` where mutations are mild, so that a reader that refuses all, or none, is found out.
    """
    name = f"{reader.__module__}:{reader.__qualname__}"
    worker: Worker | None = None
    wrong, refusals = [], []
    for file, data in inputs:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        worker = worker or Worker(name)
        outcome, text = worker.read(path)
        if outcome == "refused":
            refusals.append(text)
        elif outcome != "accepted":
            wrong.append(f"{path}: {outcome}: {text}")
        if outcome in ("hang", "killed"):
            worker.close()
            worker = None
        if outcome in ("accepted", "refused"):
            path.unlink()
    if worker is not None:
        worker.close()
    assert not wrong, f"{len(wrong)} of {len(inputs)} inputs:\n" + "\n".join(wrong[:12])
    read = len(inputs) - len(refusals)
    assert accepted is None or read in accepted, f"{read} of {len(inputs)} were read without a refusal"
    return refusals


class Worker:
    """A process that reads one file after another."""

    def __init__(self, reader: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutations", reader], cwd=PROJECT, env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def read(self, path: Path) -> tuple[str, str]:
        """What became of one file: accepted, refused, raised, hang or killed, and words about it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{path}\n".encode())
        self.process.stdin.flush()
        line, ends = b"", time.monotonic() + WALL_S
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, ends - time.monotonic()))
            if not ready:
                return "hang", f"no answer within {WALL_S} s"
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                status = self.process.wait()
                slow = status == -signal.SIGXCPU
                return ("hang", f"over {CPU_S} s of computing") if slow else ("killed", f"exit status {status}")
            line += piece
        outcome, text = json.loads(line)
        return outcome, text

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def serve(reader: str) -> None:
    """The worker's side: a path a line in, an outcome a line out."""
    from hilsim.errors import HilsimError

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a reader prints is no outcome
    module, _, function = reader.partition(":")
    read = getattr(importlib.import_module(module), function)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        ends = int(used.ru_utime + used.ru_stime) + 1 + CPU_S
        resource.setrlimit(resource.RLIMIT_CPU, (ends, resource.RLIM_INFINITY))
        try:
            read(Path(line.rstrip("\n")))
            outcome = ("accepted", "")
        except HilsimError as error:
            outcome = (
                ("refused", str(error)) if str(error).strip() else ("raised", f"{type(error).__name__} without words")
            )
        except BaseException as error:  # a panic of a library is no Exception
            where = traceback.extract_tb(error.__traceback__)[-1]
            outcome = (
                "raised",
                f"{type(error).__name__}: {str(error)[:200]} ({Path(where.filename).name}:{where.lineno})",
            )
        answers.write(json.dumps(outcome) + "\n")
        answers.flush()


def changed_bytes(data: bytes, chance: random.Random) -> bytes:
    """A file with flipped bits, or cut, or a piece of it doubled, removed, or replaced by noise."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5))):
        if not data:
            break
        start = chance.randrange(len(data))
        piece = slice(start, start + chance.choice((1, 4, 16, 200)))
        match chance.randrange(6):
            case 0:
                data[start] ^= 1 << chance.randrange(8)
            case 1:
                del data[start:]
            case 2:
                data[start:start] = data[piece]
            case 3:
                del data[piece]
            case 4:
                data[piece] = chance.randbytes(len(data[piece]))
            case _:
                data[start:start] = chance.choice(
                    (b"\0", b"\xff\xfe", b"-", b"9" * 30, b"1e999", b"{", b"[" * 2000, b"\n")
                )
    return bytes(data)


def changed_tree(document: Any, chance: random.Random) -> Any:
    """A JSON-like document with a few of its nodes replaced by oddities, removed, doubled, renamed, moved or nested."""
    root = [copy.deepcopy(document)]
    for _ in range(chance.choice((1, 1, 2, 4))):
        places = [(root, 0), *nodes(root[0])]
        holder, key = chance.choice(places)
        match chance.randrange(7):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(chance.choice(ODDITIES))
            case 3 if holder is not root:
                del holder[key]
            case 4:
                other, place = chance.choice(places)
                holder[key] = copy.deepcopy(other[place])
            case 5 if isinstance(holder, dict):
                holder[chance.choice(("", "x", f"{key}s", str(key).upper()))] = holder.pop(key)
            case _:
                for _ in range(chance.choice((1, 3, 60))):
                    holder[key] = chance.choice((lambda node: [node], lambda node: {"x": node}))(holder[key])
    return root[0]


def nodes(document: Any) -> list[tuple[Any, Any]]:
    """Every place below a document, as (its holder, key or index)."""
    found, left = [], [document]
    while left:
        node = left.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            left.append(node[key])
    return found


def json_bytes(document: Any) -> bytes:
    """A document as a JSON file; half characters and numbers that JSON does not know are written as Python does."""
    return json.dumps(document).encode("utf-8", "surrogatepass")


if __name__ == "__main__":
    serve(sys.argv[1])
