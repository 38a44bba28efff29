"""Acceptance as people measure it, and the chance that a synthetic run needs: of a draft after accepted ones.

| typed                                       | what it is                                                            |
| 0.8                                         | that chance, the same at every place                                  |
| {accepted_over_drafted: 0.343, drafted: 16} | accepted over drafted tokens, so many drafted a round (llama.cpp)     |
| {tokens_a_round: 2.9, drafted: 5}           | tokens that a round makes final, the target's own among them          |
| {tokens_a_round: {1: 1.66, 3: 2.25}}        | the same by the number of drafts, each from rounds of its own         |
| {conditional: [0.82, 0.78]}                 | that chance by position in the draft; the last one is repeated        |
| {marginal: [0.82, 0.64]}                    | by position, share of rounds that accept it and all before it (vLLM)  |
| {easy: .., hard: .., stay_easy: .., ..}     | that chance in two states, walked along the answer                    |
| {accepted: [[3, 0], [5]], drafted: 5}       | what each round of each request accepted (`accepted_lists.py`)        |

The first three assume the same chance at every place, the second and third rounds that draft `drafted` tokens, then
verify; of tokens by drafts the places between two numbers of drafts share one chance. With chance a and k drafts a
round makes (1 - a^(k+1)) / (1 - a) tokens, which is 1 + k accepted over drafted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import accumulate, pairwise
from operator import mul
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from hilsim.describe.accepted_lists import AcceptedLists
from hilsim.describe.figure import Record, as_tuple
from hilsim.errors import Misfit

Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[tuple[Share, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=1000)]
Drafted = Annotated[int, Field(ge=1, le=1000)]
MOST_EXACT = 2**53  # the largest whole number below which a float has all
ONCE = "once all before it in its round were accepted"


def by_drafts(data: object) -> object:
    """Tokens by drafts from a mapping, whose keys are whole numbers of drafts, or from pairs."""
    if not isinstance(data, dict | list):
        return data
    pairs = []
    for pair in data.items() if isinstance(data, dict) else data:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Misfit(f"{pair!r:.60}", "pairs of a number of drafts and tokens a round")
        key, tokens = pair
        digits = str(key)
        if not digits.isascii() or not digits.isdigit() or len(digits) > 4 or not 1 <= int(digits) <= 1000:
            raise Misfit(f"drafts {key!r:.60}", "whole numbers of drafted tokens from 1 to 1000")
        pairs.append((int(digits), float(tokens) if isinstance(tokens, int) and abs(tokens) < MOST_EXACT else tokens))
    return tuple(pairs)


class AcceptedOverDrafted(Record):
    """Accepted over drafted tokens of rounds that draft so many."""

    accepted_over_drafted: Share
    """Accepted tokens over drafted ones, as llama.cpp prints it."""
    drafted: Drafted
    """Tokens drafted each round as it was measured."""

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
    """Tokens that a round makes final, the target's own among them."""
    drafted: Drafted
    """Tokens drafted each round as it was measured."""

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


