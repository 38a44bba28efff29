"""Accepted lengths as they were recorded: what each round of each request accepted.

`accepted[request][round]` are drafted tokens that stood, the target's own token not counted. The answer's first token
comes from the pass over the prompt, so a request's first round begins at its second.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import Record
from hilsim.errors import Misfit

Count = Annotated[int, Field(ge=0, le=1000)]
MOST_ROUNDS = 10**6


def as_tuples(data: object) -> object:
    """Lists of lists as tuples of tuples."""
    return tuple(tuple(one) if isinstance(one, list) else one for one in data) if isinstance(data, list) else data


Lists = Annotated[tuple[tuple[Count, ...], ...], BeforeValidator(as_tuples), Field(min_length=1, max_length=10**5)]


class AcceptedLists(Record):
    """What each round of each request accepted, as it was recorded."""

    accepted: Lists
    """Drafted tokens that stood, by request and round, the target's own token not counted."""
    drafted: Annotated[int, Field(ge=1, le=1000)] | Lists
    """Tokens drafted each round: one number for all of them, or one for each."""

    @model_validator(mode="after")
    def _possible(self) -> AcceptedLists:
        if not 1 <= self.rounds <= MOST_ROUNDS:
            raise Misfit(f"{self.rounds} rounds", f"1 to {MOST_ROUNDS} rounds in all")
        if not isinstance(self.drafted, int):
            lengths = [(len(ours), len(theirs)) for ours, theirs in zip(self.accepted, self.drafted, strict=False)]
            if len(self.accepted) != len(self.drafted) or any(ours != theirs for ours, theirs in lengths):
                raise Misfit("drafted with other rounds than accepted", "a number of drafts for every round")
        for request, rounds in enumerate(self.accepted):
            for number, (accepted, drafted) in enumerate(zip(rounds, self.drafts_of(request), strict=True)):
                if accepted > drafted:
                    found = f"{accepted} accepted of {drafted} drafted in round {number} of request {request}"
                    raise Misfit(found, "at most the drafts of the round, the target's own token not counted")
        return self

    def drafts_of(self, request: int) -> tuple[int, ...]:
        """The drafts of every round of a request."""
        if isinstance(self.drafted, int):
            return (self.drafted,) * len(self.accepted[request])
        return self.drafted[request]

    @property
    def rounds(self) -> int:
        return sum(map(len, self.accepted))

    def tokens_of(self, request: int) -> int:
        """Tokens that a request's rounds make final."""
        return sum(self.accepted[request]) + len(self.accepted[request])

    def fits(self, request: int, tokens: int) -> str:
        """Why a request's rounds are not those of an answer of so many tokens after its first; "" where they are.

        The last round may go beyond the answer, as what it has too much is cut.
        """
        own, last = self.tokens_of(request), self.accepted[request][-1] + 1 if self.accepted[request] else 0
        if own < tokens:
            return f"rounds of {own} tokens, for an answer of {tokens} after its first"
        if own - last >= tokens and self.accepted[request]:
            return f"rounds of {own} tokens, more than the {tokens} that the answer has after its first"
        return ""

    @property
    def chances(self) -> tuple[float, ...]:
        """By place, the share of drafts accepted of those whose earlier places were accepted."""
        most = max((drafts for request in range(len(self.accepted)) for drafts in self.drafts_of(request)), default=0)
        good, tried = [0] * most, [0] * most
        for accepted, drafted in self.pairs():
            for place in range(min(accepted + 1, drafted)):
                good[place] += place < accepted
                tried[place] += 1
        return tuple(one / of if of else 0.0 for one, of in zip(good, tried, strict=True))

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Accepted and drafted of every round."""
        for request, rounds in enumerate(self.accepted):
            yield from zip(rounds, self.drafts_of(request), strict=True)

    @property
    def chance(self) -> float:
        """The share of tested drafts that were accepted: those up to the first wrong one of each round."""
        pairs = list(self.pairs())
        tested = sum(min(accepted + 1, drafted) for accepted, drafted in pairs)
        return sum(accepted for accepted, _ in pairs) / tested if tested else 0.0

    def streak(self) -> float | None:
        """Correlation of accepted tokens between neighbouring rounds of a request; None where nothing varies."""
        both = [pair for rounds in self.accepted for pair in pairwise(rounds)]
        ours, theirs = [first for first, _ in both], [second for _, second in both]
        if len(set(ours)) < 2 or len(set(theirs)) < 2:
            return None
        from statistics import correlation  # of recorded rounds alone

        return correlation(ours, theirs)

    def __str__(self) -> str:
        mean = 1 + sum(sum(rounds) for rounds in self.accepted) / self.rounds
        each = [count for request in range(len(self.accepted)) for count in self.drafts_of(request)]
        drafted = f"{min(each)}" if min(each) == max(each) else f"{min(each)} to {max(each)}"
        return (
            f"{self.rounds} rounds of {len(self.accepted)} requests as recorded, {drafted} drafted a round, "
            f"{mean:.4g} tokens a round"
        )
