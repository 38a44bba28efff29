"""A source that lets boards hear the conversation, so that steps are timed over the words that are really said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hilsim.sampling.proposals import (
    Draft,
    Prefix,
    TokenTree,
    Verdict,
)
from hilsim.sources.source import LogitsSource, Relay

Hear = Callable[[str, int, Sequence[int]], None]


class Heard(Relay):
    """`LogitsSource` that passes all on to `source`, and tells `hear` which tokens of which request each role reads."""

    def __init__(self, source: LogitsSource, hear: Hear):
        super().__init__(source)
        self.hear = hear

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        self.hear("draft", prefix.index, [*prefix.tokens, *after])
        found = self.source.draft(prefix, count, after)
        self.hear("draft", prefix.index, [*prefix.tokens, *after, *found.tokens])
        return found

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        self.hear("target", prefix.index, [*prefix.tokens, *draft.tokens])
        return self.source.verify(prefix, draft)

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        for role in ("target", "draft"):  # where a question is new, this is the first that either hears of it
            self.hear(role, prefix.index, prefix.tokens)
        return self.source.next_token(prefix)

    def draft_tree(self, prefix: Prefix, branches: Sequence[int]) -> TokenTree:
        found = self.grower.draft_tree(prefix, branches)
        self.hear("draft", prefix.index, [*prefix.tokens, *found.tokens])
        return found

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        self.hear("target", prefix.index, [*prefix.tokens, *tree.tokens])
        return self.grower.verify_tree(prefix, tree)
