"""The words of the shipped corpus, and from which share of unknown ones on a turn lies outside it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hilsim.files import written
from hilsim.text.coverage import CORPUS, FACTS, WORDS, unknown_share, words_of
from hilsim.text.tokenizer import load_tokenizer

MOST_FALSE = 1 / 1000  # of the validation part's turns
STEPS = 100  # of the threshold


def texts(part: str, *, user: bool) -> Iterator[str]:
    """Turns of a part of the corpus, all of them or the passengers' alone."""
    with gzip.open(CORPUS / f"{part}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            yield from (turn["text"] for turn in json.loads(line)["turns"] if not user or turn["role"] == "user")


def corpus_words() -> list[str]:
    """Every word of the training part."""
    return sorted({word for text in texts("train", user=False) for word in words_of(text)})


def facts_for(words: list[str], stand_in: Path) -> dict[str, Any]:
    """The threshold by the validation part, how often it errs on the test part, and characters a token there."""
    known = frozenset(words)
    valid = [unknown_share(text, known) for text in texts("valid", user=True)]
    threshold = next(
        step / STEPS for step in range(1, STEPS) if sum(s >= step / STEPS for s in valid) <= MOST_FALSE * len(valid)
    )
    test = list(texts("test", user=True))
    tokenizer = load_tokenizer(stand_in)
    tokens = sum(len(tokenizer.encode(text)) for text in test)
    return {
        "threshold": threshold,
        "valid": {"turns": len(valid), "outside": sum(share >= threshold for share in valid)},
        "test": {"turns": len(test), "outside": sum(unknown_share(text, known) >= threshold for text in test)},
        "characters_per_token": round(sum(map(len, test)) / tokens, 3),
    }


def write() -> None:
    """Make both files again after a change of the corpus (from hilsim.training.coverage import write; write())."""
    words = corpus_words()
    with written(WORDS) as path:
        path.write_text("\n".join(words) + "\n", encoding="utf-8")
    with written(FACTS) as path:
        path.write_text(json.dumps(facts_for(words, CORPUS.parent / "target"), indent=1) + "\n", encoding="utf-8")
