"""`rounds.csv`: one row per round of both runs, times in milliseconds exact to the nanosecond, no text.

Round 0 of a request is the prefill that makes its first token. `draft_ms`, `transfer_ms` and `verify_ms` are sums over
the round's spans (transfer to the arrival, verify any step of the target: prefill, decode or verify); `wait_ms` is the
rest of the round. The draft reads the question while the target does: in round 0 only what outlasts the target waits.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from typing import TextIO

from hilsim.sim.trace import Round, Span, Trace
from hilsim.units import NS_PER_MS

COLUMNS = (
    "run",
    "request",
    "round",
    "start_ms",
    "end_ms",
    "delivered_ms",
    "drafted",
    "accepted",
    "emitted",
    "draft_ms",
    "transfer_ms",
    "verify_ms",
    "wait_ms",
)
TARGET = ("prefill", "decode", "verify")


def write_rounds(file: TextIO, baseline: Trace, speculative: Trace | None) -> None:
    """Write the rounds of the target alone, then those with speculation, if there are any."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for trace in (baseline, speculative):
        if trace is not None:
            writer.writerows(rows(trace))


def rows(trace: Trace) -> Iterator[tuple[str | int, ...]]:
    """The rows of one run, in the order in which its rounds closed."""
    spans: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in trace.spans:
        spans[span.request, span.round].append(span)
    for closed in trace.rounds:
        parts = durations(closed, spans[closed.request, closed.number])
        yield (
            trace.policy,
            closed.request,
            closed.number,
            *map(exact_ms, (closed.start_ns, closed.end_ns, closed.delivered_ns)),
            closed.drafted,
            closed.accepted,
            closed.emitted,
            *map(exact_ms, parts),
        )


def durations(closed: Round, spans: list[Span]) -> tuple[int, int, int, int]:
    """Nanoseconds of a round in drafting, in transfer, in the target's step, and the rest."""

    def total(kinds: tuple[str, ...]) -> int:
        return sum(span.done_ns - span.start_ns for span in spans if span.kind in kinds)

    draft, target = total(("draft",)), total(TARGET)
    # A prompt on its way to the draft is nobody's wait: the target reads meanwhile. One to the target holds it up.
    asked = min((span.asked_ns for span in spans if span.kind == "prefill"), default=closed.start_ns)
    prompts = sum(span.done_ns - span.start_ns for span in spans if span.kind == "prompt" and span.done_ns <= asked)
    transfer = total(("drafts", "verdict")) + prompts
    return draft, transfer, target, max(0, closed.end_ns - closed.start_ns - draft - transfer - target)


def exact_ms(nanoseconds: int) -> str:
    """Milliseconds with all six decimals that nanoseconds have."""
    whole, rest = divmod(abs(nanoseconds), NS_PER_MS)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{rest:06d}"
