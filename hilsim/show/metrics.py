"""Metrics: pure functions of a trace. Every one is defined here by named instants, in the field's own words.

| metric                   | definition                                                                          |
| time_to_first_token_ms   | first token delivered - request arrived                                             |
| time_to_first_clause_ms  | token that completes the first clause delivered - request arrived                   |
| inter_token_latency_ms   | gaps between delivered tokens; tokens of one verdict arrive together, so many are 0 |
| round_gap_ms             | gaps between deliveries                                                             |
| time_per_output_token_ms | (last token - first token delivered) / (tokens - 1), per request                    |
| request_latency_ms       | last token delivered - request arrived                                              |
| output_token_throughput  | tokens / seconds in which at least one request was being answered                   |
| busy                     | share of those seconds in which the unit or direction was occupied                  |
| energy_j                 | idle power of the chips in use over those seconds, active power over busy ones      |
| draft_acceptance_rate    | accepted / drafted                                                                  |
| mean_acceptance_length   | 1 + accepted / drafts: tokens a round, the target's own included                    |

`lost_ms` and `gained_ms` explain a speed-up round by round against plain decode steps of the target (`single`):

    gained   = (emitted - 1) x single              target steps saved
    draft    = drafting time of tokens that were kept
    waste    = drafting time of tokens that were rejected or cut off
    transfer = from the first byte sent to arrival
    verify   = verify step - single
    wait     = the rest of the round: queueing for a unit or the wire, or for the draft to read the question

so that gained minus all losses is what the rounds saved over decoding alone: exactly where a step's time does not
depend on how full the cache is, one conversation runs at a time (with more, the target alone queues as well, which
this account leaves out) and words are wanted on the target's chip.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from hilsim.describe.chip import Chip
from hilsim.describe.link import Link
from hilsim.sim.trace import RequestRecord, Round, Span, Trace
from hilsim.units import NS_PER_S, ms

TIE = 1e-4
DRAFT, TRANSFERS, TARGET = ("draft",), ("prompt", "drafts", "verdict"), ("decode", "verify")


def statistics(values: Iterable[float]) -> dict[str, float] | None:
    """Mean and percentiles (linear between ranks), or None where there is nothing to count."""
    numbers = np.fromiter(values, dtype=np.float64)
    if not len(numbers):
        return None
    p50, p90, p99 = np.percentile(numbers, [50, 90, 99])
    return {"mean": float(numbers.mean()), "p50": float(p50), "p90": float(p90), "p99": float(p99)}


def active_ns(requests: Sequence[RequestRecord]) -> int:
    """Time in which at least one request was being answered."""
    total = end = 0
    for request in sorted(requests, key=lambda record: record.arrived_ns):
        total += max(0, request.finished_ns - max(end, request.arrived_ns))
        end = max(end, request.finished_ns)
    return total


def busy_ns(spans: Iterable[Span]) -> dict[str, int]:
    """Occupied time by track."""
    busy: dict[str, int] = defaultdict(int)
    for span in spans:
        busy[span.track] += span.end_ns - span.start_ns
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
    active = active_ns(trace.requests)
    busy = busy_ns(trace.spans)
    tokens = sum(request.output_tokens for request in finished)

    def share(track: str) -> float:
        return min(1.0, busy.get(track, 0) / active) if active else 0.0

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
        "energy_j": energy_j(trace, chips, link, busy, active),
        "links": links,
        "units": {track: {"busy": share(track)} for track in trace.units},
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


def speculation(trace: Trace) -> dict[str, Any]:
    """What only a speculative run has: drafts, acceptance, and where the time went."""
    drafted = [closed for closed in trace.rounds if closed.drafted]
    tokens, accepted = sum(r.drafted for r in drafted), sum(r.accepted for r in drafted)
    longest = max((closed.drafted for closed in drafted), default=0)
    offered = [sum(closed.drafted > place for closed in drafted) for place in range(longest)]
    standing = [sum(closed.accepted > place for closed in drafted) for place in range(longest)]
    reached = [
        sum(closed.drafted > place and closed.accepted >= place for closed in drafted) for place in range(longest)
    ]
    return {
        "num_drafts": len(drafted),
        "num_draft_tokens": tokens,
        "num_accepted_tokens": accepted,
        "num_accepted_tokens_per_pos": standing,
        "num_draft_tokens_per_pos": offered,
        "conditional_acceptance": [good / seen if seen else None for good, seen in zip(standing, reached, strict=True)],
        "draft_acceptance_rate": accepted / tokens if tokens else 0.0,
        "mean_acceptance_length": 1 + accepted / len(drafted) if drafted else 1.0,
        **where_time_went(trace),
    }


@dataclass
class Losses:
    """Nanoseconds by cause."""

    draft: float = 0.0
    transfer: float = 0.0
    verify: float = 0.0
    wait: float = 0.0
    waste: float = 0.0
    gained: float = 0.0

    def add(self, closed: Round, spans: Sequence[Span]) -> None:
        """Account for one round with the spans that belong to it."""

        def total(kinds: tuple[str, ...]) -> int:
            return sum(span.done_ns - span.start_ns for span in spans if span.kind in kinds)

        length = closed.end_ns - closed.start_ns
        if closed.number == 0:
            # Both chips read the question at once: only what outlasts the target's own reading is lost.
            told = sum(span.done_ns - span.start_ns for span in spans if span.kind == "verdict")
            read = [span.end_ns for span in spans if span.kind == "prefill"]
            self.transfer += told
            self.wait += max(0, closed.end_ns - max(read, default=closed.end_ns) - told)
            return
        draft, transfer, target = total(DRAFT), total(TRANSFERS), total(TARGET)
        kept = closed.kept_drafts / closed.drafted if closed.drafted else 0.0
        self.draft += draft * kept
        self.waste += draft * (1.0 - kept)
        self.transfer += transfer
        self.verify += target - closed.single_ns
        self.wait += length - draft - transfer - target
        self.gained += (closed.emitted - 1) * closed.single_ns


def where_time_went(trace: Trace) -> dict[str, Any]:
    """`lost_ms` by cause and `gained_ms`, summed over all rounds."""
    by_round: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in trace.spans:
        by_round[span.request, span.round].append(span)
    losses = Losses()
    for closed in trace.rounds:
        losses.add(closed, by_round[closed.request, closed.number])
    names = ("draft", "transfer", "verify", "wait", "waste")
    return {"lost_ms": {name: ms(getattr(losses, name)) for name in names}, "gained_ms": ms(losses.gained)}


def compare_texts(baseline: Trace, speculative: Trace, rule: str) -> dict[str, Any]:
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
        "rule": rule,
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
