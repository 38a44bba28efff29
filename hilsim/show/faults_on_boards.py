"""Faults predicted and really injected into boards: rows of the document, the table, and what it means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table as RichTable

from hilsim.hardware.distributed.fault_times import TIMED, FaultPair, order_of, pairs_of
from hilsim.show.compared import signed
from hilsim.show.numbers import counted, three_digits
from hilsim.show.table import Table
from hilsim.sim.trace import FaultRecord
from hilsim.units import ms

Row = dict[str, Any]
CLOSE = 0.10  # reaction times that differ by no more are as predicted
# Below this a time is the machine's own: a message's way through three processes, a thread that waits for a core.
LEAST_MS = 50.0


def fault_rows(predicted: Sequence[FaultRecord], measured: Sequence[FaultRecord]) -> list[Row]:
    """A row a fault that both runs have."""
    return [row_of(pair) for pair in pairs_of(predicted, measured)]


def same_order(predicted: Sequence[FaultRecord], measured: Sequence[FaultRecord]) -> bool:
    """Whether all that came of all faults came in the same order."""
    return order_of(predicted) == order_of(measured)


def row_of(pair: FaultPair) -> Row:
    """What came of one fault: how it was noticed, reactions, and times from its first hit, predicted and measured."""
    times = {event: (ms(ours), ms(theirs)) for event, (ours, theirs) in pair.times_ns.items()}
    return {
        "kind": pair.measured.kind,
        "where": pair.measured.where,
        "phase": pair.measured.phase,
        "by": pair.measured.by,
        "reactions": list(pair.measured.reactions),
        "same_course": pair.same_course,
        "hits": pair.measured.hits,
        "predicted_ms": {event: ours for event, (ours, _) in times.items()},
        "measured_ms": {event: theirs for event, (_, theirs) in times.items()},
        "difference": dict(pair.differences),
    }


def fault_table(rows: Sequence[Row]) -> RichTable:
    """A row a fault: milliseconds to its detection, the reaction and the recovery, predicted | measured."""
    heads = ["predicted | measured, ms", "noticed by", *TIMED, "reaction", "order"]
    cells = []
    for row in rows:
        order = "same" if row["same_course"] else "OTHER"
        name = f"{row['kind']}, {row['where']}"
        times = [both_times(row, event) for event in TIMED]
        cells.append([name, row["by"] or "nothing", *times, signed(row["difference"].get("reacted")), order])
    return Table(heads, cells, left=2).rich()


def both_times(row: Row, event: str) -> str:
    """The predicted and the measured time to an event."""
    if event not in row["predicted_ms"]:
        return "-"
    return " | ".join(three_digits(row[run][event]) for run in ("predicted_ms", "measured_ms"))


def fault_sentences(rows: Sequence[Row]) -> Iterator[str]:
    """How close reactions were, and what is not in the figure."""
    reactions = [row for row in rows if "reacted" in row["measured_ms"]]
    long = [row for row in reactions if row["predicted_ms"]["reacted"] >= LEAST_MS]
    short = [row for row in reactions if row["predicted_ms"]["reacted"] < LEAST_MS]
    if long:
        near = sum(abs(row["difference"]["reacted"]) <= CLOSE for row in long)
        worst = max(long, key=lambda row: abs(row["difference"]["reacted"]))
        yield (
            f"Reaction times of {LEAST_MS:.0f} ms and more: {near} of {len(long)} within {CLOSE:.0%} of the "
            f"prediction, the worst {signed(worst['difference']['reacted'])} ({worst['kind']}, {worst['where']})."
        )
    if short:
        most = max(abs(row["measured_ms"]["reacted"] - row["predicted_ms"]["reacted"]) for row in short)
        yield f"Shorter ones are the machine's own time: {counted(len(short), 'fault')}, at most {most:.1f} ms apart."
    others = [f"{row['kind']}, {row['where']}" for row in rows if not row["same_course"]]
    yield f"Another order than predicted: {'; '.join(others)}." if others else "The order is the predicted one in all."


def block_of(predicted: Sequence[FaultRecord], measured: Sequence[FaultRecord]) -> Mapping[str, Any]:
    """The document's block of a run with faults."""
    return {"same_order": same_order(predicted, measured), "faults": fault_rows(predicted, measured)}
