"""Step requests and results of a chip that executes steps; the same for a board, a recording and a fake."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float32]
Want = Literal["logits", "tokens", "nothing"]
# Why an answer did not come. All but `refused` may pass; a refusal stands until its cause is removed.
FaultKind = Literal["unreachable", "refused", "stalled", "died", "garbage", "version", "engine"]


@np.errstate(over="ignore", invalid="ignore")
def not_finite(rows: Rows, length: int) -> str:
    """Where logits (wanted, vocabulary), the last row of them after `length` tokens, hold NaN or infinity; or ""."""
    flat = rows.reshape(-1)
    if math.isfinite(flat.dot(flat)):  # a NaN or an infinity would show in it
        return ""
    broken = np.argwhere(~np.isfinite(rows))
    if not len(broken):
        return ""
    row, token = map(int, broken[0])
    more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
    position = length - len(rows) + row + 1
    return f"logits that are not finite: {float(rows[row, token])} of token {token} at position {position}{more}"


@dataclass(frozen=True)
class StepRequest:
    """One step: all tokens of the conversation up to its end, of which `cached` must be in the cache before it.

    What the cache lacks the chip reads first, which is not timed; so nothing is lost when a chip starts anew. `wanted`
    are the last rows whose logits matter (all of a verify's, one of a prompt's); `want` is what of them comes back.
    """

    model: str
    phase: str  # a kind of cost.step.Phase; a chip that has a graph for each may choose by it
    tokens: tuple[int, ...]
    cached: int
    wanted: int
    want: Want

    @property
    def rows(self) -> int:
        """Positions computed."""
        return len(self.tokens) - self.cached


@dataclass(frozen=True)
class StepResult:
    """What came back. `duration_ns` is the chip's own measurement of the step alone; it becomes simulated time.

    `rows` are logits (wanted, vocabulary), or `ids` the likeliest token of each row, or neither. `wall_ns` is how long
    the asker waited, the way there and back in it: it is written down and never counted. `clock_ns` is the chip's
    clock when it answered, `at_ns` the asker's when that had come. Arrays may be read-only.
    """

    duration_ns: int
    rows: Rows | None = None
    ids: tuple[int, ...] | None = None
    wall_ns: int = 0
    prepared_rows: int = 0
    energy_mj: float | None = None
    temperature_c: float | None = None
    clock_ns: int = 0
    at_ns: int = 0
    interpolated: bool = False  # not measured, but interpolated from other steps of a recording


@dataclass(frozen=True)
class ModelFacts:
    """What a chip reports about a model that it runs.

    `gives` has "tokens", and "logits" where whole rows come back. `tokenizer` is the digest that shows whether token
    ids mean the same on both sides (`tokenizer_digest`), or None where the chip does not know.
    """

    name: str
    vocabulary: int
    context: int
    widths: tuple[int, ...] | None
    gives: tuple[str, ...]
    tokenizer: str | None = None
    digest: str | None = None  # of the weights


class AgentFault(Exception):
    """A chip that does not answer as the protocol demands; the unit decides what follows."""

    def __init__(self, kind: FaultKind, found: str):
        super().__init__(kind, found)
        self.kind, self.found = kind, found

    def __str__(self) -> str:
        return f"{self.kind}: {self.found}"


class StepExecutor(Protocol):
    """A board behind an agent, a recording of one, or a fake: it executes steps. Raises `AgentFault`."""

    def load(self, model: str) -> ModelFacts:
        """Load a model and return its facts. Loading twice does nothing more."""
        ...

    def execute(self, ask: StepRequest) -> StepResult:
        """Compute one step."""
        ...

    def close(self) -> None:
        """Release the chip."""
        ...
