"""A Llama-family decoder in PyTorch with a key/value cache that can be rewound.

Owns the arithmetic of the network and its cache. Reading and writing checkpoint folders is `checkpoint`'s job, and
decoding that of `decoder`, in NumPy; this is for training, for what reads a network's inner states, and for compilers.
One code path serves Llama 2/3, Mistral, Qwen2 and Qwen3: they differ by biases, query/key norms, rotary scaling,
attention window and whether the output head is the embedding - all of them fields of `NetworkConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hilsim.networks.arrays import Array
from hilsim.networks.cache import Cache
from hilsim.networks.cache_format import stored
from hilsim.networks.checkpoint import load_weights, save_weights
from hilsim.networks.config import NetworkConfig
from hilsim.networks.layout import RowLayout
from hilsim.networks.rope import rotary_tables, table_length
from hilsim.networks.weights import EMBEDDING, HEAD, Weights


class KVCache(Cache[Tensor]):
    """A cache of tensors, where PyTorch's default device is."""

    def __init__(
        self,
        config: NetworkConfig,
        capacity: int,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        read: Sequence[int] = (),
    ):
        super().__init__(config, capacity, partial(torch.zeros, dtype=dtype), batch, read)


def view(tensor: Tensor) -> Array:
    """A tensor's own memory as an array."""
    array: Array = tensor.detach().numpy()
    return array


def arrays_of(module: nn.Module) -> dict[str, npt.NDArray[Any]]:
    """The parameters and stored buffers of a module as arrays of the same memory."""
    return {name: view(tensor) for name, tensor in module.state_dict().items()}


def through_cache(numbers: Tensor, cache: str | None) -> Tensor:
    """Keys or values as a cache of that format gives them back."""
    return numbers if cache is None else torch.from_numpy(stored(view(numbers), cache))


class Linear(nn.Linear):
    """A linear layer left as memory comes: weights are loaded, or drawn by `training.fitting.initialise`.

    PyTorch's own initialisation would take longer than loading, and pulls in its compiler on the meta device.
    """

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """An embedding left as memory comes, as `Linear`."""

    def reset_parameters(self) -> None:
        pass


