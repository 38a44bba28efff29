"""The accept rules against enumeration: the law that comes out is the target's, and wrong rules are caught."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilsim.describe.decoding import Sampling
from hilsim.logits.accept import greedy, plain, ratio
from hilsim.logits.noise import CONTENT, Uniforms, uniforms
from hilsim.logits.sampling import Law, as_sent, draw, law_of

VOCABULARY = 3
LENGTH = 3
SAMPLES = 50_000
Emit = Callable[[Law, Law, Uniforms], int]


def target(prefix: tuple[int, ...]) -> Law:
    """A Markov toy target over three tokens: the next law depends on the last token."""
    table = np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.45, 0.1, 0.45]])
    law: Law = table[prefix[-1]] if prefix else np.array([0.2, 0.5, 0.3])
    return law


def draft(prefix: tuple[int, ...]) -> Law:
    """A draft that is wrong in another way after every token, and gives one token no mass at all."""
    table = np.array([[0.3, 0.3, 0.4], [0.5, 0.5, 0.0], [0.2, 0.6, 0.2]])
    law: Law = table[prefix[-1]] if prefix else np.array([0.6, 0.2, 0.2])
    return law


@cache
def noises(seed: int) -> list[list[Uniforms]]:
    """The uniforms of every request and position, made once for all rules."""
    return [[uniforms(seed, CONTENT, request, place) for place in range(LENGTH)] for request in range(SAMPLES)]


def sequences(emit: Emit, seed: int) -> np.ndarray:
    """Counts of joint sequences of LENGTH tokens over SAMPLES requests, as cells of a flat table."""
    counts = np.zeros(VOCABULARY**LENGTH)
    for request in noises(seed):
        prefix: tuple[int, ...] = ()
        for noise in request:
            prefix += (emit(target(prefix), draft(prefix), noise),)
        counts[prefix[0] * 9 + prefix[1] * 3 + prefix[2]] += 1
    return counts


def expected() -> np.ndarray:
    """The same table by enumeration: the product of the target's laws."""
    cells = product(range(VOCABULARY), repeat=LENGTH)
    laws = [np.prod([target(cell[:place])[cell[place]] for place in range(LENGTH)]) for cell in cells]
    return np.array(laws) * SAMPLES


def chi_square_p_value(counts: np.ndarray) -> float:
    """Upper tail of Pearson's statistic, by the Wilson-Hilferty normal approximation (within 1e-3 at 26 degrees)."""
    from math import erfc, sqrt

    cells = expected()
    statistic, freedom = float(((counts - cells) ** 2 / cells).sum()), len(cells) - 1
    z = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / sqrt(2 / (9 * freedom))
    return 0.5 * erfc(z / sqrt(2))


def by_ratio(p: Law, q: Law, noise: Uniforms) -> int:
    return ratio(p, q, noise)[1].token


def test_joint_sequences_follow_the_target() -> None:
    assert chi_square_p_value(sequences(by_ratio, seed=11)) > 1e-4


def always_accept(p: Law, q: Law, noise: Uniforms) -> int:
    return draw(q, noise.draft)[0]


def resample_from_p(p: Law, q: Law, noise: Uniforms) -> int:
    _, emission = ratio(p, q, noise)
    return emission.token if emission.drafted is not None else draw(p, noise.residual)[0]


def softmax_residual(p: Law, q: Law, noise: Uniforms) -> int:
    _, emission = ratio(p, q, noise)
    return emission.token if emission.drafted is not None else draw(np.exp(np.maximum(p - q, 0)), noise.residual)[0]


def argmax_draft_with_softmax_q(p: Law, q: Law, noise: Uniforms) -> int:
    drafted = int(np.argmax(q))
    if noise.accept < p[drafted] / q[drafted]:
        return drafted
    return draw(np.maximum(p - q, 0), noise.residual)[0]


def draft_at_another_temperature(p: Law, q: Law, noise: Uniforms) -> int:
    sharper = q**2 / (q**2).sum()
    drafted = draw(sharper, noise.draft)[0]
    if noise.accept < p[drafted] / max(q[drafted], 1e-300):
        return drafted
    return draw(np.maximum(p - q, 0), noise.residual)[0]


def one_uniform_for_both(p: Law, q: Law, noise: Uniforms) -> int:
    return ratio(p, q, Uniforms(noise.draft, noise.draft, noise.residual, noise.spare))[1].token


