"""The parts of a transcript while it is recorded: questions, the target's answers, the draft's continuations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hilsim.sources.columns import UNKNOWN, VERSION, Floats, Ints, Transcript
from hilsim.text.prompt import Prompt, without_end

AFTER = 8  # tokens of the target after an answer: as far as prompt lookup can run past an end of turn


@dataclass
class TargetAnswer:
    """One question of the workload and the target's answer: the tokens before, the answer, the tokens after.

    `after` are the tokens that the target would generate after its answer.
    """

    index: int
    conversation: int
    turn: int
    user: str
    prompt: list[int] = field(default_factory=list)
    prefix_length: int | None = None  # as in `Prompt`, where fewer stay than all but the end token
    before: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    after_margins: list[float] = field(default_factory=list)

    @property
    def full(self) -> list[int]:
        """All token ids of the conversation up to the end of the answer."""
        return [*self.before, *self.answer]


@dataclass
class OpenConversation:
    """A conversation in progress: all tokens so far, the questions asked, and the questions to come.

    `make_prompt` makes the prompt of a question from its text and all tokens so far.
    """

    waiting: list[TargetAnswer]
    make_prompt: Callable[[str, Sequence[int]], Prompt]
    tokens: list[int] = field(default_factory=list)
    asked: list[TargetAnswer] = field(default_factory=list)

    @property
    def answered(self) -> list[TargetAnswer]:
        """Questions that fitted into the context and have an answer."""
        return [one for one in self.asked if one.answer]

    def ask(self, context: int, ends: frozenset[int]) -> TargetAnswer | None:
        """The next question, with its prompt among the tokens; None where there is none, or no room for it.

        As `sim.run.converse`: the frame between turns brings the end of an answer itself.
        """
        if not self.waiting:
            return None
        one = self.waiting.pop(0)
        self.asked.append(one)
        prompt = self.make_prompt(one.user, self.tokens)
        one.prompt = prompt.tokens
        if prompt.prefix_length < without_end(self.tokens, ends.__contains__):
            one.prefix_length = prompt.prefix_length
        if prompt.prefix_length + len(prompt.tokens) >= context:
            self.waiting.clear()
            return None
        self.tokens[prompt.prefix_length :] = prompt.tokens
        one.before = list(self.tokens)
        return one

    def segments(self) -> list[OpenConversation]:
        """The conversation in segments, each of which only appends tokens: cut where earlier turns are read again."""
        found: list[OpenConversation] = []
        for one in self.answered:
            if not found or one.prefix_length is not None:
                found.append(OpenConversation([], self.make_prompt))
            found[-1].asked.append(one)
            found[-1].tokens = one.full
        return found or [self]


@dataclass(frozen=True)
class DraftedColumns:
    """The draft's continuations: columns (positions, depth) as a transcript stores them."""

    drafted: Ints
    confidence: Floats
    entropy: Floats

    @staticmethod
    def unknown(positions: int, depth: int) -> DraftedColumns:
        """Nothing drafted yet."""
        shape = (positions, depth)
        return DraftedColumns(np.full(shape, UNKNOWN, np.int32), np.zeros(shape), np.zeros(shape))


def transcript_of(
    answers: Sequence[TargetAnswer], ways: Sequence[DraftedColumns], header: dict[str, Any]
) -> Transcript:
    """The transcript of some answers, and of the draft's continuations from every position of each."""
    margins = [margin for one in answers for margin in one.margins]
    again = [[place, one.prefix_length] for place, one in enumerate(answers) if one.prefix_length is not None]
    return Transcript(
        {"version": VERSION, **header, **({"reread": again} if again else {})},
        index=np.array([one.index if one.answer else UNKNOWN for one in answers], np.int32),
        conversation=np.array([one.conversation for one in answers], np.int32),
        turn=np.array([one.turn for one in answers], np.int32),
        prompt=np.array([token for one in answers for token in one.prompt], np.int32),
        prompt_end=np.cumsum([len(one.prompt) for one in answers], dtype=np.int32),
        answer=np.array([token for one in answers for token in one.answer], np.int32),
        answer_end=np.cumsum([len(one.answer) for one in answers], dtype=np.int32),
        margin=np.array(margins, np.float64),
        after=table([one.after for one in answers], AFTER, UNKNOWN, np.int32),
        after_margin=table([one.after_margins for one in answers], AFTER, 0.0, np.float64),
        drafted=np.concatenate([one.drafted for one in ways]),
        confidence=np.concatenate([one.confidence for one in ways]),
        entropy=np.concatenate([one.entropy for one in ways]),
    )


def table(rows: Sequence[Sequence[float]], width: int, absent: float, kind: type) -> Any:
    """Rows of up to `width` entries as a matrix, filled up with `absent`."""
    made: Any = np.full((len(rows), width), absent, kind)
    for place, row in enumerate(rows):
        made[place, : len(row)] = row
    return made
