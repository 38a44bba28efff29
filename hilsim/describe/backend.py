"""What stands behind a unit: the chip model, a recording of a board, or the board itself behind an agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from hilsim.describe.address import TCP, Address
from hilsim.describe.figure import Record
from hilsim.errors import Fault, ScenarioError

if TYPE_CHECKING:
    from hilsim.describe.load import Placed, Setup
    from hilsim.describe.scenario import Scenario

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
            raise ValueError(f"backend {value!r}; {BACKENDS}")
        return value

    @field_validator("on_fault")
    @classmethod
    def _known_remedy(cls, value: str) -> str:
        if value not in ("fail", SIMULATED) and not recording_of(value):
            raise ValueError(f"on_fault {value!r}; fail, {SIMULATED} or {RECORDING}FILE")
        return value

    @model_validator(mode="after")
    def _together(self) -> Backend:
        if self.record is not None and not self.address:
            raise ValueError(f"record with a {self.backend} backend, which has nothing new to say; none")
        return self

    @property
    def address(self) -> str | None:
        """Where the agent listens, or None where there is none."""
        return self.backend if self.backend.startswith(TCP) else None

    @property
    def speaks(self) -> bool:
        """Whether words come from what stands behind the unit."""
        return self.backend != SIMULATED and self.words != "stand_in"


def recording_of(value: str) -> str:
    """The file of a recording://FILE, or nothing."""
    return value.removeprefix(RECORDING) if value.startswith(RECORDING) else ""


def behind(units: Mapping[str, Backend], placed: Placed) -> Backend | None:
    """What a scenario puts behind a role's unit, named UNIT or CHIP/UNIT; None where the chip model does it."""
    names = (f"{placed.chip.name}/{placed.placement.unit}", placed.placement.unit)
    found = next((units[name] for name in names if name in units), None)
    return None if found is None or found.backend == SIMULATED else found


def backend_faults(scenario: Scenario, roles: Mapping[str, Placed], file: str) -> Iterator[Fault]:
    """Units that nobody uses, names that mean two units, and words that the rules cannot use."""
    tracks = {(placed.chip.name, placed.placement.unit) for placed in roles.values()}
    for name, backend in scenario.units.items():
        meant = [pair for pair in sorted(tracks) if name in (pair[1], "/".join(pair))]
        known = ", ".join("/".join(pair) for pair in sorted(tracks))
        if not meant:
            yield Fault(file, f"units.{name}", repr(name), f"a unit that a role uses, as UNIT or CHIP/UNIT: {known}")
            continue
        if len(meant) > 1:
            yield Fault(file, f"units.{name}", f"{name!r}, which two chips have", f"one of {known}")
        if backend.backend == SIMULATED:
            continue
        place = f"units.{name}.words"
        warm = scenario.sampling.temperature > 0 or scenario.sampling.repetition_penalty is not None
        if backend.words == "tokens" and warm:
            expected = "logits or stand_in: the likeliest token is all that greedy decoding needs, and no more"
            yield Fault(file, place, "tokens, with a law to sample from", expected)
        if backend.speaks and scenario.logits.source != "live":
            found = f"{backend.words}, with {scenario.logits.source} logits"
            yield Fault(file, place, found, "stand_in, so that the board gives times alone", "Or live logits.")
        if backend.speaks and scenario.policy.name == "tree":
            yield Fault(file, place, f"{backend.words}, with policy tree", "stand_in: boards read chains of tokens")


def require_simulated(setup: Setup, command: str) -> None:
    """Refuse boards and recordings where a command runs its own versions of a scenario."""
    faults = [
        Fault(
            setup.file,
            f"units.{name}.backend",
            backend.backend,
            f"{SIMULATED} for `{command}`",
            "Boards and recordings are run by simulate.py; calibrate a chip file from a recording for studies.",
        )
        for name, backend in setup.scenario.units.items()
        if backend.backend != SIMULATED
    ]
    if faults:
        raise ScenarioError(faults)
