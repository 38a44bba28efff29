"""What followed the last tokens of a text before: indexes of n-grams, for policies that draft by lookup.

One rule for all: of the runs of 1 to `longest` tokens that end the text, the longest that has been followed by
something counts. An index takes up each token once, so a lookup costs the same however long the texts are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from hilsim.sim.request import Request

Found = TypeVar("Found")


class TextIndex(ABC, Generic[Found]):
    """By runs of 1 to `longest` tokens, what followed them in the texts read so far."""

    def __init__(self, longest: int):
        self.longest = longest
        self.after: dict[tuple[int, ...], Found] = {}

    def read(self, text: Sequence[int], start: int) -> None:
        """Take up the tokens of a text from place `start` on, each with those before it."""
        for place in range(start, len(text)):
            for size in range(1, min(self.longest, place) + 1):
                self.note(tuple(text[place - size : place]), text, place)

    def match(self, text: Sequence[int]) -> tuple[int, Found] | None:
        """The length of the longest run at the end of a text that was followed by something, and by what."""
        for size in range(min(self.longest, len(text)), 0, -1):
            found = self.after.get(tuple(text[-size:]))
            if found is not None:
                return size, found
        return None

    @abstractmethod
    def note(self, run: tuple[int, ...], text: Sequence[int], place: int) -> None:
        """Take up that `run` was followed by the token at `place` of a text."""


class LastPlaces(TextIndex[int]):
    """Of one growing text the place behind the last occurrence of every run."""

    def __init__(self, longest: int):
        super().__init__(longest)
        self.length = 0

    def note(self, run: tuple[int, ...], text: Sequence[int], place: int) -> None:
        self.after[run] = place

    def proposed(self, text: Sequence[int], most: int) -> tuple[int, ...]:
        """At most `most` tokens that followed the last occurrence; `text` goes on from the one read before."""
        self.read(text, self.length)
        self.length = len(text)
        found = self.match(text)
        return () if found is None or most <= 0 else tuple(text[found[1] : found[1] + most])


class Followers(TextIndex[dict[int, int]]):
    """How often which token followed every run, in all conversations of a run; the newest is the last of its dict."""

    def __init__(self, longest: int):
        super().__init__(longest)
        self.lengths: dict[int, tuple[int, int]] = {}  # by conversation: its last request, and tokens read

    def note(self, run: tuple[int, ...], text: Sequence[int], place: int) -> None:
        counts = self.after.setdefault(run, {})
        counts[text[place]] = counts.pop(text[place], 0) + 1

    def follow(self, request: Request) -> None:
        """Take up what is new of a request's conversation; a new turn may have changed the end of the last one."""
        index, length = self.lengths.get(request.conversation, (request.index, 0))
        if index != request.index:
            length = min(length, len(request.tokens) - len(request.answer) - request.prompt_tokens)
        self.read(request.tokens, length)
        self.lengths[request.conversation] = request.index, len(request.tokens)

    def proposed(self, text: Sequence[int], most: int, factor: float, least_share: float) -> tuple[int, ...]:
        """The most frequent follower, of equals the newest, again and again: at most `most`, and `factor` for each token
        of the match, as long as the product of their shares is at least `least_share`.
        """
        tokens, share, drafted = list(text[-self.longest :]), 1.0, 0
        while drafted < most and (found := self.match(tokens)) is not None:
            size, counts = found
            if drafted == 0:
                most = min(most, int(factor * size))
            token = max(reversed(counts), key=counts.__getitem__)
            share *= counts[token] / sum(counts.values())
            if share < least_share or most == 0:
                break
            tokens.append(token)
            drafted += 1
        return tuple(tokens[len(tokens) - drafted :])
