"""A network prepared for passes of many rows: the formulas of `network`, fewer operations, quicker products.

PyTorch gives products in float32 to MKL, which on AMD's processors runs at a third of what they can do. oneDNN looks at
what a processor can, not at who made it, but must lay a matrix out first: worth while where thousands of rows are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hilsim.networks.cache_format import stored
from hilsim.networks.network import BlockParameters, Network, NetworkConfig, parameters_of
from hilsim.text.pairs import NEVER, CommonVocabulary

ROWS = 64  # oneDNN's layout is the same for every usual number of rows
Product = Callable[[Tensor], Tensor]
# Attention of one layer: takes in what the rows ask, their keys and values, and mixes what each row sees. It gets the
# layer, its window, queries (rows, heads, head_dim) and keys above values (rows, 2 x kv_heads, head_dim), and returns
# (rows, heads x head_dim).
Mix = Callable[[int, int | None, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Packed:
    """A network's parameters, laid out."""

    config: NetworkConfig
    embedding: Tensor
    cos: Tensor
    sin: Tensor
    layers: tuple[BlockParameters[Tensor, Product], ...]
    norm: Tensor
    head: Product
    columns: CommonVocabulary  # the logits that count

    @property
    def dtype(self) -> torch.dtype:
        return self.cos.dtype

    def logits(self, tokens: Tensor, positions: Tensor, mix: Mix, wanted: Tensor | None = None) -> Tensor:
        """Logits (rows, entries) after `tokens` (rows,), each at its own position; of the rows `wanted` alone."""
        config, columns = self.config, self.columns
        if len(tokens) == 0:
            return self.cos.new_zeros(0, columns.entries)
        if columns.ids is not None:
            tokens = torch.from_numpy(columns.reading)[tokens.clamp(max=columns.entries)]
        elif columns.limit is not None:
            tokens = torch.where(tokens < columns.limit, tokens, columns.unknown)
        x = F.embedding(tokens, self.embedding)
        width, head_dim, queries = (config.hidden_size,), config.head_dim, config.heads
        cos, sin = self.cos[positions], self.sin[positions]
        for index, layer in enumerate(self.layers):
            normed = torch.rms_norm(x, width, layer.attention_norm, config.rms_eps)
            rows = layer.qkv(normed).view(len(x), -1, head_dim)
            qk, v = rows[:, : -config.kv_heads], rows[:, -config.kv_heads :]
            if layer.q_norm is not None and layer.k_norm is not None:
                q = torch.rms_norm(qk[:, :queries], (head_dim,), layer.q_norm, config.rms_eps)
                k = torch.rms_norm(qk[:, queries:], (head_dim,), layer.k_norm, config.rms_eps)
                qk = torch.cat((q, k), dim=1)
            # As in the network: `sin` comes with its first half negated, so rotate_half is a roll.
            qk = torch.addcmul(qk * cos, qk.roll(head_dim // 2, -1), sin)
            kv = stored(torch.cat((qk[:, queries:], v), dim=1), config.cache)
            x = x + layer.output(mix(index, layer.window, qk[:, :queries], kv))
            gate, up = layer.gate_up(torch.rms_norm(x, width, layer.mlp_norm, config.rms_eps)).chunk(2, -1)
            x = x + layer.down(F.silu(gate) * up)
        x = x if wanted is None else x[wanted]
        rows = self.head(torch.rms_norm(x, width, self.norm, config.rms_eps))[:, : columns.width]
        if columns.ids is not None:
            rows = rows[:, torch.from_numpy(columns.places)]
        if columns.never:
            rows[:, list(columns.never)] = float(NEVER)
        return rows


@torch.inference_mode()
def packed(network: Network, context: int, beyond: int = 0, columns: CommonVocabulary | None = None) -> Packed:
    """A network for many rows of conversations of `context` positions, and `beyond` them where drafts go on.

    Without `columns` all its logits count.
    """
    layers = parameters_of(network, lambda norm: norm, product)
    cos, sin = network.rotary(context + beyond, context)
    columns, head = columns or CommonVocabulary(network.config.vocab_size), product(network.head)
    return Packed(network.config, network.embedding.weight, cos, sin, layers, network.norm, head, columns)


def product(linear: nn.Linear) -> Product:
    """The product with a linear layer; by oneDNN in float32, where PyTorch has it, with other last bits."""
    weight, bias = linear.weight.detach(), None if linear.bias is None else linear.bias.detach()
    if weight.dtype != torch.float32 or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return partial(F.linear, weight=weight, bias=bias)
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)

    def by_onednn(x: Tensor) -> Tensor:
        rows = len(x)
        even = rounded(rows)
        x = F.pad(x, (0, 0, 0, even - rows)) if even > rows else x.contiguous()
        found: Tensor = torch.ops.mkldnn._linear_pointwise(x, laid_out, bias, "none", [], "")
        return found[:rows]

    return by_onednn


def rounded(rows: int) -> int:
    """Up to a number of rows that comes often: for every new one oneDNN writes a program, in half a millisecond."""
    step = 4 if rows <= 32 else 16 if rows <= 128 else 64
    return -(-rows // step) * step
