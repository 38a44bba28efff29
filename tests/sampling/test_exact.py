"""Proof of exactness: whatever claims the target's text or law is held to it, whatever claims nothing is caught.

Joint sequences of three tokens over a toy of four, 20,000 requests each, against enumeration: a claim stands where
Pearson's p-value is above 1e-4, and a wrong rule must fall below 1e-10 with half as many. All seeds are fixed.
Every combination is tested; of the chi-squares those of the commonest combinations run with every change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hilsim.describe.decoding import (
    Accept,
    BlockVerification,
    FullRows,
    Greedy,
    GumbelMatch,
    Lenient,
    OneHot,
    Payload,
    RatioTest,
    SampleMatch,
    Sampling,
    Scalar,
    TokenIds,
    TopKAfter,
    TopKRows,
    Typical,
    faults,
    guarantee_of,
    tree_faults,
)
from hilsim.describe.policy import Policy, TargetOnly
from hilsim.describe.setup import Setup
from hilsim.sampling import accept
from hilsim.sampling.block import chances, residual
from hilsim.sampling.choices import Places, RowPosition, Rules
from hilsim.sampling.decisions import place_of
from hilsim.sampling.distribution import Probabilities
from hilsim.sampling.logits import Logits
from hilsim.sampling.loss import emitted_distribution, total_variation
from hilsim.sampling.noise import Uniforms
from hilsim.sampling.proposals import Draft, Prefix, TokenTree, Verdict
from hilsim.sim.run import simulate
from tests.one_row import draft_distribution, draw, gumbel, plain, ratio, target_distribution, truncated
from tests.scenes import table_setup
from tests.sim.test_policies import CHAINS, LOOKUPS, TREES
from tests.toy import (
    LENGTH,
    SAMPLES,
    START,
    VOCABULARY,
    Broken,
    Quick,
    QuickChoices,
    Tell,
    Text,
    ToySource,
    Wrong,
    alone,
    cells,
    counted,
    enumerated,
    gumbel_of,
    p_value,
    told,
)

STANDS, FALLS = 1e-4, 1e-10
FLOOR = 0.03  # total variation of 20,000 samples from 64 cells: 0.021 on average, 0.026 in one of a hundred

ONE = Lenient(lenience=1.0)
ACCEPTS: list[Accept] = [
    Greedy(), RatioTest(), GumbelMatch(), SampleMatch(), BlockVerification(), ONE, Lenient(lenience=0.5),
    Typical(epsilon=0.3, delta=0.9),
]  # fmt: skip
PAYLOADS: list[Payload] = [
    TokenIds(),
    OneHot(),
    *(FullRows(format=number) for number in ("fp32", "fp16", "counts8")),
    *(TopKRows(k=2, format=number) for number in ("fp32", "fp16", "counts8")),
    Scalar(format="fp32"),
    Scalar(),
    Scalar(down="support"),
    TopKAfter(k=2),
    TopKAfter(k=2, renormalised=False),
]
WARM = Sampling(temperature=1.0)
SAMPLINGS = [
    Sampling(),
    Sampling(repetition_penalty=1.3),
    WARM,
    Sampling(temperature=0.7, top_k=2),
    Sampling(temperature=1.0, top_p=0.8),
    Sampling(temperature=1.0, repetition_penalty=1.3),
]
EVERY = [Rules(*parts) for parts in product(ACCEPTS, PAYLOADS, SAMPLINGS, ("target", "draft"))]


def faulty(rules: Rules) -> list[str]:
    return list(faults(rules.accept, rules.payload, rules.sampling, rules.verify_at))


def level(rules: Rules) -> str:
    return guarantee_of(rules.accept, rules.payload, rules.sampling, rules.verify_at).level


SOUND = [rules for rules in EVERY if not faulty(rules)]
TEXT, LAW, NONE = ([rules for rules in SOUND if level(rules) == kind] for kind in ("text", "law", "none"))


def name(rules: Rules) -> str:
    """A combination by what it says beside the defaults."""
    parts = []
    for part in (rules.accept, rules.payload, rules.sampling):
        parts += [str(value) for value in part.model_dump().values() if value not in (None, True)]
    return "-".join([*parts, *(["at_draft"] if rules.verify_at == "draft" else [])])


def usual(rules: Rules) -> bool:
    """Numbers of fp16, or no numbers at all."""
    return getattr(rules.payload, "format", "fp16") == "fp16"


def plain_rows(rules: Rules) -> bool:
    """The scheme that a chip with a fast link would take."""
    return rules.payload == FullRows() and rules.verify_at == "target"


def each(rules: Sequence[Rules], quick: Callable[[Rules], bool] = lambda rules: True) -> pytest.MarkDecorator:
    """One test for each combination; those that are not `quick` run with the slow ones."""
    marks = [() if quick(one) else pytest.mark.slow for one in rules]
    named = [pytest.param(one, id=name(one), marks=mark) for one, mark in zip(rules, marks, strict=True)]
    return pytest.mark.parametrize("rules", named)


def held_to_the_target(decisions: Quick, tell: Tell = told, samples: int = SAMPLES) -> float:
    return p_value(counted(decisions, tell, samples), enumerated(decisions.target_after))


# What is refused, and what each of the others claims.


def test_every_combination_is_refused_with_a_reason_or_makes_a_claim() -> None:
    assert len(EVERY) == len(ACCEPTS) * len(PAYLOADS) * len(SAMPLINGS) * 2
    for rules in EVERY:
        for fault in faulty(rules):
            assert fault.found, fault
            assert fault.expected, fault
        if not faulty(rules):
            assert guarantee_of(rules.accept, rules.payload, rules.sampling, rules.verify_at).why
    assert {len(TEXT) > 50, len(LAW) > 20, len(NONE) > 50} == {True}


def test_only_the_lossy_claim_nothing() -> None:
    for rules in NONE:
        lossy = rules.accept.rule == "typical" or (rules.accept.rule == "lenient" and rules.accept.lenience < 1)
        assert lossy or rules.payload.scheme == "top_k_after"


# The target's own text, token by token: at temperature 0, under Gumbel noise, and wherever else it is claimed.


@each(TEXT)
def test_the_text_is_the_targets_whatever_the_draft_length(rules: Rules) -> None:
    decisions = Quick(rules)
    for request in range(100):
        wanted = alone(decisions, request, 6)
        for drafted in (1, 2, 5):
            assert told(decisions, request, drafted, 6) == wanted


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    overrides = ("workload.requests=4", "workload.output_tokens=12", "workload.talkers=2")
    return table_setup(tmp_path_factory.mktemp("table"), *overrides)


def answers(setup: Setup, decisions: Quick, policy: Policy) -> list[list[int]]:
    """Every request's answer in a whole run."""
    trace = simulate(setup, ToySource(decisions), policy)
    found: list[list[int]] = [[] for _ in trace.requests]
    for closed in trace.rounds:
        found[closed.request] += closed.tokens
    return found


