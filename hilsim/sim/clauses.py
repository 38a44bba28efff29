"""Clauses: where the text of an answer may be handed to speech synthesis, and how long it takes to say it."""

from __future__ import annotations

import re
from typing import NamedTuple

from hilsim.describe.cockpit import Playback
from hilsim.describe.scenario import Conversations, Lengths
from hilsim.sim.request import Request
from hilsim.sources.source import LogitsSource
from hilsim.units import ns

CLAUSE_END = re.compile(r"[,.?!;:](?=\s|$)")
OPEN_NUMBER = re.compile(r"\d[,.:]$")  # more digits may follow


class Clause(NamedTuple):
    """A part of an answer: its tokens from `first` to before `end`, and how long it is to hear."""

    first: int
    end: int
    speech_ns: int


def clause_tokens(source: LogitsSource, answer: list[int], text: str | None = None) -> int:
    """How many tokens complete the first clause: up to , . ? ! ; or : before a space or the end.

    `text` is that of the answer, where it is known.
    """
    text = source.text(answer) if text is None else text
    end = CLAUSE_END.search(text)
    if end is None:
        return len(answer)

    if text.isascii():  # a longer answer has a longer text
        return tokens_of(source, answer, end.end(), len(text))
    counts = range(1, len(answer) + 1)  # half a character can decode to a longer text than the whole one
    return next(count for count in counts if len(source.text(answer[:count])) >= end.end())


def tokens_of(source: LogitsSource, answer: list[int], wanted: int, length: int) -> int:
    """The least tokens whose text has the `wanted` characters, of an answer of `length` characters.

    Looked for where they would be if all tokens between the nearest known ones had as many characters.
    """
    low, low_length, high, high_length = 0, 0, len(answer), length
    while high - low > 1:
        expected = round((high - low) * (wanted - low_length) / (high_length - low_length))
        middle = low + min(max(expected, 1), high - low - 1)
        found = len(source.text(answer[:middle]))
        if found < wanted:
            low, low_length = middle, found
        else:
            high, high_length = middle, found
    return high


def words_ns(words: int, playback: Playback) -> int:
    """How long it takes to say so many words."""
    return ns(words / playback.words_per_s)


def tokens_ns(tokens: int, playback: Playback) -> int:
    """How long it takes to say text of so many tokens that nothing else is known of."""
    return ns(tokens / playback.tokens_per_word / playback.words_per_s)


class Splitter:
    """Takes an answer apart into clauses as its tokens arrive.

    A clause is complete with its punctuation mark, except after a digit, which more digits may follow. Of answers known
    by length alone, every `clause_tokens` of the workload are one.
    """

    def __init__(
        self, source: LogitsSource, request: Request, workload: Conversations | Lengths, playback: Playback
    ) -> None:
        self.source, self.request, self.playback = source, request, playback
        self.length = workload.clause_tokens if isinstance(workload, Lengths) else None
        self.begun = 0  # tokens of the answer in clauses that are complete

    def split(self, delivered: int, *, whole: bool) -> list[Clause]:
        """The clauses that are complete with so many tokens delivered; `whole`: the last one ends here as well."""
        found = []
        while self.begun < delivered:
            count = self.complete(delivered, whole=whole)
            if count is None:
                break
            found.append(self.clause(self.begun, self.begun + count))
            self.begun += count
        return found

    def complete(self, delivered: int, *, whole: bool) -> int | None:
        """How many tokens the next clause has; None while it is not complete."""
        left = delivered - self.begun
        if self.length is not None:
            return min(left, self.length) if whole or left >= self.length else None
        tokens = self.request.answer[self.begun : delivered]
        text = self.source.text(tokens)
        end = CLAUSE_END.search(text)
        if whole:
            return left if end is None else clause_tokens(self.source, tokens, text)
        if end is None or (end.end() == len(text) and OPEN_NUMBER.search(text)):
            return None
        return clause_tokens(self.source, tokens, text)

    def clause(self, first: int, end: int) -> Clause:
        """The clause of these tokens."""
        if self.length is not None:
            return Clause(first, end, tokens_ns(end - first, self.playback))
        words = len(self.source.text(self.request.answer[first:end]).split())
        return Clause(first, end, words_ns(words, self.playback))


def question_ns(user: str, workload: Conversations | Lengths, playback: Playback) -> int:
    """How long it takes to ask a question."""
    if isinstance(workload, Lengths):
        return tokens_ns(workload.prompt_tokens, playback)
    return words_ns(len(user.split()), playback)
