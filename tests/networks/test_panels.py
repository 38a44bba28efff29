"""Products with weights in panels are the products, whatever the number of rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hilsim.networks import panels
from hilsim.networks.batched import Parallel
from hilsim.networks.network import weights_of
from hilsim.networks.packed import packed
from hilsim.networks.panels import COLUMNS, SMALL, Panels, fitting_rows, in_panels, worth_panels
from hilsim.networks.weights import Matrix
from tests.networks.test_decoder import BASE, randomised


def laid_out(columns: np.ndarray, bias: np.ndarray | None) -> Panels:
    shape = (len(columns), -1, COLUMNS)
    return Panels(columns, bias, np.ascontiguousarray(columns.reshape(shape).swapaxes(0, 1)))


@pytest.mark.parametrize("inside", [64, 250, 768])
@pytest.mark.parametrize(("kind", "error"), [(np.float64, 1e-11), (np.float32, 1e-3)])
def test_panels_multiply_as_the_matrix_does(inside: int, kind: type[np.floating], error: float) -> None:
    """One row, odd and even numbers, exactly as many as fit, one more, and several pieces with a rest."""
    random, most = np.random.default_rng(2), fitting_rows(inside)
    columns, bias = random.normal(size=(inside, 3 * COLUMNS)).astype(kind), random.normal(size=3 * COLUMNS).astype(kind)
    for rows in (1, 2, 3, 4, 7, most, most + 1, 2 * most + 5, 3 * most):
        x = random.normal(size=(rows, inside)).astype(kind)
        for one in (bias, None):
            exact = x.astype(np.float64) @ columns.astype(np.float64) + (0 if one is None else one)
            found = laid_out(columns, one)(x)
            assert found.shape == (rows, 3 * COLUMNS)
            assert found.dtype == kind
            np.testing.assert_allclose(found, exact, rtol=0, atol=error)
            with pytest.raises(AssertionError):
                np.testing.assert_allclose(found[:, ::-1], exact, rtol=0, atol=error)


def test_products_with_a_panel_are_small() -> None:
    for inside in (16, 100, 256, 768, 960):
        assert SMALL - 4 * inside * COLUMNS < fitting_rows(inside) * inside * COLUMNS <= SMALL
    assert worth_panels(Matrix(np.empty((768, 256), np.float32), None))
    assert not worth_panels(Matrix(np.empty((1024, 256), np.float32), None))  # too few rows fit
    assert not worth_panels(Matrix(np.empty((256, 250), np.float32), None))  # no whole panels
    assert not worth_panels(Matrix(np.empty((768, 32000), np.float32), None))  # too much to copy


def test_a_network_in_panels_answers_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any processor; with biases, and where a matrix has no whole panels."""
    config = replace(BASE, hidden_size=64, intermediate_size=96, qkv_bias=True, vocab_size=50)
    network = packed(weights_of(randomised(config)), 20)
    monkeypatch.setattr(panels, "computes_small_in_place", lambda: False)
    assert in_panels(network) is network
    monkeypatch.setattr(panels, "computes_small_in_place", lambda: True)
    changed = in_panels(network)
    assert isinstance(changed.layers[0].gate_up, Panels)
    assert not isinstance(changed.head, Panels)
    sequences = torch.randint(50, (3, 9), generator=torch.Generator().manual_seed(1)).tolist()
    rows = [Parallel(one, 3, 20).feed(range(3), sequences) for one in (network, changed)]
    np.testing.assert_allclose(*rows, rtol=0, atol=1e-10)
    assert np.ptp(rows[0]) > 0.1


@pytest.mark.parametrize(
    ("configuration", "gains"),
    [
        ({"SIMD Extensions": {"baseline": ["X86_V2"], "found": ["X86_V3", "X86_V4", "AVX512_ICL"]}}, True),
        ({"SIMD Extensions": {"baseline": ["X86_V2"], "found": ["X86_V3"], "not found": ["AVX512_ICL"]}}, False),
        ({"SIMD Extensions": {"baseline": ["NEON"]}}, False),
        ({}, False),
    ],
)
def test_panels_are_for_processors_whose_small_products_gain(
    configuration: dict[str, object], gains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(np, "show_config", lambda mode: configuration)
    assert panels.computes_small_in_place.__wrapped__() is gains
