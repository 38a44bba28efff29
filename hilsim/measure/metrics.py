"""Metrics: pure functions of a trace. `measures.py` defines those that studies use by named instants; besides them:

| metric              | definition                                                                               |
| round_gap_ms        | gaps between deliveries                                                                  |
| units.*.busy        | share of the seconds in which at least one request was being answered, of a unit's spans |
| links.*.busy        | the same of a link's direction, as the mean over both                                    |
| *.busy_of_run       | with company: share of the whole run, spans of other work included                    |
| energy_j_per_answer | energy_j / requests                                                                      |
| num_draft_tokens    | drafts that were verified; those discarded before are in `thrown_away` of waste          |

`lost_ms` splits the time of all requests into draft, transfer, verify, wait and waste, as `parts.py` defines them; the
parts sum to the time of the requests exactly, and the target alone has the same account. `of_which_ms` is part of
them: `reading` of verify (the target reads the question), `unused_rows` and `thrown_away` of waste, and of wait, where
units wake up or change graphs, `between_passes`. What hides behind other work is not in it; `units.*.between` has all:
how often a unit of such a chip woke up and changed its graph, and the milliseconds.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from hilsim.describe.chip import Chip
from hilsim.describe.link import Link
from hilsim.measure.formulas import (
    Instants,
    acceptance,
    energy_j,
    ratio,
    statistics,
    throughput,
    times_ms,
    tokens_a_round,
)
from hilsim.measure.parts import Account, InParts, added, requests_in_parts
from hilsim.sim.trace import RequestRecord, Round, Span, Trace
from hilsim.units import NS_PER_MS, ms

TIE = 1e-4
Headline = dict[str, float]


def summary(values: npt.NDArray[np.float64]) -> dict[str, float] | None:
    """Mean and percentiles, or None where there is nothing to count."""
    return {name: float(value) for name, value in statistics(values).items()} if len(values) else None


class Active:
    """The time in which at least one request was being answered: disjoint intervals [arrived, finished] in order."""

    def __init__(self, requests: Iterable[RequestRecord]):
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.before: list[int] = []  # nanoseconds in all earlier intervals
        self.total_ns = 0
        for request in sorted(requests, key=lambda record: record.arrived_ns):
            start, end = request.arrived_ns, request.finished_ns
            if not self.ends or start > self.ends[-1]:
                self.starts.append(start)
                self.ends.append(start)
                self.before.append(self.total_ns)
            self.total_ns += max(0, end - self.ends[-1])
            self.ends[-1] = max(end, self.ends[-1])

    def until(self, instant_ns: int) -> int:
        """Nanoseconds of it before an instant."""
        last = bisect_right(self.starts, instant_ns) - 1
        return 0 if last < 0 else self.before[last] + min(instant_ns, self.ends[last]) - self.starts[last]

    def within(self, span: Span) -> int:
        """Nanoseconds of it within a span."""
        return self.until(span.end_ns) - self.until(span.start_ns)


def busy_ns(spans: Iterable[Span], active: Active) -> dict[str, int]:
    """Occupied nanoseconds by track, within the time in which a request was being answered."""
    busy: dict[str, int] = defaultdict(int)
    for span in spans:
        busy[span.track] += active.within(span)
    return dict(busy)


def of_the_run(trace: Trace) -> dict[str, float]:
    """By track, the share of the whole run in which it was occupied, by whatever."""
    held: dict[str, int] = defaultdict(int)
    for span in trace.spans:
        held[span.track] += span.end_ns - span.start_ns
    return {track: held[track] / (trace.end_ns or 1) for track in (*trace.units, *trace.directions)}


def unit_block(trace: Trace, track: str, busy: float, of_run: dict[str, float]) -> dict[str, Any]:
    """What is known of a unit: how busy it was, and what it paid between passes."""
    shares = {"busy": busy} | ({"busy_of_run": of_run[track]} if of_run else {})
    return shares | between_passes(trace, track)


def deliveries(trace: Trace) -> dict[int, list[Round]]:
    """The rounds of each request in order."""
    found: dict[int, list[Round]] = defaultdict(list)
    for closed in trace.rounds:
        found[closed.request].append(closed)
    return found


def token_instants(rounds: Sequence[Round]) -> list[int]:
    """The instant in ns at which each token of a request was delivered."""
    return [closed.delivered_ns for closed in rounds for _ in range(closed.emitted)]


def instants_of(records: Iterable[RequestRecord], rounds: dict[int, list[Round]]) -> Instants:
    """The instants in ns at which requests with an answer arrived, got their first token and finished."""
    rows = []
    for record in records:
        times = token_instants(rounds[record.number])
        clause = times[record.clause_tokens - 1]
        rows.append((record.arrived_ns, times[0], clause, times[-1], record.finished_ns, len(times)))
    return Instants(*np.array(rows, dtype=np.int64).reshape(-1, len(Instants._fields)).T)


def timing(trace: Trace, chips: dict[str, Chip], link: Link | None, account: Account | None = None) -> dict[str, Any]:
    """The block of metrics that target-only and speculative runs share; `account` is of its requests, where at hand."""
    rounds = deliveries(trace)
    finished = [request for request in trace.requests if request.output_tokens]
    gaps = [np.diff(np.array(token_instants(rounds[request.number]), dtype=np.int64)) for request in finished]
    round_gaps = [b.delivered_ns - a.delivered_ns for series in rounds.values() for a, b in pairwise(series)]
    answering = Active(trace.requests)
    active, busy = answering.total_ns, busy_ns(trace.spans, answering)
    busy = {track: busy.get(track, 0) for track in (*trace.units, *trace.directions)}
    share = {track: float(ratio(held, active, 0.0)) for track, held in busy.items()}
    of_run = of_the_run(trace) if trace.turns or trace.tasks or trace.heat else {}
    tokens = sum(request.output_tokens for request in finished)
    wires = [busy[way] for way in trace.directions]
    energy = float(energy_j(chips, link, {track: busy[track] for track in trace.units}, wires, active))
    links: dict[str, Any] = {}
    if link is not None and trace.directions:
        sent = {way: sum(span.nbytes for span in trace.spans if span.track == way) for way in trace.directions}
        up, down = trace.directions
        links[link.name] = {"bytes_up": sent[up], "bytes_down": sent[down], "busy": (share[up] + share[down]) / 2}
        if of_run:
            links[link.name]["busy_of_run"] = (of_run[up] + of_run[down]) / 2
    times = {name: summary(values) for name, values in times_ms(instants_of(finished, rounds)).items()}
    return {
        "time_to_first_token_ms": times["time_to_first_token_ms"],
        "time_to_first_clause_ms": times["time_to_first_clause_ms"],
        "inter_token_latency_ms": summary(np.concatenate([np.zeros(0, np.int64), *gaps]) / NS_PER_MS),
        "round_gap_ms": summary(np.array(round_gaps, dtype=np.int64) / NS_PER_MS),
        "time_per_output_token_ms": times["time_per_output_token_ms"],
        "request_latency_ms": times["request_latency_ms"],
        "requests": len(trace.requests),
        "skipped_turns": trace.skipped_turns,
        "output_tokens": tokens,
        "output_token_throughput": float(throughput(tokens, active)),
        "energy_j": energy,
        "energy_j_per_answer": energy / len(trace.requests) if trace.requests else 0.0,
        "links": links,
        "units": {track: unit_block(trace, track, share[track], of_run) for track in trace.units},
        **where_time_went(requests_in_parts(trace) if account is None else account),
    }


def speculation(trace: Trace) -> dict[str, Any]:
    """The metrics of speculative runs alone: drafts, acceptance, and the time by cause."""
    drafted = [closed for closed in trace.rounds if closed.drafted]
    later = [closed for closed in trace.rounds if closed.number]
    emitted = sum(closed.emitted for closed in later)
    tokens, accepted = sum(r.drafted for r in drafted), sum(r.accepted for r in drafted)
    rates = acceptance(len(drafted), tokens, accepted)
    longest = max((closed.depth for closed in drafted), default=0)
    offered = [sum(closed.depth > place for closed in drafted) for place in range(longest)]
    standing = [sum(closed.accepted > place for closed in drafted) for place in range(longest)]
    reached = [sum(closed.depth > place and closed.accepted >= place for closed in drafted) for place in range(longest)]
    return {
        "num_drafts": len(drafted),
        "num_draft_tokens": tokens,
        "num_accepted_tokens": accepted,
        "num_accepted_tokens_per_pos": standing,
        "num_draft_tokens_per_pos": offered,
        "conditional_acceptance": [good / seen if seen else None for good, seen in zip(standing, reached, strict=True)],
        "draft_acceptance_rate": float(rates["draft_acceptance_rate"]),
        "tokens_per_round": float(tokens_a_round(emitted, len(later))),
        "mean_acceptance_length": float(rates["mean_acceptance_length"]),
    }


def where_time_went(account: Iterable[InParts]) -> dict[str, Any]:
    """`lost_ms` by cause over all requests, and what is in its parts."""
    spent = added(parts for _, rounds in account for _, parts in rounds)
    inside = ["reading", "unused_rows", "thrown_away"] + (["between_passes"] if spent.between_passes else [])
    return {
        "lost_ms": {cause: ms(ns) for cause, ns in spent.losses().items()},
        "of_which_ms": {name: ms(getattr(spent, name)) for name in inside},
    }


def between_passes(trace: Trace, track: str) -> dict[str, Any]:
    """How often a unit woke up and changed its graph, and how long that took; nothing where it never did."""
    spans = [span for span in trace.spans if span.track == track and span.kind in ("wake", "switch")]
    if not spans:
        return {}
    switches = sum(span.kind == "switch" for span in spans)

    def took_ms(kind: str) -> float:
        return ms(sum(span.end_ns - span.start_ns for span in spans if span.kind == kind))

    return {
        "between": {
            "switches": switches,
            "switch_ms": took_ms("switch"),
            "wakes": len(spans) - switches,
            "wake_ms": took_ms("wake"),
        }
    }


def by_request(account: Account) -> list[dict[str, Any]]:
    """Each request's time in ms, in all and by cause."""
    return [
        {
            "request": record.number,
            "conversation": record.conversation,
            "turn": record.turn,
            "output_tokens": record.output_tokens,
            "request_latency_ms": ms(record.finished_ns - record.arrived_ns),
            "lost_ms": {name: ms(ns) for name, ns in added(parts for _, parts in rounds).losses().items()},
        }
        for record, rounds in account
    ]


