"""What was made of a file is made again once the file has changed, and not before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")
SETTLED_NS = 1_000_000_000  # a file that changed later than this ago may change again within one tick of its clock


def state_of(file: Path) -> tuple[int, ...] | None:
    """What changes whenever a file does; None of one that is not there, or changed just now."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    if time.time_ns() - found.st_ctime_ns < SETTLED_NS:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def made_once(most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator of a function of a file, its last argument by position: results of the last `most` states are kept.

    The function must depend on its arguments and the file's bytes alone; what it raises is not kept.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        plain: Callable[..., R] = function

        @lru_cache(maxsize=most)
        def known(state: tuple[int, ...], *given: Hashable) -> R:
            return plain(*given)

        of_state: Callable[..., R] = known

        @wraps(function)
        def made(*given: P.args, **named: P.kwargs) -> R:
            state = state_of(cast(Path, given[-1]))
            return function(*given, **named) if state is None or named else of_state(state, *given)

        return made

    return decorate