def policy_of(text: str) -> Policy:
    found: Policy = TypeAdapter(Policy).validate_python(yaml.safe_load(text))
    return found


# One sampling for each rule, scheme and place is enough here: the one whose laws hang on the whole conversation.
PENALISED = [rules for rules in TEXT if rules.sampling.repetition_penalty and usual(rules) and rules.accept != ONE]


@pytest.mark.parametrize("policy", [*CHAINS, *LOOKUPS])
def test_every_policy_tells_the_targets_text_under_every_rule_that_claims_it(table: Setup, policy: str) -> None:
    for rules in PENALISED:
        decisions = Quick(rules)
        wanted = answers(table, decisions, TargetOnly(name="target_only"))
        assert answers(table, decisions, policy_of(policy)) == wanted, name(rules)


TREE_RULES = [
    rules for rules in PENALISED if not list(tree_faults("tree", rules.accept, rules.payload, rules.verify_at))
]


@pytest.mark.parametrize("policy", TREES)
def test_every_tree_tells_the_targets_text_under_every_rule_that_it_may_have(table: Setup, policy: str) -> None:
    assert {rules.accept.rule for rules in TREE_RULES} == {"greedy", "gumbel", "sample_match"}
    for rules in TREE_RULES:
        decisions = Quick(rules)
        wanted = answers(table, decisions, TargetOnly(name="target_only"))
        assert answers(table, decisions, policy_of(policy)) == wanted, name(rules)


