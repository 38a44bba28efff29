"""A source with another pair's acceptance: the target's own text, drafts accepted as often as those of that pair.

So the scenario's own policies, requests and answers are run under an acceptance that its stand-ins do not have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import eq

from hilsim.describe.tree_shape import TreeShape
from hilsim.sampling.proposals import Draft, Prefix, TokenTree, Verdict
from hilsim.sources.luck import Luck, Spot
from hilsim.sources.source import LogitsSource, Relay


class Supposed(Relay):
    """Drafts that are the target's next token by luck, and a target that emits the text it is given.

    `texts` are the tokens of each request's answer, as of the target alone. A draft ends where it is the end of the
    answer; after a wrong token it goes on to its limit, as it continues another text.
    """

    by_chance = True

    def __init__(self, source: LogitsSource, texts: Mapping[int, Sequence[int]], luck: Luck):
        super().__init__(source)
        self.texts, self.luck = texts, luck
        self.begun: dict[int, int] = {}  # where each request's answer begins in its conversation

    def own(self, prefix: Prefix, count: int) -> Sequence[int]:
        """The target's own next tokens after the prefix; past the end of its answer the last one again and again."""
        text, answered = self.texts[prefix.index], self.answered(prefix)
        own = text[answered : answered + count]
        return own if len(own) == count else [*own, *[text[-1]] * (count - len(own))]

    def answered(self, prefix: Prefix) -> int:
        """How many tokens of the answer are in a prefix."""
        return len(prefix.tokens) - self.begun.setdefault(prefix.index, len(prefix.tokens))

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        tokens: list[int] = []
        chances: list[float] = []
        luck, ends, target = self.luck, self.ends, self.own(prefix, len(after) + count)
        index, length, answered = prefix.index, len(prefix.tokens), self.answered(prefix)
        right = all(map(eq, after, target))
        for place in range(len(after), len(after) + count):
            spot = Spot(index, length + place, answered + place, place)
            own, stands = target[place], luck.stands(spot)
            token = own if stands and (right or not ends(own)) else self.another(own)
            tokens.append(token)
            chances.append(luck.chance(spot))
            right = right and stands
            if ends(token):
                break
        return Draft(tuple(tokens), tuple(chances), (0.0,) * len(tokens))

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        chain = self.draft(prefix, min(shape.depth, shape.nodes)).tokens
        return TokenTree.padded(chain, self.another(self.own(prefix, 1)[0]), shape.nodes)

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        own = self.own(prefix, len(tree.tokens) + 1)
        path = Draft(tree.followed(own.__getitem__))
        return path, self.verify(prefix, path)

    def another(self, token: int) -> int:
        """A token that is neither this one nor the end of an answer."""
        other = token + 1 if token == 0 else token - 1
        while self.ends(other) or other == token:
            other += 1
        return other

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        own, accepted = self.own(prefix, len(draft.tokens) + 1), 0
        while accepted < len(draft.tokens) and draft.tokens[accepted] == own[accepted]:
            accepted += 1
        return Verdict(accepted, own[accepted], (math.inf,) * (accepted + 1))

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        return self.own(prefix, 1)[0], math.inf
