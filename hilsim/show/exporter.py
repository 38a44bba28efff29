"""Metrics of a run while it goes on, for Prometheus: an observer that counts, and a door where the counts are read.

Names are OpenTelemetry's where it has one (generative AI, hardware), with dots as underscores and the unit at the end,
as Prometheus writes them. All times are of the simulated clock; a board's steps have the times that it measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from hilsim.cost.memory import Ledger
from hilsim.describe.address import in_url, listening_fault
from hilsim.describe.setup import Setup
from hilsim.errors import InputError
from hilsim.sim.trace import RequestRecord, Round, Sample, Span, TurnRecord
from hilsim.units import NS_PER_S

MODEL = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "hilsim_policy")
POLICY = ("hilsim_policy",)
PLACE = ("hw_id", "hilsim_policy")
# Bounds of histograms, as OpenTelemetry's conventions advise them for each name.
FIRST_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
WHOLE_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


@dataclass(frozen=True)
class Metric:
    """One metric: OpenTelemetry's name, what kind it is, its unit as Prometheus writes it, labels and meaning."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    meaning: str
    bounds: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """The name by which Prometheus knows it."""
        parts = [self.name.replace(".", "_"), self.unit, "total" if self.kind == "counter" else ""]
        return "_".join(filter(None, parts))


METRICS = (
    Metric("gen_ai.server.time_to_first_token", "histogram", "seconds", MODEL,
           "first token delivered - request arrived", FIRST_S),
    Metric("gen_ai.server.time_per_output_token", "histogram", "seconds", MODEL,
           "(last token - first token delivered) / (tokens - 1), of answers with more than one token", TOKEN_S),
    Metric("gen_ai.server.request.duration", "histogram", "seconds", MODEL,
           "answer finished - request arrived", WHOLE_S),
    Metric("gen_ai.client.token.usage", "histogram", "", (*MODEL, "gen_ai_token_type"),
           "tokens of a request: of its prompt (input) and of its answer (output)", TOKENS),
    Metric("hilsim.rounds", "counter", "", POLICY, "deliveries of tokens: first tokens, plain steps and verdicts"),
    Metric("hilsim.drafts", "counter", "", POLICY, "drafts that were verified"),
    Metric("hilsim.draft_tokens", "counter", "", POLICY, "drafted tokens that were verified"),
    Metric("hilsim.accepted_tokens", "counter", "", POLICY, "drafted tokens that were accepted"),
    Metric("hilsim.output_tokens", "counter", "", POLICY, "tokens delivered to the passenger"),
    Metric("hilsim.turns", "counter", "", (*POLICY, "outcome"), "turns of passengers that are over, by outcome"),
    Metric("hilsim.first_audio", "histogram", "seconds", POLICY,
           "first audio - end of speech, of spoken turns", WHOLE_S),
    Metric("hilsim.simulated_time", "gauge", "seconds", POLICY, "how far the run is, by its own clock"),
    Metric("hilsim.busy", "counter", "seconds", PLACE, "time for which a unit or a direction of the link was occupied"),
    Metric("hw.utilization", "gauge", "ratio", PLACE, "share of the run so far in which it was occupied"),
    Metric("hw.network.io", "counter", "bytes", PLACE, "bytes sent over a direction of the link"),
    Metric("hw.memory.size", "gauge", "bytes", ("hw_id",), "memory that a chip has"),
    Metric("hilsim.memory.usage", "gauge", "bytes", ("hw_id",), "memory in use, as the ledger has it"),
    Metric("hw.power", "gauge", "watts", PLACE, "power of a chip, with a climate"),
    Metric("hw.temperature", "gauge", "celsius", (*PLACE, "hw_name"), "temperature of a node, with a climate"),
    Metric("hilsim.clock", "gauge", "ratio", (*PLACE, "hw_name"), "share of its full clock that a unit runs at"),
    Metric("hilsim.memory.rate", "gauge", "bytes_per_second", PLACE, "rate at which a shared memory is read"),
    Metric("hilsim.memory.rate_limit", "gauge", "bytes_per_second", PLACE, "most that it can give at the chip's level"),
    Metric("hilsim.deadlines_missed", "gauge", "", (*PLACE, "hw_name"), "deadlines that a background task has missed"),
)  # fmt: skip
SAMPLED = {
    "power": "hw.power",
    "temperature": "hw.temperature",
    "clock": "hilsim.clock",
    "memory rate": "hilsim.memory.rate",
    "memory capacity": "hilsim.memory.rate_limit",
    "missed": "hilsim.deadlines_missed",
}


