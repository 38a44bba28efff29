"""The dialogue corpus: reading it, encoding it in tokens and cutting it into rows for training."""

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
    """One turn of a dialogue, by "user" or "assistant"."""

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


def encode_dialogue(dialogue: CorpusDialogue, tokenizer: ChatTokenizer) -> list[int]:
    """The token ids of a dialogue, formatted by the folder's chat template as in a simulation."""
    messages = [{"role": turn.role, "content": turn.text} for turn in dialogue.turns]
    return tokenizer.conversation(messages, cue=dialogue.turns[-1].role == "user").ids


def stream(dialogues: list[CorpusDialogue], tokenizer: ChatTokenizer) -> list[Tokens]:
    """Every dialogue in tokens; 16-bit ids would do, 64-bit is what the embedding takes."""
    return [np.array(encode_dialogue(dialogue, tokenizer), dtype=np.int64) for dialogue in dialogues]


def rows(sequences: list[Tokens], length: int, rng: np.random.Generator) -> Tokens:
    """Shuffle the dialogues, lay them end to end and cut rows of `length` + 1 tokens (input and shifted target)."""
    order = rng.permutation(len(sequences))
    flat = np.concatenate([sequences[index] for index in order])
    count = (len(flat) - 1) // length
    return np.stack([flat[index * length : (index + 1) * length + 1] for index in range(count)])
