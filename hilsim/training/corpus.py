"""The dialogue corpus: reading it, telling it in tokens and cutting it into rows for training."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hilsim.errors import Fault, InputError
from hilsim.text.tokenizer import ChatTokenizer

Tokens = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CorpusTurn:
    """One thing said, by "user" or "assistant"."""

    role: str
    text: str


@dataclass(frozen=True)
class CorpusDialogue:
    """Alternating turns, beginning with the user; `part` is "in" or "shift" in valid and test, else ""."""

    id: str
    part: str
    turns: tuple[CorpusTurn, ...]


def read_dialogues(path: Path, part: str | None = None) -> list[CorpusDialogue]:
    """All dialogues of a gzip'd JSON-lines file, or those of one part."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
    except (OSError, EOFError, ValueError) as error:
        raise InputError(
            [Fault(str(path), "", f"an unreadable corpus ({error})", "gzip'd JSON lines of dialogues")]
        ) from None
    return [
        CorpusDialogue(
            row["id"], row.get("part", ""), tuple(CorpusTurn(turn["role"], turn["text"]) for turn in row["turns"])
        )
        for row in rows
        if part is None or row.get("part") == part
    ]


def tell(dialogue: CorpusDialogue, tokenizer: ChatTokenizer) -> list[int]:
    """A dialogue as the simulator tells it: the folder's template around the words."""
    messages = [{"role": turn.role, "content": turn.text} for turn in dialogue.turns]
    return tokenizer.conversation(messages, cue=dialogue.turns[-1].role == "user").ids


def stream(dialogues: list[CorpusDialogue], tokenizer: ChatTokenizer) -> list[Tokens]:
    """Every dialogue in tokens; 16-bit ids would do, 64-bit is what the embedding takes."""
    return [np.array(tell(dialogue, tokenizer), dtype=np.int64) for dialogue in dialogues]


def rows(told: list[Tokens], length: int, rng: np.random.Generator) -> Tokens:
    """Shuffle the dialogues, lay them end to end and cut rows of `length` + 1 tokens (input and shifted target)."""
    order = rng.permutation(len(told))
    flat = np.concatenate([told[index] for index in order])
    count = (len(flat) - 1) // length
    return np.stack([flat[index * length : (index + 1) * length + 1] for index in range(count)])
