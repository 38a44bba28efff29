"""The smallest input that still fails in the same way: pieces are left out as long as the failure stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

MOST_TRIES = 400
T = TypeVar("T")


def shrunk(data: bytes, fails: Callable[[bytes], bool], most_tries: int = MOST_TRIES) -> bytes:
    """`data` without what its failure does not need: first lines, then bytes, in halves, quarters and so on.

    (Delta debugging: A. Zeller and R. Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.)
    """
    left = [most_tries]

    def still(candidate: bytes) -> bool:
        left[0] -= 1
        return left[0] >= 0 and fails(candidate)

    lines = data.splitlines(keepends=True)
    if len(lines) > 1:
        data = b"".join(without([*lines], lambda kept: still(b"".join(kept))))
    return bytes(without(list(data), lambda kept: still(bytes(kept))))


def without(pieces: list[T], still: Callable[[list[T]], bool]) -> list[T]:
    """As few of the pieces as `still` allows, in order: none of those that are left can be spared alone."""
    size = max(1, len(pieces) // 2)
    while pieces:
        at, spared = 0, False
        while at < len(pieces):
            fewer = pieces[:at] + pieces[at + size :]
            if still(fewer):
                pieces, spared = fewer, True
            else:
                at += size
        if size == 1 and not spared:
            break
        size = max(1, size // 2)
    return pieces
