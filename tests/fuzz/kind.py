"""A kind of input: how one is made from chance, and what reads it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Input = tuple[str, bytes]  # a file name, which a reader may go by, and what is in the file


@dataclass(frozen=True)
class Kind:
    """One kind of file, frame or command line.

    `count`: how many of the inputs with fixed seeds are of it. `accepted`: which share of them may be read without a
    refusal, so that a reader that refuses all, or none, is found out.
    """

    name: str
    make: Callable[[random.Random], Input]
    reader: Callable[[Path], None]
    count: int
    accepted: tuple[float, float] = (0.02, 0.95)

    def inputs(self, seed: object, count: int) -> list[Input]:
        """So many inputs, the same for the same seed; each in a folder of its own."""
        found = []
        for number in range(count):
            name, data = self.make(random.Random(f"{seed} {self.name} {number}"))
            found.append((f"{number}/{name}", data))
        return found
