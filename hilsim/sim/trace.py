"""The trace of a run: spans, rounds, requests and memory levels, in whole nanoseconds.

Metrics, dashboard, report and exports are functions of it.
Spans on one track never overlap: a track is one serial resource, a unit or one direction of a link. Observers see
spans, rounds and requests as they close and cannot change the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from hilsim.errors import ChipLost
from hilsim.sim.kept import Kept


class Fellow(NamedTuple):
    """A further session of a batch: what the `Span` of a step says of its first one, of this one."""

    request: int
    round: int
    asked_ns: int
    rows: int
    width: int
    cached: int
    position: int


class Span(NamedTuple):
    """One occupation of one resource.

    `asked_ns` is when it was wanted (the wait before it is start - asked); `done_ns` is when its effect is there:
    the end, or for a message the arrival after the link's delay. `rows` and `width` count rows asked for and computed,
    `cached` the positions read from the cache; `position` is the place in the conversation that a draft step proposes a
    token for; `nbytes` counts what a message carried. Kinds beside work are `wake` and `switch`, which a unit pays
    between passes, `load`, and `fault`, time that came to nothing. A step of a batch is one span: `fellows` are the
    sessions computed with the first, `rows` and `width` are each one's own.
    """

    track: str
    kind: str  # a phase (prefill, draft prefill, draft, decode, verify), a network, a message (prompt, drafts, verdict)
    start_ns: int
    end_ns: int
    request: int
    round: int
    asked_ns: int
    done_ns: int
    rows: int = 0
    width: int = 0
    nbytes: int = 0
    cached: int = 0
    position: int = -1
    fellows: tuple[Fellow, ...] = ()

    @property
    def each(self) -> tuple[Span, ...]:
        """The span as each session of the batch sees it, the first one's first; of most spans, itself alone."""
        if not self.fellows:
            return (self,)
        own = Fellow(self.request, self.round, self.asked_ns, self.rows, self.width, self.cached, self.position)
        all_of_them = (own, *self.fellows)
        return tuple(
            self._replace(**one._asdict(), fellows=all_of_them[:place] + all_of_them[place + 1 :])
            for place, one in enumerate(all_of_them)
        )


class Round(NamedTuple):
    """One delivery of tokens to the passenger: the first token, a plain decode step, or a verdict.

    `emitted` counts tokens that were committed, of which the first `kept_drafts` were drafted. `single_ns` is what one
    plain decode step would have taken on the target here. `position` is the length of the conversation before.
    """

    request: int
    number: int  # 0 is the prefill that makes the first token
    start_ns: int
    end_ns: int  # both chips know the verdict
    delivered_ns: int  # the tokens have arrived on the application's chip
    drafted: int
    accepted: int
    emitted: int
    kept_drafts: int
    tokens: tuple[int, ...]
    margins: tuple[float, ...]
    single_ns: int
    position: int = 0
    depth: int = 0  # the longest row of drafts that could have stood: `drafted`, or the levels of a tree
    distances: tuple[float, ...] = ()  # lossy rules: total variation from the target, by drafted position

    def ended(self, end_ns: int, delivered_ns: int) -> Round:
        """The same round, over at these instants."""
        return tuple.__new__(Round, (*self[:3], end_ns, delivered_ns, *self[5:]))


class RequestRecord(NamedTuple):
    """One question and its answer, when it is over."""

    number: int
    conversation: int
    turn: int
    user: str
    answer: str
    arrived_ns: int
    finished_ns: int
    prompt_tokens: int
    output_tokens: int
    clause_tokens: int  # tokens up to the end of the first clause
    finish: str  # "end", "length", "context", or "cut" (the passenger interrupted, or gave up)


class Level(NamedTuple):
    """Bytes in use on a chip from `at_ns` on."""

    chip: str
    at_ns: int
    used_bytes: int
    what: str


