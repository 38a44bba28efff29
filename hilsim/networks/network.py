"""A Llama-family decoder in PyTorch with a key/value cache that can be rewound.

Owns the arithmetic of the network and its cache. Reading and writing checkpoint folders is `checkpoint`'s job.
One code path serves Llama 2/3, Mistral, Qwen2 and Qwen3: they differ by biases, query/key norms, rotary scaling,
attention window and whether the output head is the embedding - all of them fields of `NetworkConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hilsim.networks.cache_format import stored
from hilsim.networks.rope import RopeScaling, rotary_tables

LINE = 64  # bytes that a processor reads at once; matrices begin at a multiple of it
FIRST_POSITIONS = 1024  # rotary tables begin so long; a context that needs more makes them longer


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of one network; names follow Hugging Face's `config.json` where the idea is the same."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rms_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tied: bool = False
    windows: tuple[int | None, ...] | None = None  # attention window per layer; None: every layer sees everything
    cache: str | None = None  # number format of the key/value cache; None: that of the network itself

    def long(self, context: int) -> bool:
        """Whether a pass in a context of so many positions turns by LongRoPE's long factors."""
        return self.rope_scaling is not None and self.rope_scaling.long(context)


class KVCache:
    """Keys and values of a batch of equally long sequences, allocated once and rewound by forgetting.

    `keys` and `values` have shape (layers, batch, kv_heads, capacity, head_dim); positions [0, length) are valid.
    `context` is the capacity that it was made with. LongRoPE picks its factors by it, as deployed runtimes do, so that
    no key has to be turned again when a conversation grows.

    `states` (batch, capacity, len(read) x hidden) has the outputs of the layers in `read`, which draft heads read.
    """

    def __init__(
        self,
        config: NetworkConfig,
        capacity: int,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        read: Sequence[int] = (),
    ):
        shape = (config.layers, batch, config.kv_heads, capacity, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype)
        self.values = torch.zeros(shape, dtype=dtype)
        self.states = torch.zeros((batch, capacity, len(read) * config.hidden_size), dtype=dtype)
        self.read = {layer: slice(*(config.hidden_size * end for end in (i, i + 1))) for i, layer in enumerate(read)}
        self.capacity = self.context = capacity
        self.length = 0

    def rewind(self, length: int) -> None:
        """Forget every position from `length` on. What lies beyond is overwritten by the next pass."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot rewind a cache of {self.length} positions to {length}")
        self.length = length

    def reserve(self, capacity: int) -> None:
        """Make room for at least `capacity` positions."""
        if capacity > self.capacity:
            more = (0, 0, 0, capacity - self.capacity)
            self.keys, self.values, self.capacity = F.pad(self.keys, more), F.pad(self.values, more), capacity
            self.states = F.pad(self.states, more)

    def layers(self, end: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values of positions [0, end), layer by layer, as views: what is written there stays."""
        return zip(self.keys[:, :, :, :end].unbind(), self.values[:, :, :, :end].unbind(), strict=True)


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
            keys.narrow(2, -rows, rows).copy_(stored(k, self.cache))
            values.narrow(2, -rows, rows).copy_(stored(v, self.cache))
            if self.window is not None and layout is None:
                seen = rows - 1 + self.window  # by the first row of `x` or a later one
                keys, values = keys[:, :, -seen:], values[:, :, -seen:]
            # Queries of one group share their key head: fold the group into the rows, so that keys are read once.
            group = heads // kv_heads
            q = q.reshape(batch, kv_heads, group * rows, dim)
            if layout is not None:
                mask = layout.mask(self.window, q).repeat(group, 1)
            else:
                mask = None if rows == 1 else causal_mask(rows, keys.shape[2], self.window, q).repeat(group, 1)
            mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask).view(batch, heads, rows, dim)
        return self.output(mixed.transpose(1, 2).reshape(batch * rows, heads * dim))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class RowLayout:
    """Layout of a pass whose rows are no plain sequence: each row's position, and which rows it attends to."""

    positions: Tensor  # (rows,)
    key_positions: Tensor  # (cached + rows,)
    visible: Tensor  # (rows, cached + rows), bool

    def mask(self, window: int | None, like: Tensor) -> Tensor:
        """Additive mask (rows, cached + rows)."""
        visible = self.visible
        if window is not None:
            visible = visible & (self.key_positions[None, :] > self.positions[:, None] - window)
        return torch.zeros(visible.shape, dtype=like.dtype).masked_fill_(~visible, -math.inf)


