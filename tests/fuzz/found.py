"""Inputs that once broke the program, each a file under tests/data/found/KIND/CAUSE/, read again by `test_found.py`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from hilsim.places import CODE as PROJECT
from tests.fuzz.kind import Input, Kind
from tests.fuzz.worker import Outcome

FOUND = PROJECT / "tests" / "data" / "found"


def slug(text: str) -> str:
    """A text as the name of a folder."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def keep(kind: Kind, found: Input, outcome: Outcome, folder: Path = FOUND) -> Path:
    """Write an input where the test finds it; its file name stays, as readers may go by it."""
    name, data = found
    digest = hashlib.sha256(data).hexdigest()[:8]
    file = folder / slug(kind.name) / f"{slug(outcome.cause)}-{digest}" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def kept(folder: Path = FOUND) -> list[Path]:
    """All that were written."""
    return sorted(file for file in folder.glob("*/*/*") if file.is_file())


def kind_of(file: Path, kinds: Mapping[str, Kind]) -> Kind:
    """The kind that a file was found for."""
    by_folder = {slug(name): kind for name, kind in kinds.items()}
    return by_folder[file.parent.parent.name]