class Exporter:
    """An observer that counts; runs of one scenario differ in the label of their policy."""

    def __init__(self, setup: Setup, ledgers: Mapping[str, Ledger]):
        self.registry = CollectorRegistry()
        self.counters: dict[str, Counter] = {}
        self.gauges: dict[str, Gauge] = {}
        self.histograms: dict[str, Histogram] = {}
        for metric in METRICS:
            name, unit, labels = metric.name.replace(".", "_"), metric.unit, metric.labels
            if metric.kind == "counter":
                made = Counter(name, metric.meaning, labels, unit=unit, registry=self.registry)
                self.counters[metric.name] = made
            elif metric.kind == "gauge":
                self.gauges[metric.name] = Gauge(name, metric.meaning, labels, unit=unit, registry=self.registry)
            else:
                self.histograms[metric.name] = Histogram(
                    name, metric.meaning, labels, unit=unit, registry=self.registry, buckets=metric.bounds
                )
        self.model = setup.target.model.name
        for chip, ledger in ledgers.items():
            self.gauges["hw.memory.size"].labels(chip).set(ledger.cap_bytes)
            self.gauges["hilsim.memory.usage"].labels(chip).set(ledger.used_bytes)
        self.begin("")

    def begin(self, policy: str) -> None:
        """A run begins: its clock is at 0."""
        self.policy, self.now_ns = policy, 0
        self.of_model = ("chat", "hilsim", self.model, policy)
        self.busy_ns: dict[str, int] = {}
        self.delivered: dict[int, tuple[int, int, int]] = {}  # of open requests: first token, last token, tokens

    def started(self, policy: str, tracks: tuple[str, ...], requests: int) -> None:
        self.begin(policy)
        for name in ("hilsim.rounds", "hilsim.drafts", "hilsim.draft_tokens", "hilsim.accepted_tokens"):
            self.counters[name].labels(policy)  # which are 0, and not absent, where nothing is drafted
        for track in tracks:
            self.counters["hilsim.busy"].labels(track, policy)

    def asked(self, request: int, conversation: int, user: str, at_ns: int) -> None:
        self.passed(at_ns)

    def span(self, span: Span) -> None:
        track, policy = span.track, self.policy
        length = span.end_ns - span.start_ns
        self.busy_ns[track] = self.busy_ns.get(track, 0) + length
        self.passed(span.end_ns)
        self.counters["hilsim.busy"].labels(track, policy).inc(length / NS_PER_S)
        if self.now_ns:
            self.gauges["hw.utilization"].labels(track, policy).set(self.busy_ns[track] / self.now_ns)
        if span.nbytes:
            self.counters["hw.network.io"].labels(track, policy).inc(span.nbytes)

    def round(self, round: Round, text: str) -> None:
        self.passed(round.end_ns)
        policy = self.policy
        self.counters["hilsim.rounds"].labels(policy).inc()
        self.counters["hilsim.output_tokens"].labels(policy).inc(round.emitted)
        if round.drafted:
            self.counters["hilsim.drafts"].labels(policy).inc()
            self.counters["hilsim.draft_tokens"].labels(policy).inc(round.drafted)
            self.counters["hilsim.accepted_tokens"].labels(policy).inc(round.accepted)
        if round.emitted:
            first, _, tokens = self.delivered.get(round.request, (round.delivered_ns, 0, 0))
            self.delivered[round.request] = first, round.delivered_ns, tokens + round.emitted

    def request(self, record: RequestRecord) -> None:
        self.passed(record.finished_ns)
        model, seen = self.of_model, self.delivered.pop(record.number, None)
        latency = record.finished_ns - record.arrived_ns
        self.histograms["gen_ai.server.request.duration"].labels(*model).observe(latency / NS_PER_S)
        usage = self.histograms["gen_ai.client.token.usage"]
        usage.labels(*model, "input").observe(record.prompt_tokens)
        usage.labels(*model, "output").observe(record.output_tokens)
        if seen is None:
            return
        first, last, tokens = seen
        arrived = record.arrived_ns
        self.histograms["gen_ai.server.time_to_first_token"].labels(*model).observe((first - arrived) / NS_PER_S)
        if tokens > 1:
            each = self.histograms["gen_ai.server.time_per_output_token"]
            each.labels(*model).observe((last - first) / NS_PER_S / (tokens - 1))

    def sample(self, sample: Sample) -> None:
        self.passed(sample.at_ns)
        gauge = self.gauges[SAMPLED[sample.quantity]]
        named = (sample.name,) if sample.name else ()
        gauge.labels(sample.chip, self.policy, *named).set(sample.value)

    def turn(self, turn: TurnRecord) -> None:
        self.counters["hilsim.turns"].labels(self.policy, turn.outcome).inc()
        if turn.first_audio_ns >= 0 and turn.spoken_ns >= 0:
            waited = turn.first_audio_ns - turn.spoken_ns
            self.histograms["hilsim.first_audio"].labels(self.policy).observe(waited / NS_PER_S)

    def passed(self, at_ns: int) -> None:
        """The run is at least so far."""
        if at_ns > self.now_ns:
            self.now_ns = at_ns
            self.gauges["hilsim.simulated_time"].labels(self.policy).set(at_ns / NS_PER_S)


@contextmanager
def exporting(setup: Setup, ledgers: Mapping[str, Ledger], host: str, port: int) -> Iterator[tuple[Exporter, str]]:
    """An exporter and the address where its counts are read, until the block is over.

    Raises `InputError` where it cannot listen there.
    """
    exporter = Exporter(setup, ledgers)
    try:
        server, thread = start_http_server(port, host, exporter.registry)
    except (OSError, ValueError) as error:  # ValueError: what can be no address
        raise InputError([listening_fault(host, port, error, "--metrics-")]) from None
    try:
        yield exporter, f"http://{in_url(host)}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
