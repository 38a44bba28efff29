"""A toy of four tokens: Markov tables instead of networks, read by the real decisions; every sequence enumerated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

import numpy as np
from scipy.stats import chi2

from hilsim.describe.tree_shape import TreeShape
from hilsim.sampling.choices import Choices, Places, RowPosition, Rules
from hilsim.sampling.decisions import Decisions, place_of
from hilsim.sampling.distribution import Distribution, Probabilities
from hilsim.sampling.logits import Logits
from hilsim.sampling.noise import Uniforms, gumbel_noise, uniforms
from hilsim.sampling.payload import Drafted
from hilsim.sampling.proposals import Draft, Prefix, TokenTree, Verdict
from hilsim.text.prompt import Prompt

VOCABULARY, LENGTH, START, SEED, SAMPLES = 4, 3, 1, 20, 20_000
TARGET = np.log([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4], [0.3, 0.1, 0.35, 0.25], [0.25, 0.25, 0.1, 0.4]])
DRAFT = np.log([[0.2, 0.3, 0.2, 0.3], [0.4, 0.3, 0.2, 0.1], [0.1, 0.5, 0.2, 0.2], [0.4, 0.15, 0.4, 0.05]])

Tell = Callable[[Decisions, int], list[int]]
After = Callable[[Sequence[int]], Probabilities]


@dataclass
class Text:
    """A conversation so far."""

    index: int
    tokens: list[int]
    conversation: int = 0


class Table:
    """Rows that depend on the last token alone."""

    drafts, reads_states = True, False

    def __init__(self, target: np.ndarray = TARGET, draft: np.ndarray = DRAFT):
        self.target, self.draft = target.astype(np.float32), draft.astype(np.float32)

    def target_rows(self, conversation: int, tokens: Sequence[int], count: int) -> Sequence[Logits]:
        return [self.target[token] for token in tokens[len(tokens) - count :]]

    def draft_row(self, conversation: int, tokens: Sequence[int], verified: int) -> Logits:
        return self.draft[tokens[-1]]

    def tree_rows(self, conversation: int, tokens: Sequence[int], tree: TokenTree) -> Sequence[Logits]:
        """Of forecast tokens, which no vocabulary has, rows of the draft's."""
        return [self.target[token] if token >= 0 else self.draft[token] for token in (tokens[-1], *tree.tokens)]


class HeadTable(Table):
    """Rows as of a draft head: they depend on the last token, and on how far the verified tokens end before it."""

    reads_states = True

    def draft_row(self, conversation: int, tokens: Sequence[int], verified: int) -> Logits:
        assert 0 < verified <= len(tokens)
        return np.roll(self.draft[tokens[-1]], len(tokens) - verified)


uniforms_of = cache(partial(uniforms, SEED))
gumbel_of = cache(partial(gumbel_noise, SEED))


class QuickChoices(Choices):
    """The real choices, with distributions and noise looked up where they were worked out before."""

    def __init__(self, rules: Rules):
        super().__init__(rules, SEED)
        self.uniforms, self.gumbel = uniforms_of, gumbel_of
        self.targets: dict[object, Distribution] = {}
        self.drafts: dict[object, Drafted] = {}

    def target(self, logits: Logits, places: Places) -> Distribution:
        assert isinstance(places, RowPosition)
        key = tuple(places.tokens)
        if key not in self.targets:
            self.targets[key] = super().target(logits, places)
        return self.targets[key]

    def drafted(self, logits: Logits, places: Places) -> Drafted:
        assert isinstance(places, RowPosition)
        key = (tuple(places.tokens), logits.tobytes())
        if key not in self.drafts:
            self.drafts[key] = super().drafted(logits, places)
        return self.drafts[key]


