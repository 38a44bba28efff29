"""Drafts (chains and trees of tokens), the verdicts on them, and the prefix that they continue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens proposed from a prefix; shorter than asked for where the draft itself ended the turn.

    `confidences` are the tokens' probabilities in the distributions they were drawn from, `entropies` (nats) those of
    these distributions. Where the draft takes its likeliest token, both are of its distribution at temperature 1.
    """

    tokens: tuple[int, ...]
    confidences: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`accepted` drafted tokens, then `token`, the target's own; one margin per emitted token.

    `distances`, of lossy rules: the total variation distance between the distribution of the token emitted at each
    drafted position and the target's.
    """

    accepted: int
    token: int
    margins: tuple[float, ...]
    distances: tuple[float, ...] = ()

    def tokens(self, draft: Draft) -> tuple[int, ...]:
        """Everything that the round emits."""
        return (*draft.tokens[: self.accepted], self.token)


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Tokens proposed as a tree below a prefix, level by level; `parents` are places in `tokens`, -1 the prefix."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]

    def child(self, parent: int, token: int) -> int | None:
        """The node of `token` among the children of `parent`, or None."""
        nodes = zip(self.parents, self.tokens, strict=True)
        return next((place for place, node in enumerate(nodes) if node == (parent, token)), None)

    def path(self, place: int) -> tuple[int, ...]:
        """Places from the first level down to `place`."""
        return () if place < 0 else (*self.path(self.parents[place]), place)


class Prefix(Protocol):
    """The part of a request that content depends on."""

    @property
    def index(self) -> int:
        """Number of the request in the workload; it keys the noise."""
        ...

    @property
    def conversation(self) -> int:
        """Number of the conversation; it keys the caches."""
        ...

    @property
    def tokens(self) -> Sequence[int]:
        """Every token of the conversation so far, prompt and committed answer."""
        ...
