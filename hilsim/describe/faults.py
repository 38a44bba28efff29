"""Faults that a scenario injects into its simulated hardware, and how the runtime reacts: the section `faults`.

These are faults of the car, given as data. `errors.Fault` is something else: what is wrong with an input file.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import Record, Spelling, as_tuple
from hilsim.errors import Misfit, Misfits

PHASES = ("prefill", "draft", "up", "verify", "down", "idle")
PhaseHit = Literal["prefill", "draft", "up", "verify", "down", "idle"]
LINK, UP, DOWN = "link", "up", "down"
WAYS = (LINK, UP, DOWN)
Milliseconds = Annotated[float, Field(ge=0, le=1e9)]
Positive = Annotated[float, Field(gt=0, le=1e9)]  # milliseconds
Share = Annotated[float, Field(gt=0, lt=1)]


def as_place(data: object) -> object:
    """The places that have names of ours, in any case; all others are chips."""
    plain = data.strip().lower() if isinstance(data, str) else ""
    return plain if plain in (*WAYS, "target", "draft") else data


Where = Annotated[Spelling, BeforeValidator(as_place)]


def as_instants(data: object) -> object:
    """One instant stands for a list of it; null for none."""
    return () if data is None else (data,) if isinstance(data, (int, float)) else as_tuple(data)


Instants = Annotated[
    tuple[Milliseconds, ...],
    BeforeValidator(as_instants, json_schema_input_type=Milliseconds | tuple[Milliseconds, ...] | None),
]


class Trigger(Record):
    """Begin with the first event of a phase, of a request and a round where these are given.

    A phase begins as its unit begins the step, or as the message is on the wire.
    """

    phase: PhaseHit
    """The phase whose first event begins it; idle is the instant at which a question arrives."""
    request: int | None = Field(default=None, ge=0, le=10**7)
    """Which request, from 0 over the whole workload; any where not given."""
    round: int | None = Field(default=None, ge=0, le=10**6)
    """Which round of the request, from 0, the one that reads the question; any where not given."""


class Injected(Record):
    """What all faults have in common: exactly one of `at_ms`, `per_hour` and `on`, and how long they last."""

    scope: ClassVar[Literal["link", "chip"]] = "chip"
    lasting: ClassVar[Literal["needed", "optional", "none"]] = "none"  # whether it has a duration
    kind: str
    where: Where
    """What fails: link, up or down (from draft to target, and back), target, draft, or a chip by name."""
    at_ms: Instants = ()
    """One instant or several at which it begins, in milliseconds since the start of the run."""
    per_hour: float | None = Field(default=None, gt=0, le=360_000)
    """How often it begins in an hour on average, at random; at most a hundred times a second."""
    on: Trigger | None = None
    """The event with which it begins."""
    for_ms: Positive | None = None
    """Milliseconds that it lasts; null is to the end of the run."""

    @model_validator(mode="after")
    def _begins_once(self) -> Injected:
        broken = []
        given = [
            name
            for name, value in (("at_ms", self.at_ms), ("per_hour", self.per_hour), ("on", self.on))
            if value not in ((), None)
        ]
        if len(given) != 1:
            found = f"{' and '.join(given)}, of which one is enough" if given else "no instant"
            broken.append(Misfit(found, "one of at_ms, per_hour and on"))
        if self.scope == "link" and self.where not in WAYS:
            broken.append(Misfit(f"where {self.where!r} of {self.kind}", "link, up or down", path=("where",)))
        if self.scope == "chip" and self.where in WAYS:
            expected = "target, draft, or the name of a chip"
            broken.append(Misfit(f"where {self.where!r} of {self.kind}", expected, path=("where",)))
        if self.lasting == "none" and self.for_ms is not None:
            broken.append(Misfit(f"for_ms of {self.kind}, which is an event", "no for_ms", path=("for_ms",)))
        if self.lasting == "needed" and self.for_ms is None and "for_ms" not in self.model_fields_set:
            broken.append(
                Misfit(f"{self.kind} without for_ms", "for_ms: milliseconds, or null for the rest of the run")
            )
        if broken:
            raise Misfits(broken)
        return self


class LinkDrop(Injected):
    """All messages that are on the link while it lasts are lost."""

    scope = "link"
    lasting = "needed"
    kind: Literal["link_drop"]
    where: Where = LINK
    """The link both ways, or up (draft to target) or down alone."""


class LinkDelay(Injected):
    """Messages sent while it lasts arrive later."""

    scope = "link"
    lasting = "needed"
    kind: Literal["link_delay"]
    where: Where = LINK
    """The link both ways, or up (draft to target) or down alone."""
    delay_ms: Positive
    """Milliseconds by which messages arrive later."""


class Loss(Injected):
    """Each message sent while it lasts is lost with a chance of `rate`.

    With a `burst` above 1, losses come in bursts of so many messages on average (Gilbert 1960, Elliott 1963: a good
    state without losses and a bad one in which every message is lost; `rate` is the share of messages in the bad one).
    """

    scope = "link"
    lasting = "needed"
    kind: Literal["loss"]
    where: Where = LINK
    """The link both ways, or up (draft to target) or down alone."""
    rate: Share
    """Share of the messages that are lost."""
    burst: float = Field(default=1.0, ge=1, le=1e6)
    """Messages lost in a row on average; each is lost by itself where 1."""

    @model_validator(mode="after")
    def _possible(self) -> Loss:
        # The chance of entering the bad state, rate / (burst (1 - rate)), must not exceed 1.
        if self.burst > 1 and self.rate > self.burst / (self.burst + 1):
            most = self.burst / (self.burst + 1)
            raise Misfit(f"rate {self.rate:g} in bursts of {self.burst:g}", f"a rate of at most {most:.3g}")
        return self


class BitErrors(Injected):
    """Each bit sent while it lasts is wrong with a chance of `rate`.

    With a checksum the message is thrown away and sent again; without one its tokens are corrupted.
    """

    scope = "link"
    lasting = "needed"
    kind: Literal["bit_errors"]
    where: Where = LINK
    """The link both ways, or up (draft to target) or down alone."""
    rate: Share
    """Chance of each bit to be wrong."""


class PartialOutage(Injected):
    """The link has a `share` of its rate while it lasts: a message sent then holds the wire 1/share times as long.

    Where its time-out is over before, its sender takes it off the wire and sends it again.
    """

    scope = "link"
    lasting = "needed"
    kind: Literal["partial_outage"]
    where: Where = LINK
    """The link both ways, or up (draft to target) or down alone."""
    share: Share
    """Share of its rate that the link has left."""


class Duplicate(Injected):
    """The next message, or all of those sent in `for_ms`, cross the link twice; the receiver drops the second copy."""

    scope = "link"
    lasting = "optional"
    kind: Literal["duplicate"]
    where: Where = LINK
    """The link both ways, or up (draft to target) or down alone."""


class Late(Injected):
    """The next message takes `delay_ms` longer and is overtaken by later ones; the receiver puts them back in order."""

    scope = "link"
    kind: Literal["late"]
    where: Where = LINK
    """The link both ways, or up (draft to target) or down alone."""
    delay_ms: Positive
    """Milliseconds that the message takes longer."""


class Reloading(Injected):
    """A fault after which a chip loads its models again: caches are lost. `cost/start_up.py` has the time."""

    load: Literal["cold", "warm"] = "cold"
    """Where weights come from again: flash (cold), or the system's memory (warm)."""
    reload_ms: Positive | None = None
    """Milliseconds of loading; they follow from the chip's start-up figures where not given."""


