"""What is kept between a draft and its verdict is what would be made again; noise is Philox's own, word by word."""

from __future__ import annotations

import numpy as np
import pytest

from hilsim.describe.decoding import FullRows, RatioTest, Sampling
from hilsim.sampling import choices
from hilsim.sampling.choices import Choices, RowPosition, Rules
from hilsim.sampling.distribution import Distribution, distribution_of
from hilsim.sampling.noise import CONTENT, uniforms

ROWS = np.random.default_rng(2).normal(size=(40, 64)).astype(np.float32)


def choices_of(**sampling: float) -> Choices:
    return Choices(Rules(RatioTest(), FullRows(), Sampling(temperature=0.7, **sampling)), 1)


def test_a_drafted_rows_distribution_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[int]()

    def counted(logits: np.ndarray, sampling: Sampling) -> Distribution:
        made.append(len(logits))
        return distribution_of(logits, sampling)

    monkeypatch.setattr(choices, "distribution_of", counted)
    ours, place = choices_of(), RowPosition(0, [1, 2, 3])
    first = ours.drafted(ROWS[0], place)
    assert len(made) == 1
    row = ROWS[1]
    assert ours.drafted(row, place) is ours.drafted(row, place)
    assert len(made) == 2
    # The control: an equal row that is another array is made again, and says the same.
    again = ours.drafted(ROWS[0].copy(), place)
    assert len(made) == 3
    np.testing.assert_array_equal(again.drawn.probabilities, first.drawn.probabilities)


def test_a_penalty_makes_one_row_several_distributions() -> None:
    ours, row = choices_of(repetition_penalty=1.5), ROWS[0]
    after = [ours.drafted(row, RowPosition(0, tokens)).drawn.probabilities for tokens in ([1, 2], [1, 3], [1, 2])]
    assert after[0] is after[2]
    assert not np.array_equal(after[0], after[1])


def test_few_rows_are_kept() -> None:
    ours, rows = choices_of(), list(ROWS)
    for row in rows:
        ours.drafted(row, RowPosition(0, [1]))
    assert len(ours.made) == choices.CACHED_POSITIONS
    assert all(kept is row for (kept, _, _), row in zip(ours.made, rows[-choices.CACHED_POSITIONS :], strict=True))


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_noise_is_that_of_a_new_generator_for_each_position(seed: int) -> None:
    places = np.random.default_rng(seed % 1000).integers(0, 2**62, (50, 3)).tolist()
    for request, position, block in places:
        bits = np.random.Philox(key=(seed, CONTENT), counter=(0, position, request, block)).random_raw(4)
        assert uniforms(seed, CONTENT, request, position, block) == tuple((bits >> np.uint64(11)) * 2.0**-53)


@pytest.mark.parametrize("top_p", [None, 0.9])
@pytest.mark.parametrize("top_k", [3, 40])
def test_what_top_k_leaves_has_the_weights_of_a_whole_row(top_k: int, top_p: float | None) -> None:
    """Chosen among float32 logits, weighted in float64: to the last bit what the whole row gives."""
    for row in ROWS:
        found = distribution_of(row, Sampling(temperature=0.7, top_k=top_k, top_p=top_p))
        weights = np.exp((row.astype(np.float64) - row.max()) / 0.7)
        kept = np.where(row >= np.sort(row)[-top_k], weights, 0.0)
        shares = kept / kept.sum()
        if top_p is not None:
            order = np.argsort(-shares, kind="stable")
            shares[order[shares[order].cumsum() - shares[order] >= top_p]] = 0.0
            shares = shares / shares.sum()
        np.testing.assert_array_equal(found.dense(), shares)
