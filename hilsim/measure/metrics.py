"""Metrics: pure functions of a trace. Every one is defined here by named instants, in the field's own words.

| metric                   | definition                                                                          |
| time_to_first_token_ms   | first token delivered - request arrived                                             |
| time_to_first_clause_ms  | token that completes the first clause delivered - request arrived                   |
| inter_token_latency_ms   | gaps between delivered tokens; tokens of one verdict arrive together, so many are 0 |
| round_gap_ms             | gaps between deliveries                                                             |
| time_per_output_token_ms | (last token - first token delivered) / (tokens - 1), per request                    |
| request_latency_ms       | last token delivered - request arrived                                              |
| output_token_throughput  | tokens / seconds in which at least one request was being answered                   |
| units.*.busy             | share of those seconds in which the unit was occupied                               |
| links.*.busy             | the same of a link's direction, as the mean over both                               |
| energy_j_per_answer      | energy_j / requests                                                                 |
| energy_j                 | idle power of the chips in use over those seconds, active power over busy ones      |
| draft_acceptance_rate    | accepted / drafted                                                                  |
| mean_acceptance_length   | 1 + accepted / drafts, as if every verify brought a token of the target's own       |
| tokens_per_round         | "tokens a round": tokens delivered / rounds, the target's own among them, without   |
|                          | the round that reads the question and its first token; plain steps are rounds, and  |
|                          | a last round counts with what the answer's end left of it                           |
| num_draft_tokens         | drafts that were verified; those thrown away before are in `thrown_away` of waste   |

`lost_ms` splits the time of all requests into draft, transfer, verify, wait and waste, as `parts.py` defines them; the
parts sum to the time of the requests exactly, and the target alone has the same account. `of_which_ms` tells what is in
them: `reading` of verify (the target reads the question), `unused_rows` and `thrown_away` of waste.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from hilsim.describe.chip import Chip
from hilsim.describe.link import Link
from hilsim.measure.parts import added, requests_in_parts
from hilsim.sim.trace import RequestRecord, Round, Span, Trace
from hilsim.units import NS_PER_S, ms

TIE = 1e-4
Headline = dict[str, float]


def statistics(values: Iterable[float]) -> dict[str, float] | None:
    """Mean and percentiles (linear between ranks), or None where there is nothing to count."""
    numbers = np.fromiter(values, dtype=np.float64)
    if not len(numbers):
        return None
    p50, p90, p99 = np.percentile(numbers, [50, 90, 99])
    return {"mean": float(numbers.mean()), "p50": float(p50), "p90": float(p90), "p99": float(p99)}


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
        """How much of it lies before an instant."""
        last = bisect_right(self.starts, instant_ns) - 1
        return 0 if last < 0 else self.before[last] + min(instant_ns, self.ends[last]) - self.starts[last]

    def within(self, span: Span) -> int:
        """How much of it lies within a span."""
        return self.until(span.end_ns) - self.until(span.start_ns)


def busy_ns(spans: Iterable[Span], active: Active) -> dict[str, int]:
    """Occupied time by track, as far as a request was being answered."""
    busy: dict[str, int] = defaultdict(int)
    for span in spans:
        busy[span.track] += active.within(span)
    return dict(busy)


def deliveries(trace: Trace) -> dict[int, list[Round]]:
    """The rounds of each request in order."""
    found: dict[int, list[Round]] = defaultdict(list)
    for closed in trace.rounds:
        found[closed.request].append(closed)
    return found


def token_instants(rounds: Sequence[Round]) -> list[int]:
    """When each token of a request was delivered."""
    return [closed.delivered_ns for closed in rounds for _ in range(closed.emitted)]


def timing(trace: Trace, chips: dict[str, Chip], link: Link | None) -> dict[str, Any]:
    """The block of metrics that target-only and speculative runs share."""
    rounds = deliveries(trace)
    finished = [request for request in trace.requests if request.output_tokens]
    instants = {request.number: token_instants(rounds[request.number]) for request in finished}
    answering = Active(trace.requests)
    active, busy = answering.total_ns, busy_ns(trace.spans, answering)
    tokens = sum(request.output_tokens for request in finished)
    energy = energy_j(trace, chips, link, busy, active)

    def share(track: str) -> float:
        return busy.get(track, 0) / active if active else 0.0

    links: dict[str, Any] = {}
    if link is not None and trace.directions:
        sent = {way: sum(span.nbytes for span in trace.spans if span.track == way) for way in trace.directions}
        up, down = trace.directions
        links[link.name] = {"bytes_up": sent[up], "bytes_down": sent[down], "busy": (share(up) + share(down)) / 2}
    return {
        "time_to_first_token_ms": statistics(
            ms(instants[request.number][0] - request.arrived_ns) for request in finished
        ),
        "time_to_first_clause_ms": statistics(
            ms(instants[request.number][request.clause_tokens - 1] - request.arrived_ns) for request in finished
        ),
        "inter_token_latency_ms": statistics(
            ms(gap) for times in instants.values() for gap in np.diff(np.array(times, dtype=np.int64)).tolist()
        ),
        "round_gap_ms": statistics(
            ms(later.delivered_ns - earlier.delivered_ns)
            for series in rounds.values()
            for earlier, later in pairwise(series)
        ),
        "time_per_output_token_ms": statistics(
            ms(times[-1] - times[0]) / (len(times) - 1) for times in instants.values() if len(times) > 1
        ),
        "request_latency_ms": statistics(ms(request.finished_ns - request.arrived_ns) for request in finished),
        "requests": len(trace.requests),
        "skipped_turns": trace.skipped_turns,
        "output_tokens": tokens,
        "output_token_throughput": tokens * NS_PER_S / active if active else 0.0,
        "energy_j": energy,
        "energy_j_per_answer": energy / len(trace.requests) if trace.requests else 0.0,
        "links": links,
        "units": {track: {"busy": share(track)} for track in trace.units},
        **where_time_went(trace),
    }


def energy_j(trace: Trace, chips: dict[str, Chip], link: Link | None, busy: dict[str, int], active: int) -> float:
    """Joules while answering: idle power of every chip in use, active power of its units and of the link."""
    energy = 0.0
    for name in dict.fromkeys(track.split(".", 1)[0] for track in trace.units):
        energy += chips[name].idle_power.si * active / NS_PER_S
    for track in trace.units:
        chip, unit = track.split(".", 1)
        energy += chips[chip].units[unit].active_power.si * busy.get(track, 0) / NS_PER_S
    if link is not None and link.active_power is not None:
        energy += sum(link.active_power.si * busy.get(way, 0) / NS_PER_S for way in trace.directions)
    return energy


def tokens_a_round(emitted: int, rounds: int) -> float:
    """The one definition of tokens a round: what rounds after the first delivered, over their number; 1 where none is.

    `mean_acceptance_length` is another number: it counts drafts alone, and a last round as if its answer went on.
    """
    return emitted / rounds if rounds else 1.0


def speculation(trace: Trace) -> dict[str, Any]:
    """What only a speculative run has: drafts, acceptance, and where the time went."""
    drafted = [closed for closed in trace.rounds if closed.drafted]
    later = [closed for closed in trace.rounds if closed.number]
    emitted = sum(closed.emitted for closed in later)
    tokens, accepted = sum(r.drafted for r in drafted), sum(r.accepted for r in drafted)
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
        "draft_acceptance_rate": accepted / tokens if tokens else 0.0,
        "tokens_per_round": tokens_a_round(emitted, len(later)),
        "mean_acceptance_length": 1 + accepted / len(drafted) if drafted else 1.0,
    }


def where_time_went(trace: Trace) -> dict[str, Any]:
    """`lost_ms` by cause over all requests, and what is in its parts."""
    spent = added(parts for _, rounds in requests_in_parts(trace) for _, parts in rounds)
    inside = ("reading", "unused_rows", "thrown_away")
    return {
        "lost_ms": {cause: ms(ns) for cause, ns in spent.losses().items()},
        "of_which_ms": {name: ms(getattr(spent, name)) for name in inside},
    }


def by_request(trace: Trace) -> list[dict[str, Any]]:
    """Each request's time and what it was spent on."""
    return [
        {
            "request": record.number,
            "conversation": record.conversation,
            "turn": record.turn,
            "output_tokens": record.output_tokens,
            "request_latency_ms": ms(record.finished_ns - record.arrived_ns),
            "lost_ms": {name: ms(ns) for name, ns in added(parts for _, parts in rounds).losses().items()},
        }
        for record, rounds in requests_in_parts(trace)
    ]


