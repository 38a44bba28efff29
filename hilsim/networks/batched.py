"""A network reading many sequences at once: what recording a transcript needs.

Owns two shapes of batch: several conversations in lockstep, and many continuations of them, whose keys and
values these share. The formulas are `packed`'s; here is only which row sees which keys. Sums are taken in another order
than in a pass of single rows, so the last bits of a logit may differ from `Decoder`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hilsim.networks.arrays import Array, Flags, Ints
from hilsim.networks.packed import Packed, attended_in_order, softmax
from hilsim.sampling.logits import Logits


def as_table(rows: Array) -> Logits:
    """Logits as a live source hands them out: float32."""
    return rows.astype(np.float32, copy=False)


@dataclass(frozen=True)
class CachedConversation:
    """Keys and values of what one conversation holds: (layers, kv_heads, tokens, head_dim)."""

    keys: Array
    values: Array

    def first(self, tokens: int) -> CachedConversation:
        """Those of the first tokens alone."""
        return CachedConversation(self.keys[:, :, :tokens], self.values[:, :, :tokens])


@dataclass(frozen=True)
class PassPiece:
    """What one conversation reads in a pass: its positions, and the rows of the pass that hold it."""

    place: int
    positions: range
    rows: range


class Parallel:
    """Several conversations of different lengths in lockstep, each with keys and values of its own.

    Products with the weights take all rows at once, and so does the attention of conversations that read one token;
    a longer piece goes by itself.
    """

    def __init__(self, network: Packed, conversations: int, capacity: int):
        """No conversation may grow beyond `capacity` tokens."""
        config = network.config
        self.network, self.capacity = network, min(capacity, len(network.cos))
        # Keys above values: (layers, conversations, 2 x kv_heads, capacity, head_dim).
        shape = (config.layers, conversations, 2 * config.kv_heads, self.capacity, config.head_dim)
        self.held = np.zeros(shape, network.dtype)
        self.lengths = [0] * conversations

    def known(self, place: int) -> CachedConversation:
        """What a conversation holds."""
        return CachedConversation(*np.split(self.held[:, place, :, : self.lengths[place]], 2, axis=1))

    def rewind(self, place: int, tokens: int) -> None:
        """A conversation forgets all but its first tokens."""
        self.lengths[place] = min(self.lengths[place], tokens)

    def feed(self, which: Sequence[int], read: Sequence[Sequence[int]], wanted: Sequence[int] | None = None) -> Array:
        """Each conversation of `which` reads some tokens.

        Returns logits (rows, vocabulary) after the last of each, or after as many of its last ones as are `wanted`.
        """
        pieces = self._laid_out(which, read)
        tokens = np.array([token for piece in read for token in piece])
        positions = np.array([position for piece in pieces for position in piece.positions])
        owners = np.array([piece.place for piece in pieces for _ in piece.positions])
        long = [piece for piece in pieces if len(piece.rows) > 1]
        short = [piece for piece in pieces if len(piece.rows) == 1]
        single = np.array([piece.rows.start for piece in short], np.int64)
        together = Together([(piece.place, piece.positions.stop) for piece in short], len(self.lengths))
        kv_heads = self.network.config.kv_heads

        def mix(layer: int, window: int | None, q: Array, kv: Array) -> Array:
            held = self.held[layer]
            held[owners, :, positions] = kv
            if not long:
                return together(q, held, window)
            mixed = np.empty((len(tokens), q.shape[1] * q.shape[2]), q.dtype)
            for piece in long:
                rows = slice(piece.rows.start, piece.rows.stop)
                seen = held[piece.place, :, : piece.positions.stop]
                mixed[rows] = attended_in_order(q[rows], seen[:kv_heads], seen[kv_heads:], window)
            if short:
                mixed[single] = together(q[single], held, window)
            return mixed

        counts = [1] * len(pieces) if wanted is None else wanted
        last = [row for piece, count in zip(pieces, counts, strict=True) for row in piece.rows[-count:]]
        every = len(last) == len(tokens)
        rows = self.network.logits(tokens, positions, mix, None if every else np.array(last))
        for piece in pieces:
            self.lengths[piece.place] = piece.positions.stop
        return rows

    def _laid_out(self, which: Sequence[int], read: Sequence[Sequence[int]]) -> list[PassPiece]:
        """The rows of a pass, conversation by conversation."""
        if len(read) != len(which) or len({*which}) != len(which) or not all(read):
            raise ValueError(f"{[len(piece) for piece in read]} tokens for conversations {list(which)}")
        pieces: list[PassPiece] = []
        rows = 0
        for place, piece in zip(which, read, strict=True):
            length, more = self.lengths[place], len(piece)
            if length + more > self.capacity:
                found = f"{length} + {more} positions do not fit into {self.capacity}"
                raise ValueError(f"conversation {place}: {found}")
            pieces.append(PassPiece(place, range(length, length + more), range(rows, rows + more)))
            rows += more
        return pieces


class Together:
    """Attention of conversations that read one token each: one product, padded to the longest and masked.

    Where most conversations take part the others are computed along, as it costs more to gather keys than to waste a
    row.
    """

    def __init__(self, read: Sequence[tuple[int, int]], conversations: int):
        """`read`: places, and the lengths that they have with the new token."""
        places = [place for place, _ in read]
        self.whole = 2 * len(places) > conversations
        self.slots = conversations if self.whole else len(places)
        self.taken = np.array(places, np.int64)
        self.slot = self.taken if self.whole else np.arange(self.slots)
        self.full = len(places) == self.slots and self.slot.tolist() == list(range(self.slots))
        self.longest = max((length for _, length in read), default=0)
        self.lengths = np.ones(self.slots, np.int64)
        self.lengths[self.slot] = [length for _, length in read]
        self.masks: dict[int | None, Array] = {}

    def __call__(self, q: Array, held: Array, window: int | None) -> Array:
        """`q`: (rows, heads, head_dim); `held`: (conversations, 2 x kv_heads, capacity, head_dim)."""
        _, heads, dim = q.shape
        seen = held[:, :, : self.longest] if self.whole else held[self.taken, :, : self.longest]
        keys, values = np.split(seen, 2, axis=1)
        queries = q
        if not self.full:
            queries = np.zeros((self.slots, heads, dim), q.dtype)
            queries[self.slot] = q
        asked = queries.reshape(self.slots, keys.shape[1], -1, dim)  # queries of one group share their key head
        scores = asked @ keys.swapaxes(2, 3)
        scores += self.mask(window, q)
        mixed: Array = (softmax(scores) @ values).reshape(self.slots, heads * dim)
        return mixed if self.full else mixed[self.slot]

    def mask(self, window: int | None, like: Array) -> Array:
        """Additive mask (slots, 1, 1, longest), the same for all layers of one window."""
        if window not in self.masks:
            key, length = np.arange(self.longest), self.lengths[:, None, None, None]
            hidden = key >= length if window is None else (key >= length) | (key < length - window)
            self.masks[window] = np.where(hidden, -np.inf, 0).astype(like.dtype)
        return self.masks[window]


class Continuations:
    """Many continuations of several sequences, each from its own place in one of them, all a token further a step.

    A continuation sees the tokens before its start and its own; the first `step` takes the token at the start itself.
    Rows are in the order of the sequences, those of one sequence next to each other.
    """

    def __init__(
        self, network: Packed, known: Sequence[CachedConversation], starts: Sequence[Sequence[int]], depth: int
    ):
        """`starts[i]` are places in `known[i]`; `depth` is the most steps there will be."""
        for one, places in zip(known, starts, strict=True):
            if not all(1 <= start <= one.keys.shape[2] for start in places):
                raise ValueError(f"starts {min(places)} to {max(places)} are not all in 1 to {one.keys.shape[2]}")
        config = network.config
        self.network, self.known, self.depth, self.steps = network, list(known), depth, 0
        self.starts = np.array([start for places in starts for start in places], np.int64)
        self.owners = np.array([place for place, own in enumerate(starts) for _ in own], np.int64)
        own = (config.layers, len(self.starts), 2 * config.kv_heads, depth, config.head_dim)
        self.own = np.zeros(own, network.dtype)  # keys above values
        self._cut()

    def __len__(self) -> int:
        """Continuations under way."""
        return len(self.starts)

    def step(self, chosen: Ints | Sequence[int]) -> Array:
        """Append a token to every continuation; logits (continuations, vocabulary) after it."""
        if len(chosen) != len(self):
            raise ValueError(f"{len(chosen)} tokens for {len(self)} continuations")
        if self.steps == self.depth:
            raise ValueError(f"{self.steps} + 1 steps do not fit into {self.depth}")
        positions, most = self.starts + self.steps, len(self.network.cos)
        if len(self) and (highest := int(positions.max())) >= most:
            raise ValueError(f"{highest} + 1 positions do not fit into {most}")
        windows = {layer.window for layer in self.network.layers}
        hidden = {window: [self.hidden(window, rows) for rows in self.fans] for window in windows}

        def mix(layer: int, window: int | None, q: Array, kv: Array) -> Array:
            return self._attend(layer, hidden[window], q, kv)

        rows = self.network.logits(np.asarray(chosen, np.int64), positions, mix)
        self.steps += 1
        return rows

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these continuations only, given by their places in ascending order."""
        if any(a >= b for a, b in pairwise(places)):
            raise ValueError(f"places {list(places)} are not in ascending order")
        which = np.array(places, np.int64)
        self.starts, self.owners, self.own = self.starts[which], self.owners[which], self.own[:, which]
        self._cut()

    def hidden(self, window: int | None, rows: slice) -> Flags:
        """What the next tokens of some rows do not see of their sequence and their own, (rows, past + own)."""
        starts = self.starts[rows, None]
        past = np.arange(int(starts.max()))
        own = np.arange(self.steps + 1)
        beyond = np.concatenate((past >= starts, np.zeros((len(starts), len(own)), bool)), axis=1)
        if window is None:
            return beyond
        positions = np.concatenate((np.broadcast_to(past, (len(starts), len(past))), starts + own), axis=1)
        return beyond | (positions <= starts + self.steps - window)

    def _attend(self, layer: int, hidden: Sequence[Flags], q: Array, kv: Array) -> Array:
        """Sequence by sequence: one softmax over its keys, read once for all of its rows, and each row's own keys."""
        rows, heads, dim = q.shape
        self.own[layer, :, :, self.steps] = kv
        own_keys, own_values = np.split(self.own[layer, :, :, : self.steps + 1], 2, axis=1)
        kv_heads = own_keys.shape[1]
        group = heads // kv_heads
        # (rows, kv_heads, group, dim): every query of a row next to those that share its key head.
        q = q.reshape(rows, kv_heads, group, dim)
        own_scores = q @ own_keys.swapaxes(2, 3)
        mixed = np.empty_like(q)
        for fan, unseen, one in zip(self.fans, hidden, self.pasts, strict=True):
            past = one.keys.shape[2]
            ours = q[fan].swapaxes(0, 1).reshape(kv_heads, -1, dim)  # (kv_heads, rows x group, dim)
            scores = np.empty((kv_heads, len(unseen), group, past + own_scores.shape[-1]), q.dtype)
            scores[..., :past] = (ours @ one.keys[layer].swapaxes(1, 2)).reshape(kv_heads, -1, group, past)
            scores[..., past:] = own_scores[fan].swapaxes(0, 1)
            np.copyto(scores, -np.inf, where=unseen[:, None])
            weights = softmax(scores)
            earlier = weights[..., :past].reshape(kv_heads, -1, past) @ one.values[layer]
            mixed[fan] = earlier.reshape(kv_heads, -1, group, dim).swapaxes(0, 1)
            mixed[fan] += weights[..., past:].swapaxes(0, 1) @ own_values[fan]
        return mixed.reshape(rows, -1)

    def _cut(self) -> None:
        """Where each sequence's rows lie, and of its keys those that any of them sees."""
        counts = np.bincount(self.owners, minlength=len(self.known))
        ends = [0, *counts.cumsum().tolist()]
        going = [(owner, slice(*span)) for owner, span in enumerate(pairwise(ends)) if span[0] < span[1]]
        self.fans = [rows for _, rows in going]
        self.pasts = [self.known[owner].first(int(self.starts[rows].max())) for owner, rows in going]
