"""Compiles the loops of fast timing with numba where it is installed (`pip install hilsim[studies]`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hilsim.caches import private_folder
from hilsim.cost import between

F = TypeVar("F", bound=Callable[..., Any])

try:
    import numba

    FAST = True
except ModuleNotFoundError:  # the same numbers, a hundred times as slowly
    FAST = False


def use_loop_cache() -> Path | None:
    """Choose the folder in which numba caches machine code between runs; None where there is none.

    Numba compiles a function again when that function's file changes, but not when the file of a function called from
    it does. So there is a folder for every state of these sources. Numba unpickles what it finds there, which is code:
    so the folder is one that nobody else can write to, or none.
    """
    found = hashlib.sha256()
    for file in (*sorted(Path(__file__).parent.glob("*.py")), Path(between.__file__)):
        found.update(file.read_bytes())
    folder = private_folder("loops", found.hexdigest()[:16])
    if folder is not None:
        numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return folder


CACHE = use_loop_cache() if FAST else None


def are_compiled() -> bool:
    """Whether machine code of loops is at hand, or none is needed; else the first run compiles some for seconds."""
    return not FAST or (CACHE is not None and any(CACHE.rglob("*.nbi")))


def compiled(function: F) -> F:
    """The function, compiled at its first call; plain IEEE arithmetic, nothing reordered.

    It must not allocate arrays: numba then need not count references, which took a hundred times as long as the loops
    themselves.
    """
    if not FAST:
        return function
    without_counting: dict[str, Any] = {"_nrt": False}
    return numba.njit(cache=CACHE is not None, nogil=True, **without_counting)(function)  # type: ignore[no-any-return]
