"""The graphs that a decoder is deployed as: a fixed number of rows a pass, a key/value cache of fixed size, a head.

The cache comes in and stays as it is; the new keys and values go out, and the runtime puts them into their place (as in
pytorch/executorch `static_llama.py`). Which positions a row sees is an additive mask (sliding windows too), so one
graph serves prompts, decoding and verifying at its width.

A meta model is a stand-in's module at the deployed model's sizes, made of fake tensors: shapes without
numbers, so that an 8B model is checked in the memory of a laptop. Layers are alike, so it has two of them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from hilsim.compiler.program import Subject
from hilsim.describe.head import Head
from hilsim.describe.model import Model
from hilsim.networks.config import NetworkConfig
from hilsim.networks.heads import TopKSampling, head_of
from hilsim.networks.network import Attention, Block, Network

TWIN_LAYERS = 2
HIDDEN_SCORE = -3e4  # added to what a row must not see: finite, as toolchains want it, and within fp16


class StaticDecoder(nn.Module):
    """A network with its cache as inputs and outputs, and a head."""

    def __init__(self, network: Network, head: nn.Module | None):
        super().__init__()
        self.network = network
        self.layers = nn.ModuleList(StaticLayer(block) for block in network.blocks)  # type: ignore[arg-type]
        self.sampler = head

    def forward(
        self, tokens: Tensor, positions: Tensor, mask: Tensor, keys: Tensor, values: Tensor, *extra: Tensor
    ) -> tuple[Tensor, ...]:
        """One pass of `rows` tokens.

        `tokens`, `positions` (rows,) int64; `mask` (rows, cached + rows) added to the scores; `keys`, `values`
        (layers, kv_heads, cached, head_dim); `extra` what the head wants. Returns the head's outputs, then the new keys
        and values, both (layers, kv_heads, rows, head_dim).
        """
        network = self.network
        cos, sin = network.cos.index_select(0, positions), network.sin.index_select(0, positions)
        x = network.embedding(tokens)
        new_keys, new_values = [], []
        for index, layer in enumerate(self.layers):
            x, key, value = layer(x, cos, sin, mask, keys[index], values[index])
            new_keys.append(key)
            new_values.append(value)
        width, eps = (network.config.hidden_size,), network.config.rms_eps
        logits = network.head(F.rms_norm(x, width, network.norm, eps))
        outputs = logits if self.sampler is None else self.sampler(logits, *extra)
        return (
            *(outputs if isinstance(outputs, tuple) else (outputs,)),
            torch.stack(new_keys),
            torch.stack(new_values),
        )


class StaticLayer(nn.Module):
    """One block over a cache that comes in."""

    def __init__(self, block: Block):
        super().__init__()
        self.block = block
        self.attention = StaticAttention(block.attention)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`x` (rows, hidden); also returns the layer's new keys and values."""
        normed = F.rms_norm(x, self.block.width, self.block.attention_norm, self.block.eps)
        mixed, key, value = self.attention(normed, cos, sin, mask, keys, values)
        return self.block.feed_forward(x + mixed), key, value


class StaticAttention(nn.Module):
    """One layer's attention over cache and new rows, spelled out in products and a softmax."""

    def __init__(self, attention: Attention):
        super().__init__()
        self.heads = attention

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`x` (rows, hidden), `keys` and `values` (kv_heads, cached, head_dim); also returns the new ones."""
        rows, heads, kv_heads, dim = len(x), self.heads.heads, self.heads.kv_heads, self.heads.head_dim
        q, k, v = (part.squeeze(0) for part in self.heads.project(x, cos, sin))
        # Queries of one group share their key head: fold the group into the rows, so that keys are read once.
        group = heads // kv_heads
        q = q.reshape(kv_heads, group * rows, dim)
        scores = torch.matmul(q, torch.cat((keys, k), 1).transpose(1, 2)) * dim**-0.5
        weights = torch.softmax(scores + mask.repeat(group, 1), -1)
        mixed = torch.matmul(weights, torch.cat((values, v), 1)).view(heads, rows, dim)
        return self.heads.output(mixed.transpose(0, 1).reshape(rows, heads * dim)), k, v


def static_inputs(config: NetworkConfig, rows: int, context: int, head: nn.Module | None) -> tuple[Tensor, ...]:
    """Example inputs of a pass of `rows` rows with a cache that makes up `context` with them: an empty cache."""
    cached = max(context - rows, 0)
    past = (config.layers, config.kv_heads, cached, config.head_dim)
    mask = torch.full((rows, cached + rows), HIDDEN_SCORE)
    mask[:, cached:] = torch.triu(torch.full((rows, rows), HIDDEN_SCORE), 1)
    extra = (torch.zeros(rows, 1), torch.ones(1)) if isinstance(head, TopKSampling) else ()
    tokens, positions = torch.zeros(rows, dtype=torch.int64), torch.arange(rows)
    return (tokens, positions, mask, torch.zeros(past), torch.zeros(past), *extra)


def deployed_config(model: Model, stand_in: NetworkConfig | None, context: int) -> NetworkConfig:
    """The deployed model's sizes with the features of a stand-in: biases, norms of queries and keys."""
    shape = model.architecture
    sizes = {
        "vocab_size": model.row_entries,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_positions": context,
        "tied": shape.tied_head,
        "windows": None,
        "rope_scaling": None,  # the tables are constants of the graph, whatever their numbers
        "layers": min(TWIN_LAYERS, shape.layers),
    }
    return NetworkConfig(**sizes) if stand_in is None else replace(stand_in, **sizes)  # type: ignore[arg-type]


def meta_model(name: str, config: NetworkConfig, rows: int, context: int, head: Head) -> Subject:
    """A decoder at deployed size, of fake tensors."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        module = head_of(head)
        network = Network(config)
        # Fake as the weights are: a context that stands for any is as long as a million contexts.
        network.cos, network.sin = (torch.empty(context, 1, config.head_dim) for _ in ("cos", "sin"))
        decoder = StaticDecoder(network, module)
        inputs = static_inputs(config, rows, context, module)
    return Subject(name, decoder, inputs)


def stand_in_program(name: str, network: Network, rows: int, context: int, head: Head) -> Subject:
    """The stand-in itself as it would be deployed, weights and all."""
    network.cos, network.sin = network.rotary(context, context)  # those of this context are what is compiled
    module = head_of(head)
    return Subject(name, StaticDecoder(network, module), static_inputs(network.config, rows, context, module))
