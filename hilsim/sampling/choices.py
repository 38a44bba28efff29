"""Which token is drafted and which is emitted after rows of logits: every rule and payload scheme, for one row or many.

Under all rules but `block` the token at a position is a function of the tokens before it, the position's noise and the
distributions, so draft length, policy and link cannot change the text, and the target alone decodes the same one. Lossy
rules bend only tokens that were really drafted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from hilsim.describe.decoding import (
    Accept,
    FullRows,
    Greedy,
    Guarantee,
    Payload,
    RatioTest,
    Sampling,
    TokenIds,
    VerifyAt,
    guarantee_of,
)
from hilsim.sampling.accept import Emission, Noise, greedy, gumbel, lenient, noisy, plain, ratio, typical
from hilsim.sampling.distribution import Distribution, Ints, Probabilities, distribution_of, entropy
from hilsim.sampling.logits import Logits, penalised, require_finite
from hilsim.sampling.noise import BLOCK, CONTENT, Uniforms, gumbel_noise, uniforms
from hilsim.sampling.payload import Drafted, draft_distribution, target_distribution

Array = TypeVar("Array", bound=npt.NDArray[Any])
CACHED_POSITIONS = 16  # a draft and its verdict need each of them twice
ROWS = 128  # at once: tables of distributions that stay in a processor's cache


@dataclass(frozen=True)
class Rules:
    """How tokens are chosen and checked."""

    accept: Accept
    payload: Payload
    sampling: Sampling
    verify_at: VerifyAt = "target"

    @property
    def guarantee(self) -> Guarantee:
        """What these rules guarantee against the target alone."""
        return guarantee_of(self.accept, self.payload, self.sampling, self.verify_at)

    @classmethod
    def usual(cls, sampling: Sampling) -> Rules:
        """Greedy by ids at temperature 0, the ratio rule on full rows above it."""
        return (
            cls(Greedy(), TokenIds(), sampling) if sampling.temperature == 0 else cls(RatioTest(), FullRows(), sampling)
        )


class RowPosition(NamedTuple):
    """The position of a row: the request, and the tokens before. Request and position key the noise.

    `committed` is how many of the tokens are not drafts; only block verification uses it.
    """

    request: int
    tokens: Sequence[int]
    committed: int = 0


Places = RowPosition | Sequence[RowPosition]  # of one row (vocabulary,), or of many (rows, vocabulary)


class Proposal(NamedTuple):
    """Drafted tokens (...,); the probability of each, and the entropy in nats, in the distribution it was drawn from.

    Where the draft takes its likeliest token, both are of its distribution at temperature 1, or before it was made
    one-hot.
    """

    tokens: Ints
    confidences: Probabilities
    entropies: Probabilities


class Choices:
    """Chooses tokens after float32 logits; deterministic given the seed.

    Of many rows each is checked here, with `BrokenLogits` for one that is not finite; one row is checked where it comes
    from, together with rows behind it that nothing may be asked about.
    """

    def __init__(self, rules: Rules, seed: int, cached_positions: int | None = CACHED_POSITIONS):
        """Noise is cached for so many positions, or for all (None)."""
        self.rules, sampling = rules, rules.sampling
        self.cold = sampling.temperature == 0
        self.warm = sampling.model_copy(update={"temperature": 1.0}) if self.cold else sampling
        self.penalises = sampling.repetition_penalty not in (None, 1)
        self.tests_the_draft = not self.cold and rules.accept.rule in ("ratio", "lenient")
        self.uniforms = lru_cache(cached_positions)(partial(uniforms, seed))
        self.gumbel = lru_cache(cached_positions)(partial(gumbel_noise, seed))
        # Rows of the draft, the tokens that a penalty counts before each, and what was made of them. The verdict asks
        # for the very rows that tokens were drafted from.
        self.made: deque[tuple[Logits, tuple[int, ...], Drafted]] = deque(maxlen=CACHED_POSITIONS)

    def proposed(self, logits: Logits, places: Places) -> Proposal:
        """The tokens drafted after rows of the draft's logits."""
        if not isinstance(places, RowPosition) and len(places) > ROWS:
            starts = range(0, len(places), ROWS)
            parts = [self.proposed(logits[at : at + ROWS], places[at : at + ROWS]) for at in starts]
            return Proposal(*map(np.concatenate, zip(*parts, strict=True)))
        require_finite_rows(logits, "draft", places)
        if self.cold or (self.rules.payload.scheme == "one_hot" and self.rules.verify_at == "target"):
            logits = self.penalised(logits, places)
            source = distribution_of(logits, self.warm)
            chosen = (logits if self.cold else source.probabilities).argmax(axis=-1)
        else:
            source = self.drafted(logits, places).drawn
            if self.rules.accept.rule == "gumbel":
                chosen = noisy(source, self.shared_noise(source, places)).argmax(axis=-1)
            else:
                chosen = source.draw(self.noise(places).draft)[0]
        return Proposal(*source.at(chosen), entropy(source.probabilities))

    def emitted(self, target: Logits, draft: Logits | None, places: Places, drafted: int | None = None) -> Emission:
        """The tokens emitted after rows of the target's logits; `drafted` is the draft's token for the one row, if any.

        `draft` has the draft's logits at the same places, where there is a draft and `tests_the_draft`: those rules ask
        for its distribution at every position, drafted there or not (of a head: only where it drafted). The
        distribution of the emitted token is the target's either way. It is content, so no time is charged for it.
        """
        rule = self.rules.accept
        require_finite_rows(target, "target", places)
        if self.cold:
            return greedy(self.penalised(target, places))
        p = self.target(target, places)
        if rule.rule == "gumbel":
            return gumbel(p, self.shared_noise(p, places))
        noise = self.noise(places)
        if rule.rule == "typical" and drafted is not None:
            return typical(p, drafted, noise, rule.epsilon, rule.delta)
        if draft is None or not self.tests_the_draft:
            return plain(p, noise)
        require_finite_rows(draft, "draft", places)
        q, known = self.drafted(draft, places)
        if known is None or drafted is None:
            known = q  # nothing was sent for this position, so nothing can be lost
        if rule.rule == "lenient" and drafted is not None:
            return lenient(p, q, noise, known, rule.lenience).emission
        return ratio(p, q, noise, known).emission

    def target(self, logits: Logits, places: Places) -> Distribution:
        """The target's distribution, in the numbers that all chips have of it."""
        return target_distribution(self.natural(logits, places), self.rules.payload, self.rules.verify_at)

    def drafted(self, logits: Logits, places: Places) -> Drafted:
        """What the draft draws from and what the verifier takes that for."""
        if not isinstance(places, RowPosition):
            return draft_distribution(self.natural(logits, places), self.rules.payload, self.rules.verify_at)
        before = tuple(places.tokens) if self.penalises else ()
        for row, tokens, made in self.made:
            if row is logits and tokens == before:
                return made
        made = draft_distribution(self.natural(logits, places), self.rules.payload, self.rules.verify_at)
        self.made.append((logits, before, made))
        return made

    def natural(self, logits: Logits, places: Places) -> Distribution:
        """A model's own distribution, before anything is cut or rounded for the link; above temperature 0."""
        return distribution_of(self.penalised(logits, places), self.rules.sampling)

    def penalised(self, logits: Logits, places: Places) -> Logits:
        """The rows with the repetition penalty of the tokens before each."""
        if not self.penalises:
            return logits
        changed: Logits = each(lambda row, place: penalised(row, self.rules.sampling, place.tokens), logits, places)
        return changed

    def noise(self, places: Places) -> Noise:
        """The uniforms of each place; under block verification fresh ones for every length of what is committed."""
        if not isinstance(places, RowPosition):
            return Uniforms(*np.array([self.noise(place) for place in places]).T)
        if self.rules.accept.rule == "block":
            return self.uniforms(BLOCK, places.request, len(places.tokens), places.committed)
        return self.uniforms(CONTENT, places.request, len(places.tokens))

    def shared_noise(self, distribution: Distribution, places: Places) -> Probabilities:
        """The noise (..., support) that both chips add to their log probabilities."""

        def of_row(tokens: Ints, place: RowPosition) -> Probabilities:
            # One more: the token that fills up shorter rows.
            return self.gumbel(place.request, len(place.tokens), distribution.vocabulary + 1)[tokens]

        noise: Probabilities = each(of_row, distribution.tokens, places)
        return noise


def each(function: Callable[[Array, RowPosition], Any], rows: Array, places: Places) -> Any:
    """`function` of the one row and its place, or of each of many, stacked."""
    if isinstance(places, RowPosition):
        return function(rows, places)
    return np.stack([function(row, place) for row, place in zip(rows, places, strict=True)])


def require_finite_rows(logits: Logits, role: str, places: Places) -> None:
    """`require_finite` of each of many rows."""
    if not isinstance(places, RowPosition):
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.vecdot(logits, logits)
        for at in np.flatnonzero(~np.isfinite(squares)).tolist():
            require_finite(logits[at], role, places[at].request, len(places[at].tokens))
