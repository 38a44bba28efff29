"""A cache in front of a token source, so that runs of one workload share the results of its forward passes.

Tokens depend on the conversation alone, so a run with other timing, draft length or policy mostly asks what was asked
before. Replays with other chips then cost no forward pass, and replays with other policies few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from hilsim.describe.tree_shape import TreeShape
from hilsim.sampling.proposals import (
    Draft,
    Prefix,
    TokenTree,
    Verdict,
)
from hilsim.sources.source import LogitsSource, Relay

T = TypeVar("T")


@dataclass
class ResultCache:
    """Cached results by what was asked; shared by all runs over one workload."""

    answers: dict[object, object] = field(default_factory=dict)
    asked: int = 0  # calls that had to be made to the real source

    def recall(self, question: object, ask: Callable[[], T]) -> T:
        """The cached result, or the one that `ask` computes."""
        if question not in self.answers:
            self.asked += 1
            self.answers[question] = ask()
        return self.answers[question]  # type: ignore[return-value]


class CachedSource(Relay):
    """`LogitsSource` that asks `source` only for what `memory` does not hold yet.

    `by_position`: a token depends on the tokens before it alone, so drafts and verdicts are cached token by token and
    serve every draft length. Of draft heads, under the block rule, lossy rules and acceptance by place in the block
    they are cached as they were asked for.
    """

    def __init__(self, source: LogitsSource, memory: ResultCache, *, by_position: bool = False):
        super().__init__(source)
        self.memory, self.by_position = memory, by_position

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        if not self.by_position:
            question = ("draft", *so_far(prefix), count, tuple(after))
            return self.memory.recall(question, lambda: self.source.draft(prefix, count, after))
        known = self.memory.answers
        history = (*prefix.tokens, *after)
        found: list[tuple[int, float, float]] = []
        while len(found) < count and not (found and self.source.ends(found[-1][0])):
            place = ("draft", prefix.index, hash(history))
            if place not in known:
                self.memory.asked += 1
                more = self.source.draft(prefix, count - len(found), history[len(prefix.tokens) :])
                ahead = history
                for token in zip(more.tokens, more.confidences, more.entropies, strict=True):
                    known["draft", prefix.index, hash(ahead)] = token
                    ahead = (*ahead, token[0])
            found.append(cast(tuple[int, float, float], known[place]))
            history = (*history, found[-1][0])
        tokens, confidences, entropies = zip(*found, strict=True) if found else ((), (), ())
        return Draft(tokens, confidences, entropies)

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        if not self.by_position:
            question = ("verify", *so_far(prefix), draft.tokens)
            return self.memory.recall(question, lambda: self.source.verify(prefix, draft))
        known = self.memory.answers
        history: tuple[int, ...] = tuple(prefix.tokens)
        margins: list[float] = []
        for accepted in range(len(draft.tokens) + 1):
            place = ("next", prefix.index, hash(history))
            if place not in known:
                self.memory.asked += 1
                verdict, ahead = self.source.verify(prefix, draft), tuple(prefix.tokens)
                for emitted in zip(verdict.tokens(draft), verdict.margins, strict=True):
                    known["next", prefix.index, hash(ahead)] = emitted
                    ahead = (*ahead, emitted[0])
                if place not in known:  # a last-bit tie fell the other way in this pass
                    return verdict
            token, margin = cast(tuple[int, float], known[place])
            margins.append(margin)
            if accepted == len(draft.tokens) or token != draft.tokens[accepted]:
                return Verdict(accepted, token, tuple(margins))
            history = (*history, token)
        raise AssertionError("a verdict has one row more than the draft has tokens")

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        question = ("next", *so_far(prefix))
        return self.memory.recall(question, lambda: self.source.next_token(prefix))

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        question = ("draft tree", *so_far(prefix), shape)
        return self.memory.recall(question, lambda: self.grower.draft_tree(prefix, shape))

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        question = ("verify tree", *so_far(prefix), tree)
        return self.memory.recall(question, lambda: self.grower.verify_tree(prefix, tree))

    def text(self, tokens: Sequence[int]) -> str:
        return self.memory.recall(("text", tuple(tokens)), lambda: self.source.text(tokens))


def so_far(prefix: Prefix) -> tuple[int, int]:
    """The request and its conversation so far: under block and lossy rules the draft can change the text."""
    return prefix.index, hash(tuple(prefix.tokens))
