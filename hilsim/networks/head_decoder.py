"""A draft head over one conversation: logits that depend on the tokens and on how many are verified, on no more.

Whatever was asked before, a row is the one that a head without a past gives: positions are read again where they were
read beside other tokens, or from its own output where the target's state is known by now.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hilsim.errors import HeadTooShort
from hilsim.networks.arrays import Array
from hilsim.networks.decoder import Decoder
from hilsim.networks.draft_head import BlockHead, DraftHead, MedusaHead, RunningHead
from hilsim.networks.network import KVCache, through_cache, view
from hilsim.text.pairs import NEVER
from hilsim.text.prompt import shared_prefix


def of_all_entries(head: DraftHead, rows: Array) -> Array:
    """Rows (rows, entries) of a head as rows (rows, vocabulary): what is trimmed off has no mass."""
    if head.config.entries is None:
        return rows
    whole = np.full((len(rows), head.target.config.vocab_size), NEVER, rows.dtype)
    whole[:, view(head.tokens)] = rows
    return whole


class RunningDecoder:
    """A head that runs on: a cache of its keys and values, and its outputs after every position."""

    def __init__(self, head: RunningHead, capacity: int):
        self.head, dtype = head, head.target.cos.dtype
        self.cache = KVCache(head.network_config, capacity, dtype=dtype)
        self.outputs = torch.zeros(capacity, *head.width, dtype=dtype)
        self.held: list[int] = []
        self.verified = 0
        self.known: dict[int, Array] = {}  # logits after so many tokens

    def row(self, tokens: Sequence[int], verified: int, states: Tensor) -> Array:
        """Logits (vocabulary,) after `tokens`; `states` are the target's of all verified ones but the last.

        The same row is the same array as long as it is known.
        """
        same = shared_prefix(self.held, tokens)
        if verified != self.verified:
            same = min(same, verified, self.verified)
        if same < len(tokens):
            self.known = {length: row for length, row in self.known.items() if length <= same}
            self.cache.rewind(same)
            self.held[same:], self.verified = tokens[same:], verified
            while self.cache.length < len(tokens):
                self.read(tokens, verified, states)
        if len(tokens) not in self.known:
            logits = self.head.logits(self.outputs[len(tokens) - 1 : len(tokens)])
            (self.known[len(tokens)],) = of_all_entries(self.head, view(logits))
        return self.known[len(tokens)]

    def read(self, tokens: Sequence[int], verified: int, states: Tensor) -> None:
        """One pass: what is left of the verified tokens, or the next token after its own output."""
        start = self.cache.length
        end = max(verified, start + 1)
        if start < verified:
            before = self.head.fused(states[max(0, start - 1) : end - 1])
            before = before if start else torch.cat((torch.zeros_like(self.outputs[:1]), before))
        else:
            before = self.outputs[start - 1 : start]
        cos, sin = (table[start:end] for table in self.head.target.rotary(end, self.cache.context))
        (cached,) = self.cache.layers(end)
        self.outputs[start:end] = self.head(before, torch.tensor(tokens[start:end]), cos, sin, cached)
        self.cache.length = end


class MedusaDecoder:
    """All heads over one state; nothing is cached."""

    def __init__(self, head: MedusaHead, capacity: int):
        self.head = head

    def rows(self, tokens: Sequence[int], states: Tensor) -> Tensor:
        """Logits (positions, entries) of the tokens after `tokens`, which are all verified."""
        nothing = self.head.target.norm.new_zeros(1, self.head.target.config.hidden_size * len(self.head.config.read))
        rows: Tensor = self.head(states[-1:] if len(states) else nothing)[0]
        return rows


class BlockDecoder:
    """A block head: a cache of the keys and values that it made of the target's states."""

    def __init__(self, head: BlockHead, capacity: int):
        self.head = head
        self.cache = KVCache(head.network_config, capacity, dtype=head.target.cos.dtype)
        self.held: list[int] = []

    def rows(self, tokens: Sequence[int], states: Tensor) -> Tensor:
        """Logits (positions, entries) of the tokens after `tokens`, all verified; fewer at the context's end."""
        known, end = shared_prefix(self.held, tokens[:-1]), len(tokens) - 1
        size = min(self.head.config.positions or 1, self.cache.capacity - end)
        cos, sin = self.head.target.rotary(end + size, self.cache.context)
        if known < end:
            made = self.head.context(states[known:end], cos[known:end], sin[known:end])
            for held, new in zip(self.cache.layers(end), made, strict=True):
                for cache, rows in zip(held, new, strict=True):
                    cache[:, :, known:] = through_cache(rows, self.head.network_config.cache)
        self.held = [*tokens[:-1]]
        where, cached = slice(end, end + size), [*self.cache.layers(end + size)]
        logits: Tensor = self.head(torch.tensor(tokens[-1:]), size, cos[where], sin[where], cached)
        return logits


class OnePassDecoder:
    """A head that proposes a whole round's tokens in one pass over what is verified."""

    def __init__(self, passes: MedusaDecoder | BlockDecoder):
        self.passes = passes
        self.held: list[int] = []
        self.known: list[Array] = []

    def row(self, tokens: Sequence[int], verified: int, states: Tensor) -> Array:
        """Logits (vocabulary,) after `tokens`, as `RunningDecoder.row`."""
        if self.held != [*tokens[:verified]]:
            self.known = list(of_all_entries(self.passes.head, view(self.passes.rows(tokens[:verified], states))))
            self.held = [*tokens[:verified]]
        if (ahead := len(tokens) - verified) >= len(self.known):
            raise HeadTooShort(self.passes.head.config.kind, len(self.known), ahead + 1)
        return self.known[ahead]


class HeadDecoder:
    """Any head over one conversation, with logits of the target's whole vocabulary."""

    def __init__(self, head: DraftHead, capacity: int):
        self.decoder: RunningDecoder | OnePassDecoder
        if isinstance(head, RunningHead):
            self.decoder = RunningDecoder(head, capacity)
        elif isinstance(head, MedusaHead):
            self.decoder = OnePassDecoder(MedusaDecoder(head, capacity))
        else:
            assert isinstance(head, BlockHead)
            self.decoder = OnePassDecoder(BlockDecoder(head, capacity))

    @torch.inference_mode()
    def row(self, tokens: Sequence[int], verified: int, target: Decoder) -> Array:
        """Logits (vocabulary,) after `tokens`, of which the first `verified` are; what is trimmed off has no mass.

        `target` has read all verified tokens but the last, whatever it has read beyond.
        """
        states = torch.from_numpy(target.cache.states[0, : verified - 1])
        return self.decoder.row(tokens, verified, states)
