"""A prompt as tokens that continue a conversation, and helpers on token prefixes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question as tokens: the first `prefix_length` tokens of the conversation so far stay, `tokens` follow.

    Usually all tokens but the end of the last answer stay. Where a template or a tokenizer writes earlier turns
    differently than before, fewer do, and the rest is read again.
    """

    prefix_length: int
    tokens: list[int]


def without_end(before: Sequence[int], ends: Callable[[int], bool]) -> int:
    """How many tokens of a conversation stay before the next question, which adds the end of the answer itself."""
    return len(before) - (1 if before and ends(before[-1]) else 0)


def shared_prefix(held: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens two sequences share from the start."""
    limit = min(len(held), len(tokens))
    if list(held[:limit]) == list(tokens[:limit]):
        return limit
    return next(index for index in range(limit) if held[index] != tokens[index])
