"""Randomness keyed by position: every uniform is a function of (seed, request, position, purpose), never of a stream.

So no draft length, policy, link or fault can change the text, and a run can be cut and joined anywhere.
"""

from __future__ import annotations

import threading
from hashlib import blake2b
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

# Purposes keep streams apart that share a seed: tokens, and the jitter of messages.
CONTENT, SYNTHETIC, JITTER, GUMBEL, BLOCK = 1, 2, 3, 4, 5
ARRIVALS, PAUSES, BARGE_IN, TOOLS = 11, 12, 13, 14  # when passengers ask and interrupt, and which turns call a tool
TASKS = 6  # when background tasks are released
FAULTS = 15  # when injected faults begin, and which messages and rows they hit

Value = TypeVar("Value")  # float, or an array of them


class Uniforms(NamedTuple, Generic[Value]):
    """The independent uniforms in [0, 1) that belong to one position, or arrays (rows,) of those of many."""

    draft: Value
    accept: Value
    residual: Value
    spare: Value


class ReusedPhilox(threading.local):
    """One generator a thread, set to a key and a counter for each use: making a new one takes three times as long."""

    def __init__(self) -> None:
        self.generator = np.random.Philox(key=0)
        self.state = self.generator.state  # with nothing in its buffer
        self.counter, self.key = self.state["state"]["counter"], self.state["state"]["key"]

    def four(self, seed: int, purpose: int, *counter: int) -> npt.NDArray[np.uint64]:
        """The four numbers of 64 bits behind a key and a counter, whose first word counts blocks of four from 0."""
        self.key[0], self.key[1] = seed, purpose
        self.counter[0], self.counter[1], self.counter[2], self.counter[3] = 0, *counter
        self.generator.state = self.state
        return self.generator.random_raw(4)


PHILOX = ReusedPhilox()


def uniforms(seed: int, purpose: int, request: int, position: int, block: int = 0) -> Uniforms[float]:
    """One Philox 4x64 block: key (seed, purpose), counter (request, position, block). 53 bits each.

    `block` is for rules that decide about a position more than once: where the block of drafts began.
    """
    bits = PHILOX.four(seed, purpose, position, request, block)
    return Uniforms(*((bits >> np.uint64(11)) * 2.0**-53).tolist())


def named_uniforms(seed: int, purpose: int, name: str, block: int, count: int) -> list[float]:
    """The `count` uniforms in [0, 1) of one block of those that belong to a name."""
    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little")
    bits = np.random.Philox(key=(seed, purpose), counter=(0, block, key, 0)).random_raw(count)
    uniform: list[float] = ((bits >> np.uint64(11)) * 2.0**-53).tolist()
    return uniform


def gumbel_noise(seed: int, request: int, position: int, count: int) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise for the first `count` tokens; a token's noise does not depend on `count`."""
    bits = np.random.Philox(key=(seed, GUMBEL), counter=(0, position, request, 0)).random_raw(count)
    noise: npt.NDArray[np.float64] = -np.log(-np.log(((bits >> np.uint64(11)) + 0.5) * 2.0**-53))
    return noise
