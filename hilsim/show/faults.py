"""Injected faults in the document of a run, and in its report: what became of each, and what the passenger waited."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.text import Text

from hilsim.describe.setup import Setup
from hilsim.measure.metrics import summary
from hilsim.runs.run import RunPair
from hilsim.show.kinds import BAD, GOOD
from hilsim.show.numbers import clean, counted, duration
from hilsim.show.terminal.page import Page
from hilsim.sim.trace import Corrupted, FaultRecord, Trace
from hilsim.units import NS_PER_MS, ms, ns

Block = dict[str, Any]
SHOWN, TOKENS_SHOWN = 12, 5
INSTANTS = ("began", "ended", "hit", "detected", "reacted", "served", "recovered")


def injected(setup: Setup, outcome: RunPair) -> Block:
    """The document's block `faults` of a scenario that injects some."""
    faults, ours, calm = setup.scenario.faults, outcome.speculative or outcome.baseline, outcome.undisturbed
    assert faults is not None, "a scenario that injects faults"
    assert calm is not None, "a run with faults has one without"
    tolerance_ns = ns(faults.tolerance_ms / 1000)
    records = sorted(ours.faults, key=lambda record: (record.began_ns, record.number))
    begun = {record.number for record in records}
    lost = ours.lost
    return {
        "tolerance_ms": faults.tolerance_ms,
        "reaction": faults.reaction.model_dump(exclude_none=True),
        "survived": lost is None and all(record.survived for record in records),
        "ended_by": None if lost is None else str(lost),
        "corrupted_tokens": sum(len(record.corrupted) for record in records),
        "records": [one_of_them(record, tolerance_ns) for record in records],
        "never_began": [
            {"number": number, "kind": fault.kind, "where": fault.where}
            for number, fault in enumerate(faults.inject)
            if number not in begun
        ],
        "added_ms": {
            "request_latency_ms": added(wholes(calm), wholes(ours)),
            "time_to_first_token_ms": added(firsts(calm), firsts(ours)),
        },
        "requests_without_ms": latencies(calm),
        "requests_with_ms": latencies(ours),
    }


def assumed_reaction(setup: Setup) -> list[Block]:
    """What the runtime waits for and how often it tries, as the list of assumptions has it."""
    faults = setup.scenario.faults
    if faults is None or faults.reaction.source != "assumed":
        return []
    given = faults.reaction.model_dump(exclude_none=True, exclude={"source"})
    value = ", ".join(f"{name} {value}" for name, value in given.items())
    source = f"{setup.scenario.name}: no runtime for two chips has published its own"
    return [{"figure": "faults.reaction", "value": value, "kind": "assumed", "source": source}]


def one_of_them(record: FaultRecord, tolerance_ns: int) -> Block:
    """What became of one fault, in milliseconds since the start of the run; null where an instant never came."""
    spans = (record.detection_ns, record.reaction_ns, record.recovery_ns)
    return {
        "number": record.number,
        "kind": record.kind,
        "where": record.where,
        "phase": record.phase,
        "request": None if record.request < 0 else record.request,
        "round": None if record.round < 0 else record.round,
        **{f"{name}_ms": in_ms(getattr(record, f"{name}_ns")) for name in INSTANTS},
        **{
            f"{name}_ms": None if span is None else ms(span)
            for name, span in zip(("detection", "reaction", "recovery"), spans, strict=True)
        },
        "by": record.by or None,
        "reactions": list(record.reactions),
        "changed": record.hits,
        "recomputed_tokens": record.recomputed_tokens,
        "dropped_tokens": record.dropped_tokens,
        "resent_messages": record.resent_messages,
        "resent_bytes": record.resent_bytes,
        "corrupted": [one._asdict() for one in record.corrupted],
        "caught": record.caught,
        "silent": record.silent,
        "within_tolerance": record.within(tolerance_ns),
        "survived": record.survived,
    }


def in_ms(instant_ns: int) -> float | None:
    """An instant in milliseconds; None where it never came."""
    return None if instant_ns < 0 else ms(instant_ns)


def latencies(trace: Trace) -> dict[str, float] | None:
    """Mean and percentiles of the times of all requests, in milliseconds."""
    return summary(np.array(list(wholes(trace).values())) / NS_PER_MS)


def added(without: dict[int, int], ours: dict[int, int]) -> dict[str, float] | None:
    """By how many milliseconds requests are later than the same requests without faults: mean and percentiles."""
    more = [took_ns - without[number] for number, took_ns in ours.items() if number in without]
    return summary(np.array(more) / NS_PER_MS)


