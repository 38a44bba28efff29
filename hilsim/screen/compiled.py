"""Loops over rounds as machine code, where numba is installed (`pip install hilsim[studies]`); else as they stand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hilsim.files import kept_folder

F = TypeVar("F", bound=Callable[..., Any])

try:
    import numba

    FAST = True
except ModuleNotFoundError:  # the same numbers, a hundred times as slowly
    FAST = False


def use_loop_cache() -> bool:
    """Choose where machine code is kept between runs; False where nothing can be.

    Numba renews what it kept of a function when that function's file changes, but not when another's does that is
    called from it. So there is a folder for every state of these sources.
    """
    found = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        found.update(file.read_bytes())
    folder = kept_folder() / "loops" / found.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return True


CACHED = FAST and use_loop_cache()


def compiled(function: F) -> F:
    """The function, compiled at its first call; plain IEEE arithmetic, nothing reordered.

    It may not make arrays. In return numba need not count who holds one, which took a hundred times as long as the
    loops themselves.
    """
    if not FAST:
        return function
    without_counting: dict[str, Any] = {"_nrt": False}
    return numba.njit(cache=CACHED, nogil=True, **without_counting)(function)  # type: ignore[no-any-return]
