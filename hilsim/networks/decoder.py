"""A network reading one sequence: passes of many rows in PyTorch, single rows in NumPy, over one and the same cache.

A decode step of a small network is bound by the overhead of each operation, not by arithmetic, and NumPy's is a quarter
of PyTorch's. `Decoder` picks by the number of rows; both ways compute the same formulas, and tests hold them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from hilsim.networks.cache_format import stored
from hilsim.networks.network import BlockParameters, KVCache, Network, layout_of, parameters_of

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Matrix:
    """A linear layer's weight and bias as NumPy sees them: views, no copies."""

    weight: Array
    bias: Array | None

    def __call__(self, x: Array) -> Array:
        y: Array = self.weight @ x
        return y if self.bias is None else y + self.bias


class SingleRow:
    """The decode step of a `Network` in NumPy: one token in, one row of logits out."""

    def __init__(self, network: Network, context: int):
        self.network, self.config, self.context = network, network.config, context
        self.embedding = view(network.embedding.weight)
        self.layers = parameters_of(network, view, matrix_of)
        self.norm, self.head = view(network.norm), matrix_of(network.head)
        self.cos, self.sin = self.rotary(context)

    def __call__(self, token: int, cache: KVCache) -> Array:
        """Logits (vocabulary,) after `token`, whose keys and values are appended to `cache` (batch of one)."""
        config, position = self.config, cache.length
        if position >= min(cache.capacity, config.max_positions):
            raise ValueError(f"{position} + 1 positions do not fit into {cache.capacity}")
        keys, values, states = view(cache.keys), view(cache.values), view(cache.states)
        if position >= len(self.cos):  # a cache that was made longer for a tree
            self.cos, self.sin = self.rotary(position + 1)
        cos, sin = self.cos[position], self.sin[position]
        x = self.embedding[token]
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(self.normed(x, layer.attention_norm))
            first = 0 if layer.window is None else max(0, position + 1 - layer.window)
            mixed = self.attend(layer, qkv, cos, sin, keys[index, 0], values[index, 0], first, position)
            x = x + layer.output(mixed)
            gate, up = np.split(layer.gate_up(self.normed(x, layer.mlp_norm)), 2)
            x = x + layer.down(gate / (1 + np.exp(-gate)) * up)
            if index in cache.read:
                states[0, position, cache.read[index]] = x
        cache.length = position + 1
        return self.head(self.normed(x, self.norm))

    def rotary(self, positions: int) -> tuple[Array, Array]:
        """The network's tables of at least so many positions."""
        cos, sin = self.network.rotary(positions, self.context)
        return view(cos), view(sin)

    def attend(
        self,
        layer: BlockParameters[Array, Matrix],
        qkv: Array,
        cos: Array,
        sin: Array,
        keys: Array,
        values: Array,
        first: int,
        position: int,
    ) -> Array:
        """Write this position's key and value, then attend to [first, position]; `keys`: (kv_heads, capacity, dim)."""
        heads, kv_heads, dim = self.config.heads, self.config.kv_heads, self.config.head_dim
        rows = qkv.reshape(-1, dim)
        qk = rows[: heads + kv_heads]
        if layer.q_norm is not None and layer.k_norm is not None:
            qk = np.concatenate((self.normed(qk[:heads], layer.q_norm), self.normed(qk[heads:], layer.k_norm)))
        # As in the network: `sin` comes with its first half negated, so rotate_half is a roll.
        rolled = np.concatenate((qk[:, dim // 2 :], qk[:, : dim // 2]), axis=1)
        qk = qk * cos + rolled * sin
        keys[:, position] = through_cache(qk[heads:], self.config.cache)
        values[:, position] = through_cache(rows[heads + kv_heads :], self.config.cache)
        query = qk[:heads].reshape(kv_heads, heads // kv_heads, dim) * dim**-0.5
        scores = query @ keys[:, first : position + 1].transpose(0, 2, 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed: Array = weights @ values[:, first : position + 1]
        return mixed.reshape(-1)

    def normed(self, x: Array, weight: Array) -> Array:
        """RMS norm over the last axis."""
        mean = np.vecdot(x, x)[..., None] / x.shape[-1]
        scaled: Array = x * (1 / np.sqrt(mean + self.config.rms_eps)).astype(x.dtype) * weight
        return scaled


def through_cache(numbers: Array, cache: str | None) -> Array:
    """Keys or values as a cache of that format gives them back."""
    return numbers if cache is None else view(stored(torch.from_numpy(numbers), cache))


def view(tensor: Tensor) -> Array:
    """A tensor's own memory as an array."""
    array: Array = tensor.detach().numpy()
    return array


def matrix_of(linear: nn.Linear) -> Matrix:
    return Matrix(view(linear.weight), None if linear.bias is None else view(linear.bias))


def rows_before(chain: int, parents: Sequence[int]) -> list[int]:
    """For each row of a chain, then of a tree below its last row, the row that it follows; -1 for the cache."""
    return [*range(-1, chain - 1), *(chain + parent if parent >= 0 else chain - 1 for parent in parents)]


class Decoder:
    """One sequence under way: a network and its cache."""

    def __init__(self, network: Network, capacity: int, read: Sequence[int] = ()):
        """`read`: the layers whose outputs the cache keeps for a draft head."""
        self.network = network
        self.cache = KVCache(network.config, capacity, dtype=network.cos.dtype, read=read)
        self.single_row = SingleRow(network, capacity)

    @property
    def length(self) -> int:
        """Positions in the cache."""
        return self.cache.length

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on."""
        self.cache.rewind(length)

    @torch.inference_mode()
    def feed(self, tokens: Sequence[int], count: int = 1) -> list[Array]:
        """Append `tokens`; logits (vocabulary,) after each of the last `count` of them."""
        if len(tokens) == 1:
            # The exponential of a large number is infinite, and gate / infinity the right 0. What a broken checkpoint
            # makes of it shows in its logits, which are held against `sampling.require_finite`.
            with np.errstate(over="ignore", invalid="ignore"):
                return [self.single_row(tokens[0], self.cache)]
        return list(view(self.network(torch.tensor([tokens]), self.cache, last_rows=count)[0]))

    @torch.inference_mode()
    def feed_tree(self, tokens: Sequence[int], nodes: Sequence[int], parents: Sequence[int]) -> list[Array]:
        """Append `tokens`; logits (vocabulary,) after the last of them and after each of the `nodes` below it.

        A node sees the cache, `tokens` and its own ancestors; `parents` are places in `nodes`, -1 the last of `tokens`.
        The nodes are forgotten again.
        """
        start, chain = self.length, len(tokens)
        fed = [*tokens, *nodes]
        layout = layout_of(start, rows_before(chain, parents))
        self.cache.reserve(start + len(fed))
        rows = self.network(torch.tensor([fed]), self.cache, last_rows=len(nodes) + 1, layout=layout)[0]
        self.rewind(start + chain)
        return list(view(rows))
