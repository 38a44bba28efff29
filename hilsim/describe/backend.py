"""What executes a unit's steps: the chip model, a recording of a board, or the board itself behind an agent."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from hilsim.describe.address import TCP, Address
from hilsim.describe.figure import Record
from hilsim.errors import Misfit

SIMULATED = "simulated"
RECORDING = "recording://"
BACKENDS = f"{SIMULATED}, {TCP}HOST:PORT or {RECORDING}FILE"


class Backend(Record):
    """What executes the steps of a unit, and what happens where it does not answer.

    `words` are the board's `logits`, the `tokens` that it finds likeliest, or those of the `stand_in` here, where only
    times come from the board. A fault is tried again `retries` times; then the run fails, or goes on with what
    `on_fault` names. A stalled board costs `timeout_ms` of simulated time each time; what breaks at once costs nothing.
    The first `warm_up` runs of a shape are thrown away; of `repeats` runs the median counts.
    """

    backend: str = SIMULATED
    words: Literal["logits", "tokens", "stand_in"] = "logits"
    models: dict[Literal["target", "draft"], str] = Field(default_factory=dict)
    token_file: str | None = None
    record: str | None = None
    unseen: Literal["refuse", "interpolate"] = "refuse"
    on_fault: str = "fail"
    retries: int = Field(default=0, ge=0, le=1000)
    timeout_ms: float = Field(default=10_000, ge=10, le=1e7)
    warm_up: int = Field(default=3, ge=0, le=1000)
    repeats: int = Field(default=1, ge=1, le=1000)

    @field_validator("backend")
    @classmethod
    def _known(cls, value: str) -> str:
        if value.startswith(TCP):
            Address.parse(value)
        elif value != SIMULATED and not recording_of(value):
            raise Misfit(f"backend {value!r}", BACKENDS)
        return value

    @field_validator("on_fault")
    @classmethod
    def _known_remedy(cls, value: str) -> str:
        if value not in ("fail", SIMULATED) and not recording_of(value):
            raise Misfit(f"on_fault {value!r}", f"fail, {SIMULATED} or {RECORDING}FILE")
        return value

    @model_validator(mode="after")
    def _together(self) -> Backend:
        if self.record is not None and not self.address:
            raise Misfit(f"record with a {self.backend} backend, which has no new answers to record", "none")
        return self

    @property
    def address(self) -> str | None:
        """Where the agent listens, or None where there is none."""
        return self.backend if self.backend.startswith(TCP) else None

    @property
    def gives_tokens(self) -> bool:
        """Whether tokens come from the board or recording behind the unit, and not from the stand-in."""
        return self.backend != SIMULATED and self.words != "stand_in"


def recording_of(value: str) -> str:
    """The file of a recording://FILE, or nothing."""
    return value.removeprefix(RECORDING) if value.startswith(RECORDING) else ""
