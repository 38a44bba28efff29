"""What a policy may ask about content: the draft's continuation, the target's verdict, the next token alone.

A source answers from the position only: the same conversation so far gives the same tokens, whoever asks and when.
Rewinding caches after a rejection is the source's job, so a policy cannot forget half of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Draft:
    """Tokens proposed from a prefix; shorter than asked for where the draft itself ended the turn.

    Of each token its probability under the law it was drawn from, and that law's entropy in nats, for drafts that stop
    by themselves. Where the draft takes its likeliest token, both are of its law at temperature 1.
    """

    tokens: tuple[int, ...]
    confidences: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`accepted` drafted tokens stand, then comes `token`, the target's own; one margin per emitted token.

    Of lossy rules also how far the law of the token emitted at each drafted position is from the target's, as total
    variation distance.
    """

    accepted: int
    token: int
    margins: tuple[float, ...]
    distances: tuple[float, ...] = ()

    def tokens(self, draft: Draft) -> tuple[int, ...]:
        """Everything that the round emits."""
        return (*draft.tokens[: self.accepted], self.token)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What asks a question: the first `kept` tokens of the conversation so far stand, then come `tokens`.

    Usually all but the end of the last answer stands. Where a template or a tokenizer writes earlier turns otherwise
    than before, less does, and is read again.
    """

    kept: int
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Tokens proposed as a tree below a prefix, level by level; `parents` are places in `tokens`, -1 the prefix."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]

    def child(self, parent: int, token: int) -> int | None:
        """Where `token` stands among the children of `parent`, or None."""
        nodes = zip(self.parents, self.tokens, strict=True)
        return next((place for place, node in enumerate(nodes) if node == (parent, token)), None)

    def path(self, place: int) -> tuple[int, ...]:
        """Places from the first level down to `place`."""
        return () if place < 0 else (*self.path(self.parents[place]), place)


class Prefix(Protocol):
    """The part of a request that content depends on."""

    @property
    def index(self) -> int:
        """Number of the request in the workload; it keys the noise."""
        ...

    @property
    def conversation(self) -> int:
        """Number of the conversation; it keys the caches."""
        ...

    @property
    def tokens(self) -> Sequence[int]:
        """Every token of the conversation so far, prompt and committed answer."""
        ...


class LogitsSource(Protocol):
    """Where tokens come from: real networks, a transcript, or chance."""

    def prompt(self, conversation: int, turn: int, before: Sequence[int]) -> Prompt:
        """What asks turn `turn` (from 0) of a conversation whose tokens so far are `before`; turns come in order."""
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
        """The tokens as words, special tokens left out."""
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
    """What a source of real networks can do besides: propose and verify token trees."""

    def draft_tree(self, prefix: Prefix, branches: Sequence[int]) -> TokenTree:
        """The draft's likeliest continuations: `branches[d]` children for every node of depth d."""
        ...

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        """The path that stands, as a draft of its own, and the target's token after it."""
        ...


class Relay:
    """A source in front of another: it passes every question on, but those that its kind answers itself."""

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

    def draft_tree(self, prefix: Prefix, branches: Sequence[int]) -> TokenTree:
        return self.grower.draft_tree(prefix, branches)

    def verify_tree(self, prefix: Prefix, tree: TokenTree) -> tuple[Draft, Verdict]:
        return self.grower.verify_tree(prefix, tree)

    @property
    def grower(self) -> TreeSource:
        """The source behind, where it knows token trees."""
        assert isinstance(self.source, TreeSource), "trees are for live logits"
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


def without_end(before: Sequence[int], ends: Callable[[int], bool]) -> int:
    """How many tokens of a conversation stand before the next question, which brings the end of the answer itself."""
    return len(before) - (1 if before and ends(before[-1]) else 0)


def shared_prefix(held: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens two sequences share from the start."""
    limit = min(len(held), len(tokens))
    if list(held[:limit]) == list(tokens[:limit]):
        return limit
    return next(index for index in range(limit) if held[index] != tokens[index])