class Sample(NamedTuple):
    """A quantity of a chip from `at_ns` on: "memory rate" (bytes/s), "memory capacity" (bytes/s that it can
    give, once a level of the governor has changed that), "power" (W), "clock" (share of the full clock of a unit,
    named), "temperature" (degrees Celsius of a node, named), or "missed" (deadlines of a task, named).
    """

    chip: str
    at_ns: int
    quantity: str
    name: str  # of the unit or node; "" of the chip
    value: float


class TurnRecord(NamedTuple):
    """One turn of a passenger by its instants in ns; -1 where one was never reached.

    `request` is -1 where the language model was not asked, or had said nothing yet. Without speech a turn is text: its
    instants up to `asked_ns` are one, and it has no audio. Of a refused question `spoke_ns` is its arrival. `gaps`
    are the intervals in which the speech had to wait for more of the answer. Of an interrupted turn `heard_tokens` were
    heard, the passenger spoke up at `interrupted_ns`, and it was silent from `silent_ns` on.
    """

    number: int
    passenger: str
    request: int
    spoke_ns: int  # the passenger begins to speak
    spoken_ns: int  # the end of speech
    noticed_ns: int  # the end is known
    recognised_ns: int  # the text is there
    asked_ns: int  # the prompt is there: the language model's turn
    first_token_ns: int
    clause_ns: int  # the first clause's text is complete
    first_audio_ns: int
    finished_ns: int  # the text is complete
    heard_ns: int  # playback has ended
    gaps: tuple[tuple[int, int], ...] = ()
    interrupted_ns: int = -1
    silent_ns: int = -1
    heard_tokens: int = -1
    outcome: str = "answered"  # or "interrupted", "refused" (too many wait), "given up" (no audio in time)
    wanted_ns: int = -1  # the passenger wanted to ask; later turns wait for the end of those before
    freed_ns: int = -1  # of an interrupted turn: the language model's units are free of it

    @classmethod
    def unasked(cls, number: int, passenger: str, outcome: str, wanted_ns: int) -> TurnRecord:
        """A question that was wanted and never asked."""
        record = cls(number, passenger, -1, wanted_ns, -1, -1, -1, -1, -1, -1, -1, -1, -1)
        return record._replace(outcome=outcome, wanted_ns=wanted_ns)


class Corrupted(NamedTuple):
    """A token of an answer that is not the target's: where, what it should have been (-1: unknown) and what it was."""

    request: int
    place: int  # in the answer, from 0
    token: int
    delivered: int


@dataclass
class FaultRecord:
    """What became of one injected fault, by its instants in ns; -1 where one was never reached.

    began <= hit <= detected <= reacted <= recovered. It is detected where something first notices that anything is
    wrong (`by` what), reacted to as the reaction begins (a message sent again, a round given up), and recovered when
    the message has arrived, the models are loaded and caches read again, or speculation goes on.
    """

    number: int  # in the order of `inject`
    kind: str
    where: str
    began_ns: int
    ended_ns: int = -1  # -1: it lasts to the end of the run
    phase: str = "idle"  # what was going on where it hit
    request: int = -1
    round: int = -1
    hit_ns: int = -1  # it changed something for the first time
    detected_ns: int = -1
    by: str = ""  # time-out, watchdog, checksum, restart, comparison, sequence number
    reacted_ns: int = -1
    served_ns: int = -1  # the first tokens delivered after it was detected
    recovered_ns: int = -1
    reactions: list[str] = field(default_factory=list)
    hits: int = 0  # messages and steps that it changed
    recomputed_tokens: int = 0  # positions of caches that were read again
    resent_messages: int = 0
    resent_bytes: int = 0
    dropped_tokens: int = 0  # drafted or computed, and given up uncommitted
    corrupted: list[Corrupted] = field(default_factory=list)
    survived: bool = True

    def strike(self, at_ns: int) -> None:
        """It has changed something."""
        self.hits += 1
        if self.hit_ns < 0:
            self.hit_ns = at_ns

    @property
    def caught(self) -> bool:
        """Whether anything noticed it."""
        return self.detected_ns >= 0

    @property
    def silent(self) -> bool:
        """Whether it changed something that nothing noticed."""
        return self.hits > 0 and not self.caught

    @property
    def detection_ns(self) -> int | None:
        """From the first change that it made until it was noticed."""
        return self.detected_ns - self.hit_ns if self.caught else None

    @property
    def reaction_ns(self) -> int | None:
        """From the detection to the reaction."""
        return self.reacted_ns - self.detected_ns if self.reacted_ns >= 0 else None

    @property
    def recovery_ns(self) -> int | None:
        """From the first change that it made until all is as before."""
        return self.recovered_ns - self.hit_ns if self.recovered_ns >= 0 else None

    def within(self, tolerance_ns: int) -> bool | None:
        """Whether it was detected and reacted to within an interval; None where there was nothing to react to.

        What was not survived is not, however soon it was reacted to.
        """
        if not self.survived:
            return False
        if self.reacted_ns < 0:
            return False if self.corrupted else None
        return self.reacted_ns - self.hit_ns <= tolerance_ns


