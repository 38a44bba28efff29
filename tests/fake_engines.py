"""Engines without a model: what they say depends on every token in their cache. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

from hilsim.hardware.agent.engine import EngineFacts, Output

VOCABULARY, CONTEXT = 48, 256


class Chain:
    """Logits from a number that runs along the tokens. Everything that is called is kept in `calls`."""

    def __init__(self, path: Path = Path(), *, load_s: str = "0", step_s: str = "0", gives: str = "logits"):
        self.load_s, self.step_s, self.gives = float(load_s), float(step_s), gives
        self.states: list[int] = []
        self.calls: list[tuple[object, ...]] = []

    def load(self) -> EngineFacts:
        time.sleep(self.load_s)
        return EngineFacts(VOCABULARY, CONTEXT, logits=self.gives == "logits")

    def prefill(self, tokens: Sequence[int]) -> Output:
        self.calls.append(("prefill", list(tokens)))
        self.states = []
        return self.run(tokens, 1)

    def step(self, tokens: Sequence[int], wanted: int) -> Output:
        self.calls.append(("step", list(tokens), wanted))
        return self.run(tokens, wanted)

    def run(self, tokens: Sequence[int], wanted: int) -> Output:
        time.sleep(self.step_s)
        for token in tokens:
            self.states.append(((self.states[-1] if self.states else 7) * 1_000_003 + token + 1) % 2**31)
        rows = [row_of(state) for state in self.states[-wanted:]]
        if self.gives == "logits":
            return Output(logits=array("f", [value for row in rows for value in row]))
        return Output(ids=[row.index(max(row)) for row in rows])

    def rewind(self, length: int) -> None:
        self.calls.append(("rewind", length))
        assert length <= len(self.states)
        del self.states[length:]

    def close(self) -> None:
        print("chain closed", file=sys.stderr)


def row_of(state: int) -> list[float]:
    """One row of logits."""
    return [float((state ^ (token * 2_654_435_761)) * 40_503 % 65_521) for token in range(VOCABULARY)]


class Stuck(Chain):
    """Loading takes minutes in one call, or lets nothing interrupt it."""

    def __init__(self, path: Path = Path(), *, how: str):
        super().__init__(path)
        self.how = how

    def load(self) -> EngineFacts:
        if self.how == "in one call":
            hashlib.pbkdf2_hmac("sha256", b"x", b"y", 2**31 - 1)
        while self.how == "swallowing":
            with contextlib.suppress(BaseException):
                time.sleep(0.05)
        time.sleep(600)
        return super().load()


class Failing(Chain):
    """Fails at a token that is also the number of the way to fail."""

    def run(self, tokens: Sequence[int], wanted: int) -> Output:
        output = super().run(tokens, wanted)
        match tokens[-1]:
            case 40:
                raise RuntimeError("the driver said 17")
            case 41:
                sys.exit(3)
            case 42:
                return Output()
            case 43:
                return Output(logits=array("f", [0.0]))
            case 44:
                return Output(logits=output.logits, duration_ns=10**15)
            case 45:
                return Output(ids=[VOCABULARY] * wanted)
            case 46:
                return Output(logits=array("f", [float("nan")] * (wanted * VOCABULARY)))
            case 47:
                return None  # type: ignore[return-value]
        return output


class NoConstruction(Chain):
    """Cannot be made."""

    def __init__(self, path: Path):
        raise OSError("no such device: /dev/npu0")


class NoEngine:
    """A class that is none."""
