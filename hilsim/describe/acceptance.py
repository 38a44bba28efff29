"""Acceptance as people measure it, and the chance that a synthetic run needs: of a draft after accepted ones.

| typed                                       | what it is                                                            |
| 0.8                                         | that chance, the same at every place                                  |
| {accepted_over_drafted: 0.343, drafted: 16} | accepted over drafted tokens, so many drafted a round (llama.cpp)     |
| {tokens_a_round: 2.9, drafted: 5}           | tokens that a round makes final, the target's own among them          |
| {conditional: [0.82, 0.78]}                 | that chance by position in the draft; the last one is repeated        |
| {marginal: [0.82, 0.64]}                    | by position, share of rounds that accept it and all before it (vLLM)  |
| {easy: .., hard: .., stay_easy: .., ..}     | that chance in two states, walked along the answer                    |

The first three assume the same chance at every place, the second and third rounds that draft `drafted` tokens, then
verify. With chance a and k drafts a round makes (1 - a^(k+1)) / (1 - a) tokens, which is 1 + k accepted over drafted.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from hilsim.describe.figure import Record, as_tuple
from hilsim.errors import Misfit

Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[tuple[Share, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=1000)]
Drafted = Annotated[int, Field(ge=1, le=1000)]
ONCE = "once all before it in its round were accepted"


class AcceptedOverDrafted(Record):
    """Accepted over drafted tokens of rounds that draft so many."""

    accepted_over_drafted: Share
    drafted: Drafted

    @property
    def chances(self) -> float:
        """The chance of one draft after accepted ones."""
        return chance_of(1 + self.accepted_over_drafted * self.drafted, self.drafted)

    def __str__(self) -> str:
        tokens = 1 + self.accepted_over_drafted * self.drafted
        return (
            f"{self.accepted_over_drafted:g} accepted over drafted, {self.drafted} drafted a round, is "
            f"{tokens:.4g} tokens a round and a chance of {self.chances:.4g} for each draft {ONCE}"
        )


class TokensARound(Record):
    """Tokens that a round of so many drafts makes final, the target's own among them."""

    tokens_a_round: float = Field(ge=1, le=1001)
    drafted: Drafted

    @field_validator("drafted")
    @classmethod
    def _reachable(cls, drafted: int, info: object) -> int:
        tokens = getattr(info, "data", {}).get("tokens_a_round", 1.0)
        if tokens > drafted + 1:
            raise Misfit(
                f"{tokens:g} tokens a round from {drafted} drafts", f"at most {drafted + 1}, the target's own too"
            )
        return drafted

    @property
    def chances(self) -> float:
        """The chance of one draft after accepted ones."""
        return chance_of(self.tokens_a_round, self.drafted)

    def __str__(self) -> str:
        return (
            f"{self.tokens_a_round:g} tokens a round, {self.drafted} drafted, is a chance of {self.chances:.4g} "
            f"for each draft {ONCE}"
        )


class Conditional(Record):
    """By place in the draft, the chance once all before it were accepted."""

    conditional: Shares

    @property
    def chances(self) -> tuple[float, ...]:
        """As they are typed."""
        return self.conditional

    def __str__(self) -> str:
        return f"{listed(self.conditional)} by position are the chances of a draft {ONCE}"


