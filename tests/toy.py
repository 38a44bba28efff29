"""A toy of four tokens: Markov tables instead of networks, read by the real decisions; every sequence enumerated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from scipy.stats import chi2

from hilsim.sampling.accept import Emission
from hilsim.sampling.decisions import Decisions, Rules
from hilsim.sampling.distribution import Law, Logits
from hilsim.sampling.noise import BLOCK, CONTENT, Uniforms, gumbel_noise, uniforms
from hilsim.sampling.payload import Drafted
from hilsim.sampling.proposals import Draft, Prefix, Verdict
from hilsim.text.prompt import Prompt

VOCABULARY, LENGTH, START, SEED, SAMPLES = 4, 3, 1, 20, 50_000
TARGET = np.log([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4], [0.3, 0.1, 0.35, 0.25], [0.25, 0.25, 0.1, 0.4]])
DRAFT = np.log([[0.2, 0.3, 0.2, 0.3], [0.4, 0.3, 0.2, 0.1], [0.1, 0.5, 0.2, 0.2], [0.4, 0.15, 0.4, 0.05]])

Tell = Callable[[Decisions, int], list[int]]
After = Callable[[Sequence[int]], Law]


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
def gumbel_of(request: int, position: int, count: int) -> Law:
    return gumbel_noise(SEED, request, position, count)


class Quick(Decisions):
    """The real decisions, with laws and noise looked up where they were worked out before."""

    def __init__(self, rules: Rules, rows: Table | None = None):
        super().__init__(rows or Table(), rules, SEED, lambda token: False)
        self.laws: dict[object, Law] = {}
        self.sent: dict[object, Drafted] = {}
        self.distances: dict[object, float] = {}

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

    def distance(self, prefix: Prefix, tokens: Sequence[int], row: Logits) -> float:
        key = tuple(tokens)
        if key not in self.distances:
            self.distances[key] = super().distance(prefix, tokens, row)
        return self.distances[key]

    def noise(self, prefix: Prefix, position: int) -> Uniforms:
        if self.rules.accept.rule == "block":
            return uniforms_of(BLOCK, prefix.index, position, len(prefix.tokens))
        return uniforms_of(CONTENT, prefix.index, position, 0)

    def shared_noise(self, prefix: Prefix, position: int, count: int) -> Law:
        return gumbel_of(prefix.index, position, count)

    def target_after(self, tokens: Sequence[int]) -> Law:
        """The target's own law, as no wire has touched it."""
        return self.own_law("target", self.rows.target_rows(0, tokens, 1)[0], tokens)

    def drafted_after(self, tokens: Sequence[int]) -> Drafted:
        """What the draft draws from, and what that is taken for."""
        return self.sent_law(self.own_law("draft", self.rows.draft_row(0, tokens), tokens), tokens)


Wrong = Callable[[Law, Law, Uniforms], int]


class Broken(Quick):
    """Decisions whose rule for one position is replaced: the token from the target's law, the draft's and the noise."""

    def __init__(self, rules: Rules, wrong: Wrong):
        super().__init__(rules)
        self.wrong = wrong

    def emission(self, prefix: Prefix, tokens: Sequence[int], row: Logits, proposed: int | None) -> Emission:
        if proposed is None:
            return super().emission(prefix, tokens, row, None)
        q = self.drafted_after(tokens).drawn
        return Emission(self.wrong(self.spoken_law(row, tokens), q, self.noise(prefix, len(tokens))), None, 1.0)


class ToySource:
    """A source for whole runs: every request starts from the same word and never ends by itself."""

    forward_seconds = 0.0

    def __init__(self, decisions: Decisions):
        self.decisions = decisions

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        return Prompt(len(before), [START])

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        return self.decisions.draft(prefix, count, after)

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        return self.decisions.verify(prefix, draft)

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        return self.decisions.next_token(prefix)

    def ends(self, token: int) -> bool:
        return False

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))

    def forget(self, conversation: int) -> None:
        pass


def told(decisions: Decisions, request: int, drafted: int = LENGTH, length: int = LENGTH) -> list[int]:
    """Draft and verify, as `sync` does, until so many tokens are told. With `drafted` at `length` every one of them was
    drafted for.
    """
    text = Text(request, [START])
    while len(text.tokens) <= length:
        draft = decisions.draft(text, min(drafted, length + 1 - len(text.tokens)))
        text.tokens += decisions.verify(text, draft).tokens(draft)
    return text.tokens[1 : length + 1]


def alone(decisions: Decisions, request: int, length: int = LENGTH) -> list[int]:
    """The target's own text."""
    text = Text(request, [START])
    for _ in range(length):
        text.tokens.append(decisions.next_token(text)[0])
    return text.tokens[1:]


def enumerated(after: After, length: int = LENGTH) -> Law:
    """The probability of every sequence: a product of the laws after each of its tokens."""
    found = []
    for cell in product(range(VOCABULARY), repeat=length):
        chance, tokens = 1.0, [START]
        for token in cell:
            chance *= after(tokens)[token]
            tokens.append(token)
        found.append(chance)
    return np.array(found)


def cells(texts: Iterable[list[int]], length: int = LENGTH) -> Law:
    """How often each joint sequence was told, in the order of `enumerated`."""
    counts = np.zeros(VOCABULARY**length)
    for text in texts:
        place = 0
        for token in text:
            place = place * VOCABULARY + token
        counts[place] += 1
    return counts


def counted(decisions: Decisions, tell: Tell = told, samples: int = SAMPLES) -> Law:
    """How often each joint sequence is told over so many requests."""
    return cells(tell(decisions, request) for request in range(samples))


def p_value(counts: Law, chances: Law) -> float:
    """Pearson's test, upper tail; 0 where the impossible was told. Cells that expect less than five are one."""
    expected = chances * counts.sum()
    if counts[expected == 0].any():
        return 0.0
    rare = expected < 5
    counts, expected = (np.append(of[~rare], of[rare].sum()) for of in (counts, expected))
    counts, expected = counts[expected > 0], expected[expected > 0]
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), len(expected) - 1))
