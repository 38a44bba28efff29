"""Splits a request's time by what it was spent on: the one account behind `lost_ms`, `requests.csv` and `rounds.csv`.

Every nanosecond from a request's arrival to its last token is given to the first of these that was going on for it:

| part     | what was going on                                                                                      |
| verify   | a step of the target: reading the question, plain steps, verify steps as far as their rows were needed |
| verify   | a network that looks at the question before the target does; the call of a tool                        |
| waste    | a verify step's share for unneeded rows: padding up to the graph's width, rejected drafts              |
| draft    | a step of the draft: reading the question, drafting tokens that were committed                         |
| waste    | a step of the draft for a token that was discarded                                                     |
| transfer | a message between its first byte on the wire and its arrival                                           |
| wait     | a unit wakes up or changes its graph (`between_passes`)                                                |
| wait     | nothing: queueing for a unit or the wire behind other requests, handshakes, faults of a board, a tool  |

So the parts add up to the whole exactly, and what hides behind a step of the target costs nothing. A round has the time
since the delivery before it (round 0 since arrival); rounds add up to requests, requests to the run.

A verify step would have taken a plain step's time for one row. What it took beyond that goes to its other rows alike,
so padding that costs nothing, where weights bound the step, is no waste. A step of a batch goes to each of its sessions
in full, as each waits for all of it; the rows of the others are no waste.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from hilsim.sim.trace import RequestRecord, Round, Span, Trace

LOSSES = ("draft", "transfer", "verify", "wait", "waste")
# Leaves of the account, the first that is going on counts; what is left is waiting.
READING, VERIFYING, UNUSED_ROWS, DRAFTING, THROWN_AWAY, UNDER_WAY, BETWEEN, WAITING = range(8)


class Parts(NamedTuple):
    """Nanoseconds by what they were spent on; together they are all of the time in question."""

    reading: int = 0  # the target, and networks beside it, read the question
    verifying: int = 0  # its plain steps, and verify steps without unneeded rows
    unused_rows: int = 0
    drafting: int = 0
    thrown_away: int = 0
    transfer: int = 0
    between_passes: int = 0  # units wake up and change graphs
    wait: int = 0

    @property
    def total(self) -> int:
        return sum(self)

    def losses(self) -> dict[str, int]:
        """The five parts of the contract."""
        waste, verify = self.unused_rows + self.thrown_away, self.reading + self.verifying
        wait = self.between_passes + self.wait
        return dict(zip(LOSSES, (self.drafting, self.transfer, verify, wait, waste), strict=True))


InParts = tuple[RequestRecord, list[tuple[Round, Parts]]]  # a request, and its rounds with what each was spent on
Account = Sequence[InParts]


def added(parts: Iterable[Parts]) -> Parts:
    """The sum, part by part."""
    return Parts(*map(sum, zip(Parts(), *parts, strict=True)))


def requests_in_parts(trace: Trace) -> Iterator[InParts]:
    """Every request of a run, and its rounds in order with what each was spent on."""
    spans, rounds = defaultdict(list), defaultdict(list)
    for span in trace.spans:
        for mine in span.each:
            spans[mine.request].append(mine)
    for closed in trace.rounds:
        rounds[closed.request].append(closed)
    for record in trace.requests:
        own = rounds[record.number]
        windows = windows_in_parts(record, own, spans[record.number])
        yield record, list(zip(own, windows, strict=True))


def windows_in_parts(record: RequestRecord, rounds: Sequence[Round], spans: Sequence[Span]) -> list[Parts]:
    """By round, the parts in ns of the time from the delivery before it to its own."""
    first, last = record.arrived_ns, record.finished_ns
    changes: list[tuple[int, int, int]] = []  # (instant, leaf, +1 or -1)
    for start, end, leaf in occupations(rounds, spans):
        start, end = max(start, first), min(end, last)
        if start < end:
            changes += [(start, leaf, 1), (end, leaf, -1)]
    changes.sort()
    going_on, found, now, change = [0] * WAITING, [], first, 0
    for closed in rounds:
        spent = [0] * len(Parts._fields)
        while now < closed.delivered_ns:
            while change < len(changes) and changes[change][0] <= now:
                going_on[changes[change][1]] += changes[change][2]
                change += 1
            until = min(closed.delivered_ns, changes[change][0] if change < len(changes) else last)
            leaf = next((leaf for leaf in range(WAITING) if going_on[leaf]), WAITING)
            spent[leaf] += until - now
            now = until
        found.append(Parts(*spent))
    return found


def occupations(rounds: Sequence[Round], spans: Sequence[Span]) -> Iterator[tuple[int, int, int]]:
    """The occupations of one request: start and end in nanoseconds, and leaf."""
    by_number = {closed.number: closed for closed in rounds}
    whole = whole_steps(spans)
    committed = committed_steps(rounds, spans, whole)
    for span in spans:
        match span.kind:
            case "prefill" | "network" | "tool call":
                yield span.start_ns, span.end_ns, READING
            case "decode" | "verify":
                unused = unused_ns(span, by_number.get(span.round), whole.get(id(span), ()))
                yield span.start_ns, span.end_ns - unused, VERIFYING
                yield span.end_ns - unused, span.end_ns, UNUSED_ROWS
            case "draft prefill":
                yield span.start_ns, span.end_ns, DRAFTING
            case "draft":
                yield span.start_ns, span.end_ns, DRAFTING if id(span) in committed else THROWN_AWAY
            case "wake" | "switch":
                yield span.start_ns, span.end_ns, BETWEEN
            case "fault":
                pass  # a board that does not answer does nothing
            case "audio" | "text":
                pass  # between other stages of the spoken turn
            case _ if not span.rows:  # a message; other work of a turn, such as its speech, goes on beside the answer
                yield span.start_ns, span.done_ns, UNDER_WAY


def whole_steps(spans: Sequence[Span]) -> dict[int, list[Span]]:
    """The steps that gave their unit up in between: all spans of each, by the `id` of the one that completes it."""
    found: dict[int, list[Span]] = {}
    begun: dict[tuple[str, int, int, int], list[Span]] = defaultdict(list)
    for span in spans:
        step = span.kind, span.round, span.cached, span.position
        if not span.rows and span.kind in ("decode", "verify", "draft"):
            begun[step].append(span)
        elif step in begun:
            found[id(span)] = [*begun.pop(step), span]
    return found


def unused_ns(span: Span, closed: Round | None, pieces: Sequence[Span] = ()) -> int:
    """Nanoseconds of a verify step spent on padded rows and on rejected drafts; of one in pieces, of its last one."""
    if closed is None or span.width <= 1:
        return 0
    pending = closed.position - span.cached
    fed = span.rows - pending
    unused = span.width - pending - min(fed, closed.kept_drafts)
    computed = span.width + sum(fellow.width for fellow in span.fellows)
    last_ns = span.end_ns - span.start_ns
    took_ns = sum(piece.end_ns - piece.start_ns for piece in pieces) or last_ns
    return min(last_ns, max(0, took_ns - closed.single_ns) * unused // (computed - 1))


def committed_steps(rounds: Sequence[Round], spans: Sequence[Span], whole: Mapping[int, Sequence[Span]]) -> set[int]:
    """The draft steps (by `id`) whose token became part of the answer: the last at its position before the verdict."""
    by_position: dict[int, list[Span]] = defaultdict(list)
    for span in spans:
        if span.kind == "draft" and span.rows:
            by_position[span.position].append(span)
    committed: set[int] = set()
    for closed in rounds:
        for position in range(closed.position, closed.position + closed.kept_drafts):
            made = [span for span in by_position[position] if span.end_ns <= closed.end_ns]
            for step in made[-1:]:
                committed.update(id(piece) for piece in whole.get(id(step), (step,)))
    return committed
