"""A setup with figures that are tried out: another link, a draft of any speed. It is not loaded and checked again."""

from __future__ import annotations

from dataclasses import replace

from hilsim.describe.figure import Figure
from hilsim.describe.placement import TableTimer
from hilsim.describe.setup import Setup


def with_link(setup: Setup, bytes_s: float, latency_s: float) -> Setup:
    """The setup over a link of such a rate and one-way delay, and with no other cost of a message."""
    assert setup.link is not None
    latency = {"message_overhead": what_if(0.0, "s"), "propagation": what_if(latency_s, "s"), "jitter": None}
    return with_rate(replace(setup, link=setup.link.model_copy(update=latency)), bytes_s)


def with_rate(setup: Setup, bytes_s: float) -> Setup:
    """The setup over its own link at another rate."""
    assert setup.link is not None
    return replace(setup, link=setup.link.model_copy(update={"rate": what_if(bytes_s, "B/s")}))


def what_if(value: float, unit: str) -> Figure:
    """A figure that is tried out."""
    return Figure(value=value, unit=unit, kind="assumed", source="what-if")


def with_draft_step(setup: Setup, step_ms: float) -> Setup:
    """The setup with a draft that takes so long for a token, whatever it is, and no time to read."""
    assert setup.draft is not None
    catch_up = "2" if setup.draft.head_kind is None else "1000000"  # rows of its first pass: a head's are all accepted
    table = TableTimer(prefill={"1000000": 0.0}, decode=step_ms, verify={catch_up: step_ms}, source="what-if")
    placement = setup.draft.placement.model_copy(update={"timer": table})
    return replace(setup, draft=replace(setup.draft, placement=placement))
