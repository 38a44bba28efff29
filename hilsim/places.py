"""Where hilsim's own files are, and in which folders it looks for those of the user."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CODE = PACKAGE.parent  # what has to be on Python's path
# chips/, models/ and scenarios/: inside an installed package, or beside it in a checkout.
DATA = PACKAGE / "data" if (PACKAGE / "data").is_dir() else CODE
SEARCH_PATH = "HILSIM_PATH"


def search_roots() -> tuple[Path, ...]:
    """Folders with chips/, models/ and scenarios/, the first to be looked in first.

    They are the current folder, those of the environment variable HILSIM_PATH, and the shipped ones.
    """
    named = [Path(name).expanduser() for name in os.environ.get(SEARCH_PATH, "").split(os.pathsep) if name]
    return tuple(dict.fromkeys((Path.cwd(), *(folder.resolve() for folder in named), DATA)))
