"""Rounded numbers against theory: steps and errors, scales, outliers, statistics of inputs, networks as they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hilsim.describe.rounding import COMPARED, FLOAT, Rounding
from hilsim.networks.fake_quantised import (
    InputStatistics,
    inputs_of,
    logits_of,
    matrices,
    rounded_network,
    rounded_weights,
    rounds_inputs,
)
from hilsim.networks.network import Network, load_network
from hilsim.networks.scales import in_steps, scale_of, steps_of
from hilsim.places import DATA

TENSOR = Rounding("t", scales="tensor")
CHANNEL = Rounding("c", scales="channel")
GROUP = Rounding("g", scales="group", group=16)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def spread(rows: int = 32, columns: int = 64) -> Tensor:
    """A matrix whose outputs have sizes of their own."""
    return drawn(rows, columns) * torch.logspace(-2, 1, rows)[:, None]


def squared(weight: Tensor, bits: int, rounding: Rounding) -> float:
    return float((rounded_weights(weight, bits, rounding) - weight).double().square().mean())


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("rounding", [TENSOR, CHANNEL, GROUP])
def test_an_error_is_at_most_half_a_step_and_rounding_twice_changes_nothing(bits: int, rounding: Rounding) -> None:
    weight = spread()
    size = {"tensor": weight.numel(), "channel": 64, "group": 16}[rounding.scales]
    groups = weight.reshape(-1, size)
    step = groups.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    made = rounded_weights(weight, bits, rounding)
    assert bool(((made.reshape(-1, size) - groups).abs() <= step * 0.5001).all())
    assert torch.allclose(rounded_weights(made, bits, rounding), made, rtol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_more_scales_and_more_bits_round_less(bits: int) -> None:
    for weight in (spread(), drawn(32, 64, seed=3)):
        errors = [squared(weight, bits, rounding) for rounding in (GROUP, CHANNEL, TENSOR)]
        assert errors == sorted(errors)
        assert squared(weight, 8, CHANNEL) < squared(weight, 4, CHANNEL)
    assert squared(spread(), bits, TENSOR) > 5 * squared(spread(), bits, CHANNEL)  # what one scale for all costs


def test_the_error_of_eight_bits_is_that_of_uniform_noise() -> None:
    weight = drawn(256, 256)
    step = float(weight.abs().max()) / 127
    assert squared(weight, 8, TENSOR) == pytest.approx(step**2 / 12, rel=0.05)


def test_scales_follow_the_numbers_and_zero_stays_zero() -> None:
    weight = spread()
    for rounding in (TENSOR, CHANNEL, GROUP):
        assert torch.equal(rounded_weights(weight * 8, 4, rounding), rounded_weights(weight, 4, rounding) * 8)
        assert torch.equal(rounded_weights(weight * 0, 4, rounding), weight * 0)
    assert torch.equal(rounded_weights(weight, 32, CHANNEL), weight)
    assert torch.equal(rounded_weights(weight, 16, CHANNEL), weight.half().float())


def test_steps_are_those_of_the_bits() -> None:
    assert [steps_of(bits) for bits in (2, 4, 8, 16)] == [1, 7, 127, 32767]
    x = np.array([[7.0, 3.4, -3.6, 0.0]])
    assert in_steps(x, scale_of(x, 7, -1), 7).tolist() == [[7.0, 3.0, -4.0, 0.0]]
    assert in_steps(2 * x, scale_of(x, 7, -1), 7).max() == 7  # beyond the last step


def seen(x: Tensor) -> InputStatistics:
    return InputStatistics("x", float(x.abs().max()), 1.0, 3.0, 0.0, x.abs().amax(0).double().numpy())


def test_one_channel_that_stands_out_ruins_a_scale_for_all() -> None:
    x, weight = drawn(200, 32), drawn(16, 32, seed=1)
    x[:, 5] *= 1000
    weight[:, 5] /= 1000  # it matters as much as the others
    wanted = x @ weight.T

    def error(ranges: str, activations: str = "int8") -> float:
        rounds = rounds_inputs(Rounding("a", activations=activations, ranges=ranges), seen(x))  # type: ignore[arg-type]
        assert rounds is not None
        return float((rounds(x) @ weight.T - wanted).norm() / wanted.norm())

    assert error("tensor") > 0.5
    assert error("row") > 0.5
    assert error("channel") < 0.02
    assert error("tensor", "int16") < 0.05
    x[:, 5] /= 1000  # the control: without it one scale does
    weight[:, 5] *= 1000
    wanted = x @ weight.T
    assert error("tensor") < 0.02


@pytest.fixture(scope="module")
def network() -> Network:
    return load_network(DATA / "models" / "draft-0.8m")


TEXT = list(range(3, 120))


def test_statistics_of_inputs_are_those_of_the_numbers(network: Network) -> None:
    before = logits_of(network, TEXT)
    found = inputs_of(network, [TEXT[:60], TEXT[60:]])
    assert found.keys() == matrices(network).keys()
    assert np.array_equal(logits_of(network, TEXT), before)  # nothing is left behind
    kept: list[Tensor] = []
    hook = matrices(network)["layer 2 down"].register_forward_pre_hook(lambda _, given: kept.append(given[0].clone()))
    logits_of(network, TEXT[:60])
    logits_of(network, TEXT[60:])
    hook.remove()
    x = torch.cat([one.reshape(-1, one.shape[-1]) for one in kept]).double()
    one = found["layer 2 down"]
    centred = x - x.mean()
    assert one.largest == pytest.approx(float(x.abs().max()))
    assert one.kurtosis == pytest.approx(float((centred**4).mean() / (centred**2).mean() ** 2), rel=1e-6)
    assert np.allclose(one.by_channel, x.abs().amax(0).numpy())
    assert one.spread > 10


def test_a_network_in_float32_is_as_it_was_and_a_rounded_one_is_not(network: Network) -> None:
    inputs, wanted = inputs_of(network, [TEXT]), logits_of(network, TEXT)
    for rounding in COMPARED:
        found = logits_of(rounded_network(network, rounding, inputs), TEXT)
        assert np.array_equal(found, wanted) == (rounding is FLOAT)
    assert np.array_equal(logits_of(network, TEXT), wanted)


def test_a_shared_embedding_stays_and_caches_are_rounded(network: Network) -> None:
    rounded = rounded_network(network, replace(FLOAT, head_bits=4), {})
    assert torch.equal(rounded.embedding.weight, network.embedding.weight)
    assert not torch.equal(rounded.head.weight, network.head.weight)
    cached = rounded_network(network, replace(FLOAT, cache="int4"), {})
    through = load_network(DATA / "models" / "draft-0.8m", cache="int4")
    assert np.array_equal(logits_of(cached, TEXT), logits_of(through, TEXT))
    assert not np.array_equal(logits_of(cached, TEXT), logits_of(network, TEXT))
