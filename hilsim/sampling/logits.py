"""First steps on rows of logits: the check that they are finite, and the repetition penalty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hilsim.describe.decoding import Sampling
from hilsim.errors import BrokenLogits

Logits = npt.NDArray[np.float32]
Row = TypeVar("Row", bound=npt.NDArray[Any])
LARGEST = float(np.finfo(np.float32).max)


@np.errstate(over="ignore", invalid="ignore")
def require_finite(logits: npt.NDArray[np.floating], role: str, request: int, position: int) -> None:
    """Raises `BrokenLogits` for a row (vocabulary,) of a model's own logits that holds NaN or infinity.

    Every row that a token is chosen by passes here. One product decides nearly always (a NaN or an infinity makes it
    one as well), at two microseconds for 2,048 logits; only where it is not finite each logit is looked at.
    """
    if math.isfinite(logits.dot(logits)):
        return
    broken = np.flatnonzero(~np.isfinite(logits))
    if len(broken):
        token = int(broken[0])
        raise BrokenLogits(role, request, position, token, float(logits[token]), len(broken), len(logits))


def penalised(logits: Row, sampling: Sampling, tokens: Sequence[int]) -> Row:
    """A row (vocabulary,) with the repetition penalty on every token that `tokens` holds, drafted ones included.

    Positive logits are divided by it and others multiplied, as in Hugging Face (CTRL, arXiv 1909.05858, 4.1). What a
    penalty carries beyond the range of the numbers stays at its end.
    """
    penalty = sampling.repetition_penalty
    if penalty is None or penalty == 1 or not tokens:
        return logits
    present = np.unique(np.asarray(tokens))
    present = present[present < len(logits)]
    changed = logits.copy()
    with np.errstate(over="ignore"):
        moved = np.where(changed[present] > 0, changed[present] / penalty, changed[present] * penalty)
    changed[present] = np.clip(moved, -LARGEST, LARGEST)
    return changed
