"""A chip: one memory and the compute units that share it, with the rates each unit reaches per precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hilsim.describe.figure import (
    PLAIN_NAME,
    ByteRate,
    Count,
    Duration,
    Figure,
    Kind,
    Named,
    OperationRate,
    Power,
    Record,
    Size,
    WeightRate,
)

UnitKind = Literal["npu", "gpu", "cpu"]
Activations = Literal["fp16", "int16", "int8"]


class RatePoint(Record):
    """The operation rate reached when `rows` positions are computed in one pass."""

    rows: int = Field(ge=1, le=10**6)
    rate: OperationRate


class Precision(Record):
    """One number format on one unit: how many bits each part takes and how fast the unit gets through it.

    A step reads `weight_bits` a body weight, `head_bits` a head weight and `kv_bits` a cached number at `memory_rate`;
    where decoding is bound by unpacking weights, `weight_rate` caps it. `operation_rates` are points of a curve over
    rows (straight between points, flat outside); attention runs at `attention_rate`, or with the rest where absent.
    """

    activations: Activations
    weight_bits: Count
    head_bits: Count
    kv_bits: Count
    memory_rate: ByteRate
    weight_rate: WeightRate | None = None
    operation_rates: tuple[RatePoint, ...] = Field(min_length=1)
    attention_rate: OperationRate | None = None

    @field_validator("operation_rates", mode="before")
    @classmethod
    def _list(cls, data: object) -> object:
        return tuple(data) if isinstance(data, list) else data

    @model_validator(mode="after")
    def _ascending(self) -> Precision:
        rows = [point.rows for point in self.operation_rates]
        if rows != sorted(set(rows)):
            raise ValueError(f"operation_rates at rows {rows}; rising rows")
        return self


class Widths(Record):
    """The row counts for which graphs are compiled; a step runs the next one up."""

    value: tuple[int, ...] = Field(min_length=1, max_length=16)
    kind: Kind
    source: str = Field(min_length=3)

    @field_validator("value", mode="before")
    @classmethod
    def _list(cls, data: object) -> object:
        return tuple(data) if isinstance(data, list) else data

    @model_validator(mode="after")
    def _ascending(self) -> Widths:
        rising(self.value)
        return self


def rising(widths: tuple[int, ...]) -> tuple[int, ...]:
    """The widths as given; raises `ValueError` unless they rise from at least 1."""
    if any(width < 1 for width in widths) or list(widths) != sorted(set(widths)):
        raise ValueError(f"widths {list(widths)}; rising numbers of rows, at least 1")
    return widths


class Ability(Record):
    """A yes or no about hardware or toolchain, with its source."""

    value: bool
    kind: Kind
    source: str = Field(min_length=3)


class Unit(Record):
    """One compute unit. With `widths` it runs fixed graphs, which read the whole compiled context every step."""

    kind: UnitKind
    title: str = ""
    widths: Widths | None = None
    shared_weights: Ability | None = None
    graphs_per_step: Count | None = None
    graph_overhead: Duration
    step_overhead: Duration
    reserve: Size
    active_power: Power
    refused_matmuls: tuple[Literal["int16 x int16"], ...] = ()
    precisions: dict[str, Precision] = Field(min_length=1)

    @field_validator("refused_matmuls", mode="before")
    @classmethod
    def _list(cls, data: object) -> object:
        return tuple(data) if isinstance(data, list) else data

    def refusal(self, precision: str) -> str | None:
        """Why a transformer in this precision does not run here, or None."""
        if precision not in self.precisions:
            return f"no figures for precision {precision!r} (there are: {', '.join(self.precisions)})"
        # Attention multiplies activations by activations, so 16-bit integer activations need that matmul.
        if self.precisions[precision].activations == "int16" and "int16 x int16" in self.refused_matmuls:
            return f"{precision} needs a matmul of int16 by int16 activations, which this unit lacks"
        return None


class Chip(Named):
    """A chip as the assistant sees it: `memory` is what may be used at most, `reserve` what the system keeps of it."""

    memory: Size
    reserve: Size
    peak_memory_rate: ByteRate
    idle_power: Power
    name: str = Field(pattern=PLAIN_NAME, max_length=100)
    units: dict[Annotated[str, Field(pattern=PLAIN_NAME)], Unit] = Field(min_length=1)
    notes: str = ""

    @model_validator(mode="after")
    def _reserve_fits(self) -> Chip:
        if self.reserve.si >= self.memory.si:
            raise ValueError(
                f"reserve {self.reserve.value:g} {self.reserve.unit} is all of the memory "
                f"({self.memory.value:g} {self.memory.unit})"
            )
        return self


def figures(record: Record, prefix: str = "") -> dict[str, Figure | Widths | Ability]:
    """Every figure inside a record by its dotted path, for lists of assumptions."""
    found: dict[str, Figure | Widths | Ability] = {}
    for name in type(record).model_fields:
        value = getattr(record, name)
        path = f"{prefix}.{name}" if prefix else name
        if isinstance(value, (Figure, Widths, Ability)):
            found[path] = value
        elif isinstance(value, Record):
            found |= figures(value, path)
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, Record):
                    found |= figures(item, f"{path}.{key}")
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if isinstance(item, Record):
                    found |= figures(item, f"{path}[{index}]")
    return found
