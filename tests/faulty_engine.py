"""An engine of the standard library that breaks once: killed, hanging, raising, at a chosen kind of call."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from hilsim.hardware.agent.engine import EngineFacts, Output


class Faulty:
    """Names token 1 after all. `at` is load, prefill, decode or verify; a file beside it says that it is over."""

    def __init__(self, folder: Path, *, at: str, how: str):
        self.at, self.how, self.mark = at, how, folder / "broken"

    def load(self) -> EngineFacts:
        self.reached("load")
        return EngineFacts(vocabulary=2048, context=1024, logits=False)

    def prefill(self, tokens: Sequence[int]) -> Output:
        self.reached("prefill")
        return Output(ids=[1])

    def step(self, tokens: Sequence[int], wanted: int) -> Output:
        self.reached("verify" if wanted > 1 else "decode" if len(tokens) == 1 else "prefill")
        return Output(ids=[1] * wanted)

    def rewind(self, length: int) -> None:
        pass

    def close(self) -> None:
        pass

    def reached(self, kind: str) -> None:
        """Break, once and for all."""
        if kind != self.at or self.mark.exists():
            return
        self.mark.touch()
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "stall":
            time.sleep(30)
        raise RuntimeError("it broke")
