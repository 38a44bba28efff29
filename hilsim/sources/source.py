"""The interface of token sources: the draft's continuation, the target's verdict, the next token without a draft.

Tokens depend on the position only: the same conversation so far gives the same tokens, at any time and in any policy.
Rewinding caches after a rejection is the source's job, so a policy cannot forget half of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from hilsim.describe.tree_shape import TreeShape
from hilsim.sampling.proposals import Draft, Prefix, TokenTree, Verdict
from hilsim.text.prompt import Prompt


class LogitsSource(Protocol):
    """Where tokens come from: real networks, a transcript, or chance.

    `by_chance`: whether acceptance is drawn; what a policy would find in the text then comes from `draft`, and from
    `draft_tree`.
    """

    @property
    def by_chance(self) -> bool: ...

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        """The prompt of turn `turn` (from 0) of a conversation with tokens `before` so far; turns come in order."""
        ...

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        """The draft's continuation by at most `count` tokens, which end after an end-of-turn token.

        It continues `prefix` and the drafted tokens `after` it, which are on their way and not verified yet.
        """
        ...

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        """How far the target agrees, and its own next token."""
        ...

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        """The target's next token and its margin, one row at a time as without a draft."""
        ...

    def ends(self, token: int) -> bool:
        """Whether this token ends an answer."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The text of the tokens, special tokens left out."""
        ...

    def forget(self, conversation: int) -> None:
        """A conversation is over: drop its caches."""
        ...

    @property
    def forward_seconds(self) -> float:
        """Wall time spent so far inside bare forward passes; it measures hilsim's own overhead and nothing else."""
        ...


@runtime_checkable
class TreeSource(Protocol):
    """What most sources can do beyond `LogitsSource`: propose and verify token trees."""

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        """The draft's likeliest continuations, as a tree of that shape."""
        ...

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        """The accepted path, as a draft of its own, the target's token after it, and what it expects after probes."""
        ...


class Relay:
    """A source in front of another: it passes every call on, except those that a subclass answers itself."""

    def __init__(self, source: LogitsSource):
        self.source = source

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        return self.source.prompt(conversation, turn, before)

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        return self.source.draft(prefix, count, after)

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        return self.source.verify(prefix, draft)

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        return self.source.next_token(prefix)

    @property
    def by_chance(self) -> bool:
        return self.source.by_chance

    def draft_tree(self, prefix: Prefix, shape: TreeShape) -> TokenTree:
        return self.grower.draft_tree(prefix, shape)

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        return self.grower.verify_tree(prefix, tree)

    @property
    def grower(self) -> TreeSource:
        """The source behind, which must support token trees."""
        assert isinstance(self.source, TreeSource), "a transcript has no token trees"
        return self.source

    def ends(self, token: int) -> bool:
        return self.source.ends(token)

    def text(self, tokens: Sequence[int]) -> str:
        return self.source.text(tokens)

    def forget(self, conversation: int) -> None:
        self.source.forget(conversation)

    @property
    def forward_seconds(self) -> float:
        return self.source.forward_seconds
