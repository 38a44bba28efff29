"""A network in NumPy: the formulas of `network` for rows of any sequences, whose attention the caller mixes.

A pass of few rows is bound by the overhead of each operation and by reading the weights, not by arithmetic. NumPy's
overhead is a quarter of PyTorch's, and its OpenBLAS streams a matrix that lies as (in, out) in memory, where
`weights.allocated` puts it, up to twice as fast as PyTorch's MKL on the processors of every maker. PyTorch, which takes
longer to import than a short run, is not needed. Tests hold both ways to compute together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from hilsim.networks.arrays import Array, Ints
from hilsim.networks.cache_format import stored
from hilsim.networks.config import NetworkConfig
from hilsim.networks.weights import Layer, Matrix, Weights
from hilsim.text.pairs import NEVER, CommonVocabulary

# Attention of one layer: takes in what the rows ask, their keys and values, and mixes what each row sees. It gets the
# layer, its window, queries (rows, heads, head_dim), over the root of head_dim, and keys above values (rows, 2 x
# kv_heads, head_dim), and returns (rows, heads x head_dim).
Mix = Callable[[int, int | None, Array, Array], Array]
TOGETHER = 128  # rows of a sequence whose scores are in memory at once


@dataclass(frozen=True)
class Packed:
    """A network's weights for conversations of one context."""

    config: NetworkConfig
    embedding: Array
    cos: Array
    sin: Array
    layers: tuple[Layer, ...]
    norm: Array
    head: Matrix
    columns: CommonVocabulary  # the logits that count

    @cached_property
    def scale(self) -> Array:
        """Of all products of queries and keys: what each head that turns is multiplied by, (heads that turn, 1)."""
        config = self.config
        scales = [config.head_dim**-0.5] * config.heads + [1.0] * config.kv_heads
        return np.array(scales, self.dtype)[:, None]

    @property
    def dtype(self) -> np.dtype[np.floating]:
        return self.cos.dtype

    def logits(
        self,
        tokens: Ints,
        positions: Ints | slice,
        mix: Mix,
        wanted: Ints | slice | None = None,
        done: Callable[[int, Array], None] | None = None,
        ending: Ints | None = None,
    ) -> Array:
        """Logits (rows, entries) after `tokens` (rows,), each at its own position; of the rows `wanted` alone.

        `done` gets each layer's number and output (rows, hidden), which the next layer overwrites. `ending` stands for
        `wanted`, and stops the other rows at the last layer's keys and values: for those who read no more of them.
        """
        columns = self.columns
        if len(tokens) == 0:
            return np.zeros((0, columns.entries), self.cos.dtype)
        if columns.ids is not None:
            tokens = columns.reading[np.minimum(tokens, columns.entries)]
        elif columns.limit is not None:
            tokens = np.where(tokens < columns.limit, tokens, columns.unknown)
        # The exponential of a large number is infinite, and gate / infinity the right 0. What a broken checkpoint makes
        # of it shows in its logits, which are held against `sampling.require_finite`.
        with np.errstate(over="ignore", invalid="ignore"):
            x = self.through(np.ascontiguousarray(self.embedding[tokens]), positions, mix, done, ending)
            x = x if wanted is None else x[wanted]
            rows = self.head(normed(x, self.norm, self.config.rms_eps))
        if rows.shape[1] > columns.width:
            rows = rows[:, : columns.width]
        if columns.ids is not None:
            rows = rows[:, columns.places]
        if columns.never:
            rows[:, list(columns.never)] = NEVER
        return rows

    def through(
        self,
        x: Array,
        positions: Ints | slice,
        mix: Mix,
        done: Callable[[int, Array], None] | None = None,
        ending: Ints | None = None,
    ) -> Array:
        """Rows `x` (rows, hidden), which are overwritten, behind the last layer; only those `ending`, if given."""
        config = self.config
        rows, head_dim, eps = len(x), config.head_dim, config.rms_eps
        queries, kv_heads, inner = config.heads, config.kv_heads, config.intermediate_size
        turning = queries + kv_heads
        cos, sin = halves(self.cos[positions] * self.scale), halves(self.sin[positions] * self.scale)
        for index, layer in enumerate(self.layers):
            qkv = layer.qkv(normed(x, layer.attention_norm, eps)).reshape(rows, -1, head_dim)
            q, kv = qkv[:, :queries], qkv[:, queries:]
            if layer.q_norm is not None and layer.k_norm is not None:
                q[:] = normed(q, layer.q_norm, eps)
                kv[:, :kv_heads] = normed(kv[:, :kv_heads], layer.k_norm, eps)
            # As in the network: `sin` comes with its first half negated, so rotate_half exchanges the halves.
            pairs = halves(qkv)[:, :turning]
            turned = pairs[:, :, ::-1] * sin
            pairs *= cos
            pairs += turned
            mixed = mix(index, layer.window, q, stored(kv, config.cache))
            if ending is not None and index + 1 == len(self.layers):
                x, mixed = x[ending], mixed[ending]
            x += layer.output(mixed)
            both = layer.gate_up(normed(x, layer.mlp_norm, eps))
            gate, up = both[:, :inner], both[:, inner:]
            inside = np.negative(gate)
            np.exp(inside, out=inside)
            inside += 1
            np.divide(gate, inside, out=inside)
            inside *= up
            x += layer.down(inside)
            if done is not None:
                done(index, x)
        return x


