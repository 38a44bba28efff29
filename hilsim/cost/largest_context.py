"""The longest context that a placement has room for, and what stops it there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hilsim.cost.memory import AS_GIVEN, NEEDS_LEAST, NEEDS_MOST, FigureReading, ledgers
from hilsim.cost.published import limit_text, published_for
from hilsim.describe.setup import Setup


@dataclass(frozen=True)
class Largest:
    """The longest context that fits, and what stops it there: a memory, a model's own limit or a published one.

    `least` and `most` are the same with every figure of the memories at the end of its range that needs the most, and
    the least, and every assumed yes or no likewise.
    """

    tokens: int
    stopped_by: str
    least: int
    most: int


def largest_context(setup: Setup) -> Largest:
    """The longest `context_tokens` that published limits allow and for which every ledger fits; 0 where none does."""
    longest, why = min(context_limits(setup), key=lambda limit: limit[0])

    def overflowing(tokens: int, of: FigureReading) -> list[str]:
        return [chip for chip, ledger in ledgers(setup, of, tokens).items() if not ledger.fits]

    def longest_in(of: FigureReading) -> tuple[int, str]:
        if not overflowing(longest, of):
            return longest, why
        fits, breaks = 0, longest
        while breaks - fits > 1:
            middle = (fits + breaks) // 2
            fits, breaks = (fits, middle) if overflowing(middle, of) else (middle, breaks)
        return fits, f"the memory of {' and '.join(overflowing(breaks, of))}"

    tokens, stopped_by = longest_in(AS_GIVEN)
    return Largest(tokens, stopped_by, longest_in(NEEDS_MOST)[0], longest_in(NEEDS_LEAST)[0])


def context_limits(setup: Setup) -> Iterator[tuple[int, str]]:
    """What bounds a context before any memory does: of each role the model's own limit, and published ones."""
    for placed in setup.roles.values():
        yield placed.model.architecture.context, f"{placed.model.name} has no longer one"
        for limit in published_for(placed):
            if limit.context is not None:
                yield (
                    round(limit.context.si),
                    f"a published limit: {limit_text(limit, placed)} ({limit.context.source})",
                )