class Marginal(Record):
    """By place in the draft, the share of rounds in which it and all before it are accepted."""

    marginal: Shares

    @field_validator("marginal")
    @classmethod
    def _falls(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        for place, (before, share) in enumerate(pairwise(shares), 2):
            if share > before:
                expected = (
                    "shares that fall, as a position is accepted only where all before it are, or the key conditional"
                )
                found = f"marginal acceptance that rises, {share:g} at place {place} after {before:g}"
                raise Misfit(found, expected)
        return shares

    @property
    def chances(self) -> tuple[float, ...]:
        """Each place over the one before it; 0 where none is reached any more."""
        before = (1.0, *self.marginal)
        return tuple(share / last if last else 0.0 for share, last in zip(self.marginal, before, strict=False))

    def __str__(self) -> str:
        return f"marginal {listed(self.marginal)} by position are chances of {listed(self.chances)} for a draft {ONCE}"


class MarkovAcceptance(Record):
    """Two states, easy and hard text, each with its own acceptance; `stay` is the chance to remain in a state."""

    easy: Share
    hard: Share
    stay_easy: Share
    stay_hard: Share

    @property
    def chances(self) -> MarkovAcceptance:
        """Itself: a chance by position in the answer, not in the draft."""
        return self

    def __str__(self) -> str:
        return f"{self.easy:g} in easy and {self.hard:g} in hard text are the chances of a draft {ONCE}"


Typed = AcceptedOverDrafted | TokensARound | Conditional | Marginal | MarkovAcceptance
# The key by which each form is known.
FORMS: dict[str, type[Typed]] = {
    "accepted_over_drafted": AcceptedOverDrafted,
    "tokens_a_round": TokensARound,
    "conditional": Conditional,
    "marginal": Marginal,
    "easy": MarkovAcceptance,
}


def typed(data: object) -> object:
    """What a scenario holds as acceptance, in its form; refused where its kind is not stated."""
    if isinstance(data, Record):
        return data
    if isinstance(data, dict):
        forms = [key for key in FORMS if key in data]
        if len(forms) != 1:
            keys = " and ".join(forms) or ", ".join(map(str, data))[:60] or "no keys"
            raise Misfit(f"an acceptance with {keys}", f"one share, or a block with one of {', '.join(FORMS)}")
        return FORMS[forms[0]].model_validate(data)
    if isinstance(data, list | tuple):
        raise Misfit(
            "an acceptance list without its kind",
            "{conditional: [..]} (each place once all before it were "
            "accepted) or {marginal: [..]} (the share of rounds that reach beyond each place)",
        )
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise Misfit(f"an acceptance of {str(data)[:40]!r}", "a number from 0 to 1, such as 0.8")
    if not 0 <= data <= 1:
        percent = f"{data / 100:g} if {data:g} is in percent" if 1 < data <= 100 else "a share"
        raise Misfit(f"an acceptance outside 0 to 1: {data:g}", f"{percent}, or a block with one of {', '.join(FORMS)}")
    return float(data)


Acceptance = Annotated[float | Typed, BeforeValidator(typed)]
Chances = float | tuple[float, ...] | MarkovAcceptance


def stated(acceptance: float | Typed) -> str:
    """What was given, what it means, and what it was converted to."""
    if isinstance(acceptance, float):
        return f"acceptance {acceptance:g} is the chance of a draft {ONCE}"
    return f"acceptance: {acceptance}"


def listed(shares: tuple[float, ...]) -> str:
    """Shares with commas, the first eight of many."""
    return ", ".join(f"{share:.4g}" for share in shares[:8]) + (", ..." if len(shares) > 8 else "")


def chance_of(tokens: float, drafted: int) -> float:
    """`acceptance_of`, and exactly none where a round makes the target's own token alone."""
    return acceptance_of(tokens, drafted) if tokens > 1 else 0.0


def run_of(acceptance: float, places: int) -> float:
    """1 + a + ... + a^(places-1): tokens of a round of `places` positions, the one that ends it included."""
    return sum(acceptance**place for place in range(places))


def tokens_a_round(acceptance: float, drafted: int) -> float:
    """(1 - a^(g+1)) / (1 - a), the target's own token included, of an answer without end. Leviathan et al. (arXiv
    2211.17192), Eq. 1. `metrics.tokens_a_round` of a run lies below it, as its last rounds are cut.
    """
    return run_of(acceptance, drafted + 1)


def acceptance_of(tokens: float, drafted: int) -> float:
    """The acceptance that brings so many tokens to a round that nothing cuts (of a run its `mean_acceptance_length`):
    `tokens_a_round` backwards, 1 where that is too little.
    """
    found = least(lambda acceptance: tokens_a_round(acceptance, drafted), tokens)
    return 1.0 if found is None else found


def least(reached: Callable[[float], float], wanted: float) -> float | None:
    """Where a function that rises over 0 to 1 reaches `wanted`, by bisection; None where it does not."""
    low, high = 0.0, 1.0
    if reached(high) < wanted:
        return None
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) >= wanted else (middle, high)
    return high
