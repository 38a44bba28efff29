"""Statistics of many rows at once against NumPy's own percentiles, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from hilsim.measure.formulas import PERCENTILES, between_ranks, statistics


@pytest.mark.parametrize("length", [1, 2, 3, 10, 24, 101, 176])
def test_rows_that_are_sorted_have_the_percentiles_of_numpy(length: int) -> None:
    chance = np.random.default_rng(length)
    values = chance.integers(0, 10**9, (300, length)) / 1e6
    ours = statistics(values)
    assert (ours["mean"] == values.mean(axis=-1)).all()
    for name, per_cent in PERCENTILES.items():
        assert (ours[name] == np.percentile(values, per_cent, axis=-1)).all(), name
        assert [statistics(row)[name] for row in values[:20]] == ours[name][:20].tolist(), "as of one run"


def test_a_row_that_is_not_finite_is_numpy_s_too() -> None:
    values = np.array([[1.0, np.inf, 3.0], [2.0, 1.0, 5.0]])
    with np.errstate(invalid="ignore"):
        ours = statistics(values)
        theirs = np.percentile(values, [*PERCENTILES.values()], axis=-1)
    for name, expected in zip(PERCENTILES, theirs, strict=True):
        assert np.array_equal(ours[name], expected, equal_nan=True)


@pytest.mark.parametrize("below", [0.0, 0.05, 0.25, 0.5, 0.95, 1.0])
def test_any_share_is_numpy_s_quantile(below: float) -> None:
    """Negative control: the share beside it is another number."""
    values = np.sort(np.random.default_rng(5).random(2000))
    assert between_ranks(values, below) == np.quantile(values, below)
    assert between_ranks(values, abs(below - 0.01)) != np.quantile(values, below)
