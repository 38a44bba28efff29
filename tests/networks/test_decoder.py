"""NumPy's passes of any number of rows are PyTorch's, for every shape of the family."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hilsim.networks import packed
from hilsim.networks.arrays import Array
from hilsim.networks.config import NetworkConfig
from hilsim.networks.decoder import Decoder
from hilsim.networks.network import KVCache, Network, weights_of
from hilsim.networks.rope import RopeScaling

BASE = NetworkConfig(
    vocab_size=50, hidden_size=32, intermediate_size=48, layers=2, heads=4, kv_heads=2, head_dim=8, max_positions=40
)
SHAPES = {
    "llama": BASE,
    "full heads, tied": replace(BASE, kv_heads=4, tied=True),
    "biases everywhere": replace(BASE, qkv_bias=True, output_bias=True, mlp_bias=True),
    "query and key norms": replace(BASE, qk_norm=True),
    "window in one layer": replace(BASE, windows=(5, None)),
    "yarn": replace(BASE, rope_scaling=RopeScaling("yarn", 4.0, 10)),
}


def randomised(config: NetworkConfig) -> Network:
    network = Network(config).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return network


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_single_rows_equal_one_pass(config: NetworkConfig) -> None:
    network = randomised(config)
    tokens = np.random.default_rng(1).integers(0, 50, 24).tolist()
    expected = network(torch.tensor([tokens]))[0].numpy()
    decoder = Decoder(weights_of(network), 30)
    rows = decoder.feed(tokens[:4], 4)
    rows += [decoder.feed([token])[0] for token in tokens[4:20]]
    rows += decoder.feed(tokens[20:], 4)
    np.testing.assert_allclose(np.stack(rows), expected, atol=1e-9)
    fresh = KVCache(config, 30, dtype=torch.float64)
    network(torch.tensor([tokens]), fresh)
    np.testing.assert_allclose(decoder.cache.keys, fresh.keys.numpy(), rtol=0, atol=1e-9)
    np.testing.assert_allclose(decoder.cache.values, fresh.values.numpy(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_long_passes_attend_in_pieces(config: NetworkConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in one piece; the control is a piece without its mask."""
    network, tokens = randomised(config), np.random.default_rng(2).integers(0, 50, 30).tolist()
    expected = network(torch.tensor([tokens]))[0].numpy()

    def rows() -> list[Array]:
        decoder = Decoder(weights_of(network), 30)
        return decoder.feed(tokens[:7], 7) + decoder.feed(tokens[7:], 23)

    monkeypatch.setattr(packed, "TOGETHER", 4)
    np.testing.assert_allclose(np.stack(rows()), expected, atol=1e-9)
    monkeypatch.setattr(packed, "hidden_later", lambda count: np.zeros((count, count)))
    monkeypatch.setattr(packed, "hidden_beyond", lambda count, width, window: np.zeros((count, width)))
    assert np.abs(np.stack(rows()) - expected).max() > 1e-3


def test_rewinding_leaves_no_trace() -> None:
    decoder = Decoder(weights_of(randomised(BASE)), 30)
    decoder.feed([1, 2, 3])
    expected = decoder.feed([4])[0]
    decoder.rewind(3)
    decoder.feed([9])
    decoder.feed([8, 7])
    decoder.rewind(3)
    np.testing.assert_allclose(decoder.feed([4])[0], expected, atol=1e-12)


def test_a_full_cache_takes_no_more() -> None:
    decoder = Decoder(weights_of(randomised(BASE)), 3)
    decoder.feed([1, 2])
    decoder.feed([3])
    with pytest.raises(ValueError, match="do not fit"):
        decoder.feed([4])
    assert decoder.length == 3


def test_large_gates_are_no_reason_for_warnings(recwarn: pytest.WarningsRecorder) -> None:
    network = randomised(BASE)
    for parameter in network.parameters():
        parameter.mul_(100)
    row = Decoder(weights_of(network.float()), 4).feed([1])[0]
    assert np.isfinite(row).all()
    assert not recwarn.list
