"""Why a stretch of a turn took so long, from spans and samples: what it waited behind, what slowed its steps.

Every nanosecond of the stretch is given to the first of these that holds:

| part    | what was going on                                                           |
| worked  | one of its own spans: a step, a stage, a message; of a stage, of its kinds  |
| waited  | none, but one had been asked for: by what occupied the track meanwhile      |
|         | or none yet, and weights were being loaded: by the load                     |
| other   | neither: a fixed wait, a tool, hardware outside the model                   |

`slower_ms` is part of what it worked: how much longer its steps took than the fastest of the same kind, width and track
with no fewer positions cached, of answers that were not cut. It is a lower bound of what a shared memory and a lower
clock cost. `beside` are the background tasks and requests that ran on the same chips meanwhile, `slowest_clock` the
lowest clock of a unit there. What of an answer goes on beside a stage is no work of that stage: the language model
decodes on while the first clause is synthesised.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hilsim.sim.loading import LOAD
from hilsim.sim.trace import Sample, Span, Trace
from hilsim.units import ms

MESSAGES = ("audio", "text")
STAGE_KINDS = {  # of spans, by stage of the turn; the other stages are the language model's, of all other kinds
    "end_of_speech": ("end_of_speech",),
    "recognition": ("recognition", *MESSAGES),
    "synthesis": ("synthesis", *MESSAGES),
}
NOT_OF_THE_MODEL = {"wake_word", *(kind for kinds in STAGE_KINDS.values() for kind in kinds)}
MODEL_STAGES = ("prompt", "first_clause")
FIXED_STAGES = ("end_of_speech", "prompt")  # need no weights that a swap brings
LOADING = "a swap or load of weights"

Step = tuple[str, str, int, int, int, int]  # track, kind, request, round, position, cached: of all pieces of one step


@dataclass(frozen=True)
class Causes:
    """What a stretch of a turn was spent on, in ms."""

    worked_ms: float
    by_kind_ms: dict[str, float]  # of its own spans, which may go on at once; the longest first
    waited_ms: dict[str, float]  # by what it waited behind, the longest first
    other_ms: float
    slower_ms: float
    beside: tuple[str, ...]
    slowest_clock: float  # share of the full clock


@dataclass
class Shape:
    """Steps of one kind, width and track: cached positions in order, and the least time of those from there on."""

    cached: list[int] = field(default_factory=list)
    least_ns: list[int] = field(default_factory=list)


class Reasons:
    """A trace as it is asked why."""

    def __init__(self, trace: Trace):
        self.trace = trace
        self.by_request: dict[int, list[Span]] = defaultdict(list)
        self.by_track: dict[str, list[Span]] = defaultdict(list)
        for span in trace.spans:
            for mine in span.each:
                self.by_request[mine.request].append(mine)
            self.by_track[span.track].append(span)
        for spans in self.by_track.values():
            spans.sort(key=lambda span: span.start_ns)
        self.loads = [span for span in trace.spans if span.kind == LOAD]
        self.ends = {track: [span.end_ns for span in spans] for track, spans in self.by_track.items()}
        self.clocks: dict[str, list[Sample]] = defaultdict(list)
        for sample in trace.samples:
            if sample.quantity == "clock":
                self.clocks[sample.chip].append(sample)
        self.passengers = {turn.request: turn.passenger for turn in trace.turns if turn.request >= 0}
        self.steps = steps_of(span for spans in self.by_request.values() for span in spans)
        whole = {turn.request for turn in trace.turns if turn.outcome == "answered"}  # others end with a part of a step
        self.shapes = shapes_of(pieces for pieces in self.steps.values() if pieces[-1].request in whole)

    def causes(self, request: int, begin_ns: int, end_ns: int, stage: str = "") -> Causes:
        """What a request's stretch from `begin_ns` to `end_ns` was spent on: one of a stage, or of the whole answer."""
        mine = [
            span
            for span in self.by_request[request]
            if span.asked_ns < end_ns and span.done_ns > begin_ns and is_of(stage, span.kind)
        ]
        worked = joined((max(begin_ns, span.start_ns), min(end_ns, span.done_ns)) for span in mine)
        waited: dict[str, int] = defaultdict(int)
        kinds: dict[str, int] = defaultdict(int)
        for span in mine:
            kinds[span.kind] += max(0, min(end_ns, span.done_ns) - max(begin_ns, span.start_ns))
        taken = list(worked)
        for span in sorted(mine, key=lambda span: span.start_ns):
            wanted = [(max(begin_ns, span.asked_ns), min(end_ns, span.start_ns))]
            for start, end in without(wanted, taken):
                for other in self.occupying(span.track, start, end):
                    waited[self.name_of(other, request)] += min(end, other.end_ns) - max(start, other.start_ns)
            taken = joined([*taken, *wanted])
        if stage not in FIXED_STAGES:
            for load in self.loads:
                free = without([(max(begin_ns, load.start_ns), min(end_ns, load.end_ns))], taken)
                waited[LOADING] += sum(end - start for start, end in free)
        tracks = {span.track.split(".", 1)[0] for span in mine}
        length, busy = end_ns - begin_ns, sum(end - start for start, end in worked)
        return Causes(
            ms(busy),
            longest_first(kinds),
            longest_first(waited),
            ms(max(0, length - busy - sum(waited.values()))),
            ms(self.slower_ns(mine, begin_ns, end_ns)),
            self.beside(tracks, request, begin_ns, end_ns),
            min((self.slowest(chip, begin_ns, end_ns) for chip in tracks), default=1.0),
        )

    def occupying(self, track: str, begin_ns: int, end_ns: int) -> list[Span]:
        """The spans of a track within a time."""
        spans = self.by_track[track]
        first = bisect_right(self.ends[track], begin_ns)
        last = bisect_left(spans, end_ns, key=lambda span: span.start_ns)
        return spans[first:last]

    def name_of(self, span: Span, request: int) -> str:
        """What a span is of: a background task, or a passenger's request."""
        if span.kind == LOAD:
            return LOADING
        if span.kind in self.trace.tasks or span.request < 0:
            return span.kind
        if span.request == request:
            return f"its own {span.kind}"
        passenger = self.passengers.get(span.request)
        return f"request {span.request}" if passenger is None else f"request {span.request} of {passenger}"

    def beside(self, chips: Iterable[str], request: int, begin_ns: int, end_ns: int) -> tuple[str, ...]:
        """What else ran on these chips meanwhile, the longest first."""
        found: dict[str, int] = defaultdict(int)
        for track in self.by_track:
            if track.split(".", 1)[0] in chips:
                for span in self.occupying(track, begin_ns, end_ns):
                    if all(one.request != request for one in span.each) or span.kind in self.trace.tasks:
                        found[self.name_of(span, request)] += min(end_ns, span.end_ns) - max(begin_ns, span.start_ns)
        return tuple(sorted(found, key=lambda name: -found[name]))

    def slowest(self, chip: str, begin_ns: int, end_ns: int) -> float:
        """The lowest clock of a chip's units within a time, as a share of the full clock."""
        samples = self.clocks[chip]
        last = bisect_left(samples, end_ns, key=lambda sample: sample.at_ns)
        first = bisect_right(samples, begin_ns, hi=last, key=lambda sample: sample.at_ns)
        before: dict[str, float] = {}
        for sample in samples[:first]:
            before[sample.name] = sample.value
        return min([*before.values(), *(sample.value for sample in samples[first:last])], default=1.0)

    def slower_ns(self, spans: Iterable[Span], begin_ns: int, end_ns: int) -> float:
        """How much longer these steps took than the fastest of their kind that had no less to do.

        Of a step that is partly within the time, the same part of it counts.
        """
        found = 0.0
        for step in {step_of(span) for span in spans}:
            pieces = self.steps.get(step, [])
            shape = self.shapes.get(shape_of(pieces)) if pieces else None
            if shape is None or pieces[-1].cached > shape.cached[-1]:
                continue
            spent = length_of(pieces)
            inside = sum(max(0, min(end_ns, span.end_ns) - max(begin_ns, span.start_ns)) for span in pieces)
            longer = max(0, spent - shape.least_ns[bisect_left(shape.cached, pieces[-1].cached)])
            found += longer * inside / max(1, spent)
        return found


