"""`rounds.csv`: one row per round of both runs, times in milliseconds exact to the nanosecond, no text.

Round 0 of a request is the prefill that makes its first token. `draft_ms`, `transfer_ms`, `verify_ms` (any step of the
target: prefill, decode or verify) and `wait_ms` are the parts of a round that `parts.py` defines, and make its length.
Over the speculative run, `draft_ms`, `transfer_ms` and `wait_ms` sum to the `lost_ms` of the same names, `waste` being
in `draft_ms`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO

from hilsim.show.parts import rounds_in_parts
from hilsim.sim.trace import Trace
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


def write_rounds(file: TextIO, baseline: Trace, speculative: Trace | None) -> None:
    """Write the rounds of the target alone, then those with speculation, if there are any."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for trace in (baseline, speculative):
        if trace is not None:
            writer.writerows(rows(trace))


def rows(trace: Trace) -> Iterator[tuple[str | int, ...]]:
    """The rows of one run, in the order in which its rounds closed."""
    for closed, parts in rounds_in_parts(trace):
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


def exact_ms(nanoseconds: int) -> str:
    """Milliseconds with all six decimals that nanoseconds have."""
    whole, rest = divmod(abs(nanoseconds), NS_PER_MS)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{rest:06d}"