class Reset(Reloading):
    """A chip restarts by itself: what it computes and its caches are lost; it is back when its models are loaded."""

    kind: Literal["reset"]


class Hang(Reloading):
    """A chip stops in the middle of its work until the watchdog resets it, or, with `for_ms`, until it goes on."""

    lasting = "optional"
    kind: Literal["hang"]


class Slow(Injected):
    """A chip's steps take longer while it lasts."""

    lasting = "needed"
    kind: Literal["slow"]
    factor: float = Field(gt=1, le=1e4)
    """How many times as long steps take."""


class MemoryPressure(Reloading):
    """Other software takes part of a chip's memory while it lasts.

    Where no more is free, the model there is evicted with its caches, and loaded again when it is back.
    """

    lasting = "needed"
    kind: Literal["memory"]
    megabytes: float = Field(gt=0, le=1e7)
    """Megabytes that other software takes."""

    @model_validator(mode="after")
    def _ends(self) -> MemoryPressure:
        if self.for_ms is None:
            raise Misfit("for_ms null of memory", "milliseconds; a draft that is gone for good is kind: lost")
        return self


class Lost(Injected):
    """A chip is gone for good. Without the draft's the target goes on alone; without the target the run ends."""

    kind: Literal["lost"]
    where: Where = "draft"
    """The chip that is gone; the draft's where not given."""


