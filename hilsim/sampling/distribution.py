"""From logits to laws: penalty, temperature, top-k, top-p; and drawing from a law with a given uniform. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hilsim.describe.decoding import Sampling
from hilsim.errors import BrokenLogits

Law = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32]
Row = TypeVar("Row", bound=npt.NDArray[Any])
LARGEST = float(np.finfo(np.float32).max)


@np.errstate(over="ignore", invalid="ignore")
def require_finite(logits: npt.NDArray[np.floating], role: str, request: int, position: int) -> None:
    """Raises `BrokenLogits` for a row of a model's own logits, before any cut, that holds NaN or infinity.

    Every row that a token is chosen by passes here. One product decides nearly always (a NaN or an infinity makes it
    one as well), at two microseconds for 2,048 logits; only where it is not finite each logit is looked at.
    """
    if math.isfinite(logits.dot(logits)):
        return
    broken = np.flatnonzero(~np.isfinite(logits))
    if len(broken):
        token = int(broken[0])
        raise BrokenLogits(role, request, position, token, float(logits[token]), len(broken), len(logits))


def law_of(logits: Logits, sampling: Sampling, tokens: Sequence[int] = ()) -> Law:
    """The law of the token after `tokens`, float64, summing to 1. At temperature 0 all mass on the first largest logit.

    Order as in Hugging Face: repetition penalty, temperature, then top-k (ties with the k-th stay), then top-p (the
    smallest set of largest tokens that reaches top_p, the crossing one included), then normalisation.
    """
    logits = penalised(logits, sampling, tokens)
    if sampling.temperature == 0:
        certain = np.zeros(len(logits))
        certain[int(np.argmax(logits))] = 1.0
        return certain
    scaled = logits.astype(np.float64)
    scaled = (scaled - scaled.max()) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < len(scaled):
        kth = np.partition(scaled, -sampling.top_k)[-sampling.top_k]
        scaled = np.where(scaled < kth, -np.inf, scaled)
    law: Law = np.exp(scaled)
    law /= law.sum()
    if sampling.top_p is not None and sampling.top_p < 1:
        order = np.argsort(-law, kind="stable")
        before = np.cumsum(law[order]) - law[order]
        law[order[before >= sampling.top_p]] = 0.0
        law /= law.sum()
    return law


def penalised(logits: Row, sampling: Sampling, tokens: Sequence[int]) -> Row:
    """The logits with the repetition penalty on every token that `tokens` holds, drafted ones included.

    What a penalty carries beyond the range of the numbers stays at its end.
    """
    penalty = sampling.repetition_penalty
    if penalty is None or penalty == 1 or not tokens:
        return logits
    said = np.unique(np.asarray(tokens))
    said = said[said < len(logits)]
    changed = logits.copy()
    with np.errstate(over="ignore"):
        moved = np.where(changed[said] > 0, changed[said] / penalty, changed[said] * penalty)
    changed[said] = np.clip(moved, -LARGEST, LARGEST)
    return changed


def draw(law: Law, uniform: float) -> tuple[int, float]:
    """The token whose share of the cumulated law holds `uniform`, and how far `uniform` lies from that share's ends.

    Tokens without mass are never drawn. `law` need not be normalised, but must have some mass.
    """
    cumulated = law.cumsum()
    whole = float(cumulated[-1])
    point = uniform * whole
    token = int(cumulated.searchsorted(point, side="right"))
    if token >= len(law) or law[token] == 0.0:  # rounding carried the point past the last token with mass
        token = int(np.flatnonzero(law)[-1])
    high = float(cumulated[token])
    low = high - float(law[token])
    return token, min(point - low, high - point) / whole


def as_sent(law: Law) -> Law:
    """The law that float16 probabilities spell on the wire; both chips decode these numbers to the same float64 law.

    The draft samples from this one. Truncating first and sampling then keeps the ratio rule exact; sampling first
    and sending a rounded law would not.
    """
    sent = law.astype(np.float16).astype(np.float64)
    total = sent.sum()
    # float16 holds nothing under 6e-8: a law that is flat over millions of tokens could vanish whole.
    return sent / total if total > 0 else law
