"""Laws of many rows at once: what `sampling`, `wire` and `accept.entropy` say of each row, bit for bit.

A law that was cut to 40 of 2,048 tokens is kept as 40. Sums still go over the whole row, zeros and all, since the bits
of a sum hang on how its terms are grouped; a zero more or less changes none in a running sum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hilsim.describe.decoding import Payload, RowFormat, Sampling, VerifyAt
from hilsim.sampling.distribution import Law

Ints = npt.NDArray[np.int64]
Table = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Laws:
    """Laws of many rows: `shares` (rows, kept) of the `tokens` (rows, kept) that can have mass, in ascending order.

    Rows that keep fewer than others are filled up with the token `vocabulary`, which has none.
    """

    tokens: Ints
    shares: Law
    vocabulary: int

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, start: int, end: int) -> Laws:
        """Those of some rows."""
        return replace(self, tokens=self.tokens[start:end], shares=self.shares[start:end])

    def whole(self) -> Law:
        """Shares of every token, (rows, vocabulary)."""
        if self.tokens.shape[1] == self.vocabulary and (self.tokens[:, -1] < self.vocabulary).all():
            return self.shares
        table = np.zeros((len(self), self.vocabulary + 1))
        np.put_along_axis(table, self.tokens, self.shares, axis=1)
        return table[:, :-1]

    def normalised(self) -> Laws:
        """Shares that sum to 1; a law without any mass stays as it is."""
        totals = self.whole().sum(axis=1, keepdims=True)
        return replace(self, shares=self.shares / np.where(totals > 0, totals, 1.0))

    def tokens_at(self, places: Ints) -> Ints:
        """The token at one place of each row."""
        found: Ints = self.tokens[np.arange(len(places)), places]
        return found

    def shares_at(self, places: Ints) -> Law:
        """The share at one place of each row."""
        found: Law = self.shares[np.arange(len(places)), places]
        return found

    def likeliest(self) -> Ints:
        """Where the first largest share of each row is."""
        found: Ints = self.shares.argmax(axis=1)
        return found

    def row(self, at: int) -> Law:
        """One law whole, (vocabulary,)."""
        law = np.zeros(self.vocabulary + 1)
        law[self.tokens[at]] = self.shares[at]
        return law[:-1]

    def shares_of(self, tokens: Ints) -> Law:
        """The share of one token of each row."""
        found: Law = np.where(self.tokens == tokens[:, None], self.shares, 0.0).sum(axis=1)
        return found

    def drawn(self, uniforms: Law) -> tuple[Ints, Law]:
        """`sampling.draw` in each row: where the share is that holds its uniform in the cumulated law, and margins."""
        cumulated = self.shares.cumsum(axis=1)
        whole = cumulated[:, -1]
        points = uniforms * whole
        places: Ints = (cumulated <= points[:, None]).sum(axis=1)
        if (beyond := places >= self.shares.shape[1]).any():  # rounding carried a point past the last with mass
            last = self.shares.shape[1] - 1 - (self.shares[:, ::-1] > 0).argmax(axis=1)
            places = np.where(beyond, last, places)
        rows = np.arange(len(places))
        high = cumulated[rows, places]
        low = high - self.shares[rows, places]
        return places, np.minimum(points - low, high - points) / whole


def laws_of(table: Table, sampling: Sampling) -> Laws:
    """`sampling.law_of` of every row (rows, vocabulary), above temperature 0; penalties are the caller's."""
    scaled = table.astype(np.float64)
    scaled -= scaled.max(axis=1, keepdims=True)
    scaled /= sampling.temperature
    rows, vocabulary = scaled.shape
    if sampling.top_k is None or sampling.top_k >= vocabulary:
        kept = np.broadcast_to(np.arange(vocabulary), scaled.shape)
        laws = Laws(kept, np.exp(scaled, out=scaled), vocabulary)
    else:
        kth = np.partition(scaled, -sampling.top_k, axis=1)[:, -sampling.top_k, None]
        kept = kept_places(scaled >= kth)
        spread = np.concatenate((scaled, np.full((rows, 1), -np.inf)), axis=1)
        laws = Laws(kept, np.exp(np.take_along_axis(spread, kept, axis=1)), vocabulary)
    laws = laws.normalised()
    if sampling.top_p is None or sampling.top_p >= 1:
        return laws
    order = np.argsort(-laws.shares, axis=1, kind="stable")
    ranked = np.take_along_axis(laws.shares, order, axis=1)
    ranked[ranked.cumsum(axis=1) - ranked >= sampling.top_p] = 0.0
    shares = np.empty_like(ranked)
    np.put_along_axis(shares, order, ranked, axis=1)
    return replace(laws, shares=shares).normalised()


