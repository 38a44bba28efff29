"""Recording a transcript: the target's answers as it gives them alone, and from every position the draft's way on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from hilsim.logits.source import Draft, LogitsSource, Prefix, Verdict
from hilsim.logits.transcript import UNKNOWN, VERSION, Transcript

AFTER = 8  # tokens of the target's behind an answer: as far as words looked up can run over an end of turn


@dataclass(frozen=True)
class Position:
    """A place in a conversation, as a source is asked about it."""

    index: int
    conversation: int
    tokens: Sequence[int]


@dataclass
class Heard:
    """One request as the target alone answered it: the conversation before the answer, the answer, its margins."""

    conversation: int
    turn: int
    prompt: list[int]
    index: int = UNKNOWN  # of a question that no room was left for
    before: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)

    @property
    def full(self) -> list[int]:
        """The conversation with the answer."""
        return [*self.before, *self.answer]


class Listener:
    """`LogitsSource` for a run of the target alone that keeps what it says."""

    def __init__(self, source: LogitsSource):
        self.source = source
        self.heard: list[Heard] = []

    def prompt(self, conversation: int, turn: int) -> list[int]:
        prompt = self.source.prompt(conversation, turn)
        self.heard.append(Heard(conversation, turn, list(prompt)))
        return prompt

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        token, margin = self.source.next_token(prefix)
        last = self.heard[-1]
        if not last.answer:
            last.index, last.before = prefix.index, list(prefix.tokens)
        last.answer.append(token)
        last.margins.append(margin)
        return token, margin

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        raise AssertionError("the target alone drafts nothing")

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        raise AssertionError("the target alone verifies nothing")

    def ends(self, token: int) -> bool:
        return self.source.ends(token)

    def text(self, tokens: Sequence[int]) -> str:
        return self.source.text(tokens)

    def forget(self, conversation: int) -> None:
        self.source.forget(conversation)

    @property
    def forward_seconds(self) -> float:
        return self.source.forward_seconds


def transcript_of(
    heard: Sequence[Heard],
    source: LogitsSource,
    drafts: Callable[[list[Heard]], list[list[Draft]]],
    depth: int,
    context: int,
    header: dict[str, Any],
    progress: Callable[[int], None] = lambda done: None,
) -> Transcript:
    """The transcript of answers that were heard; `source` is asked for what comes after each.

    `drafts` gives, for the requests of one conversation, the draft's continuation from every position of each answer
    and the one after it.

    `progress` is told after every request how many are done. Continuations end at an end of turn, and where the context
    does.
    """
    afters: list[list[tuple[int, float]]] = []
    rows: list[Draft] = []
    for _, together in groupby(heard, lambda one: one.conversation):
        talk = list(together)
        for one, drafted in zip(talk, drafts(talk), strict=True):
            count = min(depth, AFTER, context + 1 - len(one.full)) if one.answer else 0
            afters.append(going_on(source, one, count))
            rows += drafted
            progress(len(afters))
        source.forget(talk[0].conversation)
    return Transcript(
        {"version": VERSION, **header},
        index=np.array([one.index for one in heard], np.int32),
        conversation=np.array([one.conversation for one in heard], np.int32),
        turn=np.array([one.turn for one in heard], np.int32),
        prompt=np.array([token for one in heard for token in one.prompt], np.int32),
        prompt_end=np.cumsum([len(one.prompt) for one in heard], dtype=np.int32),
        answer=np.array([token for one in heard for token in one.answer], np.int32),
        answer_end=np.cumsum([len(one.answer) for one in heard], dtype=np.int32),
        margin=np.array([margin for one in heard for margin in one.margins], np.float64),
        after=table([[token for token, _ in after] for after in afters], depth, UNKNOWN, np.int32),
        after_margin=table([[margin for _, margin in after] for after in afters], depth, 0.0, np.float64),
        drafted=table([row.tokens for row in rows], depth, UNKNOWN, np.int32),
        confidence=table([row.confidences for row in rows], depth, 0.0, np.float64),
        entropy=table([row.entropies for row in rows], depth, 0.0, np.float64),
    )


def one_by_one(source: LogitsSource, one: Heard, depth: int, context: int) -> list[Draft]:
    """The continuations as a source gives them: a step a token and position."""
    return [
        source.draft(Position(one.index, one.conversation, one.full[:position]), min(depth, context - position))
        for position in range(len(one.before), len(one.full) + 1)
    ]


def going_on(source: LogitsSource, one: Heard, count: int) -> list[tuple[int, float]]:
    """What the target would say after its answer, with margins."""
    tokens, found = one.full, []
    for _ in range(count):
        token, margin = source.next_token(Position(one.index, one.conversation, tokens))
        found.append((token, margin))
        tokens.append(token)
    return found


def table(rows: Sequence[Sequence[float]], depth: int, absent: float, kind: type) -> Any:
    """Rows of up to `depth` entries as a matrix, filled up with `absent`."""
    made: Any = np.full((len(rows), depth), absent, kind)
    for place, row in enumerate(rows):
        made[place, : len(row)] = row
    return made
