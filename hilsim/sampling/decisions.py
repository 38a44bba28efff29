"""What is drafted and what stands, given rows of logits: every rule and payload scheme, and no network.

Under all rules but `block` the token at a position is a function of the history, the position's noise and the laws, so
draft length, policy and link cannot change the text, and the target alone tells the same one. Lossy rules bend only
tokens that were really drafted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

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
from hilsim.sampling.accept import (
    Emission,
    emitted_law,
    entropy,
    greedy,
    gumbel,
    lenient,
    plain,
    ratio,
    total_variation,
    typical,
)
from hilsim.sampling.block import block
from hilsim.sampling.distribution import Law, Logits, draw, law_of, penalised, require_finite
from hilsim.sampling.noise import BLOCK, CONTENT, Uniforms, gumbel_noise, uniforms
from hilsim.sampling.payload import Drafted, drafted_law, target_law
from hilsim.sampling.proposals import (
    Draft,
    Prefix,
    TokenTree,
    Verdict,
)


class Rows(Protocol):
    """Where rows of logits come from: two networks with their caches, or a table."""

    @property
    def drafts(self) -> bool:
        """Whether there is a draft at all."""
        ...

    def target_rows(self, conversation: int, tokens: Sequence[int], count: int) -> Sequence[Logits]:
        """The target's logits after each of the last `count` tokens."""
        ...

    def draft_row(self, conversation: int, tokens: Sequence[int]) -> Logits:
        """The draft's logits after the last token."""
        ...

    def tree_rows(self, conversation: int, tokens: Sequence[int], tree: TokenTree) -> Sequence[Logits]:
        """The target's logits after the last token and after every node of a tree below it, from one pass."""
        ...


@dataclass(frozen=True)
class Rules:
    """How tokens are chosen and checked."""

    accept: Accept
    payload: Payload
    sampling: Sampling
    verify_at: VerifyAt = "target"

    @property
    def guarantee(self) -> Guarantee:
        """What these rules may claim against the target alone."""
        return guarantee_of(self.accept, self.payload, self.sampling, self.verify_at)

    @classmethod
    def usual(cls, sampling: Sampling) -> Rules:
        """Greedy by ids at temperature 0, the ratio rule on full rows above it."""
        return (
            cls(Greedy(), TokenIds(), sampling) if sampling.temperature == 0 else cls(RatioTest(), FullRows(), sampling)
        )


