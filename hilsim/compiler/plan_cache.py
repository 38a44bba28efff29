"""Compile plans that were made before: exporting a model takes seconds, and gives the same every time.

A plan is looked up under a digest of everything it depends on: among the shipped ones (`make plans` writes those of the
shipped scenarios), then in the user's cache folder (`caches`). Where that cannot be used, nothing is cached.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

from hilsim.caches import FILE_MODE, is_private_file, private_folder
from hilsim.compiler.plan import Plan
from hilsim.describe.movement import MOVEMENT
from hilsim.describe.profile import FORMATS, SPELLINGS, TABLE
from hilsim.errors import InputError
from hilsim.files import written
from hilsim.places import DATA, PACKAGE
from hilsim.versions import version_of

KNOWN: dict[str, Plan] = {}
SHIPPED = DATA / "scenarios" / "plans"
# The code that decides what a plan says. Records that it reads are part of the key as they stand.
MAKERS = (
    "compiler",
    "networks",
    "cost",
    "describe/profile.py",
    "describe/head.py",
    "describe/compiled.py",
    "describe/movement.py",
)


@cache
def makers() -> str:
    """Digest of what makes plans: our sources, the operator table, PyTorch's release."""
    found = hashlib.sha256((version_of("torch") or "").partition("+")[0].encode())
    ours = [PACKAGE / name for name in MAKERS]
    files = [file for place in ours for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    for file in (*files, TABLE, SPELLINGS, FORMATS, MOVEMENT):
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


def cached(parts: tuple[str, ...], make: Callable[[], Plan]) -> Plan:
    """The plan that `parts` determine: known, read, or made and cached."""
    key = hashlib.sha256("\n".join((makers(), *parts)).encode()).hexdigest()[:32]
    if key in KNOWN:
        return KNOWN[key]
    name, folder = f"{key}.json", private_folder("plans")
    plan = read(SHIPPED / name)
    if plan is None and folder is not None and is_private_file(folder / name):
        plan = read(folder / name)
    if plan is None:
        plan = make()
        if folder is not None:
            store(folder / name, plan)
    KNOWN[key] = plan
    return plan


def read(file: Path) -> Plan | None:
    """A plan from its file; None where there is none, or none that can be used."""
    try:
        return Plan.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def store(file: Path, plan: Plan) -> None:
    """Write a plan whole, or not at all; where it cannot be written it is made again the next time."""
    with contextlib.suppress(OSError, InputError), written(file) as beside:
        beside.touch(FILE_MODE)
        beside.write_text(plan.dumps(), encoding="utf-8")
