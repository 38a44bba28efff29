"""Verdicts of pages and reports: good news only where nothing speaks against it, and in words, not keys."""

from __future__ import annotations

import pytest

import hilsim
from hilsim.describe.load import load_setup
from hilsim.fidelity.validate import ComparedCase
from hilsim.measure.measures import MEASURES
from hilsim.places import CODE as PROJECT
from hilsim.show.page.frame import caveats_of
from hilsim.show.page.validate import headline, worst_missed
from hilsim.show.report import answer_good
from hilsim.show.sentences import answer, lossless_sentence, wanted_sentence
from hilsim.show.words import words

CLAUSE = {"time_to_first_clause_ms": {"p50": 100.0}}


def report(speedup: float, wanted: float | None, *caveats: str) -> dict[str, object]:
    kinds = [{"kind": kind, "text": ""} for kind in caveats]
    found = {"scenario": "one", "speedup": speedup, "wanted_speedup": wanted, "caveats": kinds}
    return found | {"baseline": CLAUSE, "speculative": CLAUSE}


@pytest.mark.parametrize(
    ("speedup", "wanted", "caveats", "good", "begins"),
    [
        (1.85, 2.5, (), False, "one: speedup 1.85, not 2.5: answers take"),
        (2.4999, 2.5, (), False, "one: speedup 2.50, just below 2.5: answers take"),
        (2.5, 2.5, (), True, "one: speedup 2.50: answers take"),
        (1.85, None, (), True, "one: speedup 1.85: answers take"),
        (0.9, None, (), False, "one: speedup 0.90: speculation makes"),
        (1.85, None, ("memory",), False, "one: speedup 1.85: answers take"),
        (1.85, None, ("published limit",), False, "one: speedup 1.85: answers take"),
        (1.85, None, ("unit",), True, "one: speedup 1.85: answers take"),
    ],
)
def test_a_speedup_is_good_news_where_it_is_as_wanted_and_nothing_speaks_against_it(
    speedup: float, wanted: float | None, caveats: tuple[str, ...], good: bool, begins: str
) -> None:
    found = report(speedup, wanted, *caveats)
    assert answer_good(found) is good
    assert answer(found).startswith(begins)


def test_memory_that_fits_only_under_conditions_stands_on_a_page_and_speaks_against_its_verdict() -> None:
    open_, sure = (load_setup(PROJECT / "scenarios" / f"{name}.yaml") for name in ("orin_8295", "paper_table"))
    lines, against = caveats_of([("finalist 1", open_), ("finalist 2", sure)])
    assert against
    assert any(line.startswith("memory, finalist 1: ") and "fits only if" in line for line in lines)
    same, _ = caveats_of([("finalist 1", open_), ("finalist 2", open_)])
    assert any(line.startswith("memory: ") for line in same), "what all have names none"
    assert len(same) == len(set(same))
    assert caveats_of([("finalist 2", sure)])[1] is False


def test_every_measure_has_words_of_its_own_and_none_is_a_key() -> None:
    named = [words(name) for name in MEASURES]
    assert len(set(named)) == len(named)
    assert not [name for name in named if "_" in name]
    assert words("time_to_first_clause_ms.p50") == "first clause (p50)"


def test_sentences_of_a_verdict_hold_no_keys() -> None:
    block = {"rule": "ratio", "claim": "text", "why": "exact", "checked_tokens": 22, "mismatches": 0}
    sentence, good = lossless_sentence(block | {"numerical_ties": 0})
    assert good
    assert sentence.startswith("rule ratio: 22 tokens checked, 0 mismatches, 0 numerical ties: token-exact")
    aim = {"speedup": 2.5, "acceptance_needed": 0.8, "acceptance": 0.7, "reached": False}
    wanted = wanted_sentence(aim | {"tokens_per_round": 2.0, "tokens_per_round_needed": 4.75})
    assert wanted.startswith("2.5x takes 4.75 tokens a round, as acceptance 0.80")
    assert "_" not in sentence + wanted


def test_a_validation_begins_with_the_worse_error_of_rows_left_out_of_the_fit() -> None:
    found = hilsim.validate(PROJECT / "chips" / "measurements" / "example.csv").found
    text, rows = headline(found), found.rows
    label = sorted({row.case.label for row in rows})[0]
    means = []
    for column in range(3):
        errors = [abs(error) for row in rows if row.case.label == label and (error := row.errors[column]) is not None]
        means.append(sum(errors) / len(errors) if errors else -1.0)
    inside, *held_out = means
    shown = f"{100 * inside:.0f} % in-sample"
    assert shown in text
    if max(held_out) >= 0:
        assert text.index(f"{100 * max(held_out):.0f} % without") < text.index(shown)
    worst = max(rows, key=lambda row: max(abs(error) for error in row.errors if error is not None))
    assert worst_missed(rows)[0].startswith("Missed most, by ")
    assert worst.case.device in worst_missed(rows)[0]
    alone = [ComparedCase(row.case, row.measured, (row.predicted[0], None, None)) for row in rows]
    assert "in-sample" in worst_missed(alone)[0]
