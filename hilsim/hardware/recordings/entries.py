"""The records of a recording: the header of a session and its entries, with the checks that every line must pass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from hilsim.cost.step import Phase
from hilsim.describe.backend import Backend
from hilsim.describe.complaints import expectation, short
from hilsim.describe.figure import Record
from hilsim.errors import Misfit
from hilsim.hardware.wire.exchange import FaultKind, ModelFacts, Want
from hilsim.hardware.wire.frames import MOST_CONTEXT, limits_fault

MOST_NS = 2**63 - 1
# What decides how a recording is met again: so many runs of a step, and the same fate of its faults.
REPLAYED = ("warm_up", "repeats", "retries", "timeout_ms", "on_fault")
Dtype = Literal["f4", "i4"]
ITEM_BYTES = 4  # of either
Use = Literal["said", "timed", "warm-up", "repeat", "profile"]
# What comes back of a step: dtype and dimensions.
TENSORS: dict[Want, tuple[Dtype, int] | None] = {"logits": ("f4", 2), "tokens": ("i4", 1), "nothing": None}
SHA256 = r"^[0-9a-f]{64}$"


Text = Annotated[str, Field(max_length=4096)]
Nanoseconds = Annotated[int, Field(ge=0, le=MOST_NS)]
Positions = Annotated[int, Field(ge=0, le=MOST_CONTEXT)]
Plain = None | bool | Annotated[int, Field(ge=-MOST_NS, le=MOST_NS)] | float | Text


class Stored(Record):
    """The place of an answer's numbers in FILE.tensors."""

    at: int = Field(ge=0, le=2**63 - 1)
    bytes: int = Field(ge=0, le=2**63 - 1)
    dtype: Dtype
    shape: tuple[int, ...] = Field(max_length=2)
    sha256: str = Field(pattern=SHA256)

    @model_validator(mode="after")
    def _adds_up(self) -> Stored:
        if any(size < 0 for size in self.shape) or math.prod(self.shape) * ITEM_BYTES != self.bytes:
            raise Misfit(f"{self.bytes} bytes of {self.dtype} {list(self.shape)}", "as many bytes as the shape has")
        return self


class RecordedFault(Record):
    """A fault instead of an answer."""

    kind: FaultKind
    found: Text


class Entry(Record):
    """One step request and its result.

    `prefix` is the digest of all tokens up to the step's end, `before` those of the earlier wanted rows, in order.
    """

    entry: int = Field(ge=0, le=2**53)
    role: str | None = Field(pattern="^(target|draft)$")
    model: Text
    phase: str = Field(pattern=f"^({'|'.join(Phase)})$")
    cached: Positions
    rows: int = Field(ge=1, le=MOST_CONTEXT)
    wanted: Positions
    want: Want
    prefix: str = Field(pattern=SHA256)
    before: tuple[str, ...]
    tokens: tuple[int, ...]
    duration_ns: int | None = Field(ge=1, le=MOST_NS)
    wall_ns: Nanoseconds
    prepared_rows: Positions
    energy_mj: float | None = Field(ge=0, le=1e12)
    temperature_c: float | None = Field(ge=-273.15, le=1e4)
    clock_ns: Nanoseconds
    at_ns: Nanoseconds
    use: Use
    tensor: Stored | None
    fault: RecordedFault | None

    @model_validator(mode="after")
    def _whole(self) -> Entry:
        if (self.duration_ns is None) != (self.fault is not None):
            raise Misfit("neither a duration nor a fault, or both", "one of them")
        if len(self.tokens) != self.rows or len(self.before) != max(0, self.wanted - 1):
            raise Misfit("tokens or digests that are not as many as rows", "one for each")
        given = None if self.tensor is None else (self.tensor.dtype, len(self.tensor.shape))
        if given != (TENSORS[self.want] if self.fault is None else None):
            raise Misfit(f"{given or 'no tensor'} of a step with want {self.want}", "what such a step gives")
        if self.tensor is not None and self.tensor.shape[0] != self.wanted:
            raise Misfit(f"a tensor of {list(self.tensor.shape)}", f"a row for each of {self.wanted} wanted")
        return self

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The digest of the conversation that each wanted row follows on."""
        return (*self.before, self.prefix) if self.wanted else ()

    def misfit(self, models: Mapping[str, ModelFacts]) -> Misfit | None:
        """The first fault of this entry against the models of its session, or None."""
        facts = next((one for one in models.values() if one.name == self.model), None)
        if facts is None:
            return Misfit(
                f"model {self.model!r}", f"one of its session: {', '.join(one.name for one in models.values())}"
            )
        if self.cached + self.rows > facts.context:
            return Misfit(
                f"{self.rows} rows after {self.cached} cached", f"at most {facts.context}, the context of {self.model}"
            )
        if not 0 <= min(self.tokens) <= max(self.tokens) < facts.vocabulary:
            span = f"tokens from {min(self.tokens)} to {max(self.tokens)}"
            return Misfit(span, f"ids from 0 to {facts.vocabulary - 1}, the vocabulary of {self.model}")
        if self.tensor is not None and self.tensor.shape[1:] not in ((), (facts.vocabulary,)):
            return Misfit(
                f"a tensor of {list(self.tensor.shape)}", f"rows of {facts.vocabulary}, the vocabulary of {self.model}"
            )
        return None


class Header(Record):
    """The settings of a session: `models` by role, `settings` how the unit measured and how it handled faults."""

    recording: Literal[1]
    session: int = Field(ge=1, le=2**31)
    unit: Text
    scenario: Text | None
    address: Text
    agent: Text
    device: dict[str, Plain]
    clock: dict[str, Plain]
    models: dict[str, ModelFacts]
    settings: dict[str, int | float | str]
    client: dict[str, Text]
    began: Text

    @field_validator("models")
    @classmethod
    def _plausible(cls, models: dict[str, ModelFacts]) -> dict[str, ModelFacts]:
        for facts in models.values():
            if fault := limits_fault(facts.vocabulary, facts.context, facts.widths):
                raise fault
        return models

    @field_validator("settings")
    @classmethod
    def _as_a_unit_s(cls, settings: dict[str, int | float | str]) -> dict[str, int | float | str]:
        """Check that the settings are those that a replay takes over: how often steps ran, and what faults led to."""
        if strangers := [name for name in settings if name not in REPLAYED]:
            raise Misfit(f"{', '.join(strangers)}", f"settings among {', '.join(REPLAYED)} and no others")
        try:
            Backend.model_validate(settings)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key, wanted = ".".join(map(str, first["loc"])), expectation(first)
            raise Misfit(f"{key} {short(first['input'])}", wanted) from None
        return settings
