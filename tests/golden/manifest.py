"""Runs the commands of the manifest, reduces what they write to what is pinned, and compares two such values."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilsim.places import CODE as PROJECT
from tests.running import run_here

FOLDER = Path(__file__).parent / "values"
REGENERATE = "python -m tests.golden"
LONGEST = 40  # elements of a list that is stored whole; of a longer one its length, first element and what sums it up
IDENTIFIER = re.compile(r"(?!hilsim\.)[^\s/\\]{0,60}")  # nor a module of ours, which may move
TEXT = "(text)"  # in a table, where a cell holds a sentence or a path
# Left out of every document: they change with the program's version, with the machine, or with names of records.
OMITTED = frozenset({"versions", "wall", "digest", "prepare_s", "screen_s", "seconds", "file"})
VERDICTS = frozenset({"outcome", "fit"})  # short answers, though some have spaces
ABSENT: Any = object()


@dataclass(frozen=True)
class Entry:
    """One command of the manifest.

    `command` is as typed in the project's folder; `{out}` stands for an empty folder, whose tables are pinned too.
    `quick` entries belong to the fast suite. `omitted` are columns and keys left out beside `OMITTED`.
    """

    name: str
    command: str
    quick: bool = False
    omitted: frozenset[str] = frozenset()

    @property
    def file(self) -> Path:
        """Where its values are stored."""
        return FOLDER / f"{self.name}.json"


# -- running -----------------------------------------------------------------------------------------------------------


def execute(arguments: list[str], *, in_process: bool) -> tuple[int, str]:
    """Run `python ARGUMENTS` in the project's folder: exit status and standard output.

    The one place that knows how a command is started. In this process, it is what Python itself would run.
    """
    if not in_process:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False, env=environment()
        )
        if "Traceback" in done.stderr:
            raise RuntimeError(f"python {shlex.join(arguments)}\n{done.stderr}")
        return done.returncode, done.stdout
    done = run_here(arguments)
    return done.returncode, done.stdout


def environment() -> dict[str, str]:
    """One thread for all that computes, so that sums are added in one order."""
    return os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def values_of(entry: Entry, *, in_process: bool = False) -> tuple[dict[str, Any], float]:
    """Run an entry: what is pinned of it, and the seconds it took."""
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        began = time.perf_counter()
        words = [word.replace("{out}", folder) for word in shlex.split(entry.command)]
        status, printed = execute(words[1:], in_process=in_process)
        took = time.perf_counter() - began
        found: dict[str, Any] = {"status": status}
        if printed.startswith("{"):
            found["document"] = json.loads(printed)
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix == ".csv":
                found[path.name] = table(path)
            elif path.suffix == ".npz":
                found[path.name] = arrays(path)
            elif path.name == "explore.json":
                found[path.name] = json.loads(path.read_text(encoding="utf-8"))
    return short(pinned(found, OMITTED | entry.omitted)), took


def table(path: Path) -> dict[str, list[Any]]:
    """A CSV as columns; sentences are only marked, and a column of nothing else is left out."""
    with path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    columns = {name: [cell(row[place]) for row in rows] for place, name in enumerate(head)}
    return {name: cells for name, cells in columns.items() if set(cells) - {TEXT, ""}}


def cell(text: str) -> int | float | str:
    """A number where it is one, an identifier as it is, a mark for other text."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text if IDENTIFIER.fullmatch(text) else TEXT


