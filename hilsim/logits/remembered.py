"""A source that is asked once: what it said after some words it says again, whatever the clock shows.

Content depends on the conversation alone, so a run whose timing changes and whose policy does not look at the clock
asks the same questions again. Replays with other chip figures cost no forward pass then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hilsim.logits.source import Draft, LogitsSource, Prefix, Verdict

T = TypeVar("T")


@dataclass
class Memory:
    """Answers by question; shared by all runs over one workload."""

    answers: dict[object, object] = field(default_factory=dict)
    asked: int = 0  # questions that had to be put to a real source

    def recall(self, question: object, ask: Callable[[], T]) -> T:
        """The answer known, or the one that `ask` gives."""
        if question not in self.answers:
            self.asked += 1
            self.answers[question] = ask()
        return self.answers[question]  # type: ignore[return-value]


def so_far(prefix: Prefix) -> tuple[int, int]:
    """The request and what its conversation says: under block and lossy rules the draft can change the text."""
    return prefix.index, hash(tuple(prefix.tokens))


class Remembered:
    """`LogitsSource` that puts to `source` only what `memory` does not know yet."""

    def __init__(self, source: LogitsSource, memory: Memory):
        self.source, self.memory = source, memory

    def prompt(self, conversation: int, turn: int) -> list[int]:
        return list(self.memory.recall(("prompt", conversation, turn), lambda: self.source.prompt(conversation, turn)))

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        question = ("draft", *so_far(prefix), count, tuple(after))
        return self.memory.recall(question, lambda: self.source.draft(prefix, count, after))

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        question = ("verify", *so_far(prefix), draft.tokens)
        return self.memory.recall(question, lambda: self.source.verify(prefix, draft))

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        question = ("next", *so_far(prefix))
        return self.memory.recall(question, lambda: self.source.next_token(prefix))

    def ends(self, token: int) -> bool:
        return self.source.ends(token)

    def text(self, tokens: Sequence[int]) -> str:
        return self.memory.recall(("text", tuple(tokens)), lambda: self.source.text(tokens))

    def forget(self, conversation: int) -> None:
        self.source.forget(conversation)

    @property
    def forward_seconds(self) -> float:
        return self.source.forward_seconds