class Attention(nn.Module):
    """Grouped-query attention; query, key and value projections are one matrix, so a decode step is one product."""

    def __init__(self, config: NetworkConfig, window: int | None):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        self.window = window
        self.cache = config.cache
        self.eps = config.rms_eps
        self.qkv = Linear(
            config.hidden_size, (config.heads + 2 * config.kv_heads) * config.head_dim, bias=config.qkv_bias
        )
        self.output = Linear(config.heads * config.head_dim, config.hidden_size, bias=config.output_bias)
        self.q_norm = nn.Parameter(torch.ones(config.head_dim)) if config.qk_norm else None
        self.k_norm = nn.Parameter(torch.ones(config.head_dim)) if config.qk_norm else None

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (batch, heads, rows, head_dim), keys and values (batch, kv_heads, rows, head_dim), rotated."""
        rows = len(cos)
        batch = len(x) // rows
        heads, kv_heads, dim = self.heads, self.kv_heads, self.head_dim
        qkv = self.qkv(x).view(batch, rows, heads + 2 * kv_heads, dim)
        qk, v = qkv[:, :, : heads + kv_heads], qkv[:, :, heads + kv_heads :]
        if self.q_norm is not None and self.k_norm is not None:
            q = F.rms_norm(qk[:, :, :heads], (dim,), self.q_norm, self.eps)
            k = F.rms_norm(qk[:, :, heads:], (dim,), self.k_norm, self.eps)
            qk = torch.cat((q, k), dim=2)
        # rotate_half(x) * sin == roll(x, dim/2) * (sin with its first half negated); `sin` comes so prepared.
        qk = torch.addcmul(qk * cos, qk.roll(dim // 2, -1), sin).transpose(1, 2)
        return qk[:, :heads], qk[:, heads:], v.transpose(1, 2)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        cached: tuple[Tensor, Tensor] | None,
        layout: RowLayout | None = None,
    ) -> Tensor:
        """`x`: (batch x rows, hidden); `cached`: this layer's keys and values, of which the last `rows` are to be
        written, or None to attend within `x` alone. `cos` and `sin` have one entry a row. A `layout` says what each
        row sees where that is not all before it."""
        rows = len(cos)
        batch = len(x) // rows
        heads, kv_heads, dim = self.heads, self.kv_heads, self.head_dim
        q, k, v = self.project(x, cos, sin)
        if cached is None:
            mask = None if self.window is None or rows <= self.window else causal_mask(rows, rows, self.window, x)
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=heads != kv_heads
            )
        else:
            keys, values = cached
            keys.narrow(2, -rows, rows).copy_(through_cache(k, self.cache))
            values.narrow(2, -rows, rows).copy_(through_cache(v, self.cache))
            if self.window is not None and layout is None:
                seen = rows - 1 + self.window  # by the first row of `x` or a later one
                keys, values = keys[:, :, -seen:], values[:, :, -seen:]
            # Queries of one group share their key head: fold the group into the rows, so that keys are read once.
            group = heads // kv_heads
            q = q.reshape(batch, kv_heads, group * rows, dim)
            if layout is not None:
                mask = torch.from_numpy(layout.mask(self.window)).to(q).repeat(group, 1)
            else:
                mask = None if rows == 1 else causal_mask(rows, keys.shape[2], self.window, q).repeat(group, 1)
            mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask).view(batch, heads, rows, dim)
        return self.output(mixed.transpose(1, 2).reshape(batch * rows, heads * dim))  # type: ignore[no-any-return]


def causal_mask(rows: int, width: int, window: int | None, like: Tensor) -> Tensor:
    """Additive mask (rows, width): the last `rows` of `width` positions each see themselves and what came before."""
    query = torch.arange(width - rows, width, device=like.device)[:, None]
    key = torch.arange(width, device=like.device)[None, :]
    hidden = key > query
    if window is not None:
        hidden |= key <= query - window
    return torch.zeros(rows, width, dtype=like.dtype, device=like.device).masked_fill_(hidden, -math.inf)


class Block(nn.Module):
    """Attention and SwiGLU feed-forward, each behind an RMS norm and added to the residual stream."""

    def __init__(self, config: NetworkConfig, window: int | None):
        super().__init__()
        self.width = (config.hidden_size,)
        self.eps = config.rms_eps
        self.attention_norm = nn.Parameter(torch.ones(config.hidden_size))
        self.attention = Attention(config, window)
        self.mlp_norm = nn.Parameter(torch.ones(config.hidden_size))
        self.gate_up = Linear(config.hidden_size, 2 * config.intermediate_size, bias=config.mlp_bias)
        self.down = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        cached: tuple[Tensor, Tensor] | None,
        layout: RowLayout | None = None,
    ) -> Tensor:
        normed = F.rms_norm(x, self.width, self.attention_norm, self.eps)
        return self.feed_forward(x + self.attention(normed, cos, sin, cached, layout))

    def feed_forward(self, x: Tensor) -> Tensor:
        """The second half of the block, residual included."""
        gate, up = self.gate_up(F.rms_norm(x, self.width, self.mlp_norm, self.eps)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)  # type: ignore[no-any-return]


class Network(nn.Module):
    """The whole decoder: token ids in, logits out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.notes: tuple[str, ...] = ()  # what its checkpoint folder left to say
        self.folder: Path | None = None  # that it was loaded from
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.hidden_size)
        windows = config.windows or (None,) * config.layers
        self.blocks = nn.ModuleList(Block(config, window) for window in windows)
        self.norm = nn.Parameter(torch.ones(config.hidden_size))
        self.head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight
        for long in {False, config.long(config.max_positions)}:
            for name, table in zip(table_names(long), self._tables(0, long=long), strict=True):
                self.register_buffer(name, table, persistent=False)

    def forward(
        self,
        tokens: Tensor,
        cache: KVCache | None = None,
        last_rows: int | None = None,
        layout: RowLayout | None = None,
    ) -> Tensor:
        """Logits (batch, rows, vocabulary) for `tokens` (batch, rows), which follow what `cache` holds.

        With a cache the new keys and values are appended to it. `last_rows` limits the output head to the last
        rows, as a runtime does in prefill. With a `layout` (and a cache) the rows are a tree; their keys and values
        are appended in the order of `tokens`, so only a rewind to the tree's root makes the cache a sequence again.
        """
        start = 0 if cache is None else cache.length
        end = start + tokens.shape[1]
        room = self.config.max_positions if cache is None else min(cache.capacity, self.config.max_positions)
        if layout is not None and cache is not None:  # a tree holds more rows than it reaches positions
            room = cache.capacity if int(layout.positions.max()) < self.config.max_positions else 0
        if end > room:
            raise ValueError(f"{start} + {end - start} positions do not fit into {room}")
        where = slice(start, end) if layout is None else layout.positions
        cos, sin = self.rotary(end, end if cache is None else cache.context)
        cos, sin = cos[where], sin[where]
        layers = repeat(None) if cache is None else cache.layers(end)
        # Rows of all sequences lie in one matrix: two dimensions are what a product is fastest with.
        x = self.embedding(tokens.flatten())
        for index, (block, cached) in enumerate(zip(self.blocks, layers, strict=False)):
            x = block(x, cos, sin, cached, layout)
            if cache is not None and index in cache.read:
                cache.states[:, start:end, cache.read[index]] = x.view(len(tokens), end - start, -1)
        if cache is not None:
            cache.length = end
        x = x.view(len(tokens), end - start, self.config.hidden_size)
        if last_rows is not None:
            x = x[:, max(0, end - start - last_rows) :]
        return self.head(F.rms_norm(x, (self.config.hidden_size,), self.norm, self.config.rms_eps))  # type: ignore[no-any-return]

    def rotary(self, positions: int, context: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of at least `positions` positions, (some, 1, head_dim), for passes in such a context."""
        long = self.config.long(context)
        names = table_names(long)
        cos, sin = getattr(self, names[0]), getattr(self, names[1])
        if table_length(positions, len(cos), self.config.max_positions) > len(cos):
            with torch.inference_mode(False):  # what grows in such a mode could not be used outside
                cos, sin = (table.to(cos) for table in self._tables(positions, len(cos), long=long))
            setattr(self, names[0], cos)
            setattr(self, names[1], sin)
        return cos, sin

    def _tables(self, positions: int, held: int = 0, *, long: bool) -> tuple[Tensor, Tensor]:
        config = self.config
        length = table_length(positions, held, config.max_positions)
        cos, sin = rotary_tables(config.head_dim, config.rope_theta, config.rope_scaling, length, long=long)
        return torch.from_numpy(cos), torch.from_numpy(sin)

    @property
    def parameter_count(self) -> int:
        """Distinct trainable numbers; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


def table_names(long: bool) -> tuple[str, str]:
    """The buffers that hold a network's rotary tables."""
    return ("cos_long", "sin_long") if long else ("cos", "sin")


def network_of(weights: Weights) -> Network:
    """The network of some weights, in the same memory, ready to compute with."""
    with torch.device("meta"):
        network = Network(weights.config)
    tensors = {name: torch.from_numpy(array) for name, array in weights.arrays.items()}
    if weights.config.tied:
        tensors[HEAD] = tensors[EMBEDDING]
    network.load_state_dict(tensors, assign=True)
    if weights.config.tied:  # one parameter, not two of one memory
        network.head.weight = network.embedding.weight
    network.notes, network.folder = weights.notes, weights.folder
    return network.to(network.norm.dtype).eval().requires_grad_(False)


def weights_of(network: Network) -> Weights:
    """The weights of a network, in the same memory, to decode with."""
    return Weights(network.config, arrays_of(network), network.notes, network.folder)


def load_network(folder: Path, dtype: npt.DTypeLike = "float32", cache: str | None = None) -> Network:
    """The network of a checkpoint folder, as `checkpoint.load_weights` reads it."""
    return network_of(load_weights(folder, dtype, cache))


def save_network(network: Network, folder: Path, *, end_token: int, begin_token: int, pad_token: int) -> None:
    """Write the folder of a network, as `checkpoint.save_weights` does."""
    save_weights(weights_of(network), folder, end_token=end_token, begin_token=begin_token, pad_token=pad_token)