def compare_texts(baseline: Trace, speculative: Trace) -> dict[str, Any]:
    """Token by token against the target alone: `checked_tokens`, `mismatches`, and which of those are last-bit ties.

    A conversation is compared up to its first difference: what follows answers another history. A difference whose
    decision had a margin below 1e-4 in either run is a numerical tie of batched against single-row float arithmetic.
    """
    checked = mismatches = ties = not_compared = 0
    divergences: list[dict[str, Any]] = []
    conversations = {request.number: request.conversation for request in baseline.requests}
    parted: set[int] = set()
    ours, theirs = deliveries(speculative), deliveries(baseline)
    for number in sorted(theirs):
        expected = [pair for r in theirs[number] for pair in zip(r.tokens, r.margins, strict=True)]
        found = [pair for r in ours.get(number, []) for pair in zip(r.tokens, r.margins, strict=True)]
        if conversations[number] in parted:
            not_compared += len(expected)
            continue
        same = next((i for i, (a, b) in enumerate(zip(expected, found, strict=False)) if a[0] != b[0]), None)
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
    """Request time of the target alone over request time with speculation, summed over the same requests."""

    def total(trace: Trace) -> int:
        return sum(request.finished_ns - request.arrived_ns for request in trace.requests)

    return total(baseline) / total(speculative) if total(speculative) else 1.0


def headline_numbers(baseline: Trace, speculative: Trace | None, chips: dict[str, Chip], link: Link | None) -> Headline:
    """The few numbers that a deployment is judged by: of the policy's run, and the speed-up over the target alone."""
    found = timing(speculative or baseline, chips, link)
    numbers = {} if speculative is None else {"speedup": speedup(baseline, speculative)}
    for name in ("time_to_first_token_ms", "time_to_first_clause_ms", "request_latency_ms"):
        if found[name] is not None:
            numbers[f"{name} p50"] = found[name]["p50"]
    return numbers | {name: found[name] for name in ("output_token_throughput", "energy_j")}
