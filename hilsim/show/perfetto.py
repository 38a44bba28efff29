"""A trace as Chrome JSON, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

A process per chip, link and run, a thread per unit or direction, arrows draft -> transfer -> verify -> verdict with one
id a round, counters for memory and accepted tokens; with company also a process for the passengers, and counters for
memory rate, temperature, clock and power of each chip. Times are microseconds, exact to the nanosecond. A message's
slice is its time on the wire; when it arrived is among its arguments.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hilsim._version import __version__
from hilsim.describe.setup import Setup
from hilsim.show.kinds import is_direction, kind_of, lane_order
from hilsim.show.perfetto_company import PASSENGERS, arguments, last_ns, parts_of, rows_of, samples_in_order
from hilsim.sim.trace import Span, Trace
from hilsim.units import MIB, NS_PER_US

Event = dict[str, Any]
ARROW = ("draft", "drafts", "verify", "verdict")
# Legacy colour names, the only ones that this format knows.
COLOURS = {
    "prefill": "thread_state_iowait",
    "draft prefill": "thread_state_iowait",
    "draft": "thread_state_runnable",
    "verify": "rail_response",
    "decode": "rail_load",
    "drafts": "thread_state_runnable",
    "verdict": "rail_response",
}


def trace_events(setup: Setup, traces: Mapping[str, Trace]) -> dict[str, Any]:
    """Everything in the traces as one JSON object; `traces` are runs by name, in the order wanted on the screen."""
    return {"traceEvents": list(events(setup, traces)), **header(setup)}


def write_trace(path: Path, setup: Setup, traces: Mapping[str, Trace]) -> None:
    """The same, written event by event so that a long run needs no second copy of itself."""
    with path.open("w", encoding="utf-8") as file:
        start = json.dumps(header(setup), allow_nan=False)
        file.write(start[:-1] + ', "traceEvents": [')
        for number, event in enumerate(events(setup, traces)):
            file.write((",\n" if number else "\n") + json.dumps(event, allow_nan=False))
        file.write("\n]}\n")


def header(setup: Setup) -> dict[str, Any]:
    """What the file is about."""
    about = {
        "scenario": setup.scenario.name,
        "digest": setup.digest,
        "seed": setup.scenario.seed,
        "hilsim": __version__,
    }
    return {"displayTimeUnit": "ms", "otherData": about}


def events(setup: Setup, traces: Mapping[str, Trace]) -> Iterator[Event]:
    """All events of all runs; those of the target alone have it in their process's name."""
    pid = flow = 0
    for name, trace in traces.items():
        prefix = f"{name}: " if len(traces) > 1 else ""
        places = Places(setup, trace, prefix, pid)
        pid += places.count
        yield from places.metadata()
        yield from requests(trace, places)
        yield from slices(trace, places)
        yield from counters(trace, places)
        yield from turns(trace, places)
        for event in flows(trace, places, flow):
            flow = max(flow, event["id"])
            yield event


