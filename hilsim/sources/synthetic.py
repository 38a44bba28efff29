"""The synthetic source: no model, drafted tokens are accepted by chance. Its text has no meaning; reports say so."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hilsim.describe.acceptance import MarkovAcceptance
from hilsim.describe.scenario import Lengths, Synthetic
from hilsim.describe.tree_shape import TreeShape
from hilsim.sampling.noise import SYNTHETIC, uniforms
from hilsim.sampling.proposals import Draft, Prefix, TokenTree, Verdict
from hilsim.text.prompt import Prompt

RIGHT, WRONG = 1, 2


class SyntheticSource:
    """Every position has its own uniform: a drafted token is accepted if the uniform is below the acceptance there.

    A list of chances goes by position in the draft (its last entry is repeated); a two-state chain walks along the
    answer's positions, starting from its stationary distribution.
    """

    by_chance = True

    def __init__(self, synthetic: Synthetic, lengths: Lengths, seed: int):
        self.chances, self.lengths, self.seed = synthetic.chances, lengths, seed
        self._easy: dict[int, list[bool]] = {}

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        return Prompt(len(before), [0] * self.lengths.prompt_tokens)

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        start, places = len(prefix.tokens), range(len(after), len(after) + count)
        tokens = tuple(RIGHT if self._stands(prefix, start + place, place) else WRONG for place in places)
        chances = tuple(self.chance(prefix.index, start + place, place) for place in places)
        return Draft(tokens, chances, (0.0,) * count)

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        accepted = next((j for j, token in enumerate(draft.tokens) if token != RIGHT), len(draft.tokens))
        return Verdict(accepted, RIGHT, (math.inf,) * (accepted + 1))

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        """A chain as deep as the shape, whose places are the levels, and wrong tokens for the rest of its nodes.

        The acceptance is the tree's own: the chance that a level holds the target's token where those above do.
        """
        chain = self.draft(prefix, min(shape.depth, shape.nodes)).tokens
        beside = shape.nodes - len(chain)
        return TokenTree((*chain, *[WRONG] * beside), (*range(-1, len(chain) - 1), *[-1] * beside))

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

    def _stands(self, prefix: Prefix, position: int, place: int) -> bool:
        noise = uniforms(self.seed, SYNTHETIC, prefix.index, position)
        return noise.accept < self.chance(prefix.index, position, place)

    def chance(self, request: int, position: int, place: int) -> float:
        """The acceptance at a position of a request that is drafted at `place` of its block."""
        chance = self.chances
        if isinstance(chance, tuple):
            return chance[min(place, len(chance) - 1)]
        if isinstance(chance, MarkovAcceptance):
            return chance.easy if self._is_easy(request, position, chance) else chance.hard
        return chance

    def _is_easy(self, request: int, position: int, chain: MarkovAcceptance) -> bool:
        states = self._easy.setdefault(request, [])
        while len(states) <= position:
            uniform = uniforms(self.seed, SYNTHETIC, request, len(states)).spare
            leave_easy, leave_hard = 1 - chain.stay_easy, 1 - chain.stay_hard
            total = leave_easy + leave_hard
            stationary = leave_hard / total if total > 0 else 0.5
            stay = stationary if not states else chain.stay_easy if states[-1] else 1 - chain.stay_hard
            states.append(uniform < stay)
        return states[position]