def layout_of(cached: int, parents: Sequence[int]) -> RowLayout:
    """Rows below `cached` positions; each sees these, itself and its ancestors. `parents` are rows, -1 the cache."""
    rows = len(parents)
    visible = torch.zeros(rows, cached + rows, dtype=torch.bool)
    visible[:, :cached] = True
    depths: list[int] = []
    for row, parent in enumerate(parents):
        depths.append(0 if parent < 0 else depths[parent] + 1)
        if parent >= 0:
            visible[row] |= visible[parent]
        visible[row, cached + row] = True
    positions = cached + torch.tensor(depths)
    return RowLayout(positions, torch.cat((torch.arange(cached), positions)), visible)


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


Vector = TypeVar("Vector")
Matrix = TypeVar("Matrix")


@dataclass(frozen=True)
class BlockParameters(Generic[Vector, Matrix]):
    """One block's parameters as another way to compute it wants them."""

    attention_norm: Vector
    qkv: Matrix
    q_norm: Vector | None
    k_norm: Vector | None
    output: Matrix
    mlp_norm: Vector
    gate_up: Matrix
    down: Matrix
    window: int | None


def parameters_of(
    network: Network, vector: Callable[[Tensor], Vector], matrix: Callable[[nn.Linear], Matrix]
) -> tuple[BlockParameters[Vector, Matrix], ...]:
    """The parameters of every block, norms and linear layers each turned into something else."""
    return tuple(
        BlockParameters(
            attention_norm=vector(block.attention_norm),
            qkv=matrix(block.attention.qkv),
            q_norm=None if block.attention.q_norm is None else vector(block.attention.q_norm),
            k_norm=None if block.attention.k_norm is None else vector(block.attention.k_norm),
            output=matrix(block.attention.output),
            mlp_norm=vector(block.mlp_norm),
            gate_up=matrix(block.gate_up),
            down=matrix(block.down),
            window=block.attention.window,
        )
        for block in network.blocks
        if isinstance(block, Block)
    )


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
            for name, table in zip(table_names(long), self._tables(FIRST_POSITIONS, long=long), strict=True):
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
        """Cosines and sines of at least `positions` positions, (some, 1, head_dim), for passes in such a context.

        The tables are kept and grow: a config.json may allow a million positions of which a run uses a thousand.
        """
        long = self.config.long(context)
        names = table_names(long)
        cos, sin = getattr(self, names[0]), getattr(self, names[1])
        if min(positions, self.config.max_positions) > len(cos):
            more = max(positions, 2 * len(cos))
            with torch.inference_mode(False):  # what grows in such a mode could not be used outside
                cos, sin = (table.to(cos) for table in self._tables(more, long=long))
            setattr(self, names[0], cos)
            setattr(self, names[1], sin)
        return cos, sin

    def _tables(self, positions: int, *, long: bool) -> tuple[Tensor, Tensor]:
        config, most = self.config, min(positions, self.config.max_positions)
        return rotary_tables(config.head_dim, config.rope_theta, config.rope_scaling, most, long=long)

    def lay_out(self) -> Network:
        """Keep every matrix as (in, out) in one stretch of memory; values and shapes stay as they are.

        The product with a few rows then streams long runs, a third sooner than of (out, in). NumPy asks the system for
        large pages where a stretch is longer than 4 MiB, so that the processor looks few addresses up.
        """
        linears = [module for module in self.modules() if isinstance(module, nn.Linear)]
        numbers = [-(-linear.weight.numel() // LINE) * LINE for linear in linears]
        kind = self.norm.dtype
        stretch = np.empty(sum(numbers) * kind.itemsize + LINE, np.uint8)
        stretch = stretch[-stretch.ctypes.data % LINE :][: sum(numbers) * kind.itemsize]
        memory, begin = torch.from_numpy(stretch).view(kind), 0
        for linear, taken in zip(linears, numbers, strict=True):
            piece = memory[begin : begin + linear.weight.numel()]
            weight = piece.view(linear.in_features, linear.out_features).t()
            linear.weight.data = weight.copy_(linear.weight.detach())
            begin += taken
        return self

    @property
    def parameter_count(self) -> int:
        """Distinct trainable numbers; a tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


def table_names(long: bool) -> tuple[str, str]:
    """The buffers that hold a network's rotary tables."""
    return ("cos_long", "sin_long") if long else ("cos", "sin")