class TokensByDrafts(Record):
    """Tokens that a round makes final by the number of drafts, as pairs of drafts and tokens, fewest drafts first."""

    tokens_a_round: Annotated[
        tuple[tuple[int, float], ...],
        BeforeValidator(by_drafts, json_schema_input_type=dict[str, float] | list[tuple[int, float]]),
    ] = Field(min_length=1)
    """Tokens that a round makes final, by the number of drafts."""

    @field_validator("tokens_a_round")
    @classmethod
    def _reachable(cls, known: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
        if any(fewer >= more or less > tokens for (fewer, less), (more, tokens) in pairwise(known)):
            raise Misfit(f"tokens_a_round of {pairs_listed(known)}", "more drafts and tokens with every pair")
        for (drafts, tokens), (before, less) in zip(known, ((0, 1.0), *known), strict=False):
            if not tokens >= 1 or tokens - less > drafts - before:
                expected = f"1 to {less + drafts - before:g}: a further draft brings one token at most"
                raise Misfit(f"{tokens:g} tokens a round from {drafts} drafts", expected)
        return known

    @property
    def chances(self) -> tuple[float, ...]:
        """The chance at each place, given that all earlier ones were accepted; the last one is repeated."""
        found: list[float] = []
        reached, tokens, drafts = 1.0, 1.0, 0  # chance that a place is reached, tokens up to it
        for more_drafts, more_tokens in self.tokens_a_round:
            places, gain = more_drafts - drafts, (more_tokens - tokens) / reached if reached else 0.0
            chance = least(partial(accepted_of, places), gain)
            found += [1.0 if chance is None else chance] * places
            reached, tokens, drafts = reached * found[-1] ** places, more_tokens, more_drafts
        return tuple(found)

    def __str__(self) -> str:
        return (
            f"{pairs_listed(self.tokens_a_round)} drafts a round are chances of {listed(self.chances)} by position for "
            f"a draft {ONCE}"
        )


class Conditional(Record):
    """By place in the draft, the chance once all before it were accepted."""

    conditional: Shares
    """By place in the draft, the chance once all before it were accepted; the last one is repeated."""

    @property
    def chances(self) -> tuple[float, ...]:
        """As they are typed."""
        return self.conditional

    def __str__(self) -> str:
        return f"{listed(self.conditional)} by position are the chances of a draft {ONCE}"


class Marginal(Record):
    """By place in the draft, the share of rounds in which it and all before it are accepted."""

    marginal: Shares
    """By place in the draft, the share of rounds that accept it and all before it, as vLLM prints it."""

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
    """Two states, easy and hard text, each with its own acceptance, walked along the answer."""

    easy: Share
    """Chance of a draft in easy text, once all before it were accepted."""
    hard: Share
    """The same in hard text."""
    stay_easy: Share
    """Chance that easy text goes on at the next token."""
    stay_hard: Share
    """Chance that hard text goes on at the next token."""

    @property
    def share_easy(self) -> float:
        """The share of text that is easy, in the long run."""
        leave_easy, leave_hard = 1 - self.stay_easy, 1 - self.stay_hard
        total = leave_easy + leave_hard
        return leave_hard / total if total > 0 else 0.5

    @property
    def chances(self) -> MarkovAcceptance:
        """Itself: a chance by position in the answer, not in the draft."""
        return self

    def __str__(self) -> str:
        return f"{self.easy:g} in easy and {self.hard:g} in hard text are the chances of a draft {ONCE}"


Typed = AcceptedOverDrafted | TokensARound | TokensByDrafts | Conditional | Marginal | MarkovAcceptance | AcceptedLists
# The key by which each form is known.
FORMS: dict[str, type[Typed]] = {
    "accepted_over_drafted": AcceptedOverDrafted,
    "tokens_a_round": TokensARound,
    "conditional": Conditional,
    "marginal": Marginal,
    "easy": MarkovAcceptance,
    "accepted": AcceptedLists,
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
        form = TokensByDrafts if isinstance(data.get("tokens_a_round"), dict | list) else FORMS[forms[0]]
        return form.model_validate(data)
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


def chances_of(acceptance: float | Typed) -> tuple[float, ...]:
    """The chance at each place of a draft once all before it were accepted; the last one is repeated.

    Of two states it is that of the share of text in each; of recorded rounds their shares by place.
    """
    if isinstance(acceptance, MarkovAcceptance):
        easy = acceptance.share_easy
        return (easy * acceptance.easy + (1 - easy) * acceptance.hard,)
    chances = acceptance if isinstance(acceptance, float) else acceptance.chances
    return chances if isinstance(chances, tuple) else (chances,)


def tokens_of(chances: tuple[float, ...], drafted: int) -> float:
    """Tokens of a round that nothing cuts, of so many drafts: 1 and, by place, the share of rounds that reach it."""
    return 1 + sum(marginal_of(over_places(chances, drafted)))


def over_places(chances: tuple[float, ...], drafted: int) -> tuple[float, ...]:
    """Chances of so many places, the last one repeated."""
    return tuple(chances[min(place, len(chances) - 1)] for place in range(drafted))


def marginal_of(chances: tuple[float, ...]) -> tuple[float, ...]:
    """By place, the share of rounds that accept it and all before it, from the chances once all before it were."""
    return tuple(accumulate(chances, mul))


def stated(acceptance: float | Typed) -> str:
    """What was given, what it means, and what it was converted to."""
    if isinstance(acceptance, float):
        return f"acceptance {acceptance:g} is the chance of a draft {ONCE}"
    return f"acceptance: {acceptance}"


def listed(shares: tuple[float, ...]) -> str:
    """Shares with commas, the first eight of many."""
    return ", ".join(f"{share:.4g}" for share in shares[:8]) + (", ..." if len(shares) > 8 else "")


def pairs_listed(pairs: tuple[tuple[int, float], ...]) -> str:
    """Tokens a round, each with its drafts."""
    return ", ".join(f"{tokens:g} tokens of {drafts}" for drafts, tokens in pairs)


def accepted_of(places: int, share: float) -> float:
    """Drafts accepted of so many, each by the same chance once the earlier ones were."""
    return sum(share**place for place in range(1, places + 1))


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
