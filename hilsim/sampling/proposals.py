"""Drafts (chains and trees of tokens), the verdicts on them, and the prefix that they continue."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Draft(NamedTuple):
    """Tokens proposed from a prefix; shorter than asked for where the draft itself ended the turn.

    `confidences` are the tokens' probabilities in the distributions they were drawn from, `entropies` (nats) those of
    these distributions. Where the draft takes its likeliest token, both are of its distribution at temperature 1.
    """

    tokens: tuple[int, ...]
    confidences: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()


class Verdict(NamedTuple):
    """`accepted` drafted tokens, then `token`, the target's own; one margin per emitted token.

    `distances`, of lossy rules: the total variation distance between the distribution of the token emitted at each
    drafted position and the target's. `likeliest`, of trees with probes: for each probe the tokens asked for.
    """

    accepted: int
    token: int
    margins: tuple[float, ...]
    distances: tuple[float, ...] = ()
    likeliest: tuple[tuple[int, ...], ...] = ()

    def tokens(self, draft: Draft) -> tuple[int, ...]:
        """Everything that the round emits."""
        return (*draft.tokens[: self.accepted], self.token)


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Tokens proposed as a tree below a prefix; `parents` are earlier places in `tokens`, -1 the prefix.

    The last nodes may be probes: read with the others for what the target expects after them, and never accepted.
    `probes` has one number for each of them: how many of the likeliest tokens the verdict is to name there. A probe may
    be a forecast token, which no vocabulary has: -1 is the first, -2 the second.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    probes: tuple[int, ...] = ()

    @property
    def candidates(self) -> int:
        """Nodes that may be accepted; the probes come after them."""
        return len(self.tokens) - len(self.probes)

    def child(self, parent: int, token: int) -> int | None:
        """The candidate of `token` among the children of `parent`, or None."""
        nodes = zip(self.parents[: self.candidates], self.tokens, strict=False)
        return next((place for place, node in enumerate(nodes) if node == (parent, token)), None)

    def path(self, place: int) -> tuple[int, ...]:
        """Places from the first level down to `place`."""
        return () if place < 0 else (*self.path(self.parents[place]), place)

    def place(self, tokens: Iterable[int]) -> int:
        """The candidate that these tokens lead down to, -1 for none of them."""
        found = -1
        for token in tokens:
            below = self.child(found, token)
            assert below is not None, "a path that is not in the tree"
            found = below
        return found

    def below(self, prefix: Sequence[int], place: int) -> list[int]:
        """The prefix and the tokens down to `place`; what is no token of the vocabulary repeats the one before it."""
        found = list(prefix)
        for node in self.path(place):
            found.append(self.tokens[node] if self.tokens[node] >= 0 else found[-1])
        return found

    def grown(self, nodes: Iterable[tuple[int, int]]) -> TokenTree:
        """The tree with further nodes, each a token and its parent."""
        tokens, parents = zip(*nodes, strict=True)
        return TokenTree((*self.tokens, *tokens), (*self.parents, *parents))

    def only(self, places: Sequence[int]) -> TokenTree:
        """The nodes at these places, which rise and have every parent among them."""
        renumbered = {-1: -1} | {place: number for number, place in enumerate(places)}
        parents = (renumbered[self.parents[place]] for place in places)
        return TokenTree(tuple(self.tokens[place] for place in places), tuple(parents))

    def followed(self, own: Callable[[int], int]) -> tuple[int, ...]:
        """The tokens `own(0)`, `own(1)`, ... below the prefix, as far as candidates go on with them."""
        found: list[int] = []
        place: int | None = -1
        while place is not None and (place := self.child(place, token := own(len(found)))) is not None:
            found.append(token)
        return tuple(found)

    @staticmethod
    def padded(chain: Sequence[int], wrong: int, nodes: int) -> TokenTree:
        """A chain, and nodes of a `wrong` token beside it up to so many in all."""
        beside = nodes - len(chain)
        return TokenTree((*chain, *[wrong] * beside), (*range(-1, len(chain) - 1), *[-1] * beside))

    @staticmethod
    def of(chains: Iterable[Sequence[int]]) -> TokenTree:
        """Chains from one prefix, joined where they begin alike."""
        tokens: list[int] = []
        parents: list[int] = []
        known: dict[tuple[int, int], int] = {}
        for chain in chains:
            place = -1
            for token in chain:
                if (place, token) not in known:
                    known[place, token] = len(tokens)
                    tokens.append(token)
                    parents.append(place)
                place = known[place, token]
        return TokenTree(tuple(tokens), tuple(parents))


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
