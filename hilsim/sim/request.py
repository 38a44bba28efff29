"""A request: one question, the answer as it grows, and what each chip's cache holds of the conversation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import simpy

from hilsim.logits.source import Draft, Verdict
from hilsim.sim.trace import Round


@dataclass
class Request:
    """State of one request. `tokens` is the whole conversation, shared with later turns.

    `target_cached` and `draft_cached` are what the deployed caches hold: the source keeps the real ones, time is
    charged by these.
    """

    index: int
    conversation: int
    turn: int
    user: str
    tokens: list[int]
    max_new_tokens: int
    context: int
    prompt_tokens: int = 0
    target_cached: int = 0
    draft_cached: int = 0
    draft_heard: int = 0  # tokens of the conversation that the draft's chip has been told
    answer: list[int] = field(default_factory=list)
    rounds: int = 0
    arrived_ns: int = 0
    delivered_ns: int = 0
    watch: Callable[[int, int], None] | None = None  # told of every round: tokens emitted, a plain step's time
    settled: simpy.Event | None = None  # the target knows how the last round ended
    resting: bool = False  # speculation does not pay at the moment: the target goes on alone
    finish: str | None = None
    undelivered: dict[int, Round] = field(default_factory=dict)  # rounds that closed before an earlier one
    closed: int = 0

    @property
    def done(self) -> bool:
        return self.finish is not None

    @property
    def speculates(self) -> bool:
        """Whether a policy should begin another round."""
        return not self.done and not self.resting

    @property
    def limit(self) -> int:
        """The length of the conversation at which the answer must stop."""
        return len(self.tokens) + self.room

    @property
    def room(self) -> int:
        """Tokens that may still be emitted, by the answer's limit and the context's."""
        return min(self.max_new_tokens - len(self.answer), self.context - len(self.tokens))

    def extend(self, tokens: tuple[int, ...], ends: set[int]) -> int:
        """Commit tokens up to an end of turn or a limit; returns how many were kept.

        `ends` holds the positions within `tokens` that end the turn.
        """
        kept = 0
        for place, token in enumerate(tokens):
            self.tokens.append(token)
            self.answer.append(token)
            kept += 1
            if place in ends:
                self.finish = "end"
                break
            if self.room == 0:
                self.finish = "length" if len(self.answer) >= self.max_new_tokens else "context"
                break
        return kept

    def after_block(self, before: int, fed: int, accepted: int) -> None:
        """Rewind the target's cache alone: it fed what was committed `before` and `fed` drafted tokens."""
        self.target_cached = min(before + min(fed, accepted), len(self.tokens) - 1)

    def after_verdict(self, before: int, draft: Draft, verdict: Verdict) -> None:
        """Rewind both caches: the target fed the pending token and every draft, the draft all but its last token.

        `before` is the length of the conversation when the round began. What was rejected is forgotten; the last
        committed token is always fed by the next step, so no cache holds it.
        """
        standing = before + verdict.accepted
        self.target_cached = min(standing, len(self.tokens) - 1)
        self.draft_cached = min(standing, before + len(draft.tokens) - 1, len(self.tokens) - 1)
