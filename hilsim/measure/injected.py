"""What one injected fault did to a run, held against the same run without it: the measures of campaigns."""

from __future__ import annotations

from collections import defaultdict

from hilsim.describe.faults import PHASES
from hilsim.measure.measures import Measure
from hilsim.measure.metrics import compare_texts, deliveries
from hilsim.sim.trace import FaultRecord, Trace
from hilsim.units import NS_PER_MS, ms

TABLE = (
    Measure("began", "share", "", "1 where the fault began, 0 where its instant never came", False),
    *(Measure(f"began.{phase}", "share", "", f"1 where it began in this phase: {phase}", False) for phase in PHASES),
    Measure("hit", "share", "", "1 where the fault changed anything, 0 where it changed nothing or never began", False),
    Measure("began_ms", "ms", "", "fault began - start of the run", False),
    Measure("detection_ms", "ms", "lower", "first noticed - first change that the fault made", False),
    Measure("reaction_ms", "ms", "lower", "reaction began - first noticed", False),
    Measure("recovery_ms", "ms", "lower", "all is as before - first change that the fault made", False),
    Measure("added_ms", "ms", "lower",
            "request latency - that of the same request without the fault, of the request that lost most", False),
    Measure("request_latency_ms", "ms", "lower", "mean over the requests with the fault", False),
    Measure("request_latency_without_ms", "ms", "lower", "mean over the same requests without the fault", False),
    Measure("changed", "count", "", "messages and steps that the fault changed", False),
    Measure("recomputed_tokens", "tokens", "lower", "positions of caches that were read again", False),
    Measure("dropped_tokens", "tokens", "lower", "drafted or computed, and given up uncommitted", False),
    Measure("resent_messages", "count", "lower", "messages sent again", False),
    Measure("resent_bytes", "bytes", "lower", "bytes of the messages sent again", False),
    Measure("in_time", "share", "higher",
            "1 where detection and reaction took at most tolerance_ms, 0 where they took longer or were needed and "
            "never came; absent where nothing had to be reacted to", False),
    Measure("survived", "share", "higher", "1 where every request of the run without the fault was answered", False),
    Measure("exact", "share", "higher", "1 where every delivered token is the target's own", False),
    Measure("silent", "share", "lower", "1 where a token is not the target's own and nothing noticed the fault", False),
)  # fmt: skip
INJECTED = {measure.name: measure for measure in TABLE}


def injected_numbers(
    alone: Trace, clean: Trace, ours: Trace, tolerance_ms: float, *, exact: bool
) -> dict[str, float | None]:
    """Every measure of a run with one injected fault; None where one does not apply.

    `alone` is the target alone and `clean` the policy, both without faults. `exact`: whether the scenario's rules
    promise the target's own text, token by token; where not, only the record of the fault knows of wrong tokens.
    """
    record = ours.faults[0] if ours.faults else None
    latency, without = latencies_ms(ours), latencies_ms(clean)
    both = latency.keys() & without.keys()
    survived = latency.keys() == without.keys() and (record is None or record.survived)
    wrong = wrong_tokens(alone, ours) if exact else corrupted(record)
    found: dict[str, float | None] = {
        "began": float(record is not None),
        **{f"began.{phase}": float(record is not None and record.phase == phase) for phase in PHASES},
        "hit": float(record is not None and record.hits > 0),
        "added_ms": max((latency[number] - without[number] for number in both), default=None),
        "request_latency_ms": mean([latency[number] for number in both]),
        "request_latency_without_ms": mean([without[number] for number in both]),
        "survived": float(survived),
        "exact": float(not wrong),
        "silent": float(bool(wrong) and not (record is not None and record.caught)),
    }
    if record is not None:
        in_time = record.within(round(tolerance_ms * NS_PER_MS))
        found |= {
            "began_ms": ms(record.began_ns),
            "detection_ms": in_ms(record.detection_ns),
            "reaction_ms": in_ms(record.reaction_ns),
            "recovery_ms": in_ms(record.recovery_ns),
            "changed": float(record.hits),
            "recomputed_tokens": float(record.recomputed_tokens),
            "dropped_tokens": float(record.dropped_tokens),
            "resent_messages": float(record.resent_messages),
            "resent_bytes": float(record.resent_bytes),
            "in_time": None if in_time is None else float(in_time and survived and not wrong),
        }
    return {name: found.get(name) for name in INJECTED}


def in_ms(value_ns: int | None) -> float | None:
    """Nanoseconds as milliseconds."""
    return None if value_ns is None else ms(value_ns)


def mean(numbers: list[float]) -> float | None:
    """The mean of some numbers; None of none."""
    return sum(numbers) / len(numbers) if numbers else None


def latencies_ms(trace: Trace) -> dict[int, float]:
    """Request latency by request, of those that were answered to their end."""
    return {one.number: ms(one.finished_ns - one.arrived_ns) for one in trace.requests if one.finish != "cut"}


def corrupted(record: FaultRecord | None) -> list[tuple[int, int]]:
    """Wrong tokens by the record of the fault: request, and place in the answer."""
    return [] if record is None else [(one.request, one.place) for one in record.corrupted]


def wrong_tokens(alone: Trace, ours: Trace) -> list[tuple[int, int]]:
    """The first token of each conversation that is not the target's own: request, and place in the answer.

    An answer that ends early has none: what is there is the target's.
    """
    lengths: dict[int, int] = defaultdict(int)
    lengths |= {number: sum(len(one.tokens) for one in rounds) for number, rounds in deliveries(ours).items()}
    parted = compare_texts(alone, ours)["divergences"]
    return [(one["request"], one["token"]) for one in parted if one["token"] < lengths[one["request"]]]
