"""The interface of an engine, which runs a model on the board: all that the agent needs. Standard library only.

An engine of one's own is a class in a file, named FILE.py:CLASS or PACKAGE.MODULE:CLASS. It is made with the folder or
file that `--model NAME=PATH` gives and the `--option KEY=VALUE` arguments as keywords, all of them text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class EngineFacts:
    """What an engine reports of its model once it is loaded.

    `widths` are compiled graph widths, or None where any number of rows runs; `logits` whether whole rows come back,
    or the likeliest tokens alone. `tokenizer` and `digest` are digests where known.
    """

    vocabulary: int
    context: int
    widths: tuple[int, ...] | None = None
    logits: bool = True
    tokenizer: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Output:
    """What a pass gave: `logits` is anything with the buffer protocol, float32 in C order (wanted, vocabulary), such as
    a NumPy array; or `ids` the likeliest token of each wanted row. `duration_ns` where the runtime measured itself;
    else the agent's clock around the call counts, so a pass must have ended when it returns (synchronise on CUDA).
    """

    logits: Any = None
    ids: Sequence[int] | None = None
    duration_ns: int | None = None


class Engine(Protocol):
    """One model with one cache on one device. Any exception becomes an `engine` fault on the other side."""

    def load(self) -> EngineFacts:
        """Read weights, make the cache. Called once, before everything else."""
        ...

    def prefill(self, tokens: Sequence[int]) -> Output:
        """Forget the cache, read a prompt; output of its last row."""
        ...

    def step(self, tokens: Sequence[int], wanted: int) -> Output:
        """Append tokens to what the cache holds; output of the last `wanted` rows."""
        ...

    def rewind(self, length: int) -> None:
        """Keep the first `length` positions of the cache."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...
