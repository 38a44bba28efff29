"""Which part of an answer's text was drafted, and which is the target's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hilsim.sim.trace import Round

TextOf = Callable[[Sequence[int]], str]


def stretches(closed: Round, text: str, text_of: TextOf) -> Iterator[tuple[str, bool]]:
    """The text of a round in two stretches: what was drafted and stood, then the target's own."""
    drafted = ""
    if closed.kept_drafts:
        # A character may need bytes from both sides of the cut; it then belongs to the target's token.
        drafted = text_of(closed.tokens[: closed.kept_drafts]).rstrip("\N{REPLACEMENT CHARACTER}")
    cut = len(drafted) if text.startswith(drafted) else 0
    if closed.kept_drafts == closed.emitted:
        cut = len(text)
    yield text[:cut], True
    yield text[cut:], False