@dataclass
class TaskTally:
    """What became of a background task: executions released, finished and missed, and how long they took in ns."""

    name: str
    track: str  # its unit, or its chip's memory
    period_ns: int
    deadline_ns: int
    released: int = 0
    finished: int = 0
    missed: int = 0  # late, or skipped as the last was unfinished
    worst_ns: int = 0  # from release to finish
    total_ns: int = 0


@dataclass
class HeatTally:
    """What a chip drew during a run, why, and what became of it as heat; there is one for each chip with a climate.

    `joules` are by unit and cause: the unit is the name of one, "memory", or "" of the chip itself, whose cause is
    "idle"; other causes are "target", "draft", and the names of stages and background tasks. Level 0 of the governor is
    full speed. Joules drawn = stored in the nodes + gone to the ambient air.
    """

    chip: str
    joules: dict[tuple[str, str], float] = field(default_factory=dict)
    level_ns: list[int] = field(default_factory=list)  # how long at each level
    changes: int = 0  # of level
    hottest_c: dict[str, float] = field(default_factory=dict)  # by node, as it was looked at
    critical_c: float = 0.0  # where a real chip shuts down
    stored_j: float = 0.0  # since the start; negative of a chip that has cooled
    to_ambient_j: float = 0.0

    @property
    def drawn_j(self) -> float:
        """All joules drawn."""
        return math.fsum(self.joules.values())

    @property
    def throttled_ns(self) -> int:
        """Nanoseconds below full speed."""
        return sum(self.level_ns[1:])


@dataclass(frozen=True)
class Pace:
    """How a real-time run kept up with the wall clock.

    `factor` is what was asked, wall seconds per simulated second: 2 is slow motion. Real-time factors are, as the
    convention is, the other way round, simulated time over wall time: 1 is real time, 2 twice as fast. An event is an
    overrun where it is processed more than `late_limit_ms` after it was due; `max_late_ms` is over all events.
    """

    factor: float
    events: int
    overruns: int
    late_limit_ms: float
    max_late_ms: float
    simulated_s: float
    wall_s: float

    @property
    def asked_real_time_factor(self) -> float:
        return 1 / self.factor

    @property
    def real_time_factor(self) -> float:
        """What was achieved: never more than was asked, as nothing is early; less where the last event was late."""
        return self.simulated_s / self.wall_s if self.wall_s else self.asked_real_time_factor


class Observer(Protocol):
    """Receives the events of a run as they happen. A run does not catch the exceptions of an observer."""

    def started(self, policy: str, tracks: tuple[str, ...], requests: int) -> None: ...

    def asked(self, request: int, conversation: int, user: str, at_ns: int) -> None: ...

    def span(self, span: Span) -> None: ...

    def round(self, round: Round, text: str) -> None: ...

    def request(self, record: RequestRecord) -> None: ...

    def sample(self, sample: Sample) -> None: ...

    def turn(self, turn: TurnRecord) -> None: ...


