"""A toy of four tokens: Markov tables instead of networks, read by the real decisions; every sequence enumerated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import erfc, sqrt

import numpy as np

from hilsim.logits.accept import Emission
from hilsim.logits.decisions import Decisions, Rules
from hilsim.logits.noise import BLOCK, CONTENT, Uniforms, gumbel_noise, uniforms
from hilsim.logits.sampling import Law, Logits, law_of
from hilsim.logits.source import Prefix
from hilsim.logits.wire import Drafted

VOCABULARY, LENGTH, START, SEED = 4, 3, 1, 20
TARGET = np.log([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4], [0.3, 0.1, 0.35, 0.25], [0.25, 0.25, 0.1, 0.4]])
DRAFT = np.log([[0.2, 0.3, 0.2, 0.3], [0.4, 0.3, 0.2, 0.1], [0.1, 0.5, 0.2, 0.2], [0.4, 0.15, 0.4, 0.05]])


@dataclass
class Text:
    """A conversation so far."""

    index: int
    tokens: list[int]
    conversation: int = 0


class Table:
    """Rows that depend on the last token alone."""

    drafts = True

    def __init__(self, target: np.ndarray = TARGET, draft: np.ndarray = DRAFT):
        self.target, self.draft = target.astype(np.float32), draft.astype(np.float32)

    def target_rows(self, conversation: int, tokens: Sequence[int], count: int) -> Sequence[Logits]:
        return [self.target[token] for token in tokens[len(tokens) - count :]]

    def draft_row(self, conversation: int, tokens: Sequence[int]) -> Logits:
        return self.draft[tokens[-1]]


@cache
def uniforms_of(purpose: int, request: int, position: int, block: int) -> Uniforms:
    return uniforms(SEED, purpose, request, position, block)


@cache
def gumbel_of(request: int, position: int) -> Law:
    return gumbel_noise(SEED, request, position, VOCABULARY)


class Quick(Decisions):
    """The real decisions, with laws and noise looked up where they were worked out before."""

    def __init__(self, rules: Rules, rows: Table | None = None):
        super().__init__(rows or Table(), rules, SEED, lambda token: False)
        self.laws: dict[object, Law] = {}
        self.sent: dict[object, Drafted] = {}

    def own_law(self, role: str, row: Logits, tokens: Sequence[int]) -> Law:
        key = (role, *tokens)
        if key not in self.laws:
            self.laws[key] = super().own_law(role, row, tokens)
        return self.laws[key]

    def spoken_law(self, row: Logits, tokens: Sequence[int]) -> Law:
        key = ("spoken", *tokens)
        if key not in self.laws:
            self.laws[key] = super().spoken_law(row, tokens)
        return self.laws[key]

    def sent_law(self, natural: Law, tokens: Sequence[int]) -> Drafted:
        key = tuple(tokens)
        if key not in self.sent:
            self.sent[key] = super().sent_law(natural, tokens)
        return self.sent[key]

    def noise(self, prefix: Prefix, position: int) -> Uniforms:
        if self.rules.accept.rule == "block":
            return uniforms_of(BLOCK, prefix.index, position, len(prefix.tokens))
        return uniforms_of(CONTENT, prefix.index, position, 0)

    def shared_noise(self, prefix: Prefix, position: int, count: int) -> Law:
        return gumbel_of(prefix.index, position)


Wrong = Callable[[Law, Law, Uniforms], int]


class Broken(Quick):
    """Decisions whose rule for one position is replaced: the token from the target's law, the draft's and the noise."""

    def __init__(self, rules: Rules, wrong: Wrong):
        super().__init__(rules)
        self.wrong = wrong

    def emission(self, prefix: Prefix, tokens: Sequence[int], row: Logits, proposed: int | None) -> Emission:
        if proposed is None:
            return super().emission(prefix, tokens, row, None)
        q = self.sent_law(self.own_law("draft", self.rows.draft_row(0, tokens), tokens), tokens).drawn
        return Emission(self.wrong(self.spoken_law(row, tokens), q, self.noise(prefix, len(tokens))), None, 1.0)


def told(decisions: Decisions, request: int, drafted: int = 2, length: int = LENGTH) -> list[int]:
    """Draft and verify, as `sync` does, until so many tokens are told."""
    text = Text(request, [START])
    while len(text.tokens) <= length:
        draft = decisions.draft(text, drafted)
        text.tokens += decisions.verify(text, draft).tokens(draft)
    return text.tokens[1 : length + 1]


def alone(decisions: Decisions, request: int, length: int = LENGTH) -> list[int]:
    """The target's own text."""
    text = Text(request, [START])
    for _ in range(length):
        text.tokens.append(decisions.next_token(text)[0])
    return text.tokens[1:]


def enumerated(rules: Rules, rows: Table | None = None) -> Law:
    """The probability of every sequence under the target alone: a product of its laws."""
    table = rows or Table()
    found = []
    for cell in product(range(VOCABULARY), repeat=LENGTH):
        chance, tokens = 1.0, [START]
        for token in cell:
            chance *= law_of(table.target_rows(0, tokens, 1)[0], rules.sampling, tokens)[token]
            tokens.append(token)
        found.append(chance)
    return np.array(found)


def p_value(decisions: Decisions, samples: int, first: int = 0, tell: Callable[..., list[int]] = told) -> float:
    """Pearson's test of `samples` joint sequences against the target's law; 0 where the impossible was told.

    Upper tail by the Wilson-Hilferty normal approximation; cells that expect less than five are taken together.
    """
    counts = np.zeros(VOCABULARY**LENGTH)
    for request in range(first, first + samples):
        a, b, c = tell(decisions, request)
        counts[(a * VOCABULARY + b) * VOCABULARY + c] += 1
    cells = enumerated(decisions.rules) * samples
    if counts[cells == 0].any():
        return 0.0
    rare = cells < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    cells = np.append(cells[~rare], cells[rare].sum())
    counts, cells = counts[cells > 0], cells[cells > 0]
    freedom = len(cells) - 1
    statistic = float(((counts - cells) ** 2 / cells).sum())
    z = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / sqrt(2 / (9 * freedom))
    return 0.5 * erfc(z / sqrt(2))
