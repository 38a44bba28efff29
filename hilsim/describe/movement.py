"""How a toolchain lowers operators that only move numbers, and how fast a unit does what is not free of it.

`chips/operators/movement.yaml` has the entries; a unit's own `expand_rate` comes before what they assume.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hilsim.describe.catalogue import load_record
from hilsim.describe.chip import Precision, Unit
from hilsim.describe.figure import Count, Figure, Names, Record, as_tuple
from hilsim.describe.profile import Column, Evidence
from hilsim.places import DATA

Way = Literal["view", "copy", "multiply", "gather", "sort"]
Columns = Annotated[tuple[Column, ...], BeforeValidator(as_tuple)]
MOVEMENT = DATA / "chips/operators/movement.yaml"


class Lowering(Record):
    """What toolchains make of operators: nothing, a copy of their numbers, or vector arithmetic over them."""

    operators: Names = Field(min_length=1)
    """Operators that move numbers, as ATen overloads."""
    toolchains: Columns = Field(min_length=1)
    """Toolchains of which it is known."""
    lowering: Way
    """What they become: nothing (view), a copy, a multiply that writes every number, a gather that is between those two
    where it repeats numbers, or a sort."""
    evidence: Evidence
    """Whether a vendor documents it, a user reports it, or it is assumed."""
    why: str = Field(min_length=3)
    """Why they are lowered so."""
    source: str = Field(min_length=3)
    """Where that is stated."""


class MultiplyRate(Record):
    """How fast a multiply writes numbers, relative to the bytes a second that the unit reads."""

    toolchains: Columns = Field(min_length=1)
    """Toolchains that it is assumed of."""
    share: Count
    """Numbers written for each byte that the unit reads in the same time; a unit's expand_rate comes before it."""


class Movement(Record):
    """The file of lowerings."""

    lowerings: Annotated[tuple[Lowering, ...], BeforeValidator(as_tuple)]
    """The operators, and what becomes of them."""
    multiply_rates: Annotated[tuple[MultiplyRate, ...], BeforeValidator(as_tuple)]
    """How fast such multiplies are, where a unit's file has no expand_rate."""


@cache
def movement() -> Movement:
    """The file as it stands. Raises `InputError` where it is damaged."""
    return load_record(Movement, MOVEMENT)


@cache
def lowerings() -> dict[tuple[str, Column], Lowering]:
    """Entries by operator and toolchain."""
    entries = movement().lowerings
    return {(name, column): entry for entry in entries for name in entry.operators for column in entry.toolchains}


def multiply_rate(unit: Unit, precision: Precision, column: Column) -> Figure | None:
    """Numbers a second that a copying multiply writes: the unit's own figure, or one assumed of its memory rate.

    None where the toolchain makes no multiplies of movements.
    """
    if unit.expand_rate is not None:
        return unit.expand_rate
    share = next((entry.share for entry in movement().multiply_rates if column in entry.toolchains), None)
    if share is None:
        return None
    rate = precision.memory_rate.times(share)
    factor = rate.si / 1e9
    low, high = rate.ends
    return Figure(value=factor, unit="GFLOPS", kind="assumed", source=rate.source, range=(low / 1e9, high / 1e9))
