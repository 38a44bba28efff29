"""`rounds.csv`, `requests.csv`, `turns.csv`: a row per round, request and turn of both runs, exact to the nanosecond.

Times are in milliseconds. `draft_ms` to `waste_ms` are the parts that `parts.py` defines: of a request they make
`request_latency_ms`; of a round the time since the delivery before it (round 0, which reads the question, since the
request arrived), so that the rounds of a request sum to it.
"""

from __future__ import annotations

from collections.abc import Iterator

from hilsim.measure.parts import LOSSES, Parts, added, requests_in_parts
from hilsim.show.table import Table
from hilsim.sim.trace import Trace, TurnRecord
from hilsim.units import NS_PER_MS

SPENT = tuple(f"{name}_ms" for name in LOSSES)
ROUNDS = ("run", "request", "round", "start_ms", "end_ms", "delivered_ms", "drafted", "accepted", "emitted", *SPENT)
REQUESTS = (
    "run", "request", "conversation", "turn", "arrived_ms", "finished_ms", "prompt_tokens", "output_tokens", "finish",
    "request_latency_ms", *SPENT,
)  # fmt: skip
SPANS = (
    "run", "track", "kind", "start_ms", "end_ms", "request", "round", "asked_ms", "done_ms", "rows", "width", "bytes",
    "cached", "position",
)  # fmt: skip
INSTANTS = ("wanted", "spoke", *(name.removesuffix("_ns") for name in TurnRecord._fields[4:13]))
TURNS = (
    "run", "turn", "passenger", "request", "outcome", *(f"{name}_ms" for name in INSTANTS), "gaps", "gap_ms",
    "interrupted_ms", "silent_ms", "freed_ms", "heard_tokens",
)  # fmt: skip
Row = tuple[str | int, ...]


def rounds_table(*runs: Trace | None) -> Table:
    """The rounds of each run; None for a run that did not take place."""
    return Table(ROUNDS, [row for trace in runs if trace is not None for row in round_rows(trace)])


def requests_table(*runs: Trace | None) -> Table:
    """The requests of each run."""
    return Table(REQUESTS, [row for trace in runs if trace is not None for row in request_rows(trace)])


def spans_table(*runs: Trace | None) -> Table:
    """The spans of each run: what occupied which unit or direction of a link, and when (see `sim.trace.Span`)."""
    return Table(SPANS, [row for trace in runs if trace is not None for row in span_rows(trace)])


def turns_table(*runs: Trace | None) -> Table:
    """The turns of passengers of each run, by their instants; empty where one was not reached."""
    return Table(TURNS, [row for trace in runs if trace is not None for row in turn_rows(trace)])


def turn_rows(trace: Trace) -> Iterator[Row]:
    """The turns of one run, in the order in which they ended."""
    for turn in trace.turns:
        instants = [reached_ms(getattr(turn, f"{name}_ns")) for name in INSTANTS]
        gap_ns = sum(end - begin for begin, end in turn.gaps)
        ends = map(reached_ms, (turn.interrupted_ns, turn.silent_ns, turn.freed_ns))
        numbers = (trace.policy, turn.number, turn.passenger, turn.request, turn.outcome)
        yield (*numbers, *instants, len(turn.gaps), exact_ms(gap_ns), *ends, turn.heard_tokens)


def reached_ms(instant_ns: int) -> str:
    """An instant in milliseconds, "" where it was not reached."""
    return "" if instant_ns < 0 else exact_ms(instant_ns)


def span_rows(trace: Trace) -> Iterator[Row]:
    """The spans of one run, in the order in which they ended; a step of a batch has a row for each of its sessions."""
    for one in (mine for span in trace.spans for mine in span.each):
        start, end, asked, done = map(exact_ms, (one.start_ns, one.end_ns, one.asked_ns, one.done_ns))
        sizes = (one.rows, one.width, one.nbytes, one.cached, one.position)
        yield (trace.policy, one.track, one.kind, start, end, one.request, one.round, asked, done, *sizes)


def round_rows(trace: Trace) -> Iterator[Row]:
    """The rounds of one run, request by request."""
    for _, rounds in requests_in_parts(trace):
        for closed, parts in rounds:
            yield (
                trace.policy,
                closed.request,
                closed.number,
                *map(exact_ms, (closed.start_ns, closed.end_ns, closed.delivered_ns)),
                closed.drafted,
                closed.accepted,
                closed.emitted,
                *spent(parts),
            )


def request_rows(trace: Trace) -> Iterator[Row]:
    """The requests of one run, in the order in which they ended."""
    for record, rounds in requests_in_parts(trace):
        yield (
            trace.policy,
            record.number,
            record.conversation,
            record.turn,
            *map(exact_ms, (record.arrived_ns, record.finished_ns)),
            record.prompt_tokens,
            record.output_tokens,
            record.finish,
            exact_ms(record.finished_ns - record.arrived_ns),
            *spent(added(parts for _, parts in rounds)),
        )


def spent(parts: Parts) -> Iterator[str]:
    """The five parts as cells."""
    return map(exact_ms, parts.losses().values())


def exact_ms(nanoseconds: int) -> str:
    """Milliseconds with all six decimals that nanoseconds have."""
    whole, rest = divmod(abs(nanoseconds), NS_PER_MS)
    return f"{'-' if nanoseconds < 0 else ''}{whole}.{rest:06d}"
