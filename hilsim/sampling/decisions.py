"""Drafts, verdicts and token trees of a live source: fetches rows of logits, chooses tokens by `choices.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from hilsim.describe.tree_shape import TreeShape
from hilsim.sampling.accept import noisy
from hilsim.sampling.block import block
from hilsim.sampling.choices import Choices, RowPosition, Rules
from hilsim.sampling.distribution import descending
from hilsim.sampling.logits import Logits, require_finite
from hilsim.sampling.loss import emitted_distribution, total_variation
from hilsim.sampling.proposals import Draft, Prefix, TokenTree, Verdict


class Rows(Protocol):
    """Where rows of logits come from: two networks with their caches, or a table."""

    @property
    def drafts(self) -> bool:
        """Whether there is a draft at all."""
        ...

    @property
    def reads_states(self) -> bool:
        """Whether the draft is a head that reads the target's hidden states, which end where the verified tokens do."""
        ...

    def target_rows(self, conversation: int, tokens: Sequence[int], count: int) -> Sequence[Logits]:
        """The target's logits after each of the last `count` tokens."""
        ...

    def draft_row(self, conversation: int, tokens: Sequence[int], verified: int) -> Logits:
        """The draft's logits after the last token; only a head's depend on how many of the tokens are verified."""
        ...

    def tree_rows(self, conversation: int, tokens: Sequence[int], tree: TokenTree) -> Sequence[Logits]:
        """The target's logits after the last token and after every node of a tree below it, from one pass."""
        ...