class Places:
    """Processes and threads of one run. Thread numbers are unique over the whole file, as on a real machine."""

    def __init__(self, setup: Setup, trace: Trace, prefix: str, before: int):
        self.prefix = prefix
        groups: dict[str, list[str]] = {"requests": []}
        for track in lane_order(setup, trace.tracks):
            owner = track.rsplit(".", 1)[0] if is_direction(setup, track) else track.split(".", 1)[0]
            groups.setdefault(owner, []).append(track)
        for chip in [*(level.chip for level in trace.levels), *(sample.chip for sample in trace.samples)]:
            groups.setdefault(chip, [])
        if trace.turns:
            groups[PASSENGERS] = []
        self.count = len(groups)
        self.pids = {group: before + place + 1 for place, group in enumerate(groups)}
        self.groups = groups
        self.threads = {
            track: (self.pids[group], 1000 * self.pids[group] + place + 1)
            for group, tracks in groups.items()
            for place, track in enumerate(tracks)
        }

    def metadata(self) -> Iterator[Event]:
        """Names and order of processes and threads."""
        for group, pid in self.pids.items():
            yield self.meta("process_name", pid, pid, {"name": f"{self.prefix}{group}"})
            yield self.meta("process_sort_index", pid, pid, {"sort_index": pid})
        for track, (pid, tid) in self.threads.items():
            yield self.meta("thread_name", pid, tid, {"name": track.rsplit(".", 1)[1]})
            yield self.meta("thread_sort_index", pid, tid, {"sort_index": tid})

    @staticmethod
    def meta(name: str, pid: int, tid: int, args: dict[str, Any]) -> Event:
        return {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": args}


def micros(nanoseconds: int) -> float:
    """Microseconds that come out as the same whole nanoseconds whether a reader rounds or cuts off."""
    value = nanoseconds / NS_PER_US
    while int(value * NS_PER_US) < nanoseconds:
        value = math.nextafter(value, math.inf)
    return value


def slices(trace: Trace, places: Places) -> Iterator[Event]:
    """Every span on its track, in order of time."""
    for span in sorted(trace.spans, key=lambda span: (span.start_ns, span.end_ns)):
        pid, tid = places.threads[span.track]
        args: dict[str, Any] = {"request": span.request, "round": span.round}
        if span.rows:
            args |= {"rows": span.rows, "width": span.width}
        if span.fellows:
            args["together_with"] = [fellow.request for fellow in span.fellows]
        if span.fellows:
            args["batch_with"] = [fellow.request for fellow in span.fellows]
        if span.nbytes:
            args |= {"nbytes": span.nbytes, "arrived_us": micros(span.done_ns)}
        args["wait_us"] = micros(span.start_ns - span.asked_ns)
        category = "message" if kind_of(span.kind).message else "step"
        event: Event = {"ph": "X", "name": span.kind, "cat": category, "pid": pid, "tid": tid}
        event |= {"ts": micros(span.start_ns), "dur": micros(span.end_ns - span.start_ns), "args": args}
        if span.kind in COLOURS:
            event["cname"] = COLOURS[span.kind]
        yield event


def requests(trace: Trace, places: Places) -> Iterator[Event]:
    """Each request from question to last token, on as many rows as are answered at once, and its first delivery."""
    pid = places.pids["requests"]
    free: list[int] = []  # when each row was last in use
    first: dict[int, int] = {}
    for closed in trace.rounds:
        first.setdefault(closed.request, closed.delivered_ns)
    for record in sorted(trace.requests, key=lambda record: (record.arrived_ns, record.number)):
        row = next((row for row, end in enumerate(free) if end <= record.arrived_ns), len(free))
        if row == len(free):
            free.append(0)
            yield places.meta("thread_name", pid, 1000 * pid + row + 1, {"name": f"session {row + 1}"})
        free[row] = record.finished_ns
        args = {
            "conversation": record.conversation,
            "turn": record.turn,
            "user": record.user,
            "answer": record.answer,
            "prompt_tokens": record.prompt_tokens,
            "output_tokens": record.output_tokens,
            "finish": record.finish,
        }
        if record.number in first:
            args["first_token_us"] = micros(first[record.number])
        yield {
            "ph": "X",
            "name": f"request {record.number}",
            "cat": "request",
            "pid": pid,
            "tid": 1000 * pid + row + 1,
            "ts": micros(record.arrived_ns),
            "dur": micros(record.finished_ns - record.arrived_ns),
            "args": args,
        }


def counters(trace: Trace, places: Places) -> Iterator[Event]:
    """Memory in use by chip, and what each verdict emitted and accepted."""
    for level in trace.levels:
        pid = places.pids[level.chip]
        args: dict[str, Any] = {"MiB": round(level.used_bytes / MIB, 3)}
        yield {"ph": "C", "name": "memory used", "pid": pid, "tid": pid, "ts": micros(level.at_ns), "args": args}
    pid = places.pids["requests"]
    for closed in trace.rounds:
        args = {"emitted": closed.emitted}
        if closed.drafted:
            args |= {"drafted": closed.drafted, "accepted": closed.accepted}
        yield {"ph": "C", "name": "tokens", "pid": pid, "tid": pid, "ts": micros(closed.delivered_ns), "args": args}


def turns(trace: Trace, places: Places) -> Iterator[Event]:
    """Each spoken turn with its stages inside, and the samples of each chip."""
    threads: dict[str, int] = {}
    for name, turn in rows_of(trace.turns):
        pid = places.pids[PASSENGERS]
        if name not in threads:
            threads[name] = 1000 * pid + len(threads) + 1
            yield places.meta("thread_name", pid, threads[name], {"name": name})
        place = {"ph": "X", "cat": "turn", "pid": pid, "tid": threads[name]}
        for label, begin, end in ((f"turn {turn.number}", turn.spoke_ns, last_ns(turn)), *parts_of(turn)):
            event: Event = place | {"name": label, "ts": micros(begin), "dur": micros(end - begin)}
            yield event | ({"args": arguments(turn)} if label.startswith("turn") else {"cat": "stage"})
    for sample, name, series in samples_in_order(trace):
        pid = places.pids[sample.chip]
        yield {"ph": "C", "name": name, "pid": pid, "tid": pid, "ts": micros(sample.at_ns), "args": series}


def flows(trace: Trace, places: Places, before: int) -> Iterator[Event]:
    """Arrows through the spans of each round that had a draft: last draft step, transfer, verify, verdict."""
    rounds: dict[tuple[int, int], list[Span]] = defaultdict(list)
    for span in trace.spans:
        for mine in span.each:
            rounds[mine.request, mine.round].append(mine)
    for spans in rounds.values():
        last: dict[str, Span] = {span.kind: span for span in sorted(spans, key=lambda span: span.end_ns)}
        chain = [last[kind] for kind in ARROW if kind in last]
        if "verify" not in last or len(chain) < 2:
            continue
        before += 1
        for place, span in enumerate(chain):
            pid, tid = places.threads[span.track]
            # In the middle of its slice: an arrow binds to the slice that is open at its instant.
            instant = (span.start_ns + span.end_ns) // 2
            event: Event = {"ph": "t", "name": "round", "cat": "round", "id": before, "pid": pid, "tid": tid}
            event["ts"] = micros(instant)
            if place == 0:
                event["ph"] = "s"
            elif place == len(chain) - 1:
                event |= {"ph": "f", "bp": "e"}
            yield event
