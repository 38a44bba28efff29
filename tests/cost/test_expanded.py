"""Exports that copy key/value heads (`repeat_kv`): what copies cost, and what they do to the verdict on lookahead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hilsim.cost.counts import expanded_numbers, kv_numbers
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.measure.round_cost import round_cost
from hilsim.runs.run import Sources, run_both
from tests.scenes import shipped

CONTEXT = 1152
SHORT = "workload={requests: 3, prompt_tokens: 64, output_tokens: 64, clause_tokens: 8}"


def qwen(expanded: bool, tokens: float = 1.7, place: str = "chip: sa8797p, unit: npu, precision: w8a16") -> Setup:
    """Lookahead of 32 rows on the measured model, in either export, with so many tokens a round."""
    return shipped(
        "eagle_8775",
        f"target={{model: qwen3-0.6b, {place}, expanded_kv: {str(expanded).lower()}}}",
        "draft=null",
        "policy={name: lookahead, window: 4, ngram: 5, guesses: 4}",
        f"context_tokens={CONTEXT}",
        f"logits={{source: synthetic, acceptance: {{tokens_a_round: {tokens}, drafted: 4}}}}",
        SHORT,
    )


def step_ms(setup: Setup, rows: int) -> float:
    phase = Phase.DECODE if rows == 1 else Phase.VERIFY
    return timer_for(setup.target, CONTEXT).duration_ns(Step(phase, rows, 100, tree=rows > 1)) / 1e6


def test_copies_are_all_query_heads_over_the_whole_context() -> None:
    shape = qwen(True).target.model.architecture
    assert expanded_numbers(shape, CONTEXT) == 2 * 28 * 16 * 128 * CONTEXT == 2 * kv_numbers(shape, CONTEXT)
    assert expanded_numbers(shape.model_copy(update={"kv_heads": 16, "kinds": ()}), CONTEXT) == 0, "nothing is shared"


def test_the_slow_exports_steps_are_the_published_ones() -> None:
    """The plain step is what the rate was fitted on; the verify of 32 tokens, 180 ms, and 1.23 steps are not."""
    slow, quick = qwen(True), qwen(False)
    assert step_ms(slow, 1) == pytest.approx(146.3, rel=0.01)
    assert step_ms(quick, 1) == pytest.approx(22.37, rel=0.02)
    assert step_ms(slow, 32) == pytest.approx(180, rel=0.05)
    assert step_ms(slow, 32) / step_ms(slow, 1) == pytest.approx(1.23, rel=0.05)
    assert step_ms(quick, 32) / step_ms(quick, 1) == pytest.approx(2.30, rel=0.05)
    assert step_ms(slow, 32) - step_ms(quick, 32) == pytest.approx(step_ms(slow, 1) - step_ms(quick, 1)), (
        "copies are of the context, whatever the rows"
    )


@pytest.mark.parametrize(("expanded", "verdict"), [(True, "speculate"), (False, "do not speculate")])
def test_lookahead_gains_on_the_slow_export_and_loses_on_the_quick_one(expanded: bool, verdict: str) -> None:
    """The same chip file, drafts and tokens a round: what a slow export costs makes speculation look good."""
    setup = qwen(expanded)
    outcome = run_both(setup, Sources(setup))
    assert outcome.speculative is not None
    found = round_cost(outcome.baseline, outcome.speculative, setup.scenario.seed)
    assert found is not None
    assert found.break_even == pytest.approx(1.23 if expanded else 2.30, rel=0.06)
    assert found.verdict == verdict


def test_copies_follow_a_units_speed() -> None:
    slow, quick = (qwen(export, place="chip: sa8797p@tier-4, unit: npu, precision: w8a16") for export in (True, False))
    full = step_ms(qwen(True), 1) - step_ms(qwen(False), 1)
    assert step_ms(slow, 1) - step_ms(quick, 1) == pytest.approx(full / 0.51, rel=1e-6)


def test_a_unit_without_a_rate_for_copies_is_refused() -> None:
    with pytest.raises(InputError, match=r"target.expanded_kv: found true; expected a unit with expand_rate"):
        qwen(True, place="chip: sa8775p, unit: npu, precision: w4a16")
    here = qwen(False).target
    bare = here.unit.model_copy(update={"expand_rate": None})
    assert timer_for(replace(here, unit=bare), CONTEXT).duration_ns(Step(Phase.DECODE, 1, 0)) > 0
