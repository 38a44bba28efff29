"""The synthetic source: no model, drafted tokens are accepted by luck. Its text has no meaning; reports say so."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hilsim.describe.scenario import Lengths
from hilsim.describe.tree_shape import TreeShape
from hilsim.sampling.proposals import Draft, Prefix, TokenTree, Verdict
from hilsim.sources.luck import Luck, Spot
from hilsim.text.prompt import Prompt

RIGHT, WRONG = 1, 2


class SyntheticSource:
    """Requests of given lengths; a drafted token is right where luck has it so."""

    by_chance = True

    def __init__(self, luck: Luck, lengths: Lengths):
        self.luck, self.lengths = luck, lengths

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        return Prompt(len(before), [0] * self.lengths.prompt_tokens)

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        spots = [self.spot(prefix, place) for place in range(len(after), len(after) + count)]
        tokens = tuple(RIGHT if self.luck.stands(spot) else WRONG for spot in spots)
        return Draft(tokens, tuple(map(self.luck.chance, spots)), (0.0,) * count)

    def spot(self, prefix: Prefix, place: int) -> Spot:
        """Where a token is drafted, so many places after a prefix."""
        position = len(prefix.tokens) + place
        return Spot(prefix.index, position, position - self.lengths.prompt_tokens, place)

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        accepted = next((j for j, token in enumerate(draft.tokens) if token != RIGHT), len(draft.tokens))
        return Verdict(accepted, RIGHT, (math.inf,) * (accepted + 1))

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        """A chain as deep as the shape, whose places are the levels, and wrong tokens for the rest of its nodes.

        The acceptance is the tree's own: the chance that a level holds the target's token where those above do.
        """
        chain = self.draft(prefix, min(shape.depth, shape.nodes)).tokens
        return TokenTree.padded(chain, WRONG, shape.nodes)

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        path = tree.followed(lambda depth: RIGHT)
        return Draft(path), Verdict(len(path), RIGHT, (math.inf,) * (len(path) + 1))

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        return RIGHT, math.inf

    def ends(self, token: int) -> bool:
        return False

    def text(self, tokens: Sequence[int]) -> str:
        return "\N{BLACK SQUARE}" * len(tokens)

    def forget(self, conversation: int) -> None:
        pass

    @property
    def forward_seconds(self) -> float:
        return 0.0
