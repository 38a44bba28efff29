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
OUTCOMES = ("answered", "interrupted", "refused", "given up")  # what becomes of a spoken turn
UNHEARD = ("refused", "given up")  # those without first audio
PLACED_STAGES = ("end_of_speech", "recognition", "synthesis")  # those with a chip and unit of their own, in order


class Shape(Record):
    """A network by its size."""

    gmacs: float = Field(ge=0, le=1e6)
    """Multiply-accumulates of a pass, in 10^9."""
    parameters_m: float = Field(ge=0, le=1e6)
    """Parameters, in 10^6."""
    operators: int = Field(default=100, ge=1, le=10**6)
    """Operators as compiled, each of which costs a launch."""


class Demand(Record):
    """What one execution asks for: a network by its `shape`, or milliseconds of a unit's time."""

    shape: Shape | None = None
    """The network by its size; the unit that it runs on gives its time."""
    precision: str | None = None
    """Number format of the network; 8 bits where the unit has them."""
    ms: Milliseconds | None = None
    """Milliseconds of the unit, in place of a shape."""
    megabytes: float = Field(default=0.0, ge=0, le=1e7)
    """Megabytes that move through the memory meanwhile; of a shape, its parameters."""

    @model_validator(mode="after")
    def _one_price(self) -> Demand:
        if (self.shape is None) == (self.ms is None):
            raise Misfit("both or neither of shape and ms", "one of them")
        if self.shape is None and self.precision is not None:
            raise Misfit("a precision with ms", "a precision of a shape")
        return self


class Stage(Record):
    """Where a stage of the spoken turn runs: on a unit, or on none of ours.

    Between its graphs it gives the unit up as the steps of a language model do.
    """

    chip: Spelling | None = None
    """The chip; the target's where not given."""
    unit: str | None = None
    """The compute unit; where not given it occupies none, and its time passes all the same."""
    priority: Priority = 1
    """Who goes first where several wait for the unit: the lowest number."""
    megabytes_per_s: float = Field(default=0.0, ge=0, le=1e7)
    """Megabytes a second that move through the chip's memory while it runs."""
    graph_ms: Graph | None = None
    """Longest graph, after which the unit is given up; one graph for each execution where null."""
    source: str = "assumed"
    """Where its times come from."""


class EndOfSpeech(Stage):
    """How the end of a question is noticed: by silence, after which an end-of-turn model may be asked."""

    wait_ms: Milliseconds = 500.0
    """Milliseconds of silence after which a question counts as over."""
    model: Demand | None = None
    """A network that is asked then whether the turn is over; none where not given."""


class Recognition(Stage):
    """Speech to text: all of it once speech has ended, or chunk by chunk while it goes on."""

    streaming: bool = True
    """Whether speech is recognised while it is spoken, so that the last chunk alone is left at its end."""
    real_time_factor: float = Field(default=0.2, ge=0, le=100)
    """Seconds of work for a second of speech."""
    fixed_ms: Milliseconds = 0.0
    """Milliseconds of work after the last speech."""
    graph_ms: Graph | None = 50.0  # assumed: an encoder in some layers, a decoder of many small graphs
    """Longest graph, after which the unit is given up; one graph for each execution where null. Assumed."""
    chunk_ms: float = Field(default=500.0, ge=1, le=60_000)
    """Milliseconds of speech that are recognised together where it streams."""
    model: Demand | None = None
    """A network, one pass a chunk, in place of real_time_factor and fixed_ms."""


class PromptAssembly(Record):
    """What stands before and around a question: system prompt, tool descriptions, retrieved passages.

    All are counts of tokens: the stand-ins do not see them.
    """

    ms: Milliseconds = 0.0
    """Milliseconds until the prompt is there."""
    system_tokens: int = Field(default=0, ge=0, le=10**6)
    """Tokens of the system prompt, before every conversation."""
    tool_tokens: int = Field(default=0, ge=0, le=10**6)
    """Tokens that describe tools, before every conversation."""
    retrieved_tokens: int = Field(default=0, ge=0, le=10**6)
    """Tokens of retrieved passages, read with every question."""
    kept: bool = True
    """Whether caches of system prompt and tools are kept, so that they are read once."""

    @property
    def standing_tokens(self) -> int:
        """What stands before every conversation."""
        return self.system_tokens + self.tool_tokens


class Tools(Record):
    """Questions that call a tool."""

    share: float = Field(ge=0, le=1)
    """Share of the questions that call a tool."""
    ms: Milliseconds
    """Milliseconds that the tool takes."""
    call_tokens: int = Field(default=16, ge=1, le=10**5)
    """Tokens that the model writes to call it."""
    result_tokens: int = Field(default=32, ge=0, le=10**5)
    """Tokens of the result, which are read."""


