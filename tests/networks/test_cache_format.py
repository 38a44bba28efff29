"""Formats of the key/value cache: what comes back by hand, and all ways of reading a sequence alike through them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hilsim.networks.arrays import Array
from hilsim.networks.cache_format import stored
from hilsim.networks.config import NetworkConfig
from hilsim.networks.network import KVCache
from tests.networks.test_batched import EVERYTHING, assert_same, continuations, one_by_one, some_tokens, told
from tests.networks.test_decoder import BASE, randomised

FORMATS = ["fp16", "fp8", "int8", "int4"]
every_format = pytest.mark.parametrize("cache", FORMATS)


def vectors(width: int = 64) -> Array:
    return np.random.default_rng(1).normal(size=(3, 2, width))


def test_without_a_format_nothing_changes() -> None:
    assert (stored(vectors(), None) == vectors()).all()


def test_values_by_hand() -> None:
    numbers = np.array([[7.0, -7.0, 0.4, 0.6, 0.0, 3.49, 500.0, -500.0]])
    assert stored(numbers[:, :6], "int4").tolist() == [[7, -7, 0, 1, 0, 3]]  # a step is 1
    assert stored(numbers * 0.254, "int8")[0, 6] == pytest.approx(127, rel=1e-3)  # a step is 1 again
    assert stored(numbers, "fp8").tolist() == [[7, -7, 0.40625, 0.625, 0, 3.5, 448, -448]]  # 3 bits of a fraction
    assert stored(np.full((1, 1), 2049.0), "fp16").item() == 2048
    assert (stored(np.zeros((2, 64)), "int4") == 0).all()


def every_float8() -> Array:
    """The 254 numbers of E4M3, by PyTorch."""
    values = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    return values[np.isfinite(values)]


def test_fp8_is_pytorchs_of_every_half_and_every_tie() -> None:
    """Every float16, and beside it the middles of neighbours in E4M3 and what is a last bit to either side of them."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves = halves[np.isfinite(halves)]
    ordered = np.unique(every_float8())
    middles = (ordered[1:] + ordered[:-1]) / 2
    given = np.concatenate((halves, middles, np.nextafter(middles, np.inf), np.nextafter(middles, -np.inf)))
    given = given.astype(np.float32)
    theirs = torch.from_numpy(given).clamp(-448, 448).to(torch.float8_e4m3fn).float().numpy()
    assert (stored(given, "fp8").view(np.int32) == theirs.view(np.int32)).all()
    up = np.trunc(given / 2**-9 + 0.5) * 2**-9  # the control: halves rounded up, and steps of the least numbers alone
    assert (up != theirs).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fp16_is_pytorchs(dtype: str) -> None:
    given = np.random.default_rng(2).normal(size=10_000).astype(dtype) * np.logspace(-9, 6, 10_000).astype(dtype)
    theirs = torch.from_numpy(given).half().to(getattr(torch, dtype)).numpy()
    np.testing.assert_array_equal(stored(given, "fp16"), theirs)
    assert (theirs != given).any()


@pytest.mark.parametrize(("cache", "steps"), [("int8", 127), ("int4", 7)])
@pytest.mark.parametrize("width", [32, 64, 128])
def test_integers_are_off_by_half_a_step_of_their_group(cache: str, steps: int, width: int) -> None:
    numbers = vectors(width)
    group = 64 if cache == "int4" and width > 32 else width
    largest = np.abs(numbers.reshape(3, 2, -1, group)).max(-1, keepdims=True)
    off = np.abs((stored(numbers, cache) - numbers).reshape(3, 2, -1, group))
    # Half a step, and what the scale loses as a half: 2^-11 of the number.
    assert (off <= largest / steps / 2 * 1.001 + largest * 2**-11).all()
    assert off.max() > largest.min() / steps / 8


@every_format
@pytest.mark.parametrize("shape", [BASE, EVERYTHING], ids=["plain", "everything"])
def test_rows_one_by_one_at_once_and_of_many_sequences_are_alike(cache: str, shape: NetworkConfig) -> None:
    network = randomised(replace(shape, cache=cache))
    tokens, said = some_tokens(12).tolist(), some_tokens(4, seed=5).tolist()
    alone = one_by_one(network, tokens, said)
    at_once = network(torch.tensor([tokens + said]), KVCache(network.config, 16, dtype=torch.float64))[0]
    np.testing.assert_allclose(at_once[11:].numpy(), alone, rtol=0, atol=1e-10)
    batched = continuations(network, tokens, [12], 4)
    assert_same(np.stack([batched.step([token])[0] for token in said]), alone[1:])
    parallel = told(network, tokens + said)
    assert parallel.lengths[0] == 16


@every_format
def test_the_format_is_seen_in_the_logits(cache: str) -> None:
    """The control: coarser formats lie further from no format at all."""
    tokens = some_tokens(12).tolist()
    exact = one_by_one(randomised(BASE), tokens, tokens)
    off = {
        name: float((one_by_one(randomised(replace(BASE, cache=name)), tokens, tokens) - exact).max())
        for name in FORMATS
    }
    assert 0 < off["fp16"] < off["int8"] < off["int4"]
    assert off[cache] > 1e-6