class Quick(Decisions):
    """The real decisions with these choices."""

    def __init__(self, rules: Rules, rows: Table | None = None):
        super().__init__(rows or Table(), rules, SEED, lambda token: False)
        self.choices = QuickChoices(rules)
        self.distances: dict[object, float] = {}

    def distance(self, prefix: Prefix, tokens: Sequence[int], row: Logits) -> float:
        key = tuple(tokens)
        if key not in self.distances:
            self.distances[key] = super().distance(prefix, tokens, row)
        return self.distances[key]

    def target_after(self, tokens: Sequence[int]) -> Probabilities:
        """The target's own distribution, before anything is rounded for the link."""
        return self.choices.natural(self.rows.target_rows(0, tokens, 1)[0], RowPosition(0, tokens)).dense()

    def quantised_after(self, tokens: Sequence[int]) -> Probabilities:
        """The target's distribution as all chips have it."""
        return self.choices.target(self.rows.target_rows(0, tokens, 1)[0], RowPosition(0, tokens)).dense()

    def drafted_after(
        self, tokens: Sequence[int], verified: int | None = None
    ) -> tuple[Probabilities, Probabilities | None]:
        """What the draft draws from, and what that is taken for; without `verified` all tokens are."""
        row = self.rows.draft_row(0, tokens, len(tokens) if verified is None else verified)
        drawn, known = self.choices.drafted(row, RowPosition(0, tokens))
        return drawn.dense(), None if known is None else known.dense()


Wrong = Callable[[Probabilities, Probabilities, Uniforms[float]], int]


class Broken(Quick):
    """Decisions whose rule for one position is replaced: a token from both distributions and the noise."""

    def __init__(self, rules: Rules, wrong: Wrong):
        super().__init__(rules)
        self.wrong = wrong

    def emission(self, prefix: Prefix, tokens: Sequence[int], row: Logits, drafted: int | None) -> tuple[int, float]:
        if drafted is None:
            return super().emission(prefix, tokens, row, None)
        noise = self.choices.noise(place_of(prefix, tokens))
        return self.wrong(self.quantised_after(tokens), self.drafted_after(tokens)[0], noise), 1.0


class ToySource:
    """A source for whole runs: every request starts from the same word and never ends by itself."""

    forward_seconds = 0.0
    by_chance = False

    def __init__(self, decisions: Decisions):
        self.decisions = decisions

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        return Prompt(len(before), [START])

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        return self.decisions.draft(prefix, count, after)

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        return self.decisions.verify(prefix, draft)

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        return self.decisions.draft_tree(prefix, shape)

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        return self.decisions.verify_tree(prefix, tree)

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


def enumerated(after: After, length: int = LENGTH) -> Probabilities:
    """The probability of every sequence: a product of the distributions after each of its tokens."""
    found = []
    for cell in product(range(VOCABULARY), repeat=length):
        chance, tokens = 1.0, [START]
        for token in cell:
            chance *= after(tokens)[token]
            tokens.append(token)
        found.append(chance)
    return np.array(found)


def cells(texts: Iterable[list[int]], length: int = LENGTH) -> Probabilities:
    """How often each joint sequence was told, in the order of `enumerated`."""
    counts = np.zeros(VOCABULARY**length)
    for text in texts:
        place = 0
        for token in text:
            place = place * VOCABULARY + token
        counts[place] += 1
    return counts


def counted(decisions: Decisions, tell: Tell = told, samples: int = SAMPLES) -> Probabilities:
    """How often each joint sequence is told over so many requests."""
    return cells(tell(decisions, request) for request in range(samples))


def p_value(counts: Probabilities, chances: Probabilities) -> float:
    """Pearson's test, upper tail; 0 where the impossible was told. Cells that expect less than five are one."""
    expected = chances * counts.sum()
    if counts[expected == 0].any():
        return 0.0
    rare = expected < 5
    counts, expected = (np.append(of[~rare], of[rare].sum()) for of in (counts, expected))
    counts, expected = counts[expected > 0], expected[expected > 0]
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), len(expected) - 1))
