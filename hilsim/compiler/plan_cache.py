"""Plans that were made before, kept between runs: exporting a model takes seconds, and says the same every time.

A plan is kept under a digest of everything it depends on; where the folder cannot be written nothing is kept.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hilsim.compiler.plan import Plan
from hilsim.describe.profile import FORMATS, SPELLINGS, TABLE
from hilsim.files import kept_folder
from hilsim.places import PACKAGE

KNOWN: dict[str, Plan] = {}
# What the compiler's room stands on, and nothing above it: `tests/test_layers.py` holds imports to that.
ROOMS = (
    "units.py",
    "errors.py",
    "places.py",
    "files.py",
    "describe",
    "cost",
    "text",
    "sampling",
    "networks",
    "compiler",
)


@cache
def makers() -> str:
    """Digest of what makes plans: our sources, the operator table, PyTorch's release."""
    found = hashlib.sha256(importlib.metadata.version("torch").encode())
    ours = [PACKAGE / room for room in ROOMS]
    files = [file for room in ours for file in (sorted(room.rglob("*.py")) if room.is_dir() else [room])]
    for file in (*files, TABLE, SPELLINGS, FORMATS):
        found.update(file.read_bytes())
    return found.hexdigest()


@cache
def digest_of(folder: Path) -> str:
    """Digest of the files of a folder; of none where there is no such folder."""
    found = hashlib.sha256()
    for file in sorted(folder.glob("*")) if folder.is_dir() else ():
        if file.is_file():
            found.update(file.name.encode() + file.read_bytes())
    return found.hexdigest()


def kept(parts: tuple[str, ...], make: Callable[[], Plan]) -> Plan:
    """The plan that `parts` determine: known, read, or made and kept."""
    key = hashlib.sha256("\n".join((makers(), *parts)).encode()).hexdigest()[:32]
    if key in KNOWN:
        return KNOWN[key]
    file = kept_folder() / "plans" / f"{key}.json"
    try:
        plan = Plan.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        plan = make()
        keep(file, plan)
    KNOWN[key] = plan
    return plan


def keep(file: Path, plan: Plan) -> None:
    """Write a plan whole, or not at all; that it cannot be written is nobody's fault."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        beside.write_text(plan.dumps(), encoding="utf-8")
        beside.replace(file)
    except OSError:
        pass
