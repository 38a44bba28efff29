"""Rules, laws and draws taken alone; that they add up to the target's law is `test_exact.py`'s to prove."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilsim.describe.decoding import Sampling
from hilsim.sampling.noise import CONTENT, Uniforms, uniforms
from tests.one_row import as_sent, distribution_of, draw, greedy, ratio

laws = st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda law: sum(law) > 1e-3)


@given(laws, laws, st.floats(0, 0.999999), st.floats(0, 0.999999), st.floats(0, 0.999999))
def test_the_rule_never_emits_what_the_target_forbids(
    p_weights: list[float], q_weights: list[float], a: float, b: float, c: float
) -> None:
    size = min(len(p_weights), len(q_weights))
    p, q = np.array(p_weights[:size]), np.array(q_weights[:size])
    if p.sum() <= 0 or q.sum() <= 0:
        return
    drafted, emission = ratio(p / p.sum(), q / q.sum(), Uniforms(a, b, c, 0.0))
    assert p[emission.token] > 0
    assert q[drafted] > 0
    assert emission.margin >= 0


def test_equal_distributions_accept_everything() -> None:
    law = np.array([0.2, 0.0, 0.8])
    for request in range(1000):
        drafted, emission = ratio(law, law, uniforms(1, CONTENT, request, 0))
        assert emission.accepted
        assert emission.token == drafted


def test_disjoint_distributions_accept_nothing() -> None:
    p, q = np.array([0.0, 1.0]), np.array([1.0, 0.0])
    for request in range(200):
        drafted, emission = ratio(p, q, uniforms(1, CONTENT, request, 0))
        assert (drafted, emission.token, emission.accepted) == (0, 1, False)


def test_greedy_takes_the_first_of_equal_logits_and_says_how_close_it_was() -> None:
    assert greedy(np.array([1.0, 3.0, 3.0], dtype=np.float32)).token == 1
    assert greedy(np.array([1.0, 3.0, 3.0], dtype=np.float32)).margin == 0
    assert greedy(np.array([1.0, 3.5, 3.0], dtype=np.float32)).margin == 0.5


logits = st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=12).map(lambda x: np.array(x, dtype=np.float32))


@given(logits, st.floats(0.05, 3), st.one_of(st.none(), st.integers(1, 20)), st.one_of(st.none(), st.floats(0.01, 1)))
def test_a_distribution_sums_to_1_and_keeps_the_largest(
    row: np.ndarray, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    law = distribution_of(row, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert law.sum() == pytest.approx(1)
    assert (law >= 0).all()
    whole = distribution_of(row, Sampling(temperature=temperature))
    assert law[whole == whole.max()].any()  # one of the likeliest; logits may differ by less than a law can show
    if top_k is not None and len(set(row.tolist())) == len(row):
        assert np.count_nonzero(law) <= top_k


def test_top_k_and_top_p_by_hand() -> None:
    row = np.log(np.array([0.5, 0.25, 0.15, 0.1])).astype(np.float32)
    np.testing.assert_allclose(
        distribution_of(row, Sampling(temperature=1.0, top_k=2)), [2 / 3, 1 / 3, 0, 0], atol=1e-6
    )
    # 0.5 < 0.6, so the token that crosses 0.6 stays: 0.5 and 0.25.
    np.testing.assert_allclose(
        distribution_of(row, Sampling(temperature=1.0, top_p=0.6)), [2 / 3, 1 / 3, 0, 0], atol=1e-6
    )
    np.testing.assert_allclose(
        distribution_of(row, Sampling(temperature=0.5)), np.array([0.25, 0.0625, 0.0225, 0.01]) / 0.345, atol=1e-6
    )


@given(logits, st.floats(0, 0.9999999))
def test_drawing_hits_tokens_with_mass_only(row: np.ndarray, uniform: float) -> None:
    law = distribution_of(row, Sampling(temperature=1.0, top_k=3))
    token, margin = draw(law, uniform)
    assert law[token] > 0
    assert margin >= -1e-12


def test_draws_follow_the_distribution() -> None:
    law = np.array([0.1, 0.0, 0.6, 0.3])
    tokens = [draw(law, uniforms(5, CONTENT, 0, position).residual)[0] for position in range(20_000)]
    shares = np.bincount(tokens, minlength=4) / len(tokens)
    assert np.abs(shares - law).max() < 5 * np.sqrt(0.25 / 20_000)


@given(logits)
def test_a_distribution_survives_the_wire(row: np.ndarray) -> None:
    law = distribution_of(row, Sampling(temperature=1.0))
    sent = as_sent(law)
    assert sent.sum() == pytest.approx(1)
    np.testing.assert_array_equal(as_sent(sent.astype(np.float16).astype(np.float64)) > 0, sent > 0)
    np.testing.assert_allclose(sent, law, atol=2e-3)


def test_uniforms_depend_on_every_part_of_their_key() -> None:
    base = uniforms(1, CONTENT, 2, 3)
    assert base == uniforms(1, CONTENT, 2, 3)
    others = [uniforms(2, CONTENT, 2, 3), uniforms(1, 9, 2, 3), uniforms(1, CONTENT, 3, 3), uniforms(1, CONTENT, 2, 4)]
    assert len({base.draft, *(other.draft for other in others)}) == 5
    # Neighbouring positions do not share numbers: the counter moves by whole blocks.
    drawn = [value for position in range(500) for value in vars_of(uniforms(1, CONTENT, 0, position))]
    assert len(set(drawn)) == len(drawn)


def vars_of(noise: Uniforms[float]) -> list[float]:
    return [noise.draft, noise.accept, noise.residual, noise.spare]
