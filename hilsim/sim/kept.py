"""Records of a run that come by the hundred thousand: written as plain tuples, and made into records when read.

A plain tuple is made in a third of the time of a named one, and Python's garbage collector looks at one of numbers and
strings once only, at a named one in every collection.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

Record = TypeVar("Record", bound=tuple[Any, ...])


class Kept(Generic[Record]):
    """Records of one named tuple, in the order in which they were written.

    `add` writes one: a tuple of all its fields. After `close` nothing is written any more.
    """

    def __init__(self, kind: type[Record]):
        self.kind = kind
        self.rows: list[tuple[Any, ...]] = []
        self.made: list[Record] = []
        self.add: Callable[[tuple[Any, ...]], None] = self.rows.append

    @property
    def records(self) -> list[Record]:
        """All that was written until now."""
        if self.rows:
            self.made += map(partial(tuple.__new__, self.kind), self.rows)
            self.rows.clear()
        return self.made

    def close(self) -> None:
        """Write nothing more, not even for those who hold `add` already."""
        self.rows = self.rows.copy()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kept) and self.records == other.records
