"""Sizes of a run's messages in bytes, by its payload scheme; each size is computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

from hilsim.cost.payload import (
    HEADER_BYTES,
    ID_BYTES,
    answer_bytes,
    distribution_bytes,
    draft_bytes,
    draft_decides,
    hidden_bytes,
    verdict_bytes,
)
from hilsim.describe.drafting import states_wanted
from hilsim.describe.scenario import Scenario
from hilsim.describe.setup import Placed


class Messages:
    """Bytes that cross the link in a round, as functions of its counts.

    - `drafts(drafted)`: bytes of drafted tokens, with what the scheme adds to each.
    - `answer(drafted, accepted, rows)`: bytes of what the target's chip sends back; `rows` were needed there.
    - `draft_decides(drafted, accepted)`: whether the draft's chip decides the round, and reports that to the target.
    - `hidden(positions)`: bytes of the target's hidden states at new positions; 0 where no `draft` head reads them.
    """

    def __init__(self, rules: Scenario, vocabulary: int, draft: Placed | None = None):
        payload, sampling, at = rules.payload, rules.sampling, rules.verify_at
        self.drafts: Callable[[int], int] = cache(partial(draft_bytes, payload, vocabulary=vocabulary, verify_at=at))
        self.answer: Callable[[int, int, int], int] = cache(
            partial(answer_bytes, payload, sampling, at, vocabulary=vocabulary)
        )
        self.draft_decides: Callable[[int, int], bool] = cache(partial(draft_decides, payload, at))
        self.payload, self.verify_at, self.draft = payload, at, draft
        self.row = distribution_bytes(payload, vocabulary)

    def distributions(self, kind: str, nbytes: int) -> int:
        """Bytes of distributions in a message of so many bytes; `kind` is that of its span."""
        if kind == "drafts" and self.verify_at == "target":
            return (nbytes - HEADER_BYTES) * self.row // (ID_BYTES + self.row)
        if kind == "verdict" and nbytes != verdict_bytes():
            if self.verify_at == "draft":
                return nbytes - HEADER_BYTES
            if self.payload.scheme == "scalar":
                return nbytes - verdict_bytes()
        return 0

    def hidden(self, positions: int) -> int:
        """Bytes of hidden states that a draft head on another chip reads of so many new positions; 0 without one."""
        if self.draft is None or self.draft.head_kind is None or not positions:
            return 0
        wanted = states_wanted(self.draft.head_kind, positions)
        return hidden_bytes(wanted * self.draft.states_read * self.draft.model.architecture.hidden)
