"""A network reading many sequences at once: what recording a transcript needs.

Owns two shapes of batch: several conversations in lockstep, and many continuations of them, whose keys and
values these share. The formulas are `packed`'s; here is only which row sees which keys. Sums are taken in another order
than in a pass of single rows, so the last bits of a logit may differ from `Decoder`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from hilsim.networks.network import causal_mask
from hilsim.networks.packed import Packed

Logits = Tensor  # (rows, entries), for those who only hand them on
Table = npt.NDArray[np.float32]


def as_table(rows: Logits) -> Table:
    """Logits as a live source hands them out: float32."""
    table: Table = rows.numpy().astype(np.float32, copy=False)
    return table


@dataclass(frozen=True)
class CachedConversation:
    """Keys and values of what one conversation holds: (layers, kv_heads, tokens, head_dim)."""

    keys: Tensor
    values: Tensor

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
        self.held = torch.zeros(shape, dtype=network.dtype)
        self.lengths = [0] * conversations

    def known(self, place: int) -> CachedConversation:
        """What a conversation holds."""
        return CachedConversation(*self.held[:, place, :, : self.lengths[place]].chunk(2, dim=1))

    def rewind(self, place: int, tokens: int) -> None:
        """A conversation forgets all but its first tokens."""
        self.lengths[place] = min(self.lengths[place], tokens)

    @torch.inference_mode()
    def feed(self, which: Sequence[int], read: Sequence[Sequence[int]], wanted: Sequence[int] | None = None) -> Tensor:
        """Each conversation of `which` reads some tokens.

        Returns logits (rows, vocabulary) after the last of each, or after as many of its last ones as are `wanted`.
        """
        pieces = self._laid_out(which, read)
        tokens = torch.tensor([token for piece in read for token in piece])
        positions = torch.tensor([position for piece in pieces for position in piece.positions])
        owners = torch.tensor([piece.place for piece in pieces for _ in piece.positions])
        long = [piece for piece in pieces if len(piece.rows) > 1]
        short = [piece for piece in pieces if len(piece.rows) == 1]
        single = torch.tensor([piece.rows.start for piece in short], dtype=torch.int64)
        together = Together([(piece.place, piece.positions.stop) for piece in short], len(self.lengths))

        def mix(layer: int, window: int | None, q: Tensor, kv: Tensor) -> Tensor:
            held = self.held[layer]
            held[owners, :, positions] = kv
            if not long:
                return together(q, held, window)
            mixed = q.new_empty(len(tokens), q.shape[1] * q.shape[2])
            for piece in long:
                first = 0 if window is None else max(0, piece.positions.start + 1 - window)
                rows = slice(piece.rows.start, piece.rows.stop)
                mixed[rows] = attended(q[rows], held[piece.place, :, first : piece.positions.stop], window)
            if short:
                mixed[single] = together(q[single], held, window)
            return mixed

        counts = [1] * len(pieces) if wanted is None else wanted
        last = [row for piece, count in zip(pieces, counts, strict=True) for row in piece.rows[-count:]]
        every = len(last) == len(tokens)
        rows = self.network.logits(tokens, positions, mix, None if every else torch.tensor(last))
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


def attended(q: Tensor, held: Tensor, window: int | None) -> Tensor:
    """What the last rows of a sequence mix, (rows, heads x head_dim).

    `q`: (rows, heads, head_dim); `held`: keys above values of all that they see, (2 x kv_heads, seen, head_dim).
    """
    rows, heads, dim = q.shape
    keys, values = held[None].chunk(2, dim=1)
    group = heads // keys.shape[1]
    folded = q.transpose(0, 1).reshape(1, -1, group * rows, dim)  # queries of one group share their key head
    mask = causal_mask(rows, held.shape[1], window, q).repeat(group, 1)
    mixed = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask)
    return mixed.view(heads, rows, dim).transpose(0, 1).reshape(rows, heads * dim)


class Together:
    """Attention of conversations that read one token each: one product, padded to the longest and masked.

    Two to four times as fast as one after the other. Where most conversations take part the others are computed along,
    as it costs more to gather keys than to waste a row.
    """

    def __init__(self, read: Sequence[tuple[int, int]], conversations: int):
        """`read`: places, and the lengths that they have with the new token."""
        places = [place for place, _ in read]
        self.whole = 2 * len(places) > conversations
        self.slots = conversations if self.whole else len(places)
        self.taken = torch.tensor(places, dtype=torch.int64)
        self.slot = self.taken if self.whole else torch.arange(self.slots)
        self.full = len(places) == self.slots and self.slot.tolist() == list(range(self.slots))
        self.longest = max((length for _, length in read), default=0)
        self.lengths = torch.ones(self.slots, dtype=torch.int64)
        self.lengths[self.slot] = torch.tensor([length for _, length in read], dtype=torch.int64)
        self.masks: dict[int | None, Tensor] = {}

    def __call__(self, q: Tensor, held: Tensor, window: int | None) -> Tensor:
        """`q`: (rows, heads, head_dim); `held`: (conversations, 2 x kv_heads, capacity, head_dim)."""
        _, heads, dim = q.shape
        seen = held[:, :, : self.longest] if self.whole else held[:, :, : self.longest][self.taken]
        keys, values = seen.chunk(2, dim=1)
        queries = q if self.full else q.new_zeros(self.slots, heads, dim).index_copy_(0, self.slot, q)
        folded = queries.reshape(self.slots, keys.shape[1], -1, dim)  # queries of one group share their key head
        mixed = F.scaled_dot_product_attention(folded, keys, values, attn_mask=self.mask(window, q))
        mixed = mixed.reshape(self.slots, heads * dim)
        return mixed if self.full else mixed[self.slot]

    def mask(self, window: int | None, like: Tensor) -> Tensor:
        """Additive mask (slots, 1, 1, longest), the same for all layers of one window."""
        if window not in self.masks:
            key, length = torch.arange(self.longest), self.lengths[:, None, None, None]
            hidden = key >= length if window is None else (key >= length) | (key < length - window)
            self.masks[window] = torch.zeros(hidden.shape, dtype=like.dtype).masked_fill_(hidden, -math.inf)
        return self.masks[window]


class Continuations:
    """Many continuations of several sequences, each from its own place in one of them, all a token further a step.

    A continuation sees the tokens before its start and its own; the first `step` takes the token at the start itself.
    Rows are in the order of the sequences, those of one sequence next to each other.
    """

    @torch.inference_mode()
    def __init__(
        self, network: Packed, known: Sequence[CachedConversation], starts: Sequence[Sequence[int]], depth: int
    ):
        """`starts[i]` are places in `known[i]`; `depth` is the most steps there will be."""
        for one, places in zip(known, starts, strict=True):
            if not all(1 <= start <= one.keys.shape[2] for start in places):
                raise ValueError(f"starts {min(places)} to {max(places)} are not all in 1 to {one.keys.shape[2]}")
        config = network.config
        self.network, self.known, self.depth, self.steps = network, list(known), depth, 0
        self.starts = torch.tensor([start for places in starts for start in places], dtype=torch.int64)
        self.owners = torch.tensor([place for place, own in enumerate(starts) for _ in own], dtype=torch.int64)
        own = (config.layers, len(self.starts), 2 * config.kv_heads, depth, config.head_dim)
        self.own = torch.zeros(own, dtype=network.dtype)  # keys above values
        self._cut()

    def __len__(self) -> int:
        """Continuations under way."""
        return len(self.starts)

    @torch.inference_mode()
    def step(self, chosen: Tensor | Sequence[int]) -> Tensor:
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

        def mix(layer: int, window: int | None, q: Tensor, kv: Tensor) -> Tensor:
            return self._attend(layer, hidden[window], q, kv)

        rows = self.network.logits(torch.as_tensor(chosen, dtype=torch.int64), positions, mix)
        self.steps += 1
        return rows

    @torch.inference_mode()
    def keep(self, places: Sequence[int]) -> None:
        """Go on with these continuations only, given by their places in ascending order."""
        if any(a >= b for a, b in pairwise(places)):
            raise ValueError(f"places {list(places)} are not in ascending order")
        which = torch.tensor(places, dtype=torch.int64)
        self.starts, self.owners, self.own = self.starts[which], self.owners[which], self.own[:, which]
        self._cut()

    def hidden(self, window: int | None, rows: slice) -> Tensor:
        """What the next tokens of some rows do not see of their sequence and their own, (rows, past + own), bool."""
        starts = self.starts[rows, None]
        past = torch.arange(int(starts.max()))
        own = torch.arange(self.steps + 1)
        beyond = torch.cat((past >= starts, torch.zeros(len(starts), len(own), dtype=torch.bool)), 1)
        if window is None:
            return beyond
        positions = torch.cat((past.expand(len(starts), -1), starts + own), 1)
        return beyond | (positions <= starts + self.steps - window)

    def _attend(self, layer: int, hidden: Sequence[Tensor], q: Tensor, kv: Tensor) -> Tensor:
        """Sequence by sequence: one softmax over its keys, read once for all of its rows, and each row's own keys."""
        rows, heads, dim = q.shape
        self.own[layer, :, :, self.steps] = kv
        own_keys, own_values = self.own[layer, :, :, : self.steps + 1].chunk(2, dim=1)
        kv_heads = own_keys.shape[1]
        # (rows, kv_heads, group, dim): every query of a row next to those that share its key head.
        q = q.reshape(rows, kv_heads, -1, dim) * dim**-0.5
        own_scores = q @ own_keys.mT
        mixed = torch.empty_like(q)
        for fan, unseen, one in zip(self.fans, hidden, self.pasts, strict=True):
            past = one.keys.shape[2]
            ours = q[fan].transpose(0, 1).flatten(1, 2)  # (kv_heads, rows x group, dim)
            shared = (ours @ one.keys[layer].mT).view(kv_heads, -1, heads // kv_heads, past).transpose(0, 1)
            scores = torch.cat((shared, own_scores[fan]), -1).masked_fill_(unseen[:, None, None], -math.inf)
            weights = scores.softmax(-1)
            earlier = weights[..., :past].transpose(0, 1).flatten(1, 2) @ one.values[layer]
            mixed[fan] = earlier.view(kv_heads, -1, heads // kv_heads, dim).transpose(0, 1)
            mixed[fan] += weights[..., past:] @ own_values[fan]
        return mixed.view(rows, -1)

    def _cut(self) -> None:
        """Where each sequence's rows lie, and of its keys those that any of them sees."""
        counts = torch.bincount(self.owners, minlength=len(self.known))
        ends = [0, *counts.cumsum(0).tolist()]
        going = [(owner, slice(*span)) for owner, span in enumerate(pairwise(ends)) if span[0] < span[1]]
        self.fans = [rows for _, rows in going]
        self.pasts = [self.known[owner].first(int(self.starts[rows].max())) for owner, rows in going]