@pytest.mark.parametrize(
    "wrong",
    [
        always_accept,
        resample_from_p,
        softmax_residual,
        argmax_draft_with_softmax_q,
        draft_at_another_temperature,
        one_uniform_for_both,
    ],
)
def test_wrong_rules_fail_the_same_test(wrong: Emit) -> None:
    assert chi_square_p_value(sequences(wrong, seed=11)) < 1e-10


def test_the_plain_draw_follows_the_target() -> None:
    assert chi_square_p_value(sequences(lambda p, q, noise: plain(p, noise).token, seed=11)) > 1e-4


laws = st.lists(st.floats(0, 1), min_size=2, max_size=8).filter(lambda law: sum(law) > 1e-3)


@given(laws, st.integers(0, 2**32))
def test_one_position_identity(weights: list[float], seed: int) -> None:
    """q(x) min(1, p/q) + P(reject) x residual(x) = p(x), for every x: no sampling involved."""
    q = np.array(weights) / sum(weights)
    p = np.random.default_rng(seed).dirichlet(np.full(len(q), 0.5))
    accepted = np.minimum(p, q)
    residual = np.maximum(p - q, 0)
    rejected = 1 - accepted.sum()
    law = accepted + (rejected * residual / residual.sum() if residual.sum() > 0 else 0)
    np.testing.assert_allclose(law, p, atol=1e-12)


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


def test_equal_laws_accept_everything() -> None:
    law = np.array([0.2, 0.0, 0.8])
    for request in range(1000):
        drafted, emission = ratio(law, law, uniforms(1, CONTENT, request, 0))
        assert emission.accepted
        assert emission.token == drafted


def test_disjoint_laws_accept_nothing() -> None:
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
def test_a_law_is_a_law_and_keeps_the_largest(
    row: np.ndarray, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    law = law_of(row, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert law.sum() == pytest.approx(1)
    assert (law >= 0).all()
    whole = law_of(row, Sampling(temperature=temperature))
    assert law[whole == whole.max()].any()  # one of the likeliest; logits may differ by less than a law can show
    if top_k is not None and len(set(row.tolist())) == len(row):
        assert np.count_nonzero(law) <= top_k


def test_top_k_and_top_p_by_hand() -> None:
    row = np.log(np.array([0.5, 0.25, 0.15, 0.1])).astype(np.float32)
    np.testing.assert_allclose(law_of(row, Sampling(temperature=1.0, top_k=2)), [2 / 3, 1 / 3, 0, 0], atol=1e-6)
    # 0.5 < 0.6, so the token that crosses 0.6 stays: 0.5 and 0.25.
    np.testing.assert_allclose(law_of(row, Sampling(temperature=1.0, top_p=0.6)), [2 / 3, 1 / 3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(
        law_of(row, Sampling(temperature=0.5)), np.array([0.25, 0.0625, 0.0225, 0.01]) / 0.345, atol=1e-6
    )


def test_temperature_near_zero_is_nearly_greedy() -> None:
    row = np.array([1.0, 2.0, 1.5], dtype=np.float32)
    np.testing.assert_allclose(law_of(row, Sampling(temperature=1e-3)), law_of(row, Sampling()), atol=1e-12)


@given(logits, st.floats(0, 0.9999999))
def test_drawing_hits_tokens_with_mass_only(row: np.ndarray, uniform: float) -> None:
    law = law_of(row, Sampling(temperature=1.0, top_k=3))
    token, margin = draw(law, uniform)
    assert law[token] > 0
    assert margin >= -1e-12


def test_draws_follow_the_law() -> None:
    law = np.array([0.1, 0.0, 0.6, 0.3])
    tokens = [draw(law, uniforms(5, CONTENT, 0, position).residual)[0] for position in range(20_000)]
    shares = np.bincount(tokens, minlength=4) / len(tokens)
    assert np.abs(shares - law).max() < 5 * np.sqrt(0.25 / 20_000)


@given(logits)
def test_a_law_survives_the_wire(row: np.ndarray) -> None:
    law = law_of(row, Sampling(temperature=1.0))
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


def vars_of(noise: Uniforms) -> list[float]:
    return [noise.draft, noise.accept, noise.residual, noise.spare]
