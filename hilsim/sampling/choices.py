"""What is drafted and what is emitted after many rows at once: `Decisions` for a recording, the same to the bit.

Only for rules under which a token depends on its position alone, as others cannot be recorded: nothing is lost on the
wire, so a test is always against the law that was drawn from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from hilsim.sampling.decisions import Rules
from hilsim.sampling.distribution import Law, draw, penalised, require_finite
from hilsim.sampling.distributions import Ints, Laws, Table, drafted_laws, entropies, laws_of, leads, target_laws
from hilsim.sampling.noise import CONTENT, Uniforms, gumbel_noise, uniforms
from hilsim.text.pairs import NEVER

ROWS = 128  # at once: tables of laws that stay in a processor's cache


@dataclass(frozen=True)
class Places:
    """Where rows stand: the request and position that key the noise of each, and the words before it."""

    requests: Sequence[int]
    positions: Sequence[int]
    history: Callable[[int], Sequence[int]]  # of a row; asked for repetition penalties alone

    def part(self, rows: range) -> Places:
        """Those of some rows."""
        span = slice(rows.start, rows.stop)
        return Places(self.requests[span], self.positions[span], lambda row: self.history(rows[row]))


@dataclass(frozen=True)
class Proposed:
    """Drafted tokens (rows,), and how sure the draft was of each."""

    tokens: Ints
    confidences: Law
    entropies: Law


class Choices:
    """Chooses for tables (rows, vocabulary) of float32 logits; deterministic given the seed."""

    def __init__(self, rules: Rules, seed: int):
        assert rules.guarantee.level == "text", "only what hangs on its position alone can be recorded"
        self.rules, self.sampling = rules, rules.sampling
        self.cold = rules.sampling.temperature == 0
        self.warm = rules.sampling.model_copy(update={"temperature": 1.0}) if self.cold else rules.sampling
        # Kept, as drafts from many places come by the same position.
        self.uniforms = cache(lambda request, position: uniforms(seed, CONTENT, request, position))
        self.gumbel = cache(
            lambda request, position, count: np.append(gumbel_noise(seed, request, position, count), 0.0)
        )

    @property
    def asks_the_draft(self) -> bool:
        """Whether the target's own token hangs on the draft's law."""
        return self.rules.accept.rule in ("ratio", "lenient")

    def proposed(self, table: Table, places: Places) -> Proposed:
        """`Decisions.proposed` after every row of the draft's, with confidence and entropy. Raises `BrokenLogits`."""
        require_finite_rows(table, "draft", places)
        parts = [range(start, min(start + ROWS, len(table))) for start in range(0, len(table), ROWS)]
        found = [self._proposed(table[part.start : part.stop], places.part(part)) for part in parts]
        return Proposed(
            np.concatenate([one.tokens for one in found] or [np.zeros(0, np.int64)]),
            np.concatenate([one.confidences for one in found] or [np.zeros(0)]),
            np.concatenate([one.entropies for one in found] or [np.zeros(0)]),
        )

    def _proposed(self, table: Table, places: Places) -> Proposed:
        table = self.penalised(table, places)
        laws = laws_of(table, self.warm)
        if self.cold:
            chosen = table.argmax(axis=1)
        else:
            chosen, laws = self.drafted(laws, places)
        return Proposed(laws.tokens_at(chosen), laws.shares_at(chosen), entropies(laws))

    def drafted(self, natural: Laws, places: Places) -> tuple[Ints, Laws]:
        """Where the drafted token of each row is among those kept, above temperature 0, and the law it is of."""
        if self.rules.payload.scheme == "one_hot" and self.rules.verify_at == "target":
            return natural.likeliest(), natural
        laws = drafted_laws(natural, self.rules.payload, self.rules.verify_at)
        if self.rules.accept.rule == "gumbel":
            return self.scores(laws, places).argmax(axis=1), laws
        return laws.drawn(np.array([noise.draft for noise in self.noises(places)]))[0], laws

    def emitted(self, table: Table, drafts: Table, places: Places) -> tuple[Ints, Law]:
        """`Decisions.emission` after every row of the target's where nothing was drafted: tokens and margins (rows,).

        `drafts` are the draft's rows at the same places, for rules that ask for them; others do not look. Raises
        `BrokenLogits`.
        """
        require_finite_rows(table, "target", places)
        table = self.penalised(table, places)
        if self.cold:
            return table.argmax(axis=1), leads(table)
        rule, payload, verify_at = self.rules.accept.rule, self.rules.payload, self.rules.verify_at
        if self.asks_the_draft:
            require_finite_rows(drafts, "draft", places)
            # Tokens that the draft does not know have no mass in its law.
            wide = np.full_like(table, NEVER)
            wide[:, : drafts.shape[1]] = self.penalised(drafts, places)
            both = laws_of(np.concatenate((table, wide)), self.sampling)
            p, q = both.part(0, len(table)), both.part(len(table), len(both))
            return self.tested(target_laws(p, payload, verify_at), drafted_laws(q, payload, verify_at), places)
        laws = target_laws(laws_of(table, self.sampling), payload, verify_at)
        if rule == "gumbel":
            scores = self.scores(laws, places)
            return laws.tokens_at(scores.argmax(axis=1)), leads(scores)
        chosen, margins = laws.drawn(np.array([noise.residual for noise in self.noises(places)]))
        return laws.tokens_at(chosen), margins

    def tested(self, p: Laws, q: Laws, places: Places) -> tuple[Ints, Law]:
        """`accept.ratio` in every row: the token drawn from `q` where it stands, else one of what `p` has more."""
        noises = self.noises(places)
        chosen, margins = q.drawn(np.array([noise.draft for noise in noises]))
        tokens = q.tokens_at(chosen)
        gaps = p.shares_of(tokens) - np.array([noise.accept for noise in noises]) * q.shares_at(chosen)
        margins = np.minimum(margins, np.abs(gaps))
        for row in np.flatnonzero(gaps <= 0).tolist():
            law = p.row(row)
            residual: Law = np.maximum(law - q.row(row), 0.0)
            tokens[row], margin = draw(residual if residual.sum() > 0 else law, noises[row].residual)
            margins[row] = min(margins[row], margin)
        return tokens, margins

    def penalised(self, table: Table, places: Places) -> Table:
        """The rows with the repetition penalty of what stands before each."""
        if self.sampling.repetition_penalty in (None, 1):
            return table
        return np.stack([penalised(row, self.sampling, places.history(at)) for at, row in enumerate(table)])

    def noises(self, places: Places) -> list[Uniforms]:
        """The uniforms of every row."""
        return [self.uniforms(*place) for place in zip(places.requests, places.positions, strict=True)]

    def scores(self, laws: Laws, places: Places) -> Law:
        """Log shares plus the noise that both chips add to them, (rows, kept)."""
        shared = zip(places.requests, places.positions, laws.tokens, strict=True)
        noise = [self.gumbel(request, position, laws.vocabulary)[tokens] for request, position, tokens in shared]
        with np.errstate(divide="ignore"):
            found: Law = np.log(laws.shares) + np.stack(noise)
        return found


def require_finite_rows(table: Table, role: str, places: Places) -> None:
    """`sampling.require_finite` of every row of one role."""
    for row, request, position in zip(table, places.requests, places.positions, strict=True):
        require_finite(row, role, request, position)
