"""What a chip is about to read, and what it must find: the words of a run, told to whoever executes its steps.

Only under greedy rules, where the likeliest token is the one that is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hilsim.sampling.proposals import Draft, Prefix, Verdict
from hilsim.sources.source import LogitsSource, Relay

# Where two tokens are as likely as that, a pass over other rows may find the other one.
TIE = 1e-4


@dataclass(frozen=True)
class Said:
    """A token that was said, and how much likelier it was than the next, where that is known."""

    token: int
    margin: float | None = None


# A role, the tokens that it reads, and what follows the first so many of them.
Tell = Callable[[str, Sequence[int], Mapping[int, Said]], None]


class Told(Relay):
    """`LogitsSource` that passes everything on to `source`, and tells what each role reads and finds."""

    def __init__(self, source: LogitsSource, tell: Tell):
        super().__init__(source)
        self.tell = tell

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        found = self.source.draft(prefix, count, after)
        before = len(prefix.tokens) + len(after)
        said = {before + place: Said(token) for place, token in enumerate(found.tokens)}
        self.tell("draft", [*prefix.tokens, *after, *found.tokens], said)
        return found

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        found, before = self.source.verify(prefix, draft), len(prefix.tokens)
        emitted = zip(found.tokens(draft), found.margins, strict=True)
        said = {before + place: Said(token, margin) for place, (token, margin) in enumerate(emitted)}
        self.tell("target", [*prefix.tokens, *draft.tokens], said)
        return found

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        token, margin = self.source.next_token(prefix)
        self.tell("target", prefix.tokens, {len(prefix.tokens): Said(token, margin)})
        self.tell("draft", prefix.tokens, {})  # where a question is new, this is the first that the draft hears of it
        return token, margin


@dataclass(frozen=True)
class Words:
    """Tokens that a role's chip found, held against those that were said: how many, how many others, and by a tie."""

    checked: int = 0
    mismatches: int = 0
    ties: int = 0

    def __add__(self, other: Words) -> Words:
        return Words(self.checked + other.checked, self.mismatches + other.mismatches, self.ties + other.ties)


def held_against(found: Sequence[int], length: int, said: Mapping[int, Said]) -> Words:
    """The last rows of a step over `length` tokens, where what follows them is known."""
    first = length - len(found) + 1
    pairs = [(token, said[first + place]) for place, token in enumerate(found) if first + place in said]
    other = [expected for token, expected in pairs if token != expected.token]
    ties = sum(expected.margin is not None and expected.margin < TIE for expected in other)
    return Words(len(pairs), len(other) - ties, ties)