def compare_texts(baseline: Trace, speculative: Trace) -> dict[str, Any]:
    """Token by token against the target alone: `checked_tokens`, `mismatches`, and which of those are last-bit ties.

    A conversation is compared up to its first difference: what follows continues another history. A difference whose
    decision had a margin below 1e-4 in either run is a numerical tie of batched against single-row float arithmetic.
    An answer that a passenger cut short in either run is compared as far as both go; the history then differs as well.
    """
    checked = mismatches = ties = not_compared = 0
    divergences: list[dict[str, Any]] = []
    conversations = {request.number: request.conversation for request in baseline.requests}
    parted: set[int] = set()
    ours, theirs = deliveries(speculative), deliveries(baseline)
    cut = {turn.request for trace in (baseline, speculative) for turn in trace.turns if turn.outcome != "answered"}
    for number in sorted(theirs):
        expected = [pair for r in theirs[number] for pair in zip(r.tokens, r.margins, strict=True)]
        found = [pair for r in ours.get(number, []) for pair in zip(r.tokens, r.margins, strict=True)]
        if conversations[number] in parted:
            not_compared += len(expected)
            continue
        same = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a[0] != b[0]), None)
        if same is None and (number in cut or (speculative.turns and number not in ours)):
            checked += min(len(expected), len(found))
            not_compared += max(0, len(expected) - len(found))
            parted.add(conversations[number])
            continue
        if same is None and len(expected) != len(found):
            same = min(len(expected), len(found))
        if same is None:
            checked += len(expected)
            continue
        checked += same + 1
        not_compared += max(0, len(expected) - same - 1)
        parted.add(conversations[number])
        margin = min((pair[same][1] for pair in (expected, found) if same < len(pair)), default=math.inf)
        ties += margin < TIE
        mismatches += margin >= TIE
        # JSON has no infinity: a source without margins, or an answer that merely ended earlier, leaves null.
        divergences.append({"request": number, "token": same, "margin": margin if math.isfinite(margin) else None})
    return {
        "checked_tokens": checked,
        "mismatches": mismatches,
        "numerical_ties": ties,
        "not_compared_tokens": not_compared,
        "divergences": divergences,
    }


def speedup(baseline: Trace, speculative: Trace) -> float:
    """Request time of the target alone over request time with speculation, summed over the same requests.

    Answers that a passenger cut short in either run are left out.
    """
    complete = [
        {request.number for request in trace.requests if request.finish != "cut"} for trace in (baseline, speculative)
    ]
    both = complete[0] & complete[1]

    def total(trace: Trace) -> int:
        return sum(request.finished_ns - request.arrived_ns for request in trace.requests if request.number in both)

    return total(baseline) / total(speculative) if total(speculative) else 1.0


def headline_numbers(baseline: Trace, speculative: Trace | None, chips: dict[str, Chip], link: Link | None) -> Headline:
    """The headline numbers of a deployment: of the policy's run, and its speedup over the target alone."""
    found = timing(speculative or baseline, chips, link)
    numbers = {} if speculative is None else {"speedup": speedup(baseline, speculative)}
    for name in ("time_to_first_token_ms", "time_to_first_clause_ms", "request_latency_ms"):
        if found[name] is not None:
            numbers[f"{name} p50"] = found[name]["p50"]
    return numbers | {name: found[name] for name in ("output_token_throughput", "energy_j")}
