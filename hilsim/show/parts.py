"""What the length of a round was spent on: the one account behind `lost_ms` and `rounds.csv`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hilsim.sim.trace import Round, Span, Trace


class Parts(NamedTuple):
    """Nanoseconds of one round; together they are its length."""

    draft: int  # the draft's steps
    transfer: int  # messages that the round stood still for, from the first byte sent to arrival
    target: int  # the target's step: prefill, decode or verify
    wait: int  # the rest: queueing for a unit or the wire, or for the draft to read the question


def rounds_in_parts(trace: Trace) -> Iterator[tuple[Round, Parts]]:
    """Every round of a run, in the order in which they closed, with what it was spent on."""
    spans: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in trace.spans:
        spans[span.request, span.round].append(span)
    for closed in trace.rounds:
        yield closed, parts_of(closed, spans[closed.request, closed.number])


def parts_of(closed: Round, spans: Sequence[Span]) -> Parts:
    """What one round was spent on, given the spans that belong to it."""

    def total(*kinds: str) -> int:
        return sum(span.done_ns - span.start_ns for span in spans if span.kind in kinds)

    # The target reads while the question is on its way to the draft, but not while it is on its way to the target.
    asked = min((span.asked_ns for span in spans if span.kind == "prefill"), default=closed.start_ns)
    told = sum(span.done_ns - span.start_ns for span in spans if span.kind == "prompt" and span.done_ns <= asked)
    draft, transfer, target = total("draft"), told + total("drafts", "verdict"), total("prefill", "decode", "verify")
    return Parts(draft, transfer, target, closed.end_ns - closed.start_ns - draft - transfer - target)
