"""What followed the last tokens of a text before: indexes of n-grams, for policies that draft by lookup.

One rule for all: of the runs of 1 to `longest` tokens that end the text, the longest that has been followed by
something counts. An index takes up each token once, so a lookup costs the same however long the texts are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from hilsim.sampling.proposals import Prefix

Found = TypeVar("Found")


class TextIndex(ABC, Generic[Found]):
    """By runs of 1 to `longest` tokens, what followed them in the texts read so far."""

    def __init__(self, longest: int):
        self.longest = longest
        self.after: dict[tuple[int, ...], Found] = {}
        self.lengths: dict[int, tuple[int, int]] = {}  # by conversation: its last request, and tokens read

    def follow(self, prefix: Prefix, begins: int) -> None:
        """Take up what is new of a conversation. Its present turn `begins` there; what came last may have changed."""
        index, length = self.lengths.get(prefix.conversation, (prefix.index, 0))
        text = prefix.tokens
        for place in range(length if index == prefix.index else min(length, begins), len(text)):
            for size in range(1, min(self.longest, place) + 1):
                self.note(tuple(text[place - size : place]), text, place)
        self.lengths[prefix.conversation] = prefix.index, len(text)

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

    @abstractmethod
    def proposed(self, prefix: Prefix, begins: int, most: int) -> tuple[int, ...]:
        """At most `most` tokens that are expected to follow a conversation, which is taken up first."""


class LastPlaces(TextIndex[int]):
    """Of one conversation the place behind the last occurrence of every run; what followed there is proposed."""

    def note(self, run: tuple[int, ...], text: Sequence[int], place: int) -> None:
        self.after[run] = place

    def proposed(self, prefix: Prefix, begins: int, most: int) -> tuple[int, ...]:
        self.follow(prefix, begins)
        found = self.match(prefix.tokens)
        return () if found is None or most <= 0 else tuple(prefix.tokens[found[1] : found[1] + most])


class Followers(TextIndex[dict[int, int]]):
    """How often which token followed every run, in any number of conversations; the newest is the last of its dict.

    The most frequent follower is proposed, of equals the newest, again and again: at most `factor` tokens for each one
    of the match, as long as the product of their shares is at least `least_share`.
    """

    def __init__(self, longest: int, factor: float, least_share: float):
        super().__init__(longest)
        self.factor, self.least_share = factor, least_share

    def note(self, run: tuple[int, ...], text: Sequence[int], place: int) -> None:
        counts = self.after.setdefault(run, {})
        counts[text[place]] = counts.pop(text[place], 0) + 1

    def proposed(self, prefix: Prefix, begins: int, most: int) -> tuple[int, ...]:
        self.follow(prefix, begins)
        tokens, share, drafted = list(prefix.tokens[-self.longest :]), 1.0, 0
        while drafted < most and (found := self.match(tokens)) is not None:
            size, counts = found
            if drafted == 0:
                most = min(most, int(self.factor * size))
            token = max(reversed(counts), key=counts.__getitem__)
            share *= counts[token] / sum(counts.values())
            if share < self.least_share or most == 0:
                break
            tokens.append(token)
            drafted += 1
        return tuple(tokens[len(tokens) - drafted :])