class Synthesis(Stage):
    """Text to speech, clause by clause."""

    fixed_ms: Milliseconds = 100.0
    """Milliseconds for each clause, whatever its length."""
    real_time_factor: float = Field(default=0.2, ge=0, le=100)
    """Seconds of work for a second of speech."""
    graph_ms: Graph | None = 50.0  # assumed: several networks, the vocoder piece by piece
    """Longest graph, after which the unit is given up; one graph for each execution where null. Assumed."""
    first_share: float = Field(default=0.3, ge=0, le=1)
    """Share of the work beside fixed_ms after which a clause's first audio is there."""


class Swap(Record):
    """A stage whose network and the target do not fit together: each is loaded in place of the other."""

    stage: Literal["recognition", "synthesis"]
    """The stage whose network takes turns in memory with the target."""
    megabytes: float = Field(gt=0, le=1e7)
    """Size of its network."""
    flash_mb_per_s: float | None = Field(default=None, gt=0, le=1e6)
    """Megabytes a second at which both are loaded; the chip's flash_rate where not given."""


class Playback(Record):
    """How fast people and the assistant speak."""

    words_per_s: float = Field(default=2.5, ge=0.1, le=100)
    """Words a second, of people and of the assistant."""
    tokens_per_word: float = Field(default=1.32, ge=0.1, le=100)
    """Tokens of a word, where there is no text to count words in."""


class BargeIn(Record):
    """Passengers who interrupt: a share of the answers, or given turns. Their next question is what interrupts.

    Turns have the numbers of the report: questions of all passengers as they are asked, refused or lost, from 0.
    """

    share: float = Field(default=0.0, ge=0, le=1)
    """Share of the answers that are interrupted."""
    turns: Annotated[tuple[int, ...], BeforeValidator(as_tuple)] = ()
    """Turns that are interrupted, by their numbers in the report."""
    after_s: float = Field(default=1.0, ge=0, le=3600)
    """Seconds of an answer's playback after which it is interrupted."""
    notice_ms: Milliseconds = 200.0
    """Milliseconds until the assistant knows."""
    cache: Literal["rewound", "lost"] = "rewound"
    """Caches of the answer: rewound to what stands, or lost, so that the conversation is read again."""


class Budget(Record):
    """What the user allows, in milliseconds: of stages, of the whole until the first audio, of a turn, of any gap."""

    first_audio_ms: Milliseconds | None = None
    """Milliseconds from the end of speech to the first audio."""
    end_of_speech_ms: Milliseconds | None = None
    """Milliseconds from the last word until the end is known."""
    recognition_ms: Milliseconds | None = None
    """Milliseconds from there until the text is there."""
    prompt_ms: Milliseconds | None = None
    """Milliseconds from the text to the prompt."""
    first_clause_ms: Milliseconds | None = None
    """Milliseconds from the prompt to the first complete clause."""
    synthesis_ms: Milliseconds | None = None
    """Milliseconds from the first clause to the first audio."""
    turn_ms: Milliseconds | None = None
    """Milliseconds of a whole turn, which ends with the last sound."""
    gap_ms: Milliseconds | None = None
    """Milliseconds of the longest silence inside an answer."""
    reaction_ms: Milliseconds | None = None
    """Milliseconds from an interruption until silence."""
    percentile: Literal[50, 90, 99] = 90
    """Percentile of the turns that must keep these limits."""


class Speech(Record):
    """The spoken turn: end of speech, recognition, prompt, language model, clause by clause to speech, playback."""

    wake_word: Demand | None = None
    """What detects the wake word, where speech is recognised; none where not given."""
    end_of_speech: EndOfSpeech = EndOfSpeech.model_construct()
    """How the end of a question is noticed."""
    recognition: Recognition = Recognition.model_construct()
    """Speech to text."""
    prompt: PromptAssembly = PromptAssembly.model_construct()
    """What stands before and around a question."""
    tools: Tools | None = None
    """Calls of tools; none where not given."""
    synthesis: Synthesis = Synthesis.model_construct()
    """Text to speech, clause by clause."""
    playback: Playback = Playback.model_construct()
    """How fast people and the assistant speak."""
    swap: Swap | None = None
    """A stage that does not fit into memory beside the target; all fit where not given."""
    barge_in: BargeIn | None = None
    """Passengers who interrupt; none do where not given."""
    budget: Budget = Budget.model_construct()
    """What may take how long; what is over it is reported."""

    @property
    def preface_tokens(self) -> int:
        """Positions of a context before the conversation: system prompt, tools, retrieved passages."""
        return self.prompt.standing_tokens + self.prompt.retrieved_tokens

    @property
    def beside_tokens(self) -> int:
        """Positions of a context that a conversation cannot have: those before it, and a tool's call and result."""
        return self.preface_tokens + (0 if self.tools is None else self.tools.call_tokens + self.tools.result_tokens)


class Poisson(Record):
    """Questions at random."""

    kind: Literal["poisson"]
    per_hour: float = Field(ge=1e-3, le=1e5)
    """Questions an hour on average, at random."""


