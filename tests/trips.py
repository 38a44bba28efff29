"""A hand-made trace of a trip: round numbers, so that every measure of its turns can be done on paper.

A question is spoken for 2 s every 20 s. Its end is noticed after 500 ms, it is recognised on the CPU in 130 ms and
assembled in 2; the target reads it in 150 ms and says 20 tokens, one each 50 ms, the sixth of which ends a clause. The
first audio is 80 ms later: 500 + 130 + 2 + (150 + 5 x 50) + 80 = 1112 ms after the end of speech. A turn that is `held
up` first waits for a camera's 300 ms on the NPU.
"""

from __future__ import annotations

from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.places import CODE as PROJECT
from hilsim.sim.trace import Observer, RequestRecord, Round, Sample, Span, TaskTally, Trace, TurnRecord

MS, S = 10**6, 10**9
NPU, CPU, CHIP = "sa8295p.npu", "sa8295p.cpu", "sa8295p"
EVERY_NS = 20 * S
FIRST_AUDIO_MS = 1112
COMPANY = (
    "speech={budget: {first_audio_ms: 1200, recognition_ms: 150, first_clause_ms: 500, gap_ms: 100}, "
    "playback: {words_per_s: 2.5}}",
    "passengers=[{name: anna, arrivals: {kind: poisson, per_hour: 20}}, "
    "{name: ben, arrivals: {kind: poisson, per_hour: 9}}]",
    "background=[{name: camera, chip: sa8295p, unit: npu, period_ms: 33, work: {ms: 3}}]",
    "climate={ambient_c: 35}",
    "trip={minutes: 10}",
)


def trip_setup(*overrides: str) -> Setup:
    """A scenario with company that fits the trace."""
    return load_setup(PROJECT / "scenarios" / "orin_8295_greedy.yaml", [*COMPANY, *overrides])


def trip_trace(
    turns: int = 6,
    held_up: tuple[int, ...] = (),
    interrupted: tuple[int, ...] = (),
    refused: tuple[int, ...] = (),
    observer: Observer | None = None,
) -> Trace:
    """So many turns, of anna and ben in turn; it gets 1 K warmer a turn, the clock is at 80 % from the fourth on."""
    trace = Trace("sync", (CPU, NPU), (CPU, NPU), (), observer=observer)
    trace.tasks["camera"] = TaskTally("camera", NPU, 33 * MS, 33 * MS)
    if observer is not None:
        observer.started("sync", trace.tracks, turns)
    for number in range(turns):
        begin = number * EVERY_NS
        trace.add_sample(Sample(CHIP, begin, "temperature", "junction", 60.0 + number))
        trace.add_sample(Sample(CHIP, begin, "clock", "npu", 1.0 if number < 3 else 0.8))
        trace.add_sample(Sample(CHIP, begin, "power", "", 5.0))
        if number in refused:
            unreached = (-1,) * 7
            trace.add_turn(
                TurnRecord(
                    number, who(number), -1, begin, begin + 2 * S, begin + 2500 * MS, *unreached, outcome="refused"
                )
            )
            continue
        one_turn(trace, number, begin, 300 * MS if number in held_up else 0, number in interrupted)
    trace.end_ns = turns * EVERY_NS
    return trace


def who(number: int) -> str:
    """The passengers take turns."""
    return ("anna", "ben")[number % 2]


def one_turn(trace: Trace, number: int, begin: int, held_ns: int, interrupted: bool) -> None:
    """One spoken turn: its stages, its steps, and its record."""
    spoken = begin + 2 * S
    noticed, recognised = spoken + 500 * MS, spoken + 630 * MS
    asked = spoken + 632 * MS
    trace.add_span(Span(CPU, "recognition", noticed, recognised, number, -1, noticed, recognised))
    if trace.observer is not None:
        trace.observer.asked(number, number, f"Question {number}?", asked)
    if held_ns:
        trace.add_span(Span(NPU, "camera", asked, asked + held_ns, -1, -1, asked, asked + held_ns))
        trace.tasks["camera"].missed += 1
    trace.tasks["camera"].released += 600
    trace.tasks["camera"].finished += 600
    now = asked + held_ns
    trace.add_sample(Sample(CHIP, now, "memory rate", "", 60e9))
    trace.add_span(Span(NPU, "prefill", now, now + 150 * MS, number, 0, asked, now + 150 * MS, 30, 32))
    now += 150 * MS
    instants = [now]
    add_round(trace, number, 0, asked, now)
    for place in range(1, 20):
        trace.add_span(Span(NPU, "decode", now, now + 50 * MS, number, place, now, now + 50 * MS, 1, 1, 0, 30 + place))
        add_round(trace, number, place, now, now + 50 * MS)
        now += 50 * MS
        instants.append(now)
    trace.add_sample(Sample(CHIP, now, "memory rate", "", 5e9))
    clause = instants[5]
    audio = clause + 80 * MS
    trace.add_span(Span(CPU, "synthesis", clause, clause + 200 * MS, number, -1, clause, clause + 200 * MS))
    record = RequestRecord(number, number, 0, f"Question {number}?", f"Answer {number}.", asked, now, 30, 20, 6, "end")
    trace.add_request(record)
    gaps = ((audio + S, audio + S + 150 * MS),) if number == 1 else ()
    ends = {"interrupted_ns": audio + S, "silent_ns": audio + S + 220 * MS, "heard_tokens": 9, "outcome": "interrupted"}
    trace.add_turn(
        TurnRecord(
            number, who(number), number, begin, spoken, noticed, recognised, asked, instants[0], clause, audio, now,
            audio + (S + 220 * MS if interrupted else 6 * S), gaps, **(ends if interrupted else {}),
        )
    )  # fmt: skip


def add_round(trace: Trace, request: int, number: int, start: int, end: int) -> None:
    """A round of one token."""
    closed = Round(request, number, start, end, end, 0, 0, 1, 0, (7,), (1.0,), 50 * MS, 30 + number)
    trace.add_round(closed, lambda tokens: " word" * len(tokens))
