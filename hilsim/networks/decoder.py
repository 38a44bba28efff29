"""A network reading one sequence, with a cache that can be rewound: passes of any number of rows, in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from hilsim.networks.arrays import Array
from hilsim.networks.cache import Cache
from hilsim.networks.layout import RowLayout, layout_of, rows_before
from hilsim.networks.packed import attended, attended_in_order, packed
from hilsim.networks.weights import Weights


class Decoder:
    """One sequence under way: a network and its cache."""

    def __init__(self, weights: Weights, capacity: int, read: Sequence[int] = ()):
        """`read`: the layers whose outputs the cache keeps for a draft head."""
        self.weights = weights
        self.cache: Cache[Array] = Cache(weights.config, capacity, partial(np.zeros, dtype=weights.dtype), read=read)
        self.packed = packed(weights, capacity)

    @property
    def length(self) -> int:
        """Positions in the cache."""
        return self.cache.length

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        self.cache.rewind(length)

    def feed(self, tokens: Sequence[int], count: int = 1) -> list[Array]:
        """Append `tokens`; logits (vocabulary,) after each of the last `count` of them."""
        return self.rows_after(tokens, count)

    def feed_tree(self, tokens: Sequence[int], nodes: Sequence[int], parents: Sequence[int]) -> list[Array]:
        """Append `tokens`; logits (vocabulary,) after the last of them and after each of the `nodes` below it.

        A node sees the cache, `tokens` and its own ancestors; `parents` are places in `nodes`, -1 the last of `tokens`.
        The nodes are forgotten again.
        """
        start, chain = self.length, len(tokens)
        layout = layout_of(start, rows_before(chain, parents))
        self.cache.reserve(start + chain + len(nodes))
        rows = self.rows_after([*tokens, *nodes], len(nodes) + 1, layout)
        self.rewind(start + chain)
        return rows

    def rows_after(self, tokens: Sequence[int], count: int, layout: RowLayout | None = None) -> list[Array]:
        """One pass over `tokens`, which are appended; a `layout` says what each sees where that is not all before."""
        cache, start, end = self.cache, self.length, self.length + len(tokens)
        # A tree holds more rows than it reaches positions.
        reached = end if layout is None else int(layout.positions.max()) + 1
        if end > cache.capacity or reached > self.weights.config.max_positions:
            room = min(cache.capacity, self.weights.config.max_positions)
            raise ValueError(f"{start} + {end - start} positions do not fit into {room}")
        if reached > len(self.packed.cos):  # a cache that was made longer for a tree
            self.packed = packed(self.weights, cache.context, reached - cache.context)
        held_keys, held_values = cache.keys, cache.values
        kv_heads = self.weights.config.kv_heads
        masks: dict[int | None, Array] = {}

        def mix(layer: int, window: int | None, q: Array, kv: Array) -> Array:
            keys, values = held_keys[layer, 0, :, :end], held_values[layer, 0, :, :end]
            if len(kv) == 1:
                keys[:, start], values[:, start] = kv[0, :kv_heads], kv[0, kv_heads:]
            else:
                keys[:, start:] = kv[:, :kv_heads].swapaxes(0, 1)
                values[:, start:] = kv[:, kv_heads:].swapaxes(0, 1)
            if layout is None:
                return attended_in_order(q, keys, values, window)
            if window not in masks:
                masks[window] = layout.mask(window, cache.keys.dtype)
            return attended(q, keys, values, masks[window])

        def keep(layer: int, x: Array) -> None:
            if layer in cache.read:
                cache.states[0, start:end, cache.read[layer]] = x

        positions = slice(start, end) if layout is None else layout.positions
        wanted = None if count >= len(tokens) else slice(len(tokens) - count, None)
        logits = self.packed.logits(np.array(tokens), positions, mix, wanted, keep if cache.read else None)
        cache.length = end
        return list(logits)