def wholes(trace: Trace) -> dict[int, int]:
    """By request that was answered, nanoseconds to its last token."""
    return {one.number: one.finished_ns - one.arrived_ns for one in trace.requests}


def firsts(trace: Trace) -> dict[int, int]:
    """By request that was answered, nanoseconds to the first token."""
    arrived = {one.number: one.arrived_ns for one in trace.requests}
    return {
        closed.request: closed.delivered_ns - arrived[closed.request]
        for closed in trace.rounds
        if closed.number == 0 and closed.request in arrived
    }


def render_faults(page: Page, block: Block) -> None:
    """The report's section about injected faults; the verdict first."""
    page.title("faults", f"injected; to be noticed and reacted to within {duration(block['tolerance_ms'])}")
    sentence, good = verdict(block)
    page.paragraph(Text(sentence, f"bold {GOOD if good else BAD}"), 2)
    for record in block["records"][:SHOWN]:
        page.paragraph(Text(clean(fate(record)), "" if fine(record) else BAD), 4)
    if len(block["records"]) > SHOWN:
        page.paragraph(f"and {len(block['records']) - SHOWN} more: --json has them all", 4)
    for fault in block["never_began"]:
        page.paragraph(f"{fault['kind']} of {fault['where']}, number {fault['number']}: its instant never came", 4)
    for name, values in block["added_ms"].items():
        if values is not None:
            page.paragraph(
                f"added to {name}: {duration(values['p50'])} p50, {duration(values['p99'])} p99, "
                f"{duration(values['mean'])} mean",
                2,
            )
    source = block["reaction"]["source"]
    page.paragraph(f"What the runtime waits for and how often it tries is {clean(source)}: faults.reaction.", 2)


def fine(record: Block) -> bool:
    """Whether nothing was lost by a fault, and it was reacted to in time."""
    return record["survived"] and record["within_tolerance"] is not False and not record["corrupted"]


def verdict(block: Block) -> tuple[str, bool]:
    """Whether the run lived through its faults, in a sentence, and whether that is good news."""
    records = block["records"]
    if not block["survived"]:
        return f"Not survived: {clean(block['ended_by'] or 'the run ended')}", False
    if not records:
        return "No fault began in this run.", True
    late = [record for record in records if record["within_tolerance"] is False]
    wrong, silent = block["corrupted_tokens"], sum(record["silent"] for record in records)
    parts = [f"{counted(len(records), 'fault')}, {'survived' if len(records) == 1 else 'all survived'}"]
    parts.append(f"{len(late)} not reacted to in time" if late else "none reacted to too late")
    if silent:
        parts.append(f"{silent} changed something unnoticed")
    parts.append(
        f"{counted(wrong, 'token')} of the text not the target's own" if wrong else "the text is the target's own"
    )
    return "; ".join(parts) + ".", not late and not wrong


def fate(record: Block) -> str:
    """What became of one fault, in a sentence."""
    place = "" if record["request"] is None else f", request {record['request']} round {record['round']}"
    head = f"{record['kind']} of {record['where']} at {duration(record['began_ms'])} ({record['phase']}{place})"
    if not record["changed"]:
        return f"{head}: changed nothing"
    parts = []
    if record["caught"]:
        parts.append(f"noticed by {record['by']} after {duration(record['detection_ms'])}")
    else:
        parts.append("not noticed")
    parts += record["reactions"]
    if record["recovery_ms"] is not None:
        parts.append(f"recovered after {duration(record['recovery_ms'])}")
    if record["resent_messages"]:
        parts.append(f"{counted(record['resent_messages'], 'message')} sent again")
    if record["recomputed_tokens"]:
        parts.append(f"{counted(record['recomputed_tokens'], 'token')} read again")
    if record["dropped_tokens"]:
        parts.append(f"{counted(record['dropped_tokens'], 'drafted token')} dropped")
    parts += [lost_token(Corrupted(**one)) for one in record["corrupted"][:TOKENS_SHOWN]]
    if len(record["corrupted"]) > TOKENS_SHOWN:
        parts.append(f"{len(record['corrupted']) - TOKENS_SHOWN} more tokens wrong")
    if not record["survived"]:
        parts.append("NOT survived")
    elif record["within_tolerance"] is False:
        parts.append("NOT within the tolerance")
    return f"{head}: {'; '.join(parts)}"


def lost_token(one: Corrupted) -> str:
    """A token that is not the target's own, in words."""
    if one.place < 0:
        return f"the question of request {one.request} was changed on its way"
    if one.token < 0:
        return f"token {one.place} of request {one.request} delivered as another"
    return f"token {one.place} of request {one.request} is {one.delivered} in place of {one.token}"