def packed(weights: Weights, context: int, beyond: int = 0, columns: CommonVocabulary | None = None) -> Packed:
    """A network for rows of conversations of `context` positions, and `beyond` them where drafts go on.

    Without `columns` all its logits count.
    """
    config, (cos, sin) = weights.config, weights.rotary(context + beyond, context)
    columns = columns or CommonVocabulary(config.vocab_size)
    return Packed(config, weights.embedding, cos, sin, weights.layers, weights.norm, weights.head, columns)


def halves(numbers: Array) -> Array:
    """A view (..., 2, head_dim / 2) of heads (..., head_dim): both parts of each pair that turns."""
    return numbers.reshape(*numbers.shape[:-1], 2, -1)


def normed(x: Array, weight: Array, eps: float) -> Array:
    """RMS norm over the last axis."""
    if len(x) == 1 and x.ndim == 2:  # a third of the operations
        row = x[0]
        one: Array = x * (1 / math.sqrt(row.dot(row) / len(row) + eps))
        one *= weight
        return one
    mean = np.vecdot(x, x)[..., None] / x.shape[-1]
    scaled: Array = x * (1 / np.sqrt(mean + eps))
    scaled *= weight
    return scaled


def softmax(scores: Array) -> Array:
    """The distribution over the last axis, in the memory of `scores`."""
    scores -= np.maximum.reduce(scores, -1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= np.add.reduce(scores, -1, keepdims=True)
    return scores


def attended(q: Array, keys: Array, values: Array, mask: Array | None = None) -> Array:
    """What rows of one sequence mix, (rows, heads x head_dim).

    `q`, scaled: (rows, heads, head_dim); `keys` and `values`: (kv_heads, seen, head_dim). `mask` is added to the scores
    of the last keys: (rows, as many), or None where every row sees all.
    """
    rows, heads, dim = q.shape
    kv_heads, seen, _ = keys.shape
    # Queries of one group share their key head: with the group in the rows, keys are read once.
    if rows == 1 and mask is None:
        alone: Array = softmax(q.reshape(kv_heads, -1, dim) @ keys.swapaxes(1, 2)) @ values
        return alone.reshape(1, -1)
    asked = q.reshape(rows, kv_heads, -1, dim).swapaxes(0, 1).reshape(kv_heads, -1, dim)
    scores = asked @ keys.swapaxes(1, 2)
    if mask is not None:
        scores.reshape(kv_heads, rows, -1, seen)[..., seen - mask.shape[1] :] += mask[:, None]
    mixed: Array = softmax(scores) @ values
    return mixed.reshape(kv_heads, rows, -1, dim).swapaxes(0, 1).reshape(rows, heads * dim)


def attended_in_order(q: Array, keys: Array, values: Array, window: int | None) -> Array:
    """What the last rows of a sequence mix, each seeing itself and what comes before; shapes as in `attended`."""
    rows, before = len(q), keys.shape[1] - len(q)
    if rows == 1:
        first = 0 if window is None else max(0, before + 1 - window)
        return attended(q, keys[:, first:], values[:, first:])
    pieces = []
    for start in range(0, rows, TOGETHER):
        some = q[start : start + TOGETHER]
        first = 0 if window is None else max(0, before + start + 1 - window)
        end = before + start + len(some)
        mask = hidden_later(len(some)) if window is None else hidden_beyond(len(some), end - first, window)
        mask = mask.astype(q.dtype, copy=False)
        pieces.append(attended(some, keys[:, first:end], values[:, first:end], mask))
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


@lru_cache(TOGETHER)
def hidden_later(rows: int) -> Array:
    """Additive mask (rows, rows): no row sees a later one."""
    return np.triu(np.full((rows, rows), -np.inf, np.float32), 1)


def hidden_beyond(rows: int, width: int, window: int) -> Array:
    """Additive mask (rows, width) of the last rows of `width`: none sees a later one, or one outside its window."""
    query, key = np.arange(width - rows, width)[:, None], np.arange(width)
    return np.where((key > query) | (key <= query - window), np.float32(-np.inf), np.float32(0))
