"""Distributions of the next token, of one row or of many: made from logits by temperature, top-k and top-p; drawn from.

One row is an array (support,), many are (rows, support); every function works along the last axis of either. What was
cut to 40 of 2,048 tokens is held as 40. Sums still go over the whole row, zeros and all: their last bits depend on how
terms are grouped, and recordings hold them. A running sum does not change by a zero more or less.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hilsim.describe.decoding import Sampling

Probabilities = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Distribution:
    """`probabilities` (..., support), float64, of `tokens` (..., support) in ascending order; others have none.

    A row of less support than others is filled up with the token `vocabulary`, which has no probability. What
    `normalised` made sums to 1.
    """

    tokens: Ints
    probabilities: Probabilities
    vocabulary: int

    @classmethod
    def over_all(cls, probabilities: Probabilities) -> Distribution:
        """Of `probabilities` (..., vocabulary), one for every token."""
        vocabulary = probabilities.shape[-1]
        return cls(every_token(probabilities.shape), probabilities, vocabulary)

    def dense(self, width: int | None = None) -> Probabilities:
        """The probability of every token, (..., vocabulary), or of `width` tokens where that is more."""
        width = self.vocabulary if width is None else width
        one_row = self.tokens.ndim == 1  # which is never filled up
        if self.probabilities.shape[-1] == width and (one_row or (self.tokens[:, -1] < width).all()):
            return self.probabilities
        table = np.zeros((*self.probabilities.shape[:-1], width + 1))
        put(table, self.tokens, self.probabilities)
        return table[..., :-1]

    def normalised(self, values: Probabilities) -> Distribution:
        """`values` of the same tokens over their sum; a row of zeros alone keeps the probabilities that it had."""
        totals = Distribution(self.tokens, values, self.vocabulary).dense().sum(axis=-1, keepdims=True)
        if np.count_nonzero(totals) < totals.size:
            values, totals = np.where(totals > 0, values, self.probabilities), np.where(totals > 0, totals, 1.0)
        return Distribution(self.tokens, values / totals, self.vocabulary)

    def at(self, places: Ints) -> tuple[Ints, Probabilities]:
        """The token at one place of the support of each row, and its probability: (...,)."""
        return at(self.tokens, places), at(self.probabilities, places)

    def lookup(self, width: int) -> Probabilities:
        """`dense`, for places in supports of up to `width` tokens: many rows have a column more, for filled-up ones."""
        return self.dense(width if self.tokens.ndim == 1 else width + 1)

    def draw(self, uniforms: float | Probabilities) -> tuple[Ints, Probabilities]:
        """Where in each row's support the cumulated probabilities pass its uniform (...,) in [0, 1), and the margin.

        The margin is how far the uniform lies from the ends of the token's share. Probabilities need not be normalised;
        a token without any is never drawn.
        """
        cumulated = self.probabilities.cumsum(axis=-1)
        total = cumulated[..., -1]
        points = uniforms * total
        if cumulated.ndim == 1:
            places = cumulated.searchsorted(points, side="right")
        else:
            places = (cumulated <= points[:, None]).sum(axis=-1)
        beyond = places >= cumulated.shape[-1]
        if np.count_nonzero(beyond):  # rounding carried a point past the last probability
            last = cumulated.shape[-1] - 1 - (self.probabilities[..., ::-1] > 0).argmax(axis=-1)
            places = np.where(beyond, last, places)
        high = at(cumulated, places)
        low = high - at(self.probabilities, places)
        return places, np.minimum(points - low, high - points) / total


def distribution_of(logits: npt.NDArray[np.float32], sampling: Sampling) -> Distribution:
    """The distribution that sampling makes of logits (..., vocabulary); penalties are the caller's.

    Order as in Hugging Face: temperature, then top-k (ties with the k-th stay), then top-p (the smallest set of largest
    tokens that reaches top_p, the crossing one included; arXiv 1904.09751, eq. 2), then normalisation. At temperature 0
    the first largest logit is certain.
    """
    if sampling.temperature == 0:
        certain = np.zeros(logits.shape)
        put(certain, logits.argmax(axis=-1)[..., None], 1.0)
        return Distribution.over_all(certain)
    vocabulary = logits.shape[-1]
    largest = logits.max(axis=-1, keepdims=True)
    if sampling.top_k is None or sampling.top_k >= vocabulary:
        tokens, weights = every_token(logits.shape), scaled_weights(logits, largest, sampling.temperature)
    else:
        # Chosen among float32 logits: what is left out needs no float64.
        kth = np.partition(logits, -sampling.top_k, axis=-1)[..., -sampling.top_k, None]
        tokens = columns_set(logits >= kth)
        kept = taken(logits, np.minimum(tokens, vocabulary - 1))
        weights = scaled_weights(kept, largest, sampling.temperature) * (tokens < vocabulary)
    found = Distribution(tokens, weights, vocabulary).normalised(weights)
    if sampling.top_p is None or sampling.top_p >= 1:
        return found
    order = descending(found.probabilities)
    ranked = taken(found.probabilities, order)
    ranked[ranked.cumsum(axis=-1) - ranked >= sampling.top_p] = 0.0
    reached = np.empty_like(ranked)
    put(reached, order, ranked)
    return found.normalised(reached)


def scaled_weights(
    logits: npt.NDArray[np.float32], largest: npt.NDArray[np.float32], temperature: float
) -> Probabilities:
    """Weights of logits (..., some) at a temperature; the row's `largest` (..., 1) has weight 1."""
    scaled = logits.astype(np.float64)
    scaled -= largest
    if temperature != 1:
        scaled /= temperature
    weights: Probabilities = np.exp(scaled, out=scaled)
    return weights