def arrays(path: Path) -> dict[str, Any]:
    """The arrays of a transcript but its header, which is text with versions and digests."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].ravel().tolist() for name in file.files if name != "header"}


# -- what is pinned ----------------------------------------------------------------------------------------------------


def pinned(node: Any, omitted: frozenset[str]) -> Any:
    """A document without what may change; ABSENT where nothing is left."""
    if isinstance(node, dict):
        found = {
            key: value if key in VERDICTS and isinstance(value, str) else pinned(value, omitted)
            for key, value in node.items()
            if key not in omitted
        }
        return {key: value for key, value in found.items() if value is not ABSENT}
    if isinstance(node, list):
        kept = [value for value in (pinned(each, omitted) for each in node) if value is not ABSENT]
        return ABSENT if node and not kept else kept
    if isinstance(node, str) and node != TEXT and not IDENTIFIER.fullmatch(node):
        return ABSENT
    return node


def short(node: Any) -> Any:
    """Long lists as length, first element, sum and digest; in place of fractions, which may be compared within a
    tolerance, the moment (the sum of place times number) stands for the digest."""
    if isinstance(node, dict):
        return {key: short(value) for key, value in node.items()}
    if isinstance(node, list) and len(node) > LONGEST:
        found = {"first": node[0], "length": len(node)}
        numbers = {place: value for place, value in enumerate(node) if isinstance(value, int | float)}
        if numbers:
            found["sum"] = math.fsum(numbers.values())
        if any(isinstance(value, float) for value in numbers.values()):
            found["moment"] = math.fsum(place * value for place, value in numbers.items())
            node = [[place, value] for place, value in enumerate(node) if place not in numbers]
        return found | ({"sha256": hashlib.sha256(canonical(node).encode()).hexdigest()} if node else {})
    return [short(value) for value in node] if isinstance(node, list) else node


def canonical(node: Any) -> str:
    """A value as text in one form."""
    return json.dumps(node, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def stored(entry: Entry) -> Any:
    """What the manifest says of an entry; None where it has not been generated."""
    return json.loads(entry.file.read_text(encoding="utf-8")) if entry.file.is_file() else None


def store(entry: Entry, values: Any) -> None:
    """Write an entry's values, a line for every part that fits in one."""
    entry.file.parent.mkdir(parents=True, exist_ok=True)
    entry.file.write_text(spelled(values) + "\n", encoding="utf-8")


def spelled(node: Any, depth: int = 0) -> str:
    """JSON with sorted keys, broken into lines where it is longer than one; a list of numbers stays in its own."""
    flat = json.dumps(node, sort_keys=True, ensure_ascii=False)
    nested = isinstance(node, dict) or (isinstance(node, list) and any(isinstance(each, dict | list) for each in node))
    if not nested or len(flat) + depth <= 120:
        return flat
    indent = " " * (depth + 1)
    if isinstance(node, dict):
        opening, closing = "{}"
        parts = [f"{json.dumps(key, ensure_ascii=False)}: {spelled(node[key], depth + 1)}" for key in sorted(node)]
    else:
        opening, closing = "[]"
        parts = [spelled(value, depth + 1) for value in node]
    return f"{opening}\n" + ",\n".join(indent + part for part in parts) + f"\n{indent[1:]}{closing}"


# -- comparing ---------------------------------------------------------------------------------------------------------


def differences(old: Any, new: Any, within: float = 0) -> list[str]:
    """Every leaf that differs: its path, both values, and the relative difference of numbers; new and gone paths.

    Fractions may differ by `within` of the old value.
    """
    before, after = dict(leaves(old)), dict(leaves(new))
    found = []
    for path, value in after.items():
        if path not in before:
            found.append(f"{path}: new, {value!r}")
        elif canonical(before[path]) != canonical(value) and not close(before[path], value, within):
            found.append(f"{path}: {before[path]!r} -> {value!r}{relative(before[path], value)}")
    return found + [f"{path}: gone, was {value!r}" for path, value in before.items() if path not in after]


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All values that hold no others, each with its path."""
    if isinstance(node, dict | list) and node:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, f"{path}[{key}]" if isinstance(node, list) else f"{path}.{key}".lstrip("."))
    else:
        yield path, node


def close(old: Any, new: Any, within: float) -> bool:
    """Two numbers, one of them a fraction, that differ by no more than a share of the old one."""
    numbers = all(isinstance(each, int | float) for each in (old, new)) and any(
        isinstance(each, float) for each in (old, new)
    )
    return numbers and math.isclose(old, new, rel_tol=within)


def relative(old: Any, new: Any) -> str:
    """The difference over the old value, where both are numbers."""
    both = [value for value in (old, new) if isinstance(value, int | float) and not isinstance(value, bool)]
    return f" ({new / old - 1:+.3g})" if len(both) == 2 and old else ""


def processor() -> str:
    """The processor's own name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
