"""What goes on in a car beside one answer: a spoken turn, passengers, other work on the chips, and the climate.

All of it is optional: a scenario without these keys is one passenger after another on idle, cool chips.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import PLAIN_NAME, Record, Spelling, as_tuple
from hilsim.errors import Misfit

Milliseconds = Annotated[float, Field(ge=0, le=1e7)]
Seconds = Annotated[float, Field(ge=0, le=1e6)]
Name = Annotated[str, Field(pattern=PLAIN_NAME, max_length=100)]
Graph = Annotated[float, Field(ge=0.01, le=1e7)]  # milliseconds
Priority = Annotated[int, Field(ge=0, le=100)]  # 0 goes first
STAGES = ("end_of_speech", "recognition", "prompt", "first_clause", "synthesis")
PLACED_STAGES = ("end_of_speech", "recognition", "synthesis")  # those with a chip and unit of their own, in order


class Shape(Record):
    """A network by its size: 10^9 multiply-accumulates a pass, 10^6 parameters, operators (layers as compiled)."""

    gmacs: float = Field(ge=0, le=1e6)
    parameters_m: float = Field(ge=0, le=1e6)
    operators: int = Field(default=100, ge=1, le=10**6)


class Demand(Record):
    """What one execution asks for: a network's `shape`, priced by the unit it runs on, or `ms` of a unit's time.

    `megabytes` move through the memory meanwhile; those of a shape are its parameters.
    """

    shape: Shape | None = None
    precision: str | None = None  # of a shape: 8 bits where the unit has them
    ms: Milliseconds | None = None
    megabytes: float = Field(default=0.0, ge=0, le=1e7)

    @model_validator(mode="after")
    def _one_price(self) -> Demand:
        if (self.shape is None) == (self.ms is None):
            raise Misfit("both or neither of shape and ms", "one of them")
        if self.shape is None and self.precision is not None:
            raise Misfit("a precision with ms", "a precision of a shape")
        return self


class Stage(Record):
    """Where a stage of the spoken turn runs: on a `unit` of a `chip` (the target's by default), or on none of ours.

    `megabytes_per_s` move through the chip's memory while it runs. Between its graphs, of `graph_ms` at most, it gives
    the unit up as the steps of a language model do. Without `graph_ms` each execution is one graph.
    """

    chip: Spelling | None = None
    unit: str | None = None
    priority: Priority = 1
    megabytes_per_s: float = Field(default=0.0, ge=0, le=1e7)
    graph_ms: Graph | None = None
    source: str = "assumed"  # where its times come from


class EndOfSpeech(Stage):
    """How the end of a question is noticed: `wait_ms` of silence, after which an end-of-turn `model` may be asked."""

    wait_ms: Milliseconds = 500.0
    model: Demand | None = None


class Recognition(Stage):
    """Speech to text. `streaming` has `chunk_ms` of speech left to do when speech has ended, and all of it if not so.

    Its time is `real_time_factor` times the length of the speech, and `fixed_ms`; or, of a `model`, one pass a chunk.
    """

    streaming: bool = True
    real_time_factor: float = Field(default=0.2, ge=0, le=100)
    fixed_ms: Milliseconds = 0.0
    graph_ms: Graph | None = 50.0  # assumed: an encoder in some layers, a decoder of many small graphs
    chunk_ms: float = Field(default=500.0, ge=1, le=60_000)
    model: Demand | None = None


class PromptAssembly(Record):
    """What stands before and around a question: system prompt, tool descriptions, retrieved passages.

    System prompt and tools stand before every conversation; `kept` in the cache they are read once. Retrieved passages
    are read with every question. All are counts of tokens: the stand-ins do not see them.
    """

    ms: Milliseconds = 0.0
    system_tokens: int = Field(default=0, ge=0, le=10**6)
    tool_tokens: int = Field(default=0, ge=0, le=10**6)
    retrieved_tokens: int = Field(default=0, ge=0, le=10**6)
    kept: bool = True

    @property
    def standing_tokens(self) -> int:
        """What stands before every conversation."""
        return self.system_tokens + self.tool_tokens


class Tools(Record):
    """A `share` of the questions calls a tool: the model says `call_tokens`, it takes `ms`, and its result is read."""

    share: float = Field(ge=0, le=1)
    ms: Milliseconds
    call_tokens: int = Field(default=16, ge=1, le=10**5)
    result_tokens: int = Field(default=32, ge=0, le=10**5)


class Synthesis(Stage):
    """Text to speech, clause by clause: `fixed_ms` and `real_time_factor` times the clause's speech.

    Its first audio is there after `fixed_ms` and the share `first_share` of the rest.
    """

    fixed_ms: Milliseconds = 100.0
    real_time_factor: float = Field(default=0.2, ge=0, le=100)
    graph_ms: Graph | None = 50.0  # assumed: several networks, the vocoder piece by piece
    first_share: float = Field(default=0.3, ge=0, le=1)


class Swap(Record):
    """A stage whose network and the target do not fit together: whichever is needed is loaded in place of the other.

    `megabytes` is the size of the network. Both come from flash at the chip's `flash_rate`, or at `flash_mb_per_s`.
    """

    stage: Literal["recognition", "synthesis"]
    megabytes: float = Field(gt=0, le=1e7)
    flash_mb_per_s: float | None = Field(default=None, gt=0, le=1e6)


class Playback(Record):
    """How fast people and the assistant speak; words are counted in the text, or as `tokens_per_word` of its tokens."""

    words_per_s: float = Field(default=2.5, ge=0.1, le=100)
    tokens_per_word: float = Field(default=1.32, ge=0.1, le=100)


class BargeIn(Record):
    """Passengers who interrupt: a `share` of the answers, or those to the questions `turns`, `after_s` of hearing them.

    Questions are counted from 0 through the workload. The passenger's next question is what interrupts. It takes
    `notice_ms` until the assistant knows. `cache: lost` has both models read the conversation again.
    """

    share: float = Field(default=0.0, ge=0, le=1)
    turns: Annotated[tuple[int, ...], BeforeValidator(as_tuple)] = ()
    after_s: float = Field(default=1.0, ge=0, le=3600)
    notice_ms: Milliseconds = 200.0
    cache: Literal["rewound", "lost"] = "rewound"


class Budget(Record):
    """What the user allows, in milliseconds: of stages, of the whole until the first audio, of a turn, of any gap."""

    first_audio_ms: Milliseconds | None = None
    end_of_speech_ms: Milliseconds | None = None
    recognition_ms: Milliseconds | None = None
    prompt_ms: Milliseconds | None = None
    first_clause_ms: Milliseconds | None = None
    synthesis_ms: Milliseconds | None = None
    turn_ms: Milliseconds | None = None
    gap_ms: Milliseconds | None = None
    reaction_ms: Milliseconds | None = None
    percentile: Literal[50, 90, 99] = 90


class Speech(Record):
    """The spoken turn: end of speech, recognition, prompt, language model, clause by clause to speech, playback."""

    wake_word: Demand | None = None
    end_of_speech: EndOfSpeech = EndOfSpeech()
    recognition: Recognition = Recognition()
    prompt: PromptAssembly = PromptAssembly()
    tools: Tools | None = None
    synthesis: Synthesis = Synthesis()
    playback: Playback = Playback()
    swap: Swap | None = None
    barge_in: BargeIn | None = None
    budget: Budget = Budget()

    @property
    def preface_tokens(self) -> int:
        """Positions of a context before the conversation: system prompt, tools, retrieved passages."""
        return self.prompt.standing_tokens + self.prompt.retrieved_tokens

    @property
    def beside_tokens(self) -> int:
        """Positions of a context that a conversation cannot have: those before it, and a tool's call and result."""
        return self.preface_tokens + (0 if self.tools is None else self.tools.call_tokens + self.tools.result_tokens)


class Poisson(Record):
    """Questions at random, so many an hour on average."""

    kind: Literal["poisson"]
    per_hour: float = Field(ge=1e-3, le=1e5)


class AtTimes(Record):
    """Questions at given instants, in seconds since the start: `at_s`, or the first column of a CSV `file`."""

    kind: Literal["times"]
    at_s: Annotated[tuple[float, ...], BeforeValidator(as_tuple)] = ()
    file: str | None = None

    @model_validator(mode="after")
    def _in_order(self) -> AtTimes:
        if bool(self.at_s) == (self.file is not None):
            raise Misfit("both or neither of at_s and file", "one of them")
        if any(one < 0 for one in self.at_s) or any(later < one for one, later in pairwise(self.at_s)):
            raise Misfit(f"instants {', '.join(f'{one:g}' for one in self.at_s)}", "seconds from 0 on, in order")
        return self


class Pauses(Record):
    """The next question `pause_s` after the last answer was heard; `spread` is the sigma of a lognormal around it."""

    kind: Literal["pauses"]
    pause_s: Seconds
    spread: float = Field(default=0.0, ge=0, le=3)


Arrivals = Annotated[Poisson | AtTimes | Pauses, Field(discriminator="kind")]


class Passenger(Record):
    """One who asks. Of those who wait for a unit, the lowest `priority` goes first.

    A question is refused where `queue_limit` of them wait already, and given up without first audio in `patience_s`.
    """

    name: Name
    arrivals: Arrivals
    priority: Priority = 1
    queue_limit: int | None = Field(default=None, ge=1, le=10**6)
    patience_s: float | None = Field(default=None, gt=0, le=1e6)


class BackgroundTask(Record):
    """Other work: every `period_ms` one execution of `work` on a unit, or a stream through the memory alone.

    A stream moves `gigabytes_per_s` for the share `duty` of each period and occupies no unit. `deadline_ms` counts from
    the release, the period where it is not given. Work that is released while the last is unfinished is skipped and
    counts as missed, a stream begins its next period late. `weight` is its part of a memory that does not suffice for
    all. One that comes `after` another is released as each execution of that one ends: its period is the other's.
    Work gives the unit up between its graphs, of `graph_ms` at most, and is one graph without it.
    """

    name: Name
    after: Name | None = None
    chip: Spelling | None = None
    unit: str | None = None
    period_ms: float = Field(ge=0.1, le=1e7)
    jitter_ms: Milliseconds = 0.0
    deadline_ms: float | None = Field(default=None, gt=0, le=1e7)
    priority: Priority = 0
    weight: float = Field(default=1.0, gt=0, le=1e6)
    work: Demand | None = None
    graph_ms: Graph | None = None
    gigabytes_per_s: float | None = Field(default=None, gt=0, le=1e5)
    duty: float = Field(default=1.0, gt=0, le=1)
    source: str = "assumed"

    @model_validator(mode="after")
    def _one_kind(self) -> BackgroundTask:
        if (self.work is None) == (self.gigabytes_per_s is None):
            raise Misfit("both or neither of work and gigabytes_per_s", "one of them")
        if (self.work is None) != (self.unit is None):
            raise Misfit(
                "work without a unit, or a stream with one", "a unit for work; a stream goes through the memory alone"
            )
        if self.graph_ms is not None and self.work is None:
            raise Misfit(f"graph_ms {self.graph_ms:g} of a stream", "graph_ms of work on a unit")
        if self.jitter_ms >= self.period_ms:
            raise Misfit(f"jitter_ms {self.jitter_ms:g} of a period of {self.period_ms:g} ms", "less than the period")
        if self.after is not None and self.jitter_ms:
            raise Misfit(f"jitter_ms {self.jitter_ms:g} after {self.after}", "none: it is released as that one ends")
        return self


class Sharing(Record):
    """Who gets how much of a chip's memory rate where it does not suffice.

    `weights` are by task, by unit, or by CHIP/UNIT for the unit of that chip alone; 1 by default.
    """

    weights: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(default_factory=dict)


class Climate(Record):
    """Around the chips: `ambient_c`, and how warm they are as the trip begins (as the ambient where not given)."""

    ambient_c: float = Field(ge=-60, le=120)
    start_c: float | None = Field(default=None, ge=-60, le=150)

    @model_validator(mode="after")
    def _no_colder_than_outside(self) -> Climate:
        if self.start_c is not None and self.start_c < self.ambient_c:
            found = f"start_c {self.start_c:g} below ambient_c {self.ambient_c:g}"
            raise Misfit(found, "a start at the ambient temperature or above")
        return self


class Trip(Record):
    """How long: no question is asked after `minutes`, those that wait then are refused.

    `cold_start` begins with loading the models from flash.
    """

    minutes: float = Field(ge=1e-3, le=100_000)
    cold_start: bool = False


class FurtherLink(Record):
    """A link between two chips beside that of draft and target, for stages that run elsewhere."""

    link: str
    between: Annotated[tuple[Spelling, Spelling], BeforeValidator(as_tuple)]
