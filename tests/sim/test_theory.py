"""Against closed forms: tokens a round, and the paper tables that a scenario can type in. Intervals are stated."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest

from hilsim.measure.metrics import speculation, speedup
from tests.scenes import both, shipped, table_setup


@pytest.mark.parametrize("acceptance", [0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("drafted", [1, 4, 7])
def test_tokens_a_round_follow_leviathan(tmp_path: Path, acceptance: float, drafted: int) -> None:
    """E = (1 - a^(k+1)) / (1 - a), Leviathan et al. Eq. 1; the interval is five standard errors of that law."""
    setup = table_setup(
        tmp_path,
        f"logits.acceptance={acceptance}",
        f"policy.draft_tokens={drafted}",
        "workload.requests=4",
        "workload.output_tokens=1500",
    )
    _, trace = both(setup)
    whole = [closed.emitted for closed in trace.rounds if closed.drafted == drafted]
    chances = [acceptance**n * (1 - acceptance) for n in range(drafted)] + [acceptance**drafted]
    mean = sum((n + 1) * chance for n, chance in enumerate(chances))
    assert mean == pytest.approx((1 - acceptance ** (drafted + 1)) / (1 - acceptance))
    spread = math.sqrt(sum((n + 1 - mean) ** 2 * chance for n, chance in enumerate(chances)))
    assert len(whole) > 700
    assert abs(sum(whole) / len(whole) - mean) < 5 * spread / math.sqrt(len(whole))


def test_acceptance_per_position_is_what_was_asked_for(tmp_path: Path) -> None:
    setup = table_setup(
        tmp_path,
        "logits.acceptance={conditional: [0.9, 0.5, 0.2]}",
        "workload.requests=5",
        "workload.output_tokens=1500",
    )
    _, trace = both(setup)
    found = speculation(trace)["conditional_acceptance"]
    seen = [sum(r.drafted > j and r.accepted >= j for r in trace.rounds) for j in range(4)]
    for measured, chance, count in zip(found, (0.9, 0.5, 0.2, 0.2), seen, strict=True):
        assert abs(measured - chance) < 5 * math.sqrt(chance * (1 - chance) / count)


def test_markov_acceptance_has_the_stationary_mean_and_runs(tmp_path: Path) -> None:
    """Stationary easy share (1 - stay_hard) / (2 - stay_easy - stay_hard) = 0.6; mean acceptance 0.6 x 1 + 0.4 x 0."""
    chain = "{easy: 1.0, hard: 0.0, stay_easy: 0.9, stay_hard: 0.85}"
    setup = table_setup(tmp_path, f"logits.acceptance={chain}", "policy.draft_tokens=1", "workload.output_tokens=1900")
    _, trace = both(setup)
    drafted = [closed for closed in trace.rounds if closed.drafted]
    # Rounds see a thinned chain: an accept skips a position, so the next draft is two steps on, after a rejection
    # one. P(easy | easy two before) = .9 x .9 + .1 x .15, P(easy | hard one before) = .15, hence the share below.
    again, recover = 0.9 * 0.9 + 0.1 * 0.15, 0.15
    share = recover / (1 - again + recover)
    easy = sum(closed.accepted for closed in drafted) / len(drafted)
    correlation = again - recover  # of neighbouring rounds: it widens the interval by (1 + r) / (1 - r)
    spread = math.sqrt(share * (1 - share) * (1 + correlation) / (1 - correlation) / len(drafted))
    assert abs(easy - share) < 4 * spread
    runs = sum(a.accepted != b.accepted for a, b in pairwise(drafted))
    independent = 2 * easy * (1 - easy) * len(drafted)
    assert runs < 0.6 * independent  # far fewer changes than independent coins would show


@pytest.mark.parametrize(
    ("acceptance", "drafted", "ratio", "speed"),
    # Leviathan et al. Table 1 (c = 0) and rows of Table 4 by Theorem 3.8; prefill and the cut at the end are not in
    # the formula, so answers are long; 3 % is four standard errors of the mean tokens a round.
    [(0.6, 2, 0.0, 1.96), (0.8, 5, 0.0, 3.69), (0.9, 10, 0.0, 6.86), (0.75, 7, 0.02, 3.157), (0.71, 3, 0.11, 1.934)],
)
@pytest.mark.slow
def test_leviathans_walltime_comes_out_of_the_simulation(
    tmp_path: Path, acceptance: float, drafted: int, ratio: float, speed: float
) -> None:
    step = 50 * ratio
    setup = table_setup(
        tmp_path,
        "context_tokens=1000000",
        f"logits.acceptance={acceptance}",
        f"policy.draft_tokens={drafted}",
        'target.timer={prefill: {"64": 0}, decode: 50, verify: {"32": 50}, source: Leviathan et al.}',
        f'draft.timer={{prefill: {{"64": 0}}, decode: {step}, verify: {{"2": {step}}}, source: Leviathan et al.}}',
        "link=ideal",
        "workload.requests=8",
        "workload.output_tokens=4000",
    )
    alone, trace = both(setup)
    assert speedup(alone, trace) == pytest.approx(speed, rel=0.03)


def test_the_shipped_paper_scenario_matches_its_formula() -> None:
    setup = shipped("paper_table")
    alone, trace = both(setup)
    tokens = (1 - 0.8**5) / (1 - 0.8)
    formula = tokens * 14.1 / (4 * 1.8 + 14.1)
    assert speedup(alone, trace) == pytest.approx(formula, rel=0.05)  # 50 answers of 128 tokens, cut at their ends
    assert formula == pytest.approx(2.23, abs=0.01)
