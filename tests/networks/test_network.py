"""The network alone: what a cache may change (nothing), what a row may see (its past), what a pass may not do."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hilsim.networks.config import NetworkConfig
from hilsim.networks.network import KVCache, Network, network_of, weights_of
from hilsim.networks.rope import RopeScaling
from hilsim.networks.weights import Weights, allocated, parameters_of

PLAIN = NetworkConfig(
    vocab_size=37,
    hidden_size=32,
    intermediate_size=48,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=8,
    max_positions=32,
    rope_theta=100.0,
)
KINDS = {
    "plain": PLAIN,
    "windows": replace(PLAIN, windows=(5, None)),
    "everything": replace(
        PLAIN,
        kv_heads=4,
        windows=(3, 4),
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        qk_norm=True,
        tied=True,
        rope_scaling=RopeScaling("yarn", 2.0, 16),
    ),
}
every_kind = pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
EXACT = {"rtol": 0.0, "atol": 1e-9}  # float64: the same sums in another order


def random_network(config: NetworkConfig, dtype: torch.dtype = torch.float64) -> Network:
    """A network with every parameter at random, so that none can be dropped unseen."""
    generator = torch.Generator().manual_seed(1)
    network = Network(config).to(dtype).eval().requires_grad_(False)
    for parameter in network.parameters():
        centre = 1.0 if parameter.dim() == 1 and parameter.shape[0] in (config.hidden_size, config.head_dim) else 0.0
        parameter.normal_(centre, 0.3, generator=generator)
    return network


def tokens_of(rows: int, batch: int = 1, seed: int = 2) -> Tensor:
    return torch.randint(PLAIN.vocab_size, (batch, rows), generator=torch.Generator().manual_seed(seed))


@every_kind
@settings(derandomize=True, deadline=None, max_examples=20)
@given(steps=st.lists(st.tuples(st.integers(1, 9), st.floats(0.0, 1.0)), min_size=1, max_size=8))
def test_a_cache_fed_and_rewound_in_any_way_answers_like_a_fresh_pass(
    config: NetworkConfig, steps: list[tuple[int, float]]
) -> None:
    network = random_network(config)
    cache = KVCache(config, 24, batch=3, dtype=torch.float64)
    held = tokens_of(0, batch=3)
    for seed, (rows, kept) in enumerate(steps):
        cache.rewind(int(kept * cache.length))
        rows = min(rows, 24 - cache.length)
        if rows == 0:
            continue
        fed = tokens_of(rows, batch=3, seed=seed)
        held = torch.cat((held[:, : cache.length], fed), 1)
        torch.testing.assert_close(network(fed, cache), network(held)[:, -rows:], **EXACT)
        assert cache.length == held.shape[1]


@every_kind
def test_prefill_in_chunks_then_single_rows_then_another_continuation(config: NetworkConfig) -> None:
    network = random_network(config, torch.float32)
    told, other = tokens_of(20, batch=2), tokens_of(20, batch=2, seed=3)
    cache = KVCache(config, 20, batch=2)
    bounds = [0, 7, 8, 13, *range(14, 21)]
    rows = [network(told[:, start:end], cache) for start, end in itertools.pairwise(bounds)]
    torch.testing.assert_close(torch.cat(rows, 1), network(told), rtol=0.0, atol=1e-4)
    cache.rewind(6)
    expected = network(torch.cat((told[:, :6], other[:, 6:]), 1))[:, 6:]
    torch.testing.assert_close(network(other[:, 6:], cache), expected, rtol=0.0, atol=1e-4)


@every_kind
def test_verifying_rows_together_equals_decoding_them_one_by_one(config: NetworkConfig) -> None:
    network = random_network(config)
    told = tokens_of(18)
    together, alone = (KVCache(config, 18, dtype=torch.float64) for _ in range(2))
    network(told[:, :12], together)
    network(told[:, :12], alone)
    rows = [network(told[:, index : index + 1], alone) for index in range(12, 18)]
    torch.testing.assert_close(network(told[:, 12:], together), torch.cat(rows, 1), **EXACT)


@every_kind
@pytest.mark.parametrize("changed", [0, 7, 15])
def test_a_row_sees_its_past_and_nothing_of_the_future(config: NetworkConfig, changed: int) -> None:
    network = random_network(config)
    told = tokens_of(16)
    altered = told.clone()
    altered[0, changed] = (altered[0, changed] + 1) % config.vocab_size
    before, after = network(told)[0], network(altered)[0]
    assert torch.equal(before[:changed], after[:changed])
    assert not torch.equal(before[changed], after[changed])


def test_a_window_hides_what_lies_before_it() -> None:
    """Two layers of window w reach back 2 (w - 1) tokens."""
    network = random_network(replace(PLAIN, windows=(4, 4)))
    told = tokens_of(16)
    altered = told.clone()
    altered[0, 2] = (altered[0, 2] + 1) % PLAIN.vocab_size
    for cache in (None, KVCache(PLAIN, 16, dtype=torch.float64)):
        before = network(told, cache)[0]
        if cache is not None:
            cache.rewind(0)
        after = network(altered, cache)[0]
        changed = [row for row in range(16) if not torch.equal(before[row], after[row])]
        assert changed == list(range(2, 2 + 2 * 3 + 1))


@pytest.mark.parametrize("rows", [0, 1, 3, 9, 12])
def test_last_rows_gives_the_same_last_rows(rows: int) -> None:
    network = random_network(PLAIN)
    told = tokens_of(9)
    expected = network(told)[:, max(0, 9 - rows) :]
    torch.testing.assert_close(network(told, last_rows=rows), expected, **EXACT)


def test_a_cache_rewinds_only_into_what_it_holds() -> None:
    cache = KVCache(PLAIN, 16)
    random_network(PLAIN, torch.float32)(tokens_of(5), cache)
    for length in (6, -1):
        with pytest.raises(ValueError, match=f"cannot rewind a cache of 5 positions to {length}"):
            cache.rewind(length)
    cache.rewind(5)
    assert cache.length == 5


@pytest.mark.parametrize(("capacity", "room"), [(8, 8), (99, 32)], ids=["cache", "positions"])
def test_feeding_past_the_room_raises_and_leaves_the_cache_as_it_was(capacity: int, room: int) -> None:
    network = random_network(PLAIN, torch.float32)
    cache = KVCache(PLAIN, capacity)
    held = tokens_of(room - 1)
    network(held, cache)
    with pytest.raises(ValueError, match=rf"{room - 1} \+ 2 positions do not fit into {room}"):
        network(tokens_of(2), cache)
    row = network(tokens_of(1), cache)
    torch.testing.assert_close(row, network(torch.cat((held, tokens_of(1)), 1))[:, -1:], rtol=0.0, atol=1e-4)


def test_a_pass_without_cache_ends_at_the_last_position() -> None:
    with pytest.raises(ValueError, match="positions do not fit into 32"):
        random_network(PLAIN)(tokens_of(33))


@every_kind
def test_weights_laid_out_for_decoding_are_the_same_numbers_in_one_stretch(config: NetworkConfig) -> None:
    network, told = random_network(config), tokens_of(9)
    laid_out = Weights(config, allocated(config, "float64"))
    for name, part in weights_of(network).as_stored().items():
        laid_out.as_stored()[name][...] = part
    again = network_of(laid_out)
    assert again.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())
    places = [matrix.columns for layer in laid_out.layers for matrix in (layer.qkv, layer.output, layer.down)]
    assert all(columns.flags.c_contiguous and columns.ctypes.data % 64 == 0 for columns in places)
    assert again.blocks[0].gate_up.weight.stride() == (1, 2 * config.intermediate_size)
    assert again.blocks[0].gate_up.weight.data_ptr() == laid_out.layers[0].gate_up.columns.ctypes.data
    assert (again.head.weight is again.embedding.weight) == config.tied
    torch.testing.assert_close(again(told), network(told), **EXACT)


@every_kind
def test_the_table_of_parameters_is_that_of_the_network(config: NetworkConfig) -> None:
    shapes = {name: tuple(value.shape) for name, value in Network(config).named_parameters()}
    assert {name: parameter.shape for name, parameter in parameters_of(config).items()} == shapes


def test_parameters_are_counted_once() -> None:
    """Embedding, per layer q k v o, gate up down and two norms, then the last norm and, if it is its own, the head."""
    layer = 32 * (4 + 2 * 2) * 8 + 4 * 8 * 32 + 3 * 32 * 48 + 2 * 32
    assert Network(PLAIN).parameter_count == 37 * 32 + 2 * layer + 32 + 37 * 32
    assert Network(replace(PLAIN, tied=True)).parameter_count == 37 * 32 + 2 * layer + 32


@every_kind
def test_a_training_pass_in_bfloat16_stays_near_float32_and_reaches_every_parameter(config: NetworkConfig) -> None:
    network = random_network(config, torch.float32).train().requires_grad_()
    told = tokens_of(17, batch=2)
    expected = network(told[:, :-1]).log_softmax(-1)
    with torch.autocast("cpu", torch.bfloat16):
        law = network(told[:, :-1]).float().log_softmax(-1)
    F.nll_loss(law.flatten(0, 1), told[:, 1:].flatten()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())
    # bfloat16 keeps 8 bits: a few hundredths on logits of order one.
    assert (law - expected).abs().mean() < 0.05 * expected.abs().mean()