def entropy(probabilities: Probabilities) -> Probabilities:
    """Entropies (...,) in nats of probabilities (..., support), -sum p log p.

    Rows of as many tokens with probability are summed together, as the last bits ask for.
    """
    positive = probabilities > 0
    if probabilities.ndim == 1:
        return entropy_without_zeros(probabilities[positive])
    if positive.all():
        return entropy_without_zeros(probabilities)
    counts, found = positive.sum(axis=-1), np.empty(len(probabilities))
    for count in np.unique(counts):
        rows = counts == count
        found[rows] = entropy_without_zeros(probabilities[rows][positive[rows]].reshape(-1, count))
    return found


def entropy_without_zeros(probabilities: Probabilities) -> Probabilities:
    """`entropy` where every token has a probability."""
    terms = np.log(probabilities)
    terms *= probabilities
    found: Probabilities = -terms.sum(axis=-1)
    return found


def lead(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """How far the largest score is ahead of the second, (...,); of a single score infinity."""
    if scores.shape[-1] < 2:
        return np.full(scores.shape[:-1], np.inf)
    first = scores.argmax(axis=-1)
    others = scores.copy()
    put(others, first[..., None], -np.inf)
    found: npt.NDArray[np.floating] = at(scores, first) - others.max(axis=-1)
    return found


# Indices along the last axis. NumPy's own functions for it cost a row alone ten times what its indexing does.


@lru_cache(maxsize=8)
def every_token(shape: tuple[int, ...]) -> Ints:
    """0, 1, ... along the last axis of a shape."""
    return np.broadcast_to(np.arange(shape[-1]), shape)


def columns_set(mask: npt.NDArray[np.bool_]) -> Ints:
    """Columns that are set in each row, ascending; rows with fewer are filled up with the number of columns."""
    if mask.ndim == 1:
        return np.flatnonzero(mask)
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    counts = np.bincount(rows, minlength=len(mask))
    places = np.full((len(mask), int(counts.max(initial=0))), mask.shape[1], np.int64)
    places[rows, np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)] = columns
    return places


def descending(values: Probabilities) -> Ints:
    """Places of each row's values, the largest first; of equals, those that come first."""
    return np.argsort(-values, axis=-1, kind="stable")


def at(values: npt.NDArray[Value], places: Ints) -> npt.NDArray[Value]:
    """The value at one place of each row, (...,)."""
    found: npt.NDArray[Value] = values[places] if values.ndim == 1 else values[np.arange(len(values)), places]
    return found


def taken(values: npt.NDArray[Value], places: Ints) -> npt.NDArray[Value]:
    """The values at some places of each row, (..., places)."""
    return values[places] if values.ndim == 1 else np.take_along_axis(values, places, axis=-1)


def put(values: npt.NDArray[np.floating], places: Ints, new: npt.NDArray[np.floating] | float) -> None:
    """Set the values at some places of each row."""
    if values.ndim == 1:
        values[places] = new
    else:
        np.put_along_axis(values, places, new, axis=-1)
