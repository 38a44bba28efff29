"""Turns outside the stand-ins' corpus: the threshold is what the corpus says, and other languages are caught."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hilsim.describe.conversation import Conversation
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.files import read_text
from hilsim.places import CODE as PROJECT
from hilsim.text.coverage import FACTS, WORDS, corpus, coverage, coverage_notes, unknown_share, words_of
from hilsim.training.coverage import corpus_words, facts_for, texts

SCENARIO = PROJECT / "scenarios/orin_8295_greedy.yaml"
FOREIGN = {
    "German": [
        "Ich möchte heute Abend in München italienisch essen gehen, kannst du einen Tisch reservieren?",
        "Ja bitte.",
        "Wie wird das Wetter morgen in Hamburg?",
        "Fahr mich zum nächsten Supermarkt",
    ],
    "Chinese": ["请帮我在上海找一家餐厅。", "明天天气怎么样?", "好的"],
    "French": ["Je voudrais réserver une chambre d'hôtel à Paris pour demain soir.", "Oui, merci."],
    "code": [
        "def f(x):\n    return [y**2 for y in x if y % 3 == 0]",
        "for (int i = 0; i < n; ++i) { sum += a[i]; }",
        "import numpy as np",
    ],
    "medicine": [
        "What is the recommended dosage of ibuprofen for adults with chronic kidney disease?",
        "Explain the mechanism of action of beta blockers.",
    ],
}


def asked(*turns: str) -> Setup:
    setup = load_setup(SCENARIO, [])
    return replace(setup, conversations=(replace(setup.conversations[0], turns=turns),))


def test_words_and_threshold_are_those_of_the_corpus() -> None:
    words = corpus_words()
    assert read_text(WORDS).split() == words
    facts = json.loads(read_text(FACTS))
    assert facts == facts_for(words, PROJECT / "models/target")
    assert facts["valid"]["outside"] <= facts["valid"]["turns"] / 1000
    rate = facts["test"]["outside"] / facts["test"]["turns"]
    # The test part had no say in the threshold. Twice the aim is far outside what chance brings over 8,000 turns.
    assert rate == corpus().false_positive_rate <= 0.002


@pytest.mark.parametrize("name", FOREIGN)
def test_another_language_or_subject_lies_outside(name: str) -> None:
    found = coverage(asked(*FOREIGN[name]))
    assert found is not None
    assert found["outside_corpus"] == found["turns"] == len(FOREIGN[name])
    said = " ".join(coverage_notes(asked(*FOREIGN[name])))
    assert f"{found['turns']} of {found['turns']} turns lie outside" in said


@pytest.mark.parametrize("file", sorted((PROJECT / "scenarios").glob("*.yaml")), ids=lambda file: file.stem)
def test_no_shipped_scenario_is_called_outside(file: Path) -> None:
    found = coverage(load_setup(file, []))
    assert found is None or found["outside_corpus"] == 0


def test_an_unknown_name_alone_is_not_enough_and_what_is_no_word_is_none() -> None:
    known = {"i", "want", "to", "go"}
    assert unknown_share("I want to go, to Castrop!", known) == pytest.approx(1 / 7)
    assert unknown_share("... 17", {"0"}) == 0 == unknown_share("", known)
    assert words_of('"At 7:40," he said -- (twice).') == ["at", "0:0", "he", "said", "twice"]


def test_the_measure_does_not_depend_on_capitals_or_the_marks_around_a_word() -> None:
    for text in list(texts("valid", user=True))[:300]:
        assert unknown_share(text.upper(), corpus().words) == unknown_share(f"({text})!", corpus().words)


def test_a_synthetic_source_and_stand_ins_of_one_s_own_have_no_corpus(tmp_path: Path) -> None:
    assert coverage(load_setup(PROJECT / "scenarios/paper_table.yaml", [])) is None
    setup = load_setup(SCENARIO, [])
    assert coverage(replace(setup, target=replace(setup.target, stand_in=tmp_path))) is None
    assert coverage_notes(replace(setup, target=replace(setup.target, stand_in=tmp_path))) == []


def test_lengths_are_stated_to_be_the_stand_ins_and_which_way_they_err() -> None:
    (note,) = coverage_notes(asked("I want to find a restaurant in San Jose."))
    assert "not in those of llama3 (128,256 entries)" in note
    assert "0.73 to 0.92 times as many" in note
    assert "overestimated" in note
    vocabulary = asked("Hello").target.model.vocabulary.model_copy(update={"name": "another", "entries": 50_000})
    setup = asked("Hello")
    model = setup.target.model.model_copy(update={"vocabulary": vocabulary})
    (note,) = coverage_notes(replace(setup, target=replace(setup.target, model=model)))
    assert "another (50,000 entries): no characters per token" in note


def test_turns_are_those_of_the_workload() -> None:
    setup = load_setup(SCENARIO, ["workload.count=2"])
    found = coverage(setup)
    assert found is not None
    assert found["turns"] == sum(len(talk.turns) for talk in setup.conversations)
    assert isinstance(setup.conversations[0], Conversation)