class ClockJump(Reloading):
    """A chip's clock jumps; time-outs and watchdogs that it measures are off.

    A watchdog that sees its time pass at once resets the chip, which then loads its models again.
    """

    kind: Literal["clock_jump"]
    jump_ms: float = Field(ge=-1e6, le=1e6)
    """Milliseconds by which the clock jumps ahead; below 0, back."""

    @model_validator(mode="after")
    def _jumps(self) -> ClockJump:
        if not self.jump_ms:
            raise Misfit("jump_ms 0", "milliseconds ahead, or below 0 back")
        return self


class WrongRow(Injected):
    """One row of logits is wrong: its likeliest token is another. Nothing shows it, unless rows are compared."""

    kind: Literal["wrong_row"]


InjectedFault = Annotated[
    LinkDrop
    | LinkDelay
    | Loss
    | BitErrors
    | PartialOutage
    | Duplicate
    | Late
    | Reset
    | Hang
    | Slow
    | MemoryPressure
    | Lost
    | ClockJump
    | WrongRow,
    Field(discriminator="kind"),
]
KINDS = (
    "link_drop", "link_delay", "loss", "bit_errors", "partial_outage", "duplicate", "late",
    "reset", "hang", "slow", "memory", "lost", "clock_jump", "wrong_row",
)  # fmt: skip


class Reaction(Record):
    """How the runtime notices faults, and what it does about them. All defaults are assumed."""

    timeout_ms: Positive | None = None
    """Milliseconds after its due time at which a message is late; 20 without timeout_factor."""
    timeout_factor: float | None = Field(default=None, gt=1, le=1e6)
    """Multiple of the time that it should take after which a message is late, in place of timeout_ms."""
    retries: int = Field(default=2, ge=0, le=1000)
    """How many times a late message is sent again."""
    backoff_ms: Milliseconds = 5.0
    """Milliseconds before it is sent again for the first time."""
    backoff_factor: float = Field(default=2.0, ge=1, le=100)
    """What that wait is multiplied by with each further try."""
    watchdog_ms: Positive = 100.0
    """Milliseconds without progress on a step after which its chip is reset."""
    fallback: Literal["target", "none"] = "target"
    """What follows when nothing answers any more: the target goes on alone, or all waits."""
    resume: bool = True
    """Whether speculation goes on once the draft's chip is back."""
    probe_ms: Positive = 50.0
    """Milliseconds between two questions whether the draft's chip is back."""
    checksum: bool = True
    """Whether messages have a checksum that finds wrong bits."""
    compare_rows: bool = False
    """Whether the target computes each pass twice and compares, which finds wrong rows."""
    clock: Literal["wall", "monotonic"] = "wall"
    """What time-outs are measured by; a monotonic clock never jumps."""
    give_up_ms: Positive = 60_000.0
    """Milliseconds without a token after which the run ends."""
    source: str = "assumed"
    """Where these settings are from."""

    @model_validator(mode="after")
    def _one_timeout(self) -> Reaction:
        if self.timeout_ms is not None and self.timeout_factor is not None:
            raise Misfit("timeout_ms and timeout_factor", "one of them")
        return self


class Faults(Record):
    """What a scenario injects, and how the runtime reacts."""

    tolerance_ms: Positive = 500.0
    """The fault-tolerant time interval: each fault must be detected and reacted to within it."""
    reaction: Reaction = Reaction.model_construct()
    """How the runtime notices faults, and what it does about them."""
    inject: Annotated[tuple[InjectedFault, ...], BeforeValidator(as_tuple)] = ()
    """The faults, each with its kind, place and instant."""