@dataclass
class Trace:
    """What one run left behind. `skipped_turns` counts turns that no longer fitted into the context; `pace` is how a
    real-time run kept up with the wall clock; it does not affect the trace.

    Where `keep` is False, spans, rounds and levels go to the observer and are not stored: the memory of a run does
    not grow with its rounds. `add_span` and `add_sample` take all fields of one in order, as any tuple.
    """

    policy: str
    tracks: tuple[str, ...]
    units: tuple[str, ...]
    directions: tuple[str, ...]
    kept_spans: Kept[Span] = field(default_factory=lambda: Kept(Span), repr=False)
    kept_rounds: Kept[Round] = field(default_factory=lambda: Kept(Round), repr=False)
    requests: list[RequestRecord] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    skipped_turns: int = 0
    reread: list[int] = field(default_factory=list)  # of turns before which caches were cut: tokens dropped from them
    end_ns: int = 0
    pace: Pace | None = field(default=None, compare=False)
    observer: Observer | None = None
    keep: bool = True
    lost: ChipLost | None = None  # the board whose loss ended the run early
    turns: list[TurnRecord] = field(default_factory=list)
    tasks: dict[str, TaskTally] = field(default_factory=dict)  # background, by name
    kept_samples: Kept[Sample] = field(default_factory=lambda: Kept(Sample), repr=False)
    exhausted_ns: int = -1  # since when questions of passengers found the workload used up; -1 where none did
    heat: dict[str, HeatTally] = field(default_factory=dict)  # by chip
    faults: list[FaultRecord] = field(default_factory=list)  # those that began, in order
    over: bool = False
    add_span: Callable[[tuple[Any, ...]], None] = field(init=False, compare=False, repr=False)
    add_sample: Callable[[tuple[Any, ...]], None] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        unseen = self.keep and self.observer is None
        self.add_span = self.kept_spans.add if unseen else self.show_span
        self.add_sample = self.kept_samples.add if unseen else self.show_sample

    @property
    def spans(self) -> list[Span]:
        """What occupied which resource, in the order in which that ended."""
        return self.kept_spans.records

    @property
    def rounds(self) -> list[Round]:
        """What was delivered, in the order of delivery."""
        return self.kept_rounds.records

    @property
    def samples(self) -> list[Sample]:
        """How quantities of the chips changed, in the order in which that was seen."""
        return self.kept_samples.records

    @property
    def watched(self) -> bool:
        """Whether spans and samples go anywhere: where not, nothing has to make them."""
        return self.keep or self.observer is not None

    def close(self, end_ns: int) -> None:
        """The run is over: what is still under way gives up its unit later, as it is collected, and leaves no span."""
        self.end_ns, self.over = end_ns, True
        self.kept_spans.close()
        self.kept_samples.close()
        self.add_span, self.add_sample = self.show_span, self.show_sample

    def show_span(self, fields: tuple[Any, ...]) -> None:
        """Add a span of these fields where the run is not over, and show it to the observer."""
        if self.over:
            return
        if self.keep:
            self.kept_spans.add(fields)
        if self.observer is not None:
            self.observer.span(Span._make(fields))

    def add_round(self, round: Round, text: Callable[[tuple[int, ...]], str]) -> None:
        """`text` decodes tokens; it is only called for an observer."""
        if self.keep:
            self.kept_rounds.add(tuple(round))
        if self.observer is not None:
            self.observer.round(round, text(round.tokens))

    def add_level(self, level: Level) -> None:
        if self.keep:
            self.levels.append(level)

    def show_sample(self, fields: tuple[Any, ...]) -> None:
        """Add a sample of these fields where the run is not over, and show it to the observer."""
        if self.over:
            return
        if self.keep:
            self.kept_samples.add(fields)
        if self.observer is not None:
            self.observer.sample(Sample._make(fields))

    def add_turn(self, turn: TurnRecord) -> None:
        self.turns.append(turn)
        if self.observer is not None:
            self.observer.turn(turn)

    def add_request(self, record: RequestRecord) -> None:
        self.requests.append(record)
        if self.observer is not None:
            self.observer.request(record)
