"""Headline numbers of workloads resampled from a run's own conversations (bootstrap), for confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hilsim.describe.chip import Chip
from hilsim.describe.link import Link
from hilsim.measure.formulas import times_ms
from hilsim.measure.metrics import Headline, deliveries, headline_numbers, instants_of, speculation
from hilsim.sim.trace import RequestRecord, Trace
from hilsim.units import NS_PER_S, ms

Floats = npt.NDArray[np.float64]
FEWEST = 5  # conversations: with fewer, requests are drawn one by one


@dataclass(frozen=True)
class Requests:
    """Two runs over the same requests as arrays (requests,), and the clusters that are drawn whole.

    Requests of one conversation resemble each other, so whole conversations are drawn; where there are fewer
    than five, requests are, which makes the interval too narrow where they do resemble each other.
    """

    headline: Headline
    clusters: tuple[npt.NDArray[np.int64], ...]
    unit: str  # "conversations" or "requests"
    alone_ms: Floats
    latency_ms: Floats
    first_token_ms: Floats
    first_clause_ms: Floats
    tokens: Floats
    joules: Floats
    tokens_a_round: float | None

    def resampled(self, drawn: Sequence[int]) -> Headline:
        """The headline of the clusters at these places, some of them several times.

        Throughput and energy scale with the time and the energy of the requests drawn.
        """
        places = np.concatenate([self.clusters[place] for place in drawn])
        latency = self.latency_ms[places].sum()
        found: Headline = {}
        for name, value in self.headline.items():
            if name == "speedup":
                found[name] = float(self.alone_ms[places].sum() / latency)
            elif name == "output_token_throughput":
                rate, whole = self.tokens[places].sum() / latency, self.tokens.sum() / self.latency_ms.sum()
                found[name] = float(value * rate / whole)
            elif name == "energy_j":
                share = self.joules[places].sum() / self.joules.sum() if self.joules.any() else 1.0
                found[name] = float(value * share * len(self.tokens) / len(places))
            else:
                found[name] = float(np.median(self.series(name)[places]))
        return found

    def series(self, name: str) -> Floats:
        """The requests' own values of a median in the headline."""
        known = {
            "time_to_first_token_ms p50": self.first_token_ms,
            "time_to_first_clause_ms p50": self.first_clause_ms,
            "request_latency_ms p50": self.latency_ms,
        }
        return known[name]


def requests_of(baseline: Trace, ours: Trace | None, chips: dict[str, Chip], link: Link | None) -> Requests | None:
    """Two runs as arrays; None where some request has no answer, as samples would then not be comparable."""
    run = ours or baseline
    records = sorted(run.requests, key=lambda record: record.number)
    alone = {record.number: record for record in baseline.requests}
    if not records or any(not record.output_tokens or record.number not in alone for record in records):
        return None
    rounds = deliveries(run)
    times = times_ms(instants_of(records, rounds))
    joules = joules_by_request(run, records, chips, link)
    clusters, unit = clusters_of(records)

    def array(values: Sequence[float]) -> Floats:
        return np.array(values, dtype=np.float64)

    return Requests(
        headline_numbers(baseline, ours, chips, link),
        clusters,
        unit,
        array([ms(one.finished_ns - one.arrived_ns) for one in (alone[record.number] for record in records)]),
        times["request_latency_ms"],
        times["time_to_first_token_ms"],
        times["time_to_first_clause_ms"],
        array([record.output_tokens for record in records]),
        array([joules[record.number] for record in records]),
        None if ours is None else speculation(ours)["mean_acceptance_length"],
    )  # fmt: skip


def clusters_of(records: Sequence[RequestRecord]) -> tuple[tuple[npt.NDArray[np.int64], ...], str]:
    """Places of the records that are drawn whole, and what they are: conversations, or requests where these are few."""
    conversations: dict[int, list[int]] = {}
    for place, record in enumerate(records):
        conversations.setdefault(record.conversation, []).append(place)
    few = len(conversations) < FEWEST
    grouped = [[place] for place in range(len(records))] if few else list(conversations.values())
    return tuple(np.array(places, dtype=np.int64) for places in grouped), "requests" if few else "conversations"


def joules_by_request(
    run: Trace, records: Sequence[RequestRecord], chips: dict[str, Chip], link: Link | None
) -> dict[int, float]:
    """Energy of each request: idle power while it was answered, active power of its own steps and messages."""
    names = dict.fromkeys(track.split(".", 1)[0] for track in run.units)
    idle = sum(chips[name].idle_power.si for name in names)
    found = {record.number: idle * (record.finished_ns - record.arrived_ns) / NS_PER_S for record in records}
    active = {}
    for track in run.units:
        chip, unit = track.split(".", 1)
        active[track] = chips[chip].units[unit].active_power.si
    if link is not None and link.active_power is not None:
        active |= dict.fromkeys(run.directions, link.active_power.si)
    for span in run.spans:
        if span.request in found and span.track in active:
            found[span.request] += active[span.track] * (span.end_ns - span.start_ns) / NS_PER_S
    return found
