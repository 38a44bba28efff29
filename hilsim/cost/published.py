"""Limits that makers publish for a class of models on a unit: which apply to a placed model, and which it exceeds."""

from __future__ import annotations

from hilsim.cost.counts import parameters
from hilsim.describe.chip import PublishedLimit
from hilsim.describe.setup import Placed


def published_for(placed: Placed) -> list[PublishedLimit]:
    """The published limits of the unit whose class of models this one belongs to."""
    size = parameters(placed.model) / 1e9
    return [
        limit
        for limit in placed.unit.published_limits
        if limit.parameters[0] <= size <= limit.parameters[1]
        and (not limit.precisions or placed.precision in limit.precisions)
    ]


def exceeded(placed: Placed, context: int) -> list[PublishedLimit]:
    """Those that the model breaks with this context."""
    return [limit for limit in published_for(placed) if breaks(limit, context)]


def breaks(limit: PublishedLimit, context: int) -> bool:
    """Whether a model of the limit's class breaks it with this context."""
    if limit.context is not None:
        return context > limit.context.si
    return limit.supported is not None and not limit.supported.value


def source_of(limit: PublishedLimit) -> str:
    """Where a limit is published."""
    figure = limit.context or limit.supported
    return "" if figure is None else figure.source


def limit_text(limit: PublishedLimit, placed: Placed) -> str:
    """A limit in words: the class of models, and what is published of it."""
    return f"{class_words(limit)} on {placed.track} {limit_words(limit)}"


def class_words(limit: PublishedLimit) -> str:
    """The class of models that a limit is about."""
    low, high = limit.parameters
    formats = f" in {' or '.join(limit.precisions)}" if limit.precisions else ""
    return f"models of {low:g} to {high:g} thousand million parameters{formats}"


def limit_words(limit: PublishedLimit) -> str:
    """What is published of them."""
    if limit.context is not None:
        return f"have at most {limit.context.si:,.0f} context tokens"
    return "are supported" if limit.supported is not None and limit.supported.value else "are not supported"
