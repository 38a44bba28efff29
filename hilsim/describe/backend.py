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

    A fault is tried again, then `on_fault` decides. A stalled board costs simulated time, what breaks at once none.
    """

    backend: str = SIMULATED
    """What executes the steps: `simulated`, the chip model; an agent on a board; or a recording of one."""
    words: Literal["logits", "tokens", "stand_in"] = "logits"
    """Where text comes from: the board's logits, its likeliest tokens, or the stand-in here (times alone are real)."""
    models: dict[Literal["target", "draft"], str] = Field(default_factory=dict)
    """Which of the agent's models each role is; by its name or the role's where not given."""
    token_file: str | None = None
    """File with the secret that the agent asks for; none where not given."""
    record: str | None = None
    """File that the board's answers are recorded to, for a replay; one in the folder of recordings where not given."""
    unseen: Literal["refuse", "interpolate"] = "refuse"
    """Of a duration that a recording does not hold: refuse, or interpolate between those it has."""
    on_fault: str = "fail"
    """What follows when retries are used up: the run fails, or goes on with the chip model or a recording."""
    retries: int = Field(default=0, ge=0, le=1000)
    """How many times a step that failed is tried again."""
    timeout_ms: float = Field(default=10_000, ge=10, le=1e7)
    """How long the board may take to answer; each time-out costs as much simulated time."""
    warm_up: int = Field(default=3, ge=0, le=1000)
    """First runs of every shape that are thrown away."""
    repeats: int = Field(default=1, ge=1, le=1000)
    """Runs of every step, of which the median counts."""

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
