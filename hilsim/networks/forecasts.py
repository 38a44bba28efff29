"""Forecast tokens of self-speculative decoding: trained embeddings behind a token that predict the tokens to come.

`embeddings` (forecast tokens, hidden) are read like any token's; `keys` and `values` (layers, kv_heads, prefix,
head_dim) are the forecast prefix: further positions of every layer's cache that forecast tokens alone attend to
(`forecast-prefix` in Genie). The network itself is not changed, so its own rows are what they were.

Folder: config.json with `model_type` "hilsim_forecasts" and the digest of the target's weights, model.safetensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hilsim.describe.config_json import CONFIG, read_object, require_folder
from hilsim.errors import CheckpointError, Fault
from hilsim.files import WEIGHTS, weights_digest
from hilsim.networks.arrays import Array, Flags, Ints
from hilsim.networks.cache import Cache
from hilsim.networks.decoder import Decoder
from hilsim.networks.layout import RowLayout, layout_of, rows_before
from hilsim.networks.network import Network, arrays_of, view
from hilsim.networks.tensors import load_tensors, save_folder
from hilsim.networks.weights import Weights

MODEL_TYPE = "hilsim_forecasts"
TRAIN = "Train them for this target: python -m hilsim train --forecasts."


class Forecasts(nn.Module):
    """The trained parts over a network: embeddings, and keys and values of the forecast prefix."""

    def __init__(self, network: Network, tokens: int, prefix: int):
        super().__init__()
        self.over, config = (network,), network.config  # in a tuple: not a part of this module
        cached = (config.layers, config.kv_heads, prefix, config.head_dim)
        self.embeddings = nn.Parameter(torch.zeros(tokens, config.hidden_size))
        self.keys, self.values = nn.Parameter(torch.zeros(cached)), nn.Parameter(torch.zeros(cached))

    @property
    def tokens(self) -> int:
        """Forecast tokens after a node."""
        return len(self.embeddings)

    @property
    def network(self) -> Network:
        return self.over[0]

    def embedded(self, tokens: Sequence[int]) -> Tensor:
        """Rows (tokens, hidden) of tokens, of which -1 is the first forecast token, -2 the second."""
        assert min(tokens) >= -self.tokens, f"more forecast tokens than the {self.tokens} that were trained"
        return torch.cat((self.network.embedding.weight, self.embeddings.flip(0)))[list(tokens)]

    def layout(self, plain: RowLayout, forecast: Flags) -> RowLayout:
        """A layout with the prefix before all positions; `forecast` (rows,) says which rows attend to it."""
        prefix = self.keys.shape[2]
        near = np.full(prefix, plain.positions.max())  # within every attention window
        seen = np.concatenate((np.repeat(forecast[:, None], prefix, 1), plain.visible), axis=1)
        return RowLayout(plain.positions, np.concatenate((near, plain.key_positions)), seen)

    def layout_at(self, cached: int, at: Ints) -> RowLayout:
        """Forecast tokens after each of the places `at` in a cache, which see what is cached up to there."""
        count = self.tokens
        plain = layout_of(cached, [row - 1 if row % count else -1 for row in range(len(at) * count)])
        places = np.repeat(at, count)
        plain.visible[:, :cached] = np.arange(cached) <= places[:, None]
        positions = places + 1 + np.tile(np.arange(count), len(at))
        plain = RowLayout(positions, np.concatenate((np.arange(cached), positions)), plain.visible)
        return self.layout(plain, np.ones(len(positions), bool))

    def through(self, x: Tensor, cache: Cache[Any], layout: RowLayout) -> tuple[Tensor, list[Tensor]]:
        """Rows `x` (batch x rows, hidden) through every layer, behind what a cache holds, which stays as it is.

        Returns logits (batch, rows, vocabulary), and by layer keys and values (2, batch, kv_heads, rows, head_dim).
        """
        network, rows, batch = self.network, len(layout.positions), cache.keys.shape[1]
        config = network.config
        cos, sin = (table[layout.positions] for table in network.rotary(cache.length + rows, cache.context))
        written_rows = []
        room = x.new_zeros(batch, config.kv_heads, rows, config.head_dim)
        for index, block in enumerate(network.blocks):
            keys, values = (
                torch.cat((prefix[index].expand(batch, -1, -1, -1), torch.as_tensor(known[index]), room), dim=2)
                for prefix, known in (
                    (self.keys, cache.keys[:, :, :, : cache.length]),
                    (self.values, cache.values[:, :, :, : cache.length]),
                )
            )
            x = block(x, cos, sin, (keys, values), layout)
            written_rows.append(torch.stack((keys[:, :, -rows:], values[:, :, -rows:])))
        x = F.rms_norm(x, (config.hidden_size,), network.norm, config.rms_eps)
        return network.head(x).view(batch, rows, -1), written_rows


class ForecastingDecoder(Decoder):
    """A sequence under way whose trees may hold forecast tokens."""

    def __init__(self, weights: Weights, capacity: int, forecasts: Forecasts):
        super().__init__(weights, capacity)
        self.forecasts = forecasts

    @torch.inference_mode()
    def feed_tree(self, tokens: Sequence[int], nodes: Sequence[int], parents: Sequence[int]) -> list[Array]:
        """As `Decoder.feed_tree`; nodes below 0 are forecast tokens."""
        if min(nodes, default=0) >= 0:
            return super().feed_tree(tokens, nodes, parents)
        start, chain = self.length, len(tokens)
        fed = [*tokens, *nodes]
        layout = self.forecasts.layout(layout_of(start, rows_before(chain, parents)), np.array(fed) < 0)
        x = self.forecasts.embedded(fed)
        logits, written_rows = self.forecasts.through(x, self.cache, layout)
        self.cache.reserve(start + chain)
        for index, (keys, values) in enumerate(written_rows):
            self.cache.keys[index, :, :, start : start + chain] = view(keys[:, :, :chain])
            self.cache.values[index, :, :, start : start + chain] = view(values[:, :, :chain])
        self.cache.length = start + chain
        return list(view(logits[0, chain - 1 :]))


def load_forecasts(folder: Path, network: Network, target: Path) -> Forecasts:
    """The forecast tokens in a folder, for the network of the folder `target`. Raises `CheckpointError`."""
    require_folder(folder)
    document = read_object(folder / CONFIG)
    if document.get("model_type") != MODEL_TYPE:
        found = f"model_type {document.get('model_type')!r}"
        raise CheckpointError([Fault(str(folder / CONFIG), "model_type", found, repr(MODEL_TYPE), TRAIN)])
    if document.get("target_digest") != (digest := weights_digest(target)):
        found = f"forecast tokens of another target (weights {str(document.get('target_digest'))[:12]})"
        raise CheckpointError(
            [Fault(str(folder / CONFIG), "target_digest", found, f"{target}, {str(digest)[:12]}", TRAIN)]
        )
    tensors = load_tensors(folder)
    sizes = {key: document.get(key) for key in ("forecast_tokens", "prefix")}
    if not all(isinstance(size, int) and 0 <= size <= 64 for size in sizes.values()):
        raise CheckpointError(
            [Fault(str(folder / CONFIG), "forecast_tokens, prefix", str(sizes), "two numbers up to 64")]
        )
    forecasts = Forecasts(network, int(document["forecast_tokens"]), int(document["prefix"]))
    wanted = {name: tuple(tensor.shape) for name, tensor in forecasts.state_dict().items()}
    if (found_shapes := {name: tensor.shape for name, tensor in tensors.items()}) != wanted:
        raise CheckpointError(
            [Fault(str(folder / WEIGHTS), "", str(found_shapes), f"tensors of shapes {wanted}", TRAIN)]
        )
    forecasts.load_state_dict({name: tensor.as_tensor() for name, tensor in tensors.items()})
    return forecasts.to(network.cos.dtype).requires_grad_(False)


def save_forecasts(forecasts: Forecasts, folder: Path, target: Path) -> None:
    """Write the folder; weights as float16, to which they should have been rounded before."""
    document = {
        "model_type": MODEL_TYPE,
        "target_digest": weights_digest(target),
        "forecast_tokens": forecasts.tokens,
        "prefix": forecasts.keys.shape[2],
    }
    save_folder(folder, document, arrays_of(forecasts))