def is_of(stage: str, kind: str) -> bool:
    """Whether spans of a kind are a stage's own work; all are of what is no stage."""
    if stage in MODEL_STAGES:
        return kind not in NOT_OF_THE_MODEL
    return kind in STAGE_KINDS.get(stage, (kind,))


def longest_first(spent_ns: dict[str, int]) -> dict[str, float]:
    """Times by name in ms, the longest first."""
    return {name: ms(spent) for name, spent in sorted(spent_ns.items(), key=lambda item: -item[1]) if spent}


def step_of(span: Span) -> Step:
    """What the pieces of one step have in common."""
    return span.track, span.kind, span.request, span.round, span.position, span.cached


def shape_of(pieces: Sequence[Span]) -> tuple[str, str, int, int]:
    """What steps that cost alike have in common, beside the positions cached; the last piece has a step's rows."""
    last = pieces[-1]
    return last.track, last.kind, last.rows, last.width


def length_of(pieces: Iterable[Span]) -> int:
    """The time of a step in ns: of all its pieces."""
    return sum(span.end_ns - span.start_ns for span in pieces)


def steps_of(spans: Iterable[Span]) -> dict[Step, list[Span]]:
    """The steps of models that were done to their end, each with its pieces in order."""
    found: dict[Step, list[Span]] = defaultdict(list)
    for span in spans:
        found[step_of(span)].append(span)
    return {step: sorted(pieces, key=end_of) for step, pieces in found.items() if max(pieces, key=end_of).rows}


def end_of(span: Span) -> int:
    """When a span ends, in ns."""
    return span.end_ns


def shapes_of(steps: Iterable[Sequence[Span]]) -> dict[tuple[str, str, int, int], Shape]:
    """The least time of steps by shape and cached positions."""
    times: dict[tuple[str, str, int, int], list[tuple[int, int]]] = defaultdict(list)
    for pieces in steps:
        times[shape_of(pieces)].append((pieces[-1].cached, length_of(pieces)))
    found = {}
    for shape, pairs in times.items():
        pairs.sort()
        least, so_far = [], pairs[-1][1]
        for _, spent in reversed(pairs):
            so_far = min(so_far, spent)
            least.append(so_far)
        found[shape] = Shape([cached for cached, _ in pairs], least[::-1])
    return found


def joined(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of intervals, in order."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(interval for interval in intervals if interval[0] < interval[1]):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found


def without(intervals: Iterable[tuple[int, int]], taken: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of the intervals lies in none of those taken, which are disjoint and in order."""
    left = joined(intervals)
    for start, end in taken:
        cut = []
        for begin, until in left:
            cut += [(begin, min(until, start)), (max(begin, end), until)]
        left = [interval for interval in cut if interval[0] < interval[1]]
    return left
