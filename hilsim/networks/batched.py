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

ROOM = 128  # positions that keys and values get room for at once


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


def common_prefix(sequences: Sequence[Sequence[int]]) -> list[int]:
    """The tokens that all sequences begin with."""
    found = []
    for tokens in zip(*sequences, strict=False):
        if len({*tokens}) > 1:
            break
        found.append(tokens[0])
    return found


class Parallel:
    """Several conversations of different lengths in lockstep, each with keys and values of its own.

    Products with the weights take all rows at once, and so does the attention of conversations that read one token;
    a longer piece goes by itself.
    """

    def __init__(self, network: Packed, conversations: int, capacity: int):
        """No conversation may grow beyond `capacity` tokens."""
        config = network.config
        self.network, self.capacity = network, min(capacity, len(network.cos))
        # Keys above values: (layers, conversations, 2 x kv_heads, positions with room, head_dim).
        self.held = np.zeros((config.layers, conversations, 2 * config.kv_heads, 0, config.head_dim), network.dtype)
        self.lengths = [0] * conversations

    def known(self, place: int) -> CachedConversation:
        """What a conversation holds."""
        return CachedConversation(*np.split(self.held[:, place, :, : self.lengths[place]], 2, axis=1))

    def rewind(self, place: int, tokens: int) -> None:
        """A conversation forgets all but its first tokens."""
        self.lengths[place] = min(self.lengths[place], tokens)

    def begin(self, sequences: Sequence[Sequence[int]]) -> None:
        """Empty conversations read what they have in common, as a system prompt: once for all of them.

        Each has at least one token of its sequence left to read.
        """
        going = [place for place, tokens in enumerate(sequences) if tokens]
        common = common_prefix([sequences[place][:-1] for place in going])
        if any(self.lengths) or len(going) < 2 or not common:
            return
        self._make_room(max(map(len, sequences)))
        self.feed(going[:1], [common])
        length = len(common)
        self.held[:, going[1:], :, :length] = self.held[:, going[:1], :, :length]
        for place in going:
            self.lengths[place] = length

    def feed(
        self, which: Sequence[int], read: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]] | None = None
    ) -> Array:
        """Each conversation of `which` reads some tokens.

        Returns logits (rows, vocabulary) after the last of each, or after those at the places `wanted` of each piece.
        """
        pieces = self._laid_out(which, read)
        self._make_room(max(piece.positions.stop for piece in pieces))
        in_order = sorted(pieces, key=lambda piece: piece.rows.start)
        long = [piece for piece in in_order if len(piece.rows) > 1]
        short = in_order[: len(in_order) - len(long)]
        token_of = {piece.rows.start: tokens for piece, tokens in zip(pieces, read, strict=True)}
        tokens = np.array([token for piece in in_order for token in token_of[piece.rows.start]])
        positions = np.array([position for piece in in_order for position in piece.positions])
        owners = np.repeat([piece.place for piece in in_order], [len(piece.rows) for piece in in_order])
        together = Together([(piece.place, piece.positions.stop) for piece in short], len(self.lengths))
        kv_heads = self.network.config.kv_heads
        # Where each row's keys and values go in a layer: (rows, 2 x kv_heads).
        room = self.held.shape[3]
        cells = (owners * 2 * kv_heads * room + positions)[:, None] + np.arange(2 * kv_heads) * room
        alone = len(short)

        def mix(layer: int, window: int | None, q: Array, kv: Array) -> Array:
            held = self.held[layer]
            held.reshape(-1, held.shape[-1])[cells] = kv
            if not long:
                return together(q, held, window)
            mixed = np.empty((len(tokens), q.shape[1] * q.shape[2]), q.dtype)
            for piece in long:
                rows = slice(piece.rows.start, piece.rows.stop)
                seen = held[piece.place, :, : piece.positions.stop]
                mixed[rows] = attended_in_order(q[rows], seen[:kv_heads], seen[kv_heads:], window)
            if short:
                mixed[:alone] = together(q[:alone], held, window)
            return mixed

        places = [(-1,)] * len(pieces) if wanted is None else wanted
        asked = [piece.rows[at] for piece, own in zip(pieces, places, strict=True) for at in own]
        ending = None if asked == list(range(len(tokens))) else np.array(asked, np.int64)
        rows = self.network.logits(tokens, positions, mix, ending=ending)
        for piece in pieces:
            self.lengths[piece.place] = piece.positions.stop
        return rows

    def _make_room(self, longest: int) -> None:
        """See to it that a conversation may grow to so many tokens: conversations seldom fill the whole context."""
        room = self.held.shape[3]
        if longest > room:
            wider = min(self.capacity, -(-max(longest, room + room // 2) // ROOM) * ROOM)
            held = np.zeros((*self.held.shape[:3], wider, self.held.shape[4]), self.held.dtype)
            held[:, :, :, :room] = self.held
            self.held = held

    def _laid_out(self, which: Sequence[int], read: Sequence[Sequence[int]]) -> list[PassPiece]:
        """The rows of a pass for each conversation: first those of conversations that read one token."""
        if len(read) != len(which) or len({*which}) != len(which) or not all(read):
            raise ValueError(f"{[len(piece) for piece in read]} tokens for conversations {list(which)}")
        pieces: dict[int, PassPiece] = {}
        rows = 0
        for place, piece in sorted(zip(which, read, strict=True), key=lambda one: len(one[1]) > 1):
            length, more = self.lengths[place], len(piece)
            if length + more > self.capacity:
                found = f"{length} + {more} positions do not fit into {self.capacity}"
                raise ValueError(f"conversation {place}: {found}")
            pieces[place] = PassPiece(place, range(length, length + more), range(rows, rows + more))
            rows += more
        return [pieces[place] for place in which]


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
        taken = np.array(places, np.int64)
        self.taken: slice | Ints = taken
        if self.whole:
            self.taken = slice(None)
        elif len(places) == 1:
            self.taken = slice(places[0], places[0] + 1)
        self.slot = taken if self.whole else np.arange(self.slots)
        self.full = len(places) == self.slots and self.slot.tolist() == list(range(self.slots))
        self.longest = max((length for _, length in read), default=0)
        self.lengths = np.ones(self.slots, np.int64)
        self.lengths[self.slot] = [length for _, length in read]
        self.masks: dict[int | None, Array | None] = {}

    def __call__(self, q: Array, held: Array, window: int | None) -> Array:
        """`q`: (rows, heads, head_dim); `held`: (conversations, 2 x kv_heads, capacity, head_dim)."""
        _, heads, dim = q.shape
        seen = held[self.taken, :, : self.longest]
        kv_heads = held.shape[1] // 2
        keys, values = seen[:, :kv_heads], seen[:, kv_heads:]
        queries = q
        if not self.full:
            queries = np.zeros((self.slots, heads, dim), q.dtype)
            queries[self.slot] = q
        asked = queries.reshape(self.slots, kv_heads, -1, dim)  # queries of one group share their key head
        scores = asked @ keys.swapaxes(2, 3)
        mask = self.mask(window, q)
        if mask is not None:
            scores += mask
        mixed: Array = (softmax(scores) @ values).reshape(self.slots, heads * dim)
        return mixed if self.full else mixed[self.slot]

    def mask(self, window: int | None, like: Array) -> Array | None:
        """Additive mask (slots, 1, 1, longest), the same for all layers of one window; None where all is seen."""
        if window not in self.masks:
            key, length = np.arange(self.longest), self.lengths[:, None, None, None]
            hidden = key >= length if window is None else (key >= length) | (key < length - window)
            self.masks[window] = np.where(hidden, -np.inf, 0).astype(like.dtype) if hidden.any() else None
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
        self.starts, self.owners = self.starts[which], self.owners[which]
        own = self.own[:, : len(which)]
        own[:, :, :, : self.steps] = self.own[:, which, :, : self.steps]
        self.own = own
        self._cut()

    def hidden(self, window: int | None, rows: slice) -> tuple[Array, Array | None]:
        """Additive masks of the next tokens of some rows over their sequence, (rows, past), and their own, (rows, own).

        The latter is None where each sees all of its own.
        """
        starts = self.starts[rows, None]
        past = np.arange(int(starts.max()))
        if window is None:
            return self.additive(past >= starts), None
        first = starts + self.steps - window + 1  # the first position in the window
        own = starts + np.arange(self.steps + 1) < first
        return self.additive((past >= starts) | (past < first)), self.additive(own)

    def additive(self, hidden: Flags) -> Array:
        """A mask to be added to scores."""
        mask: Array = np.where(hidden, -np.inf, 0).astype(self.own.dtype)
        return mask

    def _attend(self, layer: int, hidden: Sequence[tuple[Array, Array | None]], q: Array, kv: Array) -> Array:
        """Sequence by sequence: one softmax over its keys, read once for all of its rows, and each row's own keys."""
        rows, heads, dim = q.shape
        self.own[layer, :, :, self.steps] = kv
        kv_heads = kv.shape[1] // 2
        own_keys = self.own[layer, :, :kv_heads, : self.steps + 1]
        own_values = self.own[layer, :, kv_heads:, : self.steps + 1]
        group = heads // kv_heads
        # (rows, kv_heads, group, dim): every query of a row next to those that share its key head.
        q = q.reshape(rows, kv_heads, group, dim)
        own_scores = (q @ own_keys.swapaxes(2, 3)).swapaxes(0, 1)
        by_head = np.ascontiguousarray(q.swapaxes(0, 1)).reshape(kv_heads, rows * group, dim)
        mixed = np.empty((kv_heads, rows * group, dim), q.dtype)
        own_weights = np.empty((rows, kv_heads, group, self.steps + 1), q.dtype)
        for fan, (unseen, unseen_own), one in zip(self.fans, hidden, self.pasts, strict=True):
            past = one.keys.shape[2]
            span = slice(fan.start * group, fan.stop * group)
            scores = np.empty((kv_heads, len(unseen), group, past + self.steps + 1), q.dtype)
            flat = scores.reshape(kv_heads, -1, scores.shape[-1])
            np.matmul(by_head[:, span], one.keys[layer].swapaxes(1, 2), out=flat[..., :past])
            scores[..., :past] += unseen[:, None]
            scores[..., past:] = own_scores[:, fan]
            if unseen_own is not None:
                scores[..., past:] += unseen_own[:, None]
            softmax(scores)
            np.matmul(flat[..., :past], one.values[layer], out=mixed[:, span])
            own_weights[fan] = scores[..., past:].swapaxes(0, 1)
        mixed = mixed.reshape(kv_heads, rows, group, dim).swapaxes(0, 1)
        found: Array = (mixed + own_weights @ own_values).reshape(rows, -1)
        return found

    def _cut(self) -> None:
        """Where each sequence's rows lie, and of its keys those that any of them sees."""
        counts = np.bincount(self.owners, minlength=len(self.known))
        ends = [0, *counts.cumsum().tolist()]
        going = [(owner, slice(*span)) for owner, span in enumerate(pairwise(ends)) if span[0] < span[1]]
        self.fans = [rows for _, rows in going]
        self.pasts = [self.known[owner].first(int(self.starts[rows].max())) for owner, rows in going]
