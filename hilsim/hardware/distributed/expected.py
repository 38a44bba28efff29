"""The tokens that each device of a distributed run reads, and those that its model must compute from them.

Only under greedy rules, where the likeliest token is the one that is emitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hilsim.sampling.proposals import Draft, Prefix, Verdict
from hilsim.sources.source import LogitsSource, Relay

# A pass over other rows may choose the other of two tokens whose margin is below this.
TIE = 1e-4


@dataclass(frozen=True)
class ExpectedToken:
    """A token, and its margin over the next likely one, where that is known."""

    token: int
    margin: float | None = None


ExpectedTokens = Mapping[int, ExpectedToken]  # by position: the token that follows so many tokens
# Called with a role, the tokens that it reads, and the tokens expected of it.
Announce = Callable[[str, Sequence[int], ExpectedTokens], None]


class Announcing(Relay):
    """`LogitsSource` that relays to `source` and announces what each role reads and must compute."""

    def __init__(self, source: LogitsSource, announce: Announce):
        super().__init__(source)
        self.announce = announce

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        found = self.source.draft(prefix, count, after)
        before = len(prefix.tokens) + len(after)
        expected = {before + place: ExpectedToken(token) for place, token in enumerate(found.tokens)}
        self.announce("draft", [*prefix.tokens, *after, *found.tokens], expected)
        return found

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        found, before = self.source.verify(prefix, draft), len(prefix.tokens)
        emitted = zip(found.tokens(draft), found.margins, strict=True)
        expected = {before + place: ExpectedToken(token, margin) for place, (token, margin) in enumerate(emitted)}
        self.announce("target", [*prefix.tokens, *draft.tokens], expected)
        return found

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        token, margin = self.source.next_token(prefix)
        self.announce("target", prefix.tokens, {len(prefix.tokens): ExpectedToken(token, margin)})
        self.announce("draft", prefix.tokens, {})  # of a new question this is all that the draft's device gets
        return token, margin


@dataclass(frozen=True)
class TokenCheck:
    """Tokens that a device computed and that were checked: how many, how many differ, and how many differ by a tie."""

    checked: int = 0
    mismatches: int = 0
    ties: int = 0

    def __add__(self, other: TokenCheck) -> TokenCheck:
        return TokenCheck(self.checked + other.checked, self.mismatches + other.mismatches, self.ties + other.ties)


def check_tokens(found: Sequence[int], length: int, expected: ExpectedTokens) -> TokenCheck:
    """Check the last rows of a step over `length` tokens, where the following token is known."""
    first = length - len(found) + 1
    pairs = [(token, expected[first + place]) for place, token in enumerate(found) if first + place in expected]
    other = [one for token, one in pairs if token != one.token]
    ties = sum(one.margin is not None and one.margin < TIE for one in other)
    return TokenCheck(len(pairs), len(other) - ties, ties)
