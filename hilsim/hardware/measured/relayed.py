"""A source that reports the tokens of a conversation to the boards, so that steps are timed over the real tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hilsim.describe.tree_shape import TreeShape
from hilsim.sampling.proposals import (
    Draft,
    Prefix,
    TokenTree,
    Verdict,
)
from hilsim.sources.source import LogitsSource, Relay

Observe = Callable[[str, int, Sequence[int]], None]


class ObservedSource(Relay):
    """`LogitsSource` that forwards every call to `source` and calls `observe(role, request, tokens)`
    with the tokens that a role is about to read.
    """

    def __init__(self, source: LogitsSource, observe: Observe):
        super().__init__(source)
        self.observe = observe

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        self.observe("draft", prefix.index, [*prefix.tokens, *after])
        found = self.source.draft(prefix, count, after)
        self.observe("draft", prefix.index, [*prefix.tokens, *after, *found.tokens])
        return found

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        self.observe("target", prefix.index, [*prefix.tokens, *draft.tokens])
        return self.source.verify(prefix, draft)

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        for role in ("target", "draft"):  # for a new question this is the first call that concerns either role
            self.observe(role, prefix.index, prefix.tokens)
        return self.source.next_token(prefix)

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        found = self.grower.draft_tree(prefix, shape)
        self.observe("draft", prefix.index, [*prefix.tokens, *found.tokens])
        return found

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        self.observe("target", prefix.index, [*prefix.tokens, *tree.tokens])
        return self.grower.verify_tree(prefix, tree)
