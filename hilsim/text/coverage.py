"""Which turns lie outside the corpus that the shipped stand-ins were trained on, and how long its texts are in tokens.

A turn is cut at blanks into words, in lower case, without the marks around them and with every number as 0. A turn of
n words of which u do not occur in the corpus scores u / (n + 1), and is outside where that reaches the threshold: one
unknown name in a short turn is not enough, a turn in another language or about another subject is. The threshold is
the least at which at most one turn in a thousand of the corpus' validation part counts as outside; the share of its
test part that is, which was not used to choose it, is the false-positive rate (`training/coverage.py` computes both).
"""

from __future__ import annotations

import json
import re
from collections.abc import Set
from dataclasses import dataclass
from functools import cache
from typing import Any

from hilsim.describe.setup import Placed, Setup
from hilsim.files import read_text
from hilsim.places import DATA

CORPUS = DATA / "models" / "corpus"
WORDS, FACTS = CORPUS / "words.txt", CORPUS / "coverage.json"
MARKS = ".,!?;:\"'()-"
NUMBER = re.compile(r"\d+")
# Characters a token of deployed vocabularies over English text: a published mean, and what is assumed at most.
CHARACTERS_PER_TOKEN = {
    "llama3": (
        3.94, 5.0,
        "The Llama 3 Herd of Models (arXiv 2407.21783), 3.2: 3.94 over a sample of English; up to 5 assumed for short "
        "everyday sentences",
    ),
}  # fmt: skip


def words_of(text: str) -> list[str]:
    """The words of a turn, normalised as in the corpus."""
    cut = (NUMBER.sub("0", word.strip(MARKS)) for word in text.lower().split())
    return [word for word in cut if word]


def unknown_share(text: str, known: Set[str]) -> float:
    """u / (n + 1) where u of the text's n words are unknown; 0 for no words."""
    words = words_of(text)
    return sum(word not in known for word in words) / (len(words) + 1)


@dataclass(frozen=True)
class Corpus:
    """The words of the stand-ins' training corpus, and the threshold with its false-positive rate."""

    words: Set[str]
    threshold: float
    false_positive_rate: float
    characters_per_token: float

    def outside(self, text: str) -> bool:
        """Whether a turn lies outside."""
        return unknown_share(text, self.words) >= self.threshold


@cache
def corpus() -> Corpus:
    """The shipped corpus' words and facts."""
    facts = json.loads(read_text(FACTS))
    test = facts["test"]
    rate = test["outside"] / test["turns"]
    return Corpus(frozenset(read_text(WORDS).split()), facts["threshold"], rate, facts["characters_per_token"])


def shipped(placed: Placed, setup: Setup) -> bool:
    """Whether a role's tokens come from a stand-in that was trained on the shipped corpus."""
    backend = setup.backends.get(placed.track)
    by_stand_in = backend is None or not backend.gives_tokens
    return by_stand_in and placed.stand_in is not None and placed.stand_in.resolve().parent == CORPUS.parent


def coverage(setup: Setup) -> dict[str, Any] | None:
    """How many turns lie outside the corpus; None where no shipped stand-in answers the turns."""
    if setup.scenario.logits.source == "synthetic" or not setup.conversations or not shipped(setup.target, setup):
        return None
    known = corpus()
    turns = [text for conversation in setup.conversations for text in conversation.turns]
    words = [word for text in turns for word in words_of(text)]
    return {
        "turns": len(turns),
        "outside_corpus": sum(map(known.outside, turns)),
        "outside_means": f"unknown words / (words + 1) >= {known.threshold:g}",
        "false_positive_rate": known.false_positive_rate,
        "unknown_words": sum(word not in known.words for word in words) / max(1, len(words)),
    }


def coverage_notes(setup: Setup) -> list[str]:
    """Report notes on turns outside the corpus, and on lengths in the stand-ins' tokens."""
    found = coverage(setup)
    if found is None:
        return []
    notes = []
    if found["outside_corpus"]:
        share, falsely = (
            f"{found['outside_corpus']} of {found['turns']} turns",
            percent_of(found["false_positive_rate"]),
        )
        notes.append(
            f"{share} lie outside the stand-ins' training corpus (English, in-car services): another language or "
            "subject. There acceptance does not represent the deployed models, and prompts have far more tokens than "
            "in theirs. "
            f"(Criterion: {found['outside_means']}; it flags {falsely} of the corpus' own test turns.)"
        )
    return [*notes, length_note(setup)]


def length_note(setup: Setup) -> str:
    """A note on whose tokens lengths are counted in, and how many the deployed vocabulary would need."""
    vocabulary, ours = setup.target.model.vocabulary, corpus().characters_per_token
    note = (
        f"Prompts and answers are counted in the stand-ins' tokens ({ours:.1f} characters per token over the corpus), "
        f"not in those of {vocabulary.name} ({vocabulary.entries:,} entries)"
    )
    known = CHARACTERS_PER_TOKEN.get(vocabulary.name)
    if known is None:
        return (
            f"{note}: no characters per token are known for that vocabulary; a larger vocabulary needs fewer tokens "
            "for the same text, so times are overestimated."
        )
    least, most, source = known
    times = f"{ours / most:.2f} to {ours / least:.2f} times"
    return f"{note}, which needs {times} as many ({source}): times are overestimated."


def percent_of(share: float) -> str:
    """A share in percent, with two significant digits."""
    return f"{100 * share:.2g} %"