class Decisions:
    """Answers `draft`, `verify` and `next_token` of a source; deterministic given the seed."""

    def __init__(self, rows: Rows, rules: Rules, seed: int, ends: Callable[[int], bool]):
        self.rows, self.rules, self.seed, self.ends = rows, rules, seed, ends
        self.lossy = rows.drafts and rules.guarantee.level == "none"
        # What confidences speak of where the token drafted is simply the likeliest.
        self._warm = (
            rules.sampling if rules.sampling.temperature > 0 else rules.sampling.model_copy(update={"temperature": 1.0})
        )

    def target_rows(self, prefix: Prefix, tokens: Sequence[int], count: int) -> Sequence[Logits]:
        """The target's finite logits after each of the last `count` tokens. Raises `BrokenLogits`."""
        rows = self.rows.target_rows(prefix.conversation, tokens, count)
        for position, row in enumerate(rows, len(tokens) - count + 1):
            require_finite(row, "target", prefix.index, position)
        return rows

    def draft_row(self, prefix: Prefix, tokens: Sequence[int]) -> Logits:
        """The draft's finite logits after the last token. Raises `BrokenLogits`."""
        row = self.rows.draft_row(prefix.conversation, tokens)
        require_finite(row, "draft", prefix.index, len(tokens))
        return row

    def tree_rows(self, prefix: Prefix, tree: TokenTree) -> Sequence[Logits]:
        """The target's finite logits after the prefix and after every node below it. Raises `BrokenLogits`."""
        rows = self.rows.tree_rows(prefix.conversation, prefix.tokens, tree)
        for place, row in enumerate(rows, -1):
            require_finite(row, "target", prefix.index, len(prefix.tokens) + len(tree.path(place)))
        return rows

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        """Up to `count` tokens of the draft's, and how sure it was of each."""
        tokens = [*prefix.tokens, *after]
        start = len(tokens)
        confidences, entropies = [], []
        while len(tokens) - start < count:
            token, law = self.proposed(prefix, tokens)
            confidences.append(float(law[token]))
            entropies.append(entropy(law))
            tokens.append(token)
            if self.ends(token):
                break
        return Draft(tuple(tokens[start:]), tuple(confidences), tuple(entropies))

    def proposed(self, prefix: Prefix, tokens: Sequence[int]) -> tuple[int, Law]:
        """The drafted token after `tokens`, and the law that its confidence speaks of."""
        row = self.draft_row(prefix, tokens)
        rules = self.rules
        if rules.sampling.temperature == 0:
            return int(np.argmax(penalised(row, rules.sampling, tokens))), law_of(row, self._warm, tokens)
        natural = self.own_law("draft", row, tokens)
        if rules.payload.scheme == "one_hot" and rules.verify_at == "target":
            return int(natural.argmax()), natural
        drawn = self.sent_law(natural, tokens).drawn
        if rules.accept.rule == "gumbel":
            return gumbel(drawn, self.shared_noise(prefix, len(tokens), len(drawn))).token, drawn
        return draw(drawn, self.noise(prefix, len(tokens)).draft)[0], drawn

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        """How far the target agrees, and its own next token."""
        tokens = [*prefix.tokens, *draft.tokens]
        rows = self.target_rows(prefix, tokens, len(draft.tokens) + 1)
        if self.rules.accept.rule == "block" and draft.tokens and self.rows.drafts:
            return self.verify_block(prefix, draft, rows)
        margins, distances = [], []
        for offset, row in enumerate(rows):
            history = tokens[: len(prefix.tokens) + offset]
            proposed = draft.tokens[offset] if offset < len(draft.tokens) else None
            emission = self.emission(prefix, history, row, proposed)
            margins.append(emission.margin)
            if self.lossy and proposed is not None:
                distances.append(self.distance(prefix, history, row))
            if emission.token != proposed:
                return Verdict(offset, emission.token, tuple(margins), tuple(distances))
        raise AssertionError("a verdict has one row more than the draft has tokens")

    def draft_tree(self, prefix: Prefix, branches: Sequence[int]) -> TokenTree:
        """For every node the tokens that the draft thinks likeliest there; under gumbel, with the position's noise."""
        tokens: list[int] = []
        parents: list[int] = []
        level = [-1]
        for width in branches:
            below = []
            for parent in level:
                tree = TokenTree(tuple(tokens), tuple(parents))
                history = [*prefix.tokens, *(tokens[place] for place in tree.path(parent))]
                for token in self.likeliest(prefix, history, width):
                    below.append(len(tokens))
                    tokens.append(token)
                    parents.append(parent)
            level = below
        return TokenTree(tuple(tokens), tuple(parents))

    def likeliest(self, prefix: Prefix, tokens: Sequence[int], count: int) -> list[int]:
        """The `count` tokens most worth proposing after `tokens`, the best first."""
        row = self.draft_row(prefix, tokens)
        if self.rules.accept.rule == "gumbel":
            law = self.own_law("draft", row, tokens)
            with np.errstate(divide="ignore"):
                scores = np.log(law) + self.shared_noise(prefix, len(tokens), len(law))
        else:
            scores = penalised(row, self.rules.sampling, tokens).astype(np.float64)
        return [int(token) for token in np.argsort(-scores, kind="stable")[:count]]

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        """The target's own tokens, followed down the tree as long as they are there: exact whatever the tree is."""
        rows = self.tree_rows(prefix, tree)
        place, history, margins = -1, list(prefix.tokens), []
        while True:
            emission = self.emission(prefix, history, rows[place + 1], None)
            margins.append(emission.margin)
            below = tree.child(place, emission.token)
            if below is None:
                path = tuple(history[len(prefix.tokens) :])
                return Draft(path), Verdict(len(path), emission.token, tuple(margins))
            place = below
            history.append(emission.token)

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        """The target's next token without a draft, and its margin."""
        row = self.target_rows(prefix, prefix.tokens, 1)[0]
        emission = self.emission(prefix, prefix.tokens, row, None)
        return emission.token, emission.margin

    def emission(self, prefix: Prefix, tokens: Sequence[int], row: Logits, proposed: int | None) -> Emission:
        """The token that follows `tokens`; `proposed` was drafted for it, or nothing was.

        Under the ratio rule that takes the draft's law at every position, drafted there or not; the law of the
        emitted token is the target's either way. It is content, so no time is charged for it.
        """
        rule = self.rules.accept
        if self.rules.sampling.temperature == 0:
            return greedy(penalised(row, self.rules.sampling, tokens))
        p = self.spoken_law(row, tokens)
        if rule.rule == "gumbel":
            return gumbel(p, self.shared_noise(prefix, len(tokens), len(p)))
        noise = self.noise(prefix, len(tokens))
        if rule.rule == "typical" and proposed is not None:
            return typical(p, proposed, noise, rule.epsilon, rule.delta)
        if rule.rule not in ("ratio", "lenient") or not self.rows.drafts:
            return plain(p, noise)
        natural = self.own_law("draft", self.draft_row(prefix, tokens), tokens)
        drawn, known = self.sent_law(natural, tokens)
        if known is None or proposed is None:
            known = drawn  # nothing was sent for this position, so nothing can be lost
        p, drawn, known = padded(p, drawn, known)
        if rule.rule == "lenient" and proposed is not None:
            return lenient(p, drawn, noise, known, rule.lenience)[1]
        return ratio(p, drawn, noise, known)[1]

    def verify_block(self, prefix: Prefix, draft: Draft, rows: Sequence[Logits]) -> Verdict:
        """All drafts of the block at once."""
        tokens, start = [*prefix.tokens, *draft.tokens], len(prefix.tokens)
        ps, qs, noises = [], [], []
        for offset, row in enumerate(rows):
            history = tokens[: start + offset]
            p = self.spoken_law(row, history)
            if offset < len(draft.tokens):
                natural = self.own_law("draft", self.draft_row(prefix, history), history)
                known = self.sent_law(natural, history).known
                assert known is not None, "block verification without rows of the draft"
                p, q = padded(p, known)
                qs.append(q)
            ps.append(p)
            noises.append(self.noise(prefix, start + offset))
        accepted, token, margin = block(ps, qs, draft.tokens, noises)
        return Verdict(accepted, token, (margin,) * (accepted + 1))

    def distance(self, prefix: Prefix, tokens: Sequence[int], row: Logits) -> float:
        """Total variation between what is emitted at a drafted position and the target's own law there."""
        p = self.spoken_law(row, tokens)
        natural = self.own_law("draft", self.draft_row(prefix, tokens), tokens)
        drawn, known = self.sent_law(natural, tokens)
        p, drawn, known = padded(p, drawn, drawn if known is None else known)
        return total_variation(emitted_law(self.rules.accept, p, drawn, known), p)

    def own_law(self, role: str, row: Logits, tokens: Sequence[int]) -> Law:
        """A model's own law after `tokens`, before anything is cut or rounded for the wire."""
        return law_of(row, self.rules.sampling, tokens)

    def sent_law(self, natural: Law, tokens: Sequence[int]) -> Drafted:
        """What the draft draws from and what the verifier takes that for."""
        return drafted_law(natural, self.rules.payload, self.rules.verify_at)

    def spoken_law(self, row: Logits, tokens: Sequence[int]) -> Law:
        """The target's law by the numbers that all chips know it by."""
        return target_law(self.own_law("target", row, tokens), self.rules.payload, self.rules.verify_at)

    def noise(self, prefix: Prefix, position: int) -> Uniforms:
        """The uniforms of a position; under block verification fresh ones for every length of what is committed."""
        if self.rules.accept.rule == "block":
            return uniforms(self.seed, BLOCK, prefix.index, position, len(prefix.tokens))
        return uniforms(self.seed, CONTENT, prefix.index, position)

    def shared_noise(self, prefix: Prefix, position: int, count: int) -> Law:
        """The noise that both chips add to their log laws."""
        return gumbel_noise(self.seed, prefix.index, position, count)


def padded(*laws: Law) -> tuple[Law, ...]:
    """Laws of one length: tokens that a model does not know have no mass."""
    length = max(len(law) for law in laws)
    if all(len(law) == length for law in laws):
        return laws
    return tuple(np.pad(law, (0, length - len(law))) for law in laws)