class AtTimes(Record):
    """Questions at given instants."""

    kind: Literal["times"]
    at_s: Annotated[tuple[float, ...], BeforeValidator(as_tuple)] = ()
    """Instants of questions, in seconds since the start."""
    file: str | None = None
    """CSV file whose first column has the instants, in seconds, in place of at_s."""

    @model_validator(mode="after")
    def _in_order(self) -> AtTimes:
        if bool(self.at_s) == (self.file is not None):
            raise Misfit("both or neither of at_s and file", "one of them")
        if any(one < 0 for one in self.at_s) or any(later < one for one, later in pairwise(self.at_s)):
            raise Misfit(f"instants {', '.join(f'{one:g}' for one in self.at_s)}", "seconds from 0 on, in order")
        return self


class Pauses(Record):
    """The next question some time after the last answer was heard."""

    kind: Literal["pauses"]
    pause_s: Seconds
    """Seconds from the end of an answer to the next question."""
    spread: float = Field(default=0.0, ge=0, le=3)
    """Sigma of a lognormal factor around that pause; 0 is always the same."""


Arrivals = Annotated[Poisson | AtTimes | Pauses, Field(discriminator="kind")]


class Passenger(Record):
    """One who asks."""

    name: Name
    """What reports call the passenger; random questions follow from it and the seed."""
    arrivals: Arrivals
    """When the passenger asks."""
    priority: Priority = 1
    """Who goes first where several wait for a unit: the lowest number."""
    queue_limit: int | None = Field(default=None, ge=1, le=10**6)
    """Waiting questions of the passenger at which another is refused; never where not given."""
    patience_s: float | None = Field(default=None, gt=0, le=1e6)
    """Seconds after which a question without first audio is given up; never where not given."""


class BackgroundTask(Record):
    """Other work: an execution on a unit every period, or a stream through the memory alone.

    Work that is released while the last is unfinished is skipped and counts as missed, a stream begins its next period
    late.
    """

    name: Name
    """What reports call it; sharing.weights may name it."""
    after: Name | None = None
    """Another task, at the end of whose executions it is released: its period is the other's."""
    chip: Spelling | None = None
    """The chip; the target's where not given."""
    unit: str | None = None
    """The compute unit of work; a stream has none."""
    period_ms: float = Field(ge=0.1, le=1e7)
    """Milliseconds from one release to the next."""
    jitter_ms: Milliseconds = 0.0
    """Milliseconds that a release may come late, drawn at random."""
    deadline_ms: float | None = Field(default=None, gt=0, le=1e7)
    """Milliseconds from its release in which it is to be done; the period where not given."""
    priority: Priority = 0
    """Who goes first where several wait for the unit: the lowest number."""
    weight: float = Field(default=1.0, gt=0, le=1e6)
    """Its part of a memory rate that does not suffice for all."""
    work: Demand | None = None
    """What one execution asks of the unit."""
    graph_ms: Graph | None = None
    """Longest graph, after which the unit is given up; each execution is one graph where not given."""
    gigabytes_per_s: float | None = Field(default=None, gt=0, le=1e5)
    """Gigabytes a second that a stream moves through the memory, in place of work on a unit."""
    duty: float = Field(default=1.0, gt=0, le=1)
    """Share of each period for which a stream moves."""
    source: str = "assumed"
    """Where its figures are from."""

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
    """Who gets how much of a chip's memory rate where it does not suffice."""

    weights: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(default_factory=dict)
    """Parts by task, by unit, or by CHIP/UNIT; 1 for all others."""


class Climate(Record):
    """The air around the chips, and how warm they are as the trip begins."""

    ambient_c: float = Field(ge=-60, le=120)
    """Degrees Celsius of the air around the chips."""
    start_c: float | None = Field(default=None, ge=-60, le=150)
    """Degrees Celsius of the chips as the trip begins; the ambient's where not given."""

    @model_validator(mode="after")
    def _no_colder_than_outside(self) -> Climate:
        if self.start_c is not None and self.start_c < self.ambient_c:
            found = f"start_c {self.start_c:g} below ambient_c {self.ambient_c:g}"
            raise Misfit(found, "a start at the ambient temperature or above")
        return self


class Trip(Record):
    """How long the trip is, and how it begins."""

    minutes: float = Field(ge=1e-3, le=100_000)
    """Minutes after which no question is asked, and those that wait are refused."""
    cold_start: bool = False
    """Whether the trip begins with loading the models from flash."""


def two_chips(data: object) -> object:
    """The two ends of a link as a tuple."""
    if isinstance(data, list) and len(data) != 2:
        raise Misfit(f"a list of {len(data)}", "two chips", "Write between: [CHIP, CHIP].")
    return as_tuple(data)


class FurtherLink(Record):
    """A link between two chips beside that of draft and target, for stages that run elsewhere."""

    link: str
    """The link, by name or file."""
    between: Annotated[tuple[Spelling, Spelling], BeforeValidator(two_chips)]
    """The two chips at its ends."""
