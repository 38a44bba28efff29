"""Lookahead decoding (Fu et al. 2402.02057; LADE in Genie): the target drafts for itself, by Jacobi iteration.

target chip   ▓last token, lookahead branch, verification branch▓     one masked pass a round, no draft, no link

The lookahead branch is a window of columns ahead of the text. Column j holds one guess for each of the positions j,
j + 1, ..., by level; level 0 is a chain that begins with the last committed token, and each level of a column follows
the one before. What the target finds likeliest after the last level completes an n-gram for the pool and becomes the
new last level, as the window moves on by one position. The verification branch is what the pool has on the last token.

The first window is the end of the conversation, read once more. Where several tokens are accepted the window moves by
one position all the same, as in the authors' program; n-grams of the pool belong to no position.
"""

from __future__ import annotations

from collections.abc import Sequence

from hilsim.describe.policy import Lookahead
from hilsim.sampling.proposals import TokenTree
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.policies.tree import verified_tree
from hilsim.sim.request import Request
from hilsim.sim.steps import decode, hand_over


def lookahead(context: RunContext, request: Request, policy: Lookahead) -> Process:
    """Verify the pool's n-grams and grow new ones in one pass, until the request is answered."""
    pool = context.kept_of[request.conversation].setdefault("n-grams", Pool(policy.guesses))
    window = Window(policy, request.tokens)
    while request.speculates:
        shape = policy.shape.cut(request.room - 1)
        if shape.depth == 0:
            yield from decode(context, request)
            continue
        start, last = context.now, request.tokens[-1]
        reads = not context.source.by_chance and len(request.tokens) + window.depth <= request.context
        if context.source.by_chance:
            proposed = context.trees.draft_tree(request, shape)
        else:
            proposed = TokenTree.of(ngram[: shape.depth] for ngram in pool.after(last))
        if reads:
            proposed = window.below(last, proposed)
        opened, verdict = yield from verified_tree(context, request, policy, start, proposed, shape.depth)
        if reads:
            for ngram in window.move(opened.tokens[0], verdict.likeliest):
                pool.add(ngram)
        yield from hand_over(context, request, opened)


class Pool:
    """N-grams by their first token, of each the last few that were seen."""

    def __init__(self, most: int):
        self.most, self.ngrams = most, dict[int, list[tuple[int, ...]]]()

    def add(self, ngram: Sequence[int]) -> None:
        """An n-gram that was seen: the last of its kind to be forgotten."""
        known = self.ngrams.setdefault(ngram[0], [])
        following = tuple(ngram[1:])
        if following in known:
            known.remove(following)
        known.append(following)
        del known[: -self.most]

    def after(self, token: int) -> list[tuple[int, ...]]:
        """What followed a token, the newest first."""
        return self.ngrams.get(token, [])[::-1]


class Window:
    """The lookahead branch: `columns[j][level]` is the guess for the position j + level after the last token's."""

    def __init__(self, policy: Lookahead, tokens: Sequence[int]):
        self.levels = policy.ngram - 1
        end = tokens[-(policy.window + self.levels - 1) :]
        self.columns = [
            [end[(column + level) % len(end)] for level in range(self.levels)] for column in range(policy.window)
        ]

    @property
    def depth(self) -> int:
        """How many positions it reaches ahead of the last committed token."""
        return len(self.columns) + self.levels - 2

    def below(self, last: int, proposed: TokenTree) -> TokenTree:
        """The window as probes below the last committed token, beside the candidates; that token is its first node."""
        self.columns[0][0] = last
        tokens, parents, probes = list(proposed.tokens), list(proposed.parents), []
        places = {(0, 0): -1}
        for level in range(self.levels):
            for number, column in enumerate(self.columns):
                if (level, number) != (0, 0):
                    places[level, number] = len(tokens)
                    parents.append(places[(level - 1, number) if level else (0, number - 1)])
                    tokens.append(column[level])
                    probes.append(int(level == self.levels - 1))
        return TokenTree(tuple(tokens), tuple(parents), tuple(probes))

    def move(self, own: int, likeliest: Sequence[tuple[int, ...]]) -> list[list[int]]:
        """Take up what follows each column, `own` after a column of the last token alone; returns the n-grams."""
        following = [found[0] for found in likeliest if found]
        if self.levels == 1:
            following.insert(0, own)
        ngrams = [[*column, token] for column, token in zip(self.columns, following, strict=True)]
        self.columns = [ngram[1:] for ngram in ngrams]
        return ngrams
