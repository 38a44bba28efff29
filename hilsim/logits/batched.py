"""A network reading many sequences at once, a token each a pass: what recording a transcript needs.

Owns two shapes of batch: many continuations of one known sequence, whose keys and values they share, and several
conversations in lockstep. The formulas are the network's; here is only which row sees which keys. Sums are taken in
another order than in a pass of single rows, so the last bits of a logit may differ from `Decoder`'s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from hilsim.logits.network import Block, KVCache, Network


class Mix(Protocol):
    """Attention of one layer: takes in the rows' keys and values, and mixes what each row sees."""

    def __call__(self, layer: int, window: int | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """`q`: (heads, rows, head_dim); `k`, `v`: (kv_heads, rows, head_dim). Returns (rows, heads x head_dim)."""
        ...


def logits_of(network: Network, tokens: Tensor, positions: Tensor, mix: Mix) -> Tensor:
    """Logits (rows, vocabulary) after `tokens` (rows,), each of another sequence and at its own position."""
    config = network.config
    if len(tokens) == 0:
        return network.cos.new_zeros(0, config.vocab_size)
    highest = int(positions.max())
    if highest >= config.max_positions:
        raise ValueError(f"{highest} + 1 positions do not fit into {config.max_positions}")
    cos, sin = network.cos[positions], network.sin[positions]
    x = network.embedding(tokens)
    for layer, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        normed = F.rms_norm(x, block.width, block.attention_norm, block.eps)
        q, k, v = block.attention.project(normed, cos, sin)  # to it, the rows are those of one sequence
        mixed = mix(layer, block.attention.window, q[0], k[0], v[0])
        x = block.feed_forward(x + block.attention.output(mixed))
    return network.head(F.rms_norm(x, (config.hidden_size,), network.norm, config.rms_eps))  # type: ignore[no-any-return]


class Continuations:
    """Many continuations of one sequence, each from its own place in it and all of them a token further a step.

    Continuation i sees `tokens[:starts[i]]` and its own tokens. The row that it begins with is
    `known[starts[i] - 1]`; the first `step` takes the tokens chosen from those rows.
    """

    @torch.inference_mode()
    def __init__(self, network: Network, tokens: Sequence[int], starts: Sequence[int], depth: int):
        """`depth`: the most steps there will be."""
        if not all(1 <= start <= len(tokens) for start in starts):
            raise ValueError(f"starts {min(starts)} to {max(starts)} are not all in 1 to {len(tokens)}")
        config, dtype = network.config, network.cos.dtype
        self.network, self.depth, self.steps = network, depth, 0
        cache = KVCache(config, len(tokens), dtype=dtype)
        self._known: Tensor = network(torch.tensor([tokens]), cache)[0]
        self.starts = torch.tensor(starts, dtype=torch.int64)
        self.prefix_keys, self.prefix_values = cache.keys[:, 0], cache.values[:, 0]
        own = (config.layers, config.kv_heads, len(starts), depth, config.head_dim)
        self.own_keys, self.own_values = torch.zeros(own, dtype=dtype), torch.zeros(own, dtype=dtype)
        self._cut()

    def __len__(self) -> int:
        """Continuations under way."""
        return len(self.starts)

    @property
    def known(self) -> Tensor:
        """Logits (tokens, vocabulary) after every known token."""
        return self._known

    @torch.inference_mode()
    def step(self, chosen: Tensor | Sequence[int]) -> Tensor:
        """Append a token to every continuation; logits (continuations, vocabulary) after it."""
        if len(chosen) != len(self):
            raise ValueError(f"{len(chosen)} tokens for {len(self)} continuations")
        if self.steps == self.depth:
            raise ValueError(f"{self.steps} + 1 steps do not fit into {self.depth}")
        hidden = {window: self.hidden(window) for window in {*(self.network.config.windows or (None,))}}

        def mix(layer: int, window: int | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return self._attend(layer, hidden[window], q, k, v)

        tokens = torch.as_tensor(chosen, dtype=torch.int64)
        rows = logits_of(self.network, tokens, self.starts + self.steps, mix)
        self.steps += 1
        return rows

    @torch.inference_mode()
    def keep(self, which: Tensor | Sequence[int] | Sequence[bool]) -> None:
        """Go on with these continuations only, given by their places (in the order to come) or by a mask."""
        which = torch.as_tensor(which)
        if which.dtype == torch.bool and len(which) != len(self):
            raise ValueError(f"a mask of {len(which)} for {len(self)} continuations")
        places = which.nonzero()[:, 0] if which.dtype == torch.bool else which.to(torch.int64)
        self.starts = self.starts[places]
        self.own_keys, self.own_values = self.own_keys[:, :, places], self.own_values[:, :, places]
        self._cut()

    def hidden(self, window: int | None) -> Tensor:
        """What each continuation's next token does not see, (continuations, prefix + own tokens), bool."""
        starts, prefix = self.starts[:, None], torch.arange(self.prefix_keys.shape[2])
        own = torch.arange(self.steps + 1)
        beyond = torch.cat((prefix >= starts, torch.zeros(len(self), len(own), dtype=torch.bool)), 1)
        if window is None:
            return beyond
        positions = torch.cat((prefix.expand(len(self), -1), starts + own), 1)
        return beyond | (positions <= starts + self.steps - window)

    def _attend(self, layer: int, hidden: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """One softmax over the prefix, whose keys are read once for all rows, and each row's own keys."""
        kv_heads, rows, dim = k.shape
        group, past, end = len(q) // kv_heads, self.prefix_keys.shape[2], self.steps + 1
        self.own_keys[layer, :, :, end - 1], self.own_values[layer, :, :, end - 1] = k, v
        keys, values = self.own_keys[layer, :, :, :end], self.own_values[layer, :, :, :end]
        # (kv_heads, rows, group, dim): every query of a row next to those that share its key head.
        q = q.view(kv_heads, group, rows, dim).transpose(1, 2) * dim**-0.5
        shared = (q.flatten(1, 2) @ self.prefix_keys[layer].mT).view(kv_heads, rows, group, past)
        scores = torch.cat((shared, q @ keys.mT), -1).masked_fill_(hidden[:, None], -math.inf)
        weights = scores.softmax(-1)
        mixed = (weights[..., :past].flatten(1, 2) @ self.prefix_values[layer]).view(kv_heads, rows, group, dim)
        mixed += weights[..., past:] @ values
        return mixed.transpose(0, 1).reshape(rows, -1)

    def _cut(self) -> None:
        """Forget the known keys that no continuation sees."""
        longest = int(self.starts.max()) if len(self) else 0
        self.prefix_keys, self.prefix_values = self.prefix_keys[:, :, :longest], self.prefix_values[:, :, :longest]


class Parallel:
    """Several conversations of different lengths in lockstep, each with a cache of its own.

    Products with the weights take all rows at once. Attention goes conversation by conversation: on a processor this
    is as fast as one padded and masked product (twice as fast at 24 conversations in float64), and exact.
    """

    @torch.inference_mode()
    def __init__(self, network: Network, prompts: Sequence[Sequence[int]], capacity: int):
        """Reads every prompt; no conversation may grow beyond `capacity` tokens."""
        self.network = network
        self.caches = [KVCache(network.config, capacity, dtype=network.cos.dtype) for _ in prompts]
        self._rows = torch.zeros(len(prompts), network.config.vocab_size, dtype=network.cos.dtype)
        for place, prompt in enumerate(prompts):
            self.extend(place, prompt)

    def __len__(self) -> int:
        """Conversations under way."""
        return len(self.caches)

    @property
    def lengths(self) -> list[int]:
        """Tokens that each conversation holds."""
        return [cache.length for cache in self.caches]

    def rows(self) -> Tensor:
        """Logits (conversations, vocabulary) after the last token of each."""
        return self._rows

    @torch.inference_mode()
    def step(self, chosen: Tensor | Sequence[int], which: Sequence[int] | None = None) -> Tensor:
        """Append a token to every conversation, or to each of `which`; logits after these tokens, in their order."""
        places = list(range(len(self)) if which is None else which)
        if len(chosen) != len(places) or len({*places}) != len(places):
            raise ValueError(f"{len(chosen)} tokens for conversations {places}")
        caches = [self.caches[place] for place in places]
        for place, cache in zip(places, caches, strict=True):
            if cache.length >= cache.capacity:
                raise ValueError(f"conversation {place}: {cache.length} + 1 positions do not fit into {cache.capacity}")

        def mix(layer: int, window: int | None, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            group = len(q) // len(k)
            mixed = []
            for row, cache in enumerate(caches):
                end = cache.length + 1
                first = 0 if window is None else max(0, end - window)
                keys, values = cache.keys[layer], cache.values[layer]
                keys[0, :, end - 1], values[0, :, end - 1] = k[:, row], v[:, row]
                query = q[:, row].view(1, len(k), group, -1)
                mixed.append(F.scaled_dot_product_attention(query, keys[:, :, first:end], values[:, :, first:end]))
            return torch.cat(mixed).flatten(1)

        positions = torch.tensor([cache.length for cache in caches], dtype=torch.int64)
        rows = logits_of(self.network, torch.as_tensor(chosen, dtype=torch.int64), positions, mix)
        for cache in caches:
            cache.length += 1
        self._rows = self._rows.index_copy(0, torch.tensor(places, dtype=torch.int64), rows)
        return rows

    @torch.inference_mode()
    def extend(self, place: int, tokens: Sequence[int]) -> Tensor:
        """One conversation reads `tokens`, such as its next turn's prompt; logits (vocabulary,) after the last."""
        row: Tensor = self.network(torch.tensor([tokens]), self.caches[place], last_rows=1)[0, 0]
        self._rows = self._rows.index_copy(0, torch.tensor([place]), row[None])
        return row

    def keep(self, places: Sequence[int]) -> None:
        """Go on with these conversations only, in this order."""
        self.caches = [self.caches[place] for place in places]
        self._rows = self._rows[list(places)]