class Decisions:
    """Answers `draft`, `verify` and `next_token` of a source; deterministic given the seed."""

    def __init__(self, rows: Rows, rules: Rules, seed: int, ends: Callable[[int], bool]):
        self.rows, self.rules, self.ends = rows, rules, ends
        self.choices = Choices(rules, seed)
        self.lossy = rows.drafts and rules.guarantee.level == "none"
        self.drawn: dict[tuple[int, int], int] = {}  # conversation and position: what was verified when it was drafted

    def target_rows(self, prefix: Prefix, tokens: Sequence[int], count: int) -> Sequence[Logits]:
        """The target's finite logits after each of the last `count` tokens. Raises `BrokenLogits`."""
        rows = self.rows.target_rows(prefix.conversation, tokens, count)
        for position, row in enumerate(rows, len(tokens) - count + 1):
            require_finite(row, "target", prefix.index, position)
        return rows

    def draft_row(self, prefix: Prefix, tokens: Sequence[int]) -> Logits:
        """The draft's finite logits after the last token. Raises `BrokenLogits`.

        Of a head: the row that a token was drawn from, also where more is verified since; testing against another row
        would change the target's distribution.
        """
        verified = self.drawn.get((prefix.conversation, len(tokens)), len(prefix.tokens))
        row = self.rows.draft_row(prefix.conversation, tokens, verified)
        require_finite(row, "draft", prefix.index, len(tokens))
        return row

    def drawing_row(self, prefix: Prefix, tokens: Sequence[int]) -> Logits:
        """The row that a token is drafted from now, the prefix being what is verified."""
        self.drawn[prefix.conversation, len(tokens)] = len(prefix.tokens)
        return self.draft_row(prefix, tokens)

    def tree_rows(self, prefix: Prefix, tree: TokenTree) -> Sequence[Logits]:
        """The target's finite logits after the prefix and after every node below it. Raises `BrokenLogits`."""
        rows = self.rows.tree_rows(prefix.conversation, prefix.tokens, tree)
        for place, row in enumerate(rows, -1):
            require_finite(row, "target", prefix.index, len(prefix.tokens) + len(tree.path(place)))
        return rows

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        """Up to `count` tokens of the draft's, with the probability and entropy of each."""
        tokens = [*prefix.tokens, *after]
        start = len(tokens)
        confidences, entropies = [], []
        while len(tokens) - start < count:
            proposal = self.choices.proposed(self.drawing_row(prefix, tokens), place_of(prefix, tokens))
            confidences.append(float(proposal.confidences))
            entropies.append(float(proposal.entropies))
            tokens.append(int(proposal.tokens))
            if self.ends(tokens[-1]):
                break
        return Draft(tuple(tokens[start:]), tuple(confidences), tuple(entropies))

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        """How far the target agrees, and its own next token."""
        tokens = [*prefix.tokens, *draft.tokens]
        rows = self.target_rows(prefix, tokens, len(draft.tokens) + 1)
        if self.rules.accept.rule == "block" and draft.tokens and self.rows.drafts:
            return self.verify_block(prefix, draft, rows)
        margins, distances = [], []
        for offset, row in enumerate(rows):
            history = tokens[: len(prefix.tokens) + offset]
            drafted = draft.tokens[offset] if offset < len(draft.tokens) else None
            token, margin = self.emission(prefix, history, row, drafted)
            margins.append(margin)
            if self.lossy and drafted is not None:
                distances.append(self.distance(prefix, history, row))
            if token != drafted:
                return Verdict(offset, token, tuple(margins), tuple(distances))
        raise AssertionError("a verdict has one row more than the draft has tokens")

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        """The draft's likeliest tokens by level; of all nodes as many as wanted, those with the likeliest paths."""
        tree, values = TokenTree((), ()), list[float]()  # the logarithm of each path's probability
        level = [-1]
        for children, read_on in shape.growth:
            grown: list[tuple[int, int]] = []
            for parent in level:
                tokens = tree.below(prefix.tokens, parent)
                for token, chance in self.likeliest(
                    self.drawing_row(prefix, tokens), place_of(prefix, tokens), children
                ):
                    grown.append((token, parent))
                    values.append(chance + (values[parent] if parent >= 0 else 0.0))
            first = len(tree.tokens)
            tree = tree.grown(grown)
            level = best(range(first, len(tree.tokens)), values, read_on)
        return tree.only(best(range(len(tree.tokens)), values, shape.nodes))

    def likeliest(self, row: Logits, place: RowPosition, count: int) -> list[tuple[int, float]]:
        """The `count` tokens most worth proposing after a row, the best first, each with its logarithmic probability.

        Under gumbel both are of the row with the position's noise, which the target adds as well.
        """
        if self.rules.accept.rule == "gumbel":
            natural = self.choices.natural(row, place)
            scores = np.full(natural.vocabulary, -np.inf)
            scores[natural.tokens] = noisy(natural, self.choices.shared_noise(natural, place))
        else:
            scores = self.choices.penalised(row, place).astype(np.float64)
        total = np.logaddexp.reduce(scores)
        return [(int(token), float(scores[token] - total)) for token in descending(scores)[:count]]

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        """The target's own tokens, followed down the tree as long as they are there: exact whatever the tree is."""
        rows = self.tree_rows(prefix, tree)
        likeliest = tuple(self.expected(prefix, tree, rows))
        place, history, margins = -1, list(prefix.tokens), []
        while True:
            token, margin = self.emission(prefix, history, rows[place + 1], None)
            margins.append(margin)
            below = tree.child(place, token)
            if below is None:
                path = tuple(history[len(prefix.tokens) :])
                return Draft(path), Verdict(len(path), token, tuple(margins), likeliest=likeliest)
            place = below
            history.append(token)

    def expected(self, prefix: Prefix, tree: TokenTree, rows: Sequence[Logits]) -> Iterator[tuple[int, ...]]:
        """What the target finds likeliest after each probe of a tree."""
        for place, count in enumerate(tree.probes, tree.candidates):
            found: list[tuple[int, float]] = []
            if count:
                after = place_of(prefix, tree.below(prefix.tokens, place))
                found = self.likeliest(rows[place + 1], after, count)
            yield tuple(token for token, _ in found)

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        """The target's next token without a draft, and its margin."""
        return self.emission(prefix, prefix.tokens, self.target_rows(prefix, prefix.tokens, 1)[0], None)

    def emission(self, prefix: Prefix, tokens: Sequence[int], row: Logits, drafted: int | None) -> tuple[int, float]:
        """The token that follows `tokens`, and its margin; `drafted` is the draft's token there, if any.

        A head is asked for what it drafted alone: what it would have said elsewhere hangs on where rounds end, so that
        asking could not make the text the target's own, only its distribution.
        """
        asked = self.rows.drafts and not (self.rows.reads_states and drafted is None)
        draft = self.draft_row(prefix, tokens) if asked and self.choices.tests_the_draft else None
        token, margin = self.choices.emitted(row, draft, place_of(prefix, tokens), drafted)
        return int(token), float(margin)

    def verify_block(self, prefix: Prefix, draft: Draft, rows: Sequence[Logits]) -> Verdict:
        """All drafts of the block at once."""
        tokens = [*prefix.tokens, *draft.tokens]
        places = [place_of(prefix, tokens[: len(prefix.tokens) + offset]) for offset in range(len(rows))]
        ps = [self.choices.target(row, place) for row, place in zip(rows, places, strict=True)]
        qs = []
        for place in places[:-1]:
            known = self.choices.drafted(self.draft_row(prefix, place.tokens), place).known
            assert known is not None, "block verification without rows of the draft"
            qs.append(known)
        width = max(one.vocabulary for one in (*ps, *qs))
        accepted, token, margin = block(
            [p.dense(width) for p in ps],
            [q.dense(width) for q in qs],
            draft.tokens,
            [self.choices.noise(place) for place in places],
        )
        return Verdict(accepted, token, (margin,) * (accepted + 1))

    def distance(self, prefix: Prefix, tokens: Sequence[int], row: Logits) -> float:
        """Total variation between the emitted token's distribution at a drafted position and the target's own there."""
        place = place_of(prefix, tokens)
        p = self.choices.target(row, place)
        drawn, known = self.choices.drafted(self.draft_row(prefix, tokens), place)
        width = max(p.vocabulary, drawn.vocabulary)
        own, known = p.dense(width), drawn if known is None else known
        emitted = emitted_distribution(self.rules.accept, own, drawn.dense(width), known.dense(width))
        return total_variation(emitted, own)


def best(places: Sequence[int], values: Sequence[float], count: int) -> list[int]:
    """The `count` places of the largest values, in their order; of equals the earlier, so a parent before its child."""
    if len(places) <= count:
        return list(places)
    return sorted(sorted(places, key=lambda place: -values[place])[:count])


def place_of(prefix: Prefix, tokens: Sequence[int]) -> RowPosition:
    """The position of the row after `tokens`, some of which may be drafts behind the prefix."""
    return RowPosition(prefix.index, tokens, len(prefix.tokens))