class Gullible(Quick):
    """Decisions that emit the tree's own tokens: the first child of every node stands whatever the target says."""

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        _, verdict = super().verify_tree(prefix, tree)
        tokens, place = list[int](), -1
        while place in tree.parents[: tree.candidates]:
            place = tree.parents.index(place)
            tokens.append(tree.tokens[place])
        return Draft(tuple(tokens)), verdict._replace(accepted=len(tokens), margins=(1.0,) * (len(tokens) + 1))


@pytest.mark.parametrize("policy", TREES)
def test_a_tree_s_own_tokens_are_caught(table: Setup, policy: str) -> None:
    """Above temperature 0: the toy's likeliest tokens are the same all along, which any tree holds."""
    for rules in [rules for rules in TREE_RULES if rules.sampling.temperature > 0]:
        wanted = answers(table, Quick(rules), TargetOnly(name="target_only"))
        assert answers(table, Gullible(rules), policy_of(policy)) != wanted, name(rules)


# The target's law.

SPOKEN = [rules for rules in TEXT if rules.sampling.temperature > 0 and rules.accept != ONE]


@each([rules for rules in TEXT if rules.accept == ONE])
def test_a_lenience_of_one_is_the_ratio_rule(rules: Rules) -> None:
    strict = Quick(replace(rules, accept=RatioTest()))
    assert all(told(Quick(rules), request) == told(strict, request) for request in range(50))


@each(
    [rules for rules in SPOKEN if rules.accept.rule == "ratio"],
    lambda rules: rules.sampling == WARM and usual(rules) and rules.verify_at == "target",
)
def test_the_ratio_rule_emits_the_targets_distribution_with_every_payload(rules: Rules) -> None:
    assert held_to_the_target(Quick(rules)) > STANDS


# What the target says alone hangs on the payload under the ratio rule only.
ALONE = {(rules.accept.rule, rules.accept.rule == "ratio" and rules.payload, rules.sampling): rules for rules in SPOKEN}


@each(
    list(ALONE.values()), lambda rules: rules.accept.rule != "ratio" or (rules.sampling != WARM and plain_rows(rules))
)
def test_the_target_alone_emits_its_own_distribution(rules: Rules) -> None:
    assert held_to_the_target(Quick(rules), alone) > STANDS


@each(LAW, lambda rules: plain_rows(rules) and rules.sampling == WARM)
def test_block_verification_emits_the_targets_distribution(rules: Rules) -> None:
    assert held_to_the_target(Quick(rules)) > STANDS


# One of each kind: what differs is which drafts a verdict is about, and whether a token of the target's own follows.
BLOCK_POLICIES = [
    "{name: sync, draft_tokens: 2}",
    "{name: adaptive, rule: confidence, draft_tokens: 2, most: 3}",
    "{name: pearl, draft_tokens: 2}",
    "{name: async}",
    "{name: pipelined, draft_tokens: 2}",
    "{name: pearl, draft_tokens: 2, fallback: {window: 2, rest_tokens: 2, margin: 1.5}}",
]


@pytest.mark.slow
@pytest.mark.parametrize("policy", BLOCK_POLICIES)
def test_block_verification_emits_the_targets_distribution_under_every_policy(tmp_path: Path, policy: str) -> None:
    """Whole runs; the first token of an answer is the target's own, three more are drafted for."""
    setup = table_setup(tmp_path, f"workload.requests={SAMPLES}", f"workload.output_tokens={LENGTH + 1}")
    decisions = Quick(Rules(BlockVerification(), FullRows(), WARM))
    counts = cells(answers(setup, decisions, policy_of(policy)), LENGTH + 1)
    assert p_value(counts, enumerated(decisions.target_after, LENGTH + 1)) > STANDS


# Lossy rules: caught by the same test, and as far from the target as sums say.


