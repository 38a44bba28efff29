"""A campaign file: one scenario, the faults it meets, the instants at which they come, the policies that meet them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.faults import PHASES, Milliseconds, PhaseHit, Positive, Reaction
from hilsim.describe.figure import NAME, Record, as_tuple
from hilsim.errors import Misfit

TRIGGERS = ("at_ms", "per_hour", "on")  # keys of a fault that say when it begins: here the instants do
WITH_ROUNDS = ("draft", "up", "verify", "down")  # phases that every round has again
Label = str
Instant = Mapping[str, Any]  # keys of a fault that make it begin


def filled(data: object) -> object:
    """A list that holds something, as a tuple."""
    if data == []:
        raise Misfit("an empty list", "at least one of them")
    return as_tuple(data)


class Instants(Record):
    """When each fault comes: `each` times in every phase, and at instants of the run.

    Number i of a phase, from 0, is in request i: as its question arrives (idle), is read (prefill), or in its round
    i + 1, round 0 being the one that reads the question.
    """

    phases: Annotated[tuple[PhaseHit, ...] | None, BeforeValidator(as_tuple)] = None
    """Phases in which each fault begins; all six where neither phases nor at_ms are given."""
    each: int = Field(default=1, ge=1, le=1000)
    """How many instants of each phase: number i in request i, and in its round i + 1."""
    at_ms: Annotated[tuple[Milliseconds, ...], BeforeValidator(as_tuple)] = ()
    """Instants at which each fault begins, in milliseconds since the start of the run."""

    @model_validator(mode="after")
    def _each_once(self) -> Instants:
        for name, values in (("phases", self.phases or ()), ("at_ms", self.at_ms)):
            if len(set(values)) < len(values):
                raise Misfit("a value twice", "each value once", path=(name,))
        if self.phases == () and not self.at_ms:
            raise Misfit("no instant", f"phases ({', '.join(PHASES)}) or at_ms")
        if not self.shown_phases and "each" in self.model_fields_set:
            raise Misfit("each without phases", f"phases beside at_ms: {', '.join(PHASES)}", path=("each",))
        return self

    @property
    def shown_phases(self) -> tuple[str, ...]:
        """The phases that are aimed at: all of them where neither phases nor instants are named."""
        return self.phases if self.phases is not None else () if self.at_ms else PHASES

    def choices(self) -> Iterator[tuple[Label, Instant]]:
        """What each instant is called, and the keys of a fault for it."""
        for phase in self.shown_phases:
            for number in range(self.each):
                rounds = {"round": number + 1} if phase in WITH_ROUNDS else {}
                label = f"{phase} {number + 1}" if self.each > 1 else phase
                yield label, {"on": {"phase": phase, "request": number, **rounds}, "at_ms": None}
        for at_ms in self.at_ms:
            yield f"at {exact_number(at_ms)} ms", {"on": None, "at_ms": at_ms}


class Campaign(Record):
    """Which faults, of which scopes and lengths, come when, and under which policies.

    A fault is one of the section `faults` of a scenario without its instant; each of its keys may be a list of values,
    which are then all tried. `tolerance_ms` and `reaction` are those of that section.
    """

    name: str = Field(pattern=NAME, max_length=100)
    """The name of the campaign, and of the folder in out/ where its runs are stored."""
    question: str = ""
    """What the campaign is to answer, printed first."""
    scenario: str
    """The scenario whose hardware fails: a file, relative to the campaign's."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Values of the scenario that all runs share, by dotted path."""
    tolerance_ms: Positive | None = None
    """The fault-tolerant time interval: each fault is to be detected and reacted to within it."""
    reaction: Reaction | None = None
    """How the runtime notices faults and what it does about them, in place of the scenario's faults.reaction."""
    faults: Annotated[tuple[dict[str, Any], ...], BeforeValidator(filled)]
    """The faults: entries of a scenario's faults.inject without their instants; a list of values tries each of them."""
    instants: Instants = Instants()
    """When each fault begins."""
    policies: Annotated[tuple[Any, ...], BeforeValidator(filled)]
    """The policies that meet the faults, as a scenario's policy."""
    repeats: int = Field(default=1, ge=1, le=10_000)
    """Seeds for each fault, instant and policy."""
    most_points: int = Field(default=20_000, ge=1, le=10**7)
    """More runs than this are refused."""


def exact_number(value: float) -> str:
    """A number with all of its digits, so that two numbers never look alike."""
    return str(int(value)) if value.is_integer() else repr(value)


def single_faults(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the listed values of a fault's keys."""
    choices = [value if isinstance(value, list) else [value] for value in given.values()]
    return [dict(zip(given, values, strict=True)) for values in product(*choices)]


def fault_label(fault: Mapping[str, Any]) -> Label:
    """A fault in a line: "link_drop up, 50 ms"."""
    parts = [" ".join(str(fault[key]) for key in ("kind", "where") if key in fault)]
    for key, value in fault.items():
        if key in ("kind", "where"):
            continue
        name = "" if key == "for_ms" else f"{key.removesuffix('_ms')} "
        text = value if isinstance(value, str) else json.dumps(value)
        lasting = "for good" if key == "for_ms" else f"{name}none"
        parts.append(lasting if value is None else f"{name}{text} ms" if key.endswith("_ms") else f"{name}{text}")
    return ", ".join(parts)