def kept_places(kept: npt.NDArray[np.bool_]) -> Ints:
    """Columns that are set in each row, ascending; rows with fewer are filled up with the number of columns."""
    rows, columns = np.divmod(np.flatnonzero(kept), kept.shape[1])
    counts = np.bincount(rows, minlength=len(kept))
    places = np.full((len(kept), int(counts.max(initial=0))), kept.shape[1], np.int64)
    places[rows, np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)] = columns
    return places


def drafted_laws(laws: Laws, payload: Payload, verify_at: VerifyAt) -> Laws:
    """`wire.drafted_law` of every row: what the draft draws from."""
    if verify_at == "draft":
        return laws
    match payload.scheme:
        case "one_hot":
            certain = np.zeros_like(laws.shares)
            np.put_along_axis(certain, laws.likeliest()[:, None], 1.0, axis=1)
            return replace(laws, shares=certain)
        case "full_rows" | "scalar":
            return spelled(laws, payload.format)
        case "top_k":
            return spelled(truncated(laws, payload.k), payload.format)
        case _:
            return laws


def target_laws(laws: Laws, payload: Payload, verify_at: VerifyAt) -> Laws:
    """`wire.target_law` of every row: the target's law as every chip that uses it knows it."""
    if verify_at == "target":
        return spelled(laws, payload.format) if payload.scheme == "scalar" else laws
    return spelled(laws, payload.format) if payload.scheme in ("full_rows", "top_k") else laws


def spelled(laws: Laws, number: RowFormat) -> Laws:
    """The laws that rounded numbers spell."""
    match number:
        case "fp16":
            rounded = laws.shares.astype(np.float16).astype(np.float64)
            # float16 holds nothing under 6e-8: a law that is so flat is left as it is.
            empty = rounded.max(axis=1, keepdims=True) == 0
            found = replace(laws, shares=rounded).normalised()
            return replace(found, shares=np.where(empty, laws.shares, found.shares))
        case "fp32":
            values = laws.shares.astype(np.float32).astype(np.float64)
        case "counts8":
            values = np.floor(laws.shares / laws.shares.max(axis=1, keepdims=True) * 255 + 0.5)
    return replace(laws, shares=values).normalised()


def truncated(laws: Laws, count: int) -> Laws:
    """The `count` likeliest tokens of each law alone, renormalised; of equals, those that come first."""
    if count >= laws.vocabulary:
        return laws
    order = np.argsort(-laws.shares, axis=1, kind="stable")
    shares = laws.shares.copy()
    np.put_along_axis(shares, order[:, count:], 0.0, axis=1)
    return replace(laws, shares=shares).normalised()


def entropies(laws: Laws) -> Law:
    """`accept.entropy` of every row: rows of as many tokens with mass are summed together, as their bits ask for."""
    massive = laws.shares > 0
    counts = massive.sum(axis=1)
    found = np.empty(len(laws))
    for count in np.unique(counts):
        rows = counts == count
        shares = laws.shares[rows][massive[rows]].reshape(-1, count)
        found[rows] = -(shares * np.log(shares)).sum(axis=1)
    return found


def leads(scores: npt.NDArray[np.floating]) -> Law:
    """`accept.lead` of every row: how far the largest is ahead of the second."""
    if scores.shape[1] < 2:
        return np.zeros(len(scores))
    ends = np.partition(scores, -2, axis=1)[:, -2:]
    found: Law = (ends[:, 1] - ends[:, 0]).astype(np.float64)
    return found