def emitted_after(decisions: Quick) -> Callable[[Sequence[int]], Probabilities]:
    """The law of the token emitted at a drafted position."""

    def after(tokens: Sequence[int]) -> Probabilities:
        p = decisions.quantised_after(tokens)
        drawn, known = decisions.drafted_after(tokens)
        return emitted_distribution(decisions.rules.accept, p, drawn, drawn if known is None else known)

    return after


def cuts_something(rules: Rules) -> bool:
    """A law that sampling.top_k has left no more tokens than are sent suffers nothing (ties apart)."""
    return rules.payload.scheme != "top_k_after" or rules.sampling.top_k != rules.payload.k


LOSSY = [rules for rules in NONE if rules.accept.rule in ("lenient", "typical") and rules.accept != ONE]
LOSSY += [rules for rules in NONE if rules not in LOSSY and cuts_something(rules)]


@each(LOSSY, lambda rules: usual(rules) and rules.sampling == WARM)
def test_what_claims_nothing_is_caught_with_a_quarter_of_the_samples(rules: Rules) -> None:
    decisions = Quick(rules)
    counts = counted(decisions, samples=SAMPLES // 4)
    assert p_value(counts, enumerated(decisions.target_after)) < STANDS
    assert p_value(counts, enumerated(emitted_after(decisions))) > STANDS


EXAMPLES = [
    Rules(Lenient(lenience=0.5), FullRows(), WARM),
    Rules(Typical(epsilon=0.3, delta=0.9), TokenIds(), WARM),
    Rules(RatioTest(), TopKAfter(k=2), WARM),
    Rules(RatioTest(), TopKAfter(k=2, renormalised=False), WARM),
]


@each(EXAMPLES, lambda rules: rules.accept.rule != "ratio")
def test_the_distance_of_a_lossy_rule_is_the_one_that_sums_give(rules: Rules) -> None:
    decisions = Quick(rules)
    counts, wanted, emitted = counted(decisions), enumerated(decisions.target_after), emitted_after(decisions)
    distance = total_variation(enumerated(emitted), wanted)
    assert distance > 2 * FLOOR
    assert total_variation(counts / SAMPLES, wanted) == pytest.approx(distance, abs=FLOOR)
    assert p_value(counts, enumerated(emitted)) > STANDS
    # What a verdict says of the first position is the same distance there.
    first, start = decisions.draft(Text(0, [START]), 1), [START]
    told_so = decisions.verify(Text(0, start), first).distances
    assert told_so == pytest.approx((total_variation(emitted(start), decisions.target_after(start)),))


@pytest.mark.parametrize("rules", SOUND[::7], ids=name)
def test_verdicts_tell_a_distance_of_lossy_rules_alone(rules: Rules) -> None:
    decisions, text = Quick(rules), Text(0, [START])
    distances = decisions.verify(text, decisions.draft(text, 2)).distances
    assert bool(distances) == (level(rules) == "none")


# Negative controls: mistakes that have been made, under the ratio rule on whole rows unless said otherwise.


def always_accept(p: Probabilities, q: Probabilities, noise: Uniforms[float]) -> int:
    return draw(q, noise.draft)[0]


def corrected(
    p: Probabilities, q: Probabilities, noise: Uniforms[float], correction: Callable[[int], Probabilities]
) -> int:
    """The ratio rule, with another law to draw from after a rejection of the token given."""
    drafted, emission = ratio(p, q, noise)
    return drafted if emission.accepted else draw(correction(drafted), noise.residual)[0]


def resample_from_p(p: Probabilities, q: Probabilities, noise: Uniforms[float]) -> int:
    return corrected(p, q, noise, lambda drafted: p)


def resample_from_p_without_the_draft(p: Probabilities, q: Probabilities, noise: Uniforms[float]) -> int:
    return corrected(p, q, noise, lambda drafted: np.where(np.arange(len(p)) == drafted, 0.0, p))


def softmax_of_the_residual(p: Probabilities, q: Probabilities, noise: Uniforms[float]) -> int:
    return corrected(p, q, noise, lambda drafted: np.exp(np.maximum(p - q, 0.0)))


def against(p: Probabilities, q: Probabilities, drafted: int, noise: Uniforms[float]) -> int:
    """The ratio rule against q, whatever law the draft was drawn from."""
    if noise.accept * q[drafted] < p[drafted]:
        return drafted
    return draw(np.maximum(p - q, 0.0), noise.residual)[0]


def likeliest_draft_against_its_law(p: Probabilities, q: Probabilities, noise: Uniforms[float]) -> int:
    return against(p, q, int(np.argmax(q)), noise)


def draft_at_another_temperature(p: Probabilities, q: Probabilities, noise: Uniforms[float]) -> int:
    return against(p, q, draw(q ** (1 / 0.7), noise.draft)[0], noise)


def one_uniform_to_draft_and_to_accept(p: Probabilities, q: Probabilities, noise: Uniforms[float]) -> int:
    return ratio(p, q, Uniforms(noise.draft, noise.draft, noise.residual, 0.0))[1].token


def one_uniform_to_accept_and_to_correct(p: Probabilities, q: Probabilities, noise: Uniforms[float]) -> int:
    return ratio(p, q, Uniforms(noise.draft, noise.accept, noise.accept, 0.0))[1].token


def second_draw_on_a_mismatch(p: Probabilities, q: Probabilities, noise: Uniforms[float]) -> int:
    drafted, own = draw(q, noise.draft)[0], plain(p, noise).token
    return drafted if drafted == own else draw(p, noise.spare)[0]


WRONG = [
    always_accept,
    resample_from_p,
    resample_from_p_without_the_draft,
    softmax_of_the_residual,
    likeliest_draft_against_its_law,
    draft_at_another_temperature,
    one_uniform_to_draft_and_to_accept,
    one_uniform_to_accept_and_to_correct,
    second_draw_on_a_mismatch,
]
USUAL = Rules(RatioTest(), FullRows(), WARM)


@pytest.mark.parametrize("wrong", WRONG, ids=[wrong.__name__ for wrong in WRONG])
def test_wrong_rules_fail(wrong: Wrong) -> None:
    assert held_to_the_target(Broken(USUAL, wrong), samples=SAMPLES // 2) < FALLS


def test_the_control_itself_is_sound() -> None:
    """With the right rule in the place of a wrong one nothing is caught."""
    assert held_to_the_target(Broken(USUAL, lambda p, q, noise: ratio(p, q, noise)[1].token)) > STANDS


class Reseeded(QuickChoices):
    """Every position decided by the same uniforms, as where the generator is seeded anew for each test."""

    def noise(self, places: Places) -> accept.Noise:
        assert isinstance(places, RowPosition)
        return super().noise(places._replace(tokens=[START]))


def test_repeated_uniforms_look_right_at_one_position_and_fail_jointly() -> None:
    decisions = Quick(USUAL)
    decisions.choices = Reseeded(USUAL)
    counts, wanted = counted(decisions, samples=20_000), enumerated(decisions.target_after)
    assert p_value(counts, wanted) < FALLS
    firsts, expected = (law.reshape(VOCABULARY, -1).sum(1) for law in (counts, wanted))
    assert p_value(firsts, expected) > STANDS


class Unsure(Quick):
    """A draft that stops at a token of less than 0.25; it submits that token, or (`drops`) keeps it back.

    Where nothing was submitted the target draws from its own law, as a chip must that does not know what was kept back.
    hilsim's own decisions would hide the mistake: at every position, drafted for or not, they work out what the draft
    says there, so that its text does not hang on draft lengths.
    """

    def __init__(self, rules: Rules, *, drops: bool):
        super().__init__(rules)
        self.drops = drops

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        whole = super().draft(prefix, count, after)
        unsure = next((place for place, sure in enumerate(whole.confidences) if sure < 0.25), count)
        return Draft(whole.tokens[: unsure + (not self.drops)])

    def emission(self, prefix: Prefix, tokens: Sequence[int], row: Logits, drafted: int | None) -> tuple[int, float]:
        if drafted is None and self.rules.accept.rule == "ratio":
            own = plain(self.quantised_after(tokens), self.choices.noise(place_of(prefix, tokens)))
            return own.token, own.margin
        return super().emission(prefix, tokens, row, drafted)


@pytest.mark.parametrize(
    "accept",
    [pytest.param(RatioTest(), id="ratio"), pytest.param(BlockVerification(), id="block", marks=pytest.mark.slow)],
)
def test_an_unsure_token_may_end_a_draft_but_must_not_be_dropped(accept: Accept) -> None:
    rules = Rules(accept, FullRows(), WARM)
    assert held_to_the_target(Unsure(rules, drops=False)) > STANDS
    assert held_to_the_target(Unsure(rules, drops=True), samples=20_000) < FALLS


@each(
    [Rules(RatioTest(), OneHot(), WARM), Rules(SampleMatch(), TokenIds(), WARM), Rules(GumbelMatch(), TokenIds(), WARM)]
)
@pytest.mark.slow
def test_dropping_is_harmless_where_the_draft_has_no_distribution_or_no_influence(rules: Rules) -> None:
    assert held_to_the_target(Unsure(rules, drops=True)) > STANDS


# One position, by sums: no sampling, any laws.


def law_from(seed: int, size: int) -> Probabilities:
    """A random law, some of whose tokens have no mass."""
    generator = np.random.default_rng(seed)
    law = generator.dirichlet(np.full(size, 0.5)) * (generator.random(size) < 0.8)
    law[generator.integers(size)] += 0.01
    return law / law.sum()


seeds, sizes = st.integers(0, 2**32), st.integers(2, 9)
EXACT_PAYLOADS = [payload for payload in PAYLOADS if payload.scheme not in ("token_ids", "top_k_after")]


@pytest.mark.parametrize("payload", EXACT_PAYLOADS, ids=str)
@pytest.mark.parametrize("accept", [RatioTest(), Lenient(lenience=1.0)], ids=["ratio", "lenient_1"])
@given(seeds, seeds, sizes)
def test_one_position_emits_the_targets_distribution(
    accept: Accept, payload: Payload, a: int, b: int, size: int
) -> None:
    p, q = target_distribution(law_from(a, size), payload), law_from(b, size)
    np.testing.assert_allclose(emitted_distribution(accept, p, *draft_distribution(q, payload)), p, atol=1e-12)


@given(seeds, seeds, sizes)
def test_one_position_verified_at_the_draft_emits_the_targets_distribution(a: int, b: int, size: int) -> None:
    for payload in (FullRows(), TopKRows(k=2)):
        p = target_distribution(truncated(law_from(a, size), 2), payload, "draft")
        np.testing.assert_allclose(
            emitted_distribution(RatioTest(), p, *draft_distribution(law_from(b, size), payload, "draft")), p
        )


@given(seeds, seeds, sizes, st.floats(0.05, 1))
def test_lenience_gives_no_token_more_than_its_share_over_the_lenience(
    a: int, b: int, size: int, lenience: float
) -> None:
    p, q = law_from(a, size), law_from(b, size)
    emitted = emitted_distribution(Lenient(lenience=lenience), p, q, q)
    assert emitted.sum() == pytest.approx(1)
    assert (emitted <= p / lenience + 1e-12).all()


@given(seeds, seeds, sizes, st.integers(1, 9), st.booleans())
def test_a_cut_after_drawing_is_lossless_only_where_nothing_is_cut(
    a: int, b: int, size: int, count: int, renormalised: bool
) -> None:
    p, q = law_from(a, size), law_from(b, size)
    drawn, known = draft_distribution(q, TopKAfter(k=count, renormalised=renormalised))
    emitted = emitted_distribution(RatioTest(), p, drawn, known)
    assert emitted.sum() == pytest.approx(1)
    if np.count_nonzero(q) <= count:
        np.testing.assert_allclose(emitted, p, atol=1e-12)
    elif count == 1 and renormalised and p[likeliest := q.argmax()] < 1:
        # The token that alone is sent looks certain, so p(x) of it stands instead of p(x) / q(x), and nothing corrects
        # that: p(x) q(x) in all. Where p is certain of it too, nothing is left over and p itself corrects.
        assert emitted[likeliest] == pytest.approx(p[likeliest] * q[likeliest])


# Two positions of a block, by sums over all drafts.

Pair = tuple[Probabilities, list[Probabilities]]


def blockwise(p: Pair, q: Pair) -> tuple[Probabilities, float]:
    """The law of two tokens under block verification, and how many drafts stand on average."""
    size = len(p[0])
    told, stand = np.zeros((size, size)), 0.0
    for x, y in product(range(size), repeat=2):
        chance = q[0][x] * q[1][x][y]
        if chance == 0:
            continue
        ps, qs = [p[0], p[1][x], p[0]], [q[0], q[1][x]]
        weights, kept = chances(ps, qs, (x, y))
        both, first = kept[2], (1 - kept[2]) * kept[1]
        stand += chance * (2 * both + first)
        told[x, y] += chance * both
        told[x] += chance * first * normalised(residual(ps, qs, weights, 1))
        correction = normalised(residual(ps, qs, weights, 0))
        told += chance * (1 - both - first) * correction[:, None] * np.array(p[1])
    return told, stand


def one_by_one(p: Pair, q: Pair) -> float:
    """How many of two drafts stand on average under the ratio rule."""
    second = [float(np.minimum(a, b).sum()) for a, b in zip(p[1], q[1], strict=True)]
    return float((np.minimum(p[0], q[0]) * (1 + np.array(second))).sum())


def normalised(law: Probabilities) -> Probabilities:
    return law / law.sum()


@given(st.lists(seeds, min_size=8, max_size=8), st.integers(2, 3))
def test_a_block_emits_the_targets_joint_distribution_and_accepts_no_less(numbers: list[int], size: int) -> None:
    laws = [law_from(number, size) for number in numbers]
    p, q = (laws[0], laws[1 : size + 1]), (laws[4], laws[5 : size + 5])
    told, stand = blockwise(p, q)
    np.testing.assert_allclose(told, p[0][:, None] * np.array(p[1]), atol=1e-12)
    assert stand >= one_by_one(p, q) - 1e-12


def test_a_block_accepts_11_ninths_where_tokens_one_by_one_accept_10() -> None:
    """The toy of the paper (Sun et al. 2403.10444): two tokens, laws of a third and two thirds the wrong way round."""
    p, q = np.array([1 / 3, 2 / 3]), np.array([2 / 3, 1 / 3])
    assert one_by_one((p, [p, p]), (q, [q, q])) == pytest.approx(10 / 9)
    assert blockwise((p, [p, p]), (q, [q, q]))[1] == pytest.approx(11 / 9)


# What a scheme costs in acceptance.


@given(seeds, seeds, sizes, st.integers(1, 9))
def test_cutting_the_drafts_distribution_costs_no_more_acceptance_than_it_cuts_mass(
    a: int, b: int, size: int, count: int
) -> None:
    p, q = law_from(a, size), law_from(b, size)
    kept = float(truncated(q, count, renormalised=False).sum())
    assert np.minimum(p, truncated(q, count)).sum() >= np.minimum(p, q).sum() - (1 - kept) - 1e-12


@cache
def gumbel_rows(size: int) -> list[Probabilities]:
    return [gumbel_of(request, 1, size) for request in range(4000)]


@given(seeds, seeds, sizes)
@settings(max_examples=10)
def test_shared_noise_agrees_as_often_as_its_bound(a: int, b: int, size: int) -> None:
    """Over 4,000 positions, five standard errors allowed (Daliri et al. 2408.07978)."""
    p, q = law_from(a, size), law_from(b, size)
    distance, count = total_variation(p, q), 4000
    agree = sum(gumbel(p, noise).token == gumbel(q, noise).token for noise in gumbel_rows(size)) / count
    allowed = 5 * np.sqrt(0.25 / count)
    assert agree >= (1 - distance) / (1 + distance) - allowed
    assert agree <= 1 - distance + allowed
