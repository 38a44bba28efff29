"""Proof of exactness for draft heads, whose rows depend on where the verified tokens end.

As in `test_exact.py`, with rows that change with the distance from the last verified token: what claims the target's
text is held to it token by token, the ratio and block rules to its distribution, and a test against the row of another
verified length must be caught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hilsim.describe.decoding import Accept, BlockVerification, FullRows, RatioTest
from hilsim.describe.policy import TargetOnly
from hilsim.sampling.choices import Rules
from hilsim.sampling.decisions import Decisions, place_of
from hilsim.sampling.logits import Logits
from hilsim.sampling.proposals import Prefix
from tests.sampling.test_exact import (
    BLOCK_POLICIES,
    CHAINS,
    FALLS,
    LAW,
    PENALISED,
    STANDS,
    TEXT,
    WARM,
    against,
    answers,
    each,
    held_to_the_target,
    name,
    plain_rows,
    policy_of,
)
from tests.scenes import table_setup
from tests.toy import LENGTH, SAMPLES, START, HeadTable, Quick, Text, alone, cells, enumerated, p_value, told

TESTED = ("ratio", "lenient")  # rules that look at the draft's row
OWN = [rules for rules in TEXT if rules.accept.rule not in TESTED]
RATIO = [rules for rules in TEXT if rules.accept.rule == "ratio" and rules.sampling.temperature > 0]
USUAL = Rules(RatioTest(), FullRows(), WARM)


def headed(rules: Rules) -> Quick:
    return Quick(rules, HeadTable())


@each(OWN)
def test_the_text_is_the_targets_where_the_rule_does_not_look_at_the_drafts_row(rules: Rules) -> None:
    decisions = headed(rules)
    for request in range(30):
        wanted = alone(decisions, request, 6)
        for drafted in (1, 2, 5):
            assert told(decisions, request, drafted, 6) == wanted


def test_the_ratio_rules_text_is_not_the_targets_own() -> None:
    """Why it claims the target's distribution alone: the draft's rows, and so the text, hang on where rounds end."""
    decisions = headed(USUAL)
    texts = [[told(decisions, request, drafted, 6) for drafted in (1, 2, 5)] for request in range(30)]
    assert any(len({tuple(text) for text in one}) > 1 for one in texts)


@each(RATIO, lambda rules: plain_rows(rules) and rules.sampling == WARM)
def test_the_ratio_rule_emits_the_targets_distribution(rules: Rules) -> None:
    assert held_to_the_target(headed(rules)) > STANDS


@each(LAW, lambda rules: False)
def test_block_verification_emits_the_targets_distribution(rules: Rules) -> None:
    assert held_to_the_target(headed(rules)) > STANDS


@pytest.mark.slow
def test_any_number_of_drafts_gives_the_targets_distribution() -> None:
    """One or two drafts of three tokens: some tokens were drafted for at another distance, and some not at all."""
    for drafted in (1, 2):
        counts = cells(told(headed(USUAL), request, drafted) for request in range(SAMPLES))
        assert p_value(counts, enumerated(headed(USUAL).target_after)) > STANDS


class AgainstAnotherRow(Quick):
    """Draws as it should, and tests against the row that the head gives with one token more or less verified."""

    def __init__(self, rules: Rules, off: int):
        super().__init__(rules, HeadTable())
        self.off = off

    def emission(self, prefix: Prefix, tokens: Sequence[int], row: Logits, drafted: int | None) -> tuple[int, float]:
        if drafted is None:
            return super().emission(prefix, tokens, row, None)
        verified = min(max(1, len(prefix.tokens) + self.off), len(tokens))
        tested, _ = self.drafted_after(tokens, verified)
        return against(self.quantised_after(tokens), tested, drafted, self.choices.noise(place_of(prefix, tokens))), 1.0


@pytest.mark.slow
def test_a_test_against_the_row_of_another_verified_length_is_caught() -> None:
    assert held_to_the_target(AgainstAnotherRow(USUAL, 1), samples=SAMPLES // 2) < FALLS


def told_ahead(decisions: Decisions, request: int, length: int = LENGTH) -> list[int]:
    """Two drafts at once and a verdict on each: the second was drawn before the verdict on the first."""
    text = Text(request, [START])
    while len(text.tokens) <= length:
        first = decisions.draft(text, 1)
        for one in (first, decisions.draft(text, 1, first.tokens)):
            verdict = decisions.verify(text, one)
            text.tokens.append(verdict.tokens(one)[0])  # what follows an accepted token is left for the next verdict
            if not verdict.accepted:
                break
    return text.tokens[1 : length + 1]


class Forgetful(Quick):
    """Tests a token against the head's row at the verdict, whatever was verified when it was drafted."""

    def drawing_row(self, prefix: Prefix, tokens: Sequence[int]) -> Logits:
        return self.draft_row(prefix, tokens)


@pytest.mark.slow
def test_with_the_right_row_nothing_is_caught() -> None:
    assert held_to_the_target(AgainstAnotherRow(USUAL, 0)) > STANDS


@pytest.mark.slow
@pytest.mark.parametrize("accept", [RatioTest(), BlockVerification()], ids=["ratio", "block"])
def test_what_was_drafted_before_a_verdict_is_tested_against_the_row_that_it_was_drawn_from(accept: Accept) -> None:
    assert held_to_the_target(headed(replace(USUAL, accept=accept)), told_ahead) > STANDS


@pytest.mark.slow
def test_forgetting_that_row_is_caught() -> None:
    forgetful = Forgetful(replace(USUAL, accept=BlockVerification()), HeadTable())
    assert held_to_the_target(forgetful, told_ahead, SAMPLES // 2) < FALLS


@pytest.mark.parametrize("policy", CHAINS)
def test_every_policy_tells_the_targets_text(tmp_path: Path, policy: str) -> None:
    setup = table_setup(tmp_path, "workload.requests=3", "workload.output_tokens=10", "workload.talkers=2")
    for rules in (rules for rules in PENALISED if rules.accept.rule not in TESTED):
        decisions = headed(rules)
        wanted = answers(setup, decisions, TargetOnly(name="target_only"))
        assert answers(setup, decisions, policy_of(policy)) == wanted, name(rules)


@pytest.mark.slow
@pytest.mark.parametrize("accept", [RatioTest(), BlockVerification()], ids=["ratio", "block"])
@pytest.mark.parametrize("policy", BLOCK_POLICIES)
def test_every_policy_emits_the_targets_distribution(tmp_path: Path, policy: str, accept: Accept) -> None:
    """Whole runs; the first token of an answer is the target's own, three more are drafted for."""
    setup = table_setup(tmp_path, f"workload.requests={SAMPLES}", f"workload.output_tokens={LENGTH + 1}")
    decisions = headed(replace(USUAL, accept=accept))
    counts = cells(answers(setup, decisions, policy_of(policy)), LENGTH + 1)
    assert p_value(counts, enumerated(decisions.target_after, LENGTH + 1)) > STANDS
