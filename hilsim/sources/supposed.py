"""A source with assumed acceptance: the target's own text, drafts accepted as often as those of another model pair.

So the scenario's own policies, requests and answers are run under an acceptance that its stand-ins do not have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hilsim.describe.acceptance import Conditional
from hilsim.describe.scenario import Lengths, Synthetic
from hilsim.describe.tree_shape import TreeShape
from hilsim.sampling.proposals import Draft, Prefix, TokenTree, Verdict
from hilsim.sources.source import LogitsSource, Relay
from hilsim.sources.synthetic import RIGHT, SyntheticSource


class Supposed(Relay):
    """Drafts that are the target's next token by chance, and a target that emits the text it is given.

    `texts` are the tokens of each request's answer, from a run of the target alone. `conditional` is the chance at each
    place of a draft where all earlier places were accepted; its last entry goes on. Chance is keyed by request and
    position, as in the synthetic source, so policies are compared over the same draws.
    """

    by_chance = True

    def __init__(
        self, source: LogitsSource, texts: Mapping[int, Sequence[int]], conditional: Sequence[float], seed: int
    ):
        super().__init__(source)
        self.texts = texts
        unused = Lengths(requests=1, prompt_tokens=1, output_tokens=1)
        chances = Conditional(conditional=tuple(conditional))
        self.chance = SyntheticSource(Synthetic(source="synthetic", acceptance=chances), unused, seed)
        self.begun: dict[int, int] = {}  # where each request's answer begins in its conversation

    def own(self, prefix: Prefix, ahead: int) -> int:
        """The target's own token so many places after the prefix; past the end of its answer the last one."""
        text = self.texts[prefix.index]
        place = len(prefix.tokens) - self.begun.setdefault(prefix.index, len(prefix.tokens)) + ahead
        return text[min(place, len(text) - 1)]

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        luck = self.chance.draft(prefix, count, after)
        tokens: list[int] = []
        for ahead, drawn in enumerate(luck.tokens, start=len(after)):
            own = self.own(prefix, ahead)
            tokens.append(own if drawn == RIGHT else self.another(own))
            if self.ends(tokens[-1]):
                break
        count = len(tokens)
        return Draft(tuple(tokens), luck.confidences[:count], luck.entropies[:count])

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        luck = self.chance.draft_tree(prefix, shape)
        depths = (len(luck.path(place)) for place in range(len(luck.tokens)))
        owns = [self.own(prefix, depth - 1) for depth in depths]
        tokens = [own if drawn == RIGHT else self.another(own) for own, drawn in zip(owns, luck.tokens, strict=True)]
        return TokenTree(tuple(tokens), luck.parents)

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        path = Draft(tree.followed(lambda depth: self.own(prefix, depth)))
        return path, self.verify(prefix, path)

    def another(self, token: int) -> int:
        """A token that is neither this one nor the end of an answer."""
        other = token + 1 if token == 0 else token - 1
        while self.ends(other) or other == token:
            other += 1
        return other

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        places = range(len(draft.tokens))
        accepted = next((place for place in places if draft.tokens[place] != self.own(prefix, place)), len(places))
        return Verdict(accepted, self.own(prefix, accepted), (math.inf,) * (accepted + 1))

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        return self.own(prefix, 0), math.inf
