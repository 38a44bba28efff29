"""`Figure`: a number with its unit, its source and the kind of evidence behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from hilsim.errors import Misfit

Kind = Literal["datasheet", "measured", "fitted", "assumed"]
KINDS: tuple[Kind, ...] = ("datasheet", "measured", "fitted", "assumed")  # from the surest to the least sure
MOST = 1e21  # of any number in any unit
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"  # no dot: chip and unit make up the name of a track


def as_tuple(data: object) -> object:
    """YAML has lists, frozen records have tuples."""
    return tuple(data) if isinstance(data, list) else data


def filled_or_null(data: object) -> object:
    """A list as a tuple, null as an empty one. An empty list is refused: it may have been meant to be filled."""
    if isinstance(data, list) and not data:
        raise Misfit("an empty list", "at least one of them, or null for none")
    return () if data is None else as_tuple(data)


def as_text(data: object) -> object:
    """A name of digits alone, which YAML reads as a number."""
    return str(data) if type(data) is int else data


Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Spelling = Annotated[str, BeforeValidator(as_text, json_schema_input_type=str | int)]


class Record(BaseModel):
    """Base of everything described: strict types, finite numbers, no unknown keys, frozen.

    A record that is the default of a key is made by `model_construct`: defaults need no validation, and making one that
    no file asks for takes long.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class Named(Record):
    """A record with a file of its own."""

    name: str = Field(pattern=NAME, max_length=100)
    """The name that other files ask for it by; the same as the file's, without .yaml."""
    title: str
    """What people call it, as reports print it."""


class Figure(Record):
    """One number with unit, provenance and, where known, the range it may really lie in."""

    value: float = Field(ge=0, le=MOST)
    """The number, in its unit."""
    unit: str
    """Unit of the value and of its range; any unit of the same dimension will do."""
    kind: Kind
    """How well it is known: from a datasheet, measured, fitted, or assumed; reports list what is assumed."""
    source: str = Field(min_length=3)
    """Where the number is from: a document and its place, or the reasoning behind an assumption."""
    range: tuple[float, float] | None = None
    """The lowest and highest that it may really be, in the same unit; error bars draw from it."""

    @model_validator(mode="before")
    @classmethod
    def _range_from_list(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("range"), list):
            return {**data, "range": tuple(data["range"])}
        return data

    @model_validator(mode="after")
    def _inside_its_range(self) -> Figure:
        if self.range is not None and self.range[0] > self.range[1]:
            raise Misfit(f"range {self.range[0]:g} to {self.range[1]:g}", "the lower end first")
        if self.range is not None and not self.range[0] <= self.value <= self.range[1]:
            inside = f"range {self.range[0]:g} to {self.range[1]:g}"
            raise Misfit(f"value {self.value:g} outside its own {inside}", "a value inside it, or another range")
        return self

    @property
    def si(self) -> float:
        """The value in the base unit of its dimension: bytes, bytes/s, seconds, operations/s, watts, ..."""
        return self.value * FACTORS[self.unit]

    @property
    def ends(self) -> tuple[float, float]:
        """The ends of its range in the base unit, or its value twice."""
        low, high = self.range if self.range is not None else (self.value, self.value)
        return low * FACTORS[self.unit], high * FACTORS[self.unit]

    def times(self, share: Figure) -> Figure:
        """This figure times a share: both ranges multiply, and it is as sure as the less sure of the two."""
        slow, fast = self.range if self.range is not None else (self.value, self.value)
        low, high = share.ends
        ranged = self.range is not None or share.range is not None
        return self.model_copy(
            update={
                "value": self.value * share.si,
                "range": (slow * low, fast * high) if ranged else None,
                "kind": max(self.kind, share.kind, key=KINDS.index),
                "source": f"{share.value:.4g} ({share.source}) of {self.value:.4g} {self.unit} ({self.source})",
            }
        )

    def at_speed(self, speed: Figure) -> Figure:
        """This duration where everything goes so many times as fast."""
        slow, fast = speed.ends
        inverse = speed.model_copy(update={"value": 1 / speed.si, "range": (1 / fast, 1 / slow), "unit": "times"})
        return self.times(inverse)


DIMENSIONS: dict[str, dict[str, float]] = {
    "size": {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "MB": 1e6, "GB": 1e9},
    "byte rate": {"B/s": 1, "MB/s": 1e6, "GB/s": 1e9},
    "weight rate": {"Gweights/s": 1e9},
    "operation rate": {"GFLOPS": 1e9, "TFLOPS": 1e12, "TOPS": 1e12},
    "duration": {"s": 1, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
    "power": {"W": 1, "mW": 1e-3},
    "frequency": {"GHz": 1e9, "MHz": 1e6},
    "temperature": {"C": 1},
    "temperature difference": {"K": 1},
    "heat capacity": {"J/K": 1},
    "thermal resistance": {"K/W": 1},
    "energy per bit": {"pJ/bit": 1e-12},
    "count": {"graphs": 1, "bits": 1, "rows": 1, "tokens": 1, "sequences": 1, "share": 1, "times": 1, "cores": 1},
    # Of a family of chips: what it is relative to follows from the unit.
    "relative rate": {"share": 1, "B/kop": 1e-3, "weights/kop": 1e-3, "weights/kcycle": 1e-3, "op/cycle": 1},
    "relative duration": {"s": 1, "ms": 1e-3, "us": 1e-6, "Mcycles": 1e6, "Gop": 1e9},
}
FACTORS = {unit: factor for units in DIMENSIONS.values() for unit, factor in units.items()}
# What makes physical sense, generously, of a dimension in SI or of a unit where its own range differs; 0 apart. Beyond,
# a unit was mistaken. Every product and quotient that is formed of figures inside these ranges is a finite number.
RANGES: dict[str, tuple[float, float]] = {
    "size": (1, 1e15),
    "byte rate": (100, 1e20),  # from the slowest serial line to what stands for no link at all
    "weight rate": (1e3, 1e16),
    "operation rate": (1e6, 1e19),
    "duration": (1e-15, 3600),
    "power": (1e-6, 1e6),
    "frequency": (1e6, 1e12),
    "temperature": (1, 300),
    "temperature difference": (1e-3, 100),
    "heat capacity": (1e-2, 1e6),
    "thermal resistance": (1e-2, 1e3),
    "energy per bit": (1e-15, 1e-9),
    "graphs": (1, 1e4),
    "bits": (0.1, 128),
    "rows": (1, 2.0**20),
    "tokens": (1, 1e8),
    "sequences": (1, 1e5),
    "share": (1e-6, 100),
    "times": (1e-3, 1e6),
    "cores": (1, 1e6),
    "B/kop": (1e-6, 1e3),
    "weights/kop": (1e-6, 1e3),
    "weights/kcycle": (1e-3, 1e6),
    "op/cycle": (1e-3, 1e6),
    "Mcycles": (1e-9, 1e4),
    "Gop": (1e-9, 1e6),
}


def outside(dimension: str, figure: Figure) -> Misfit | None:
    """What is wrong with a figure of a dimension, or None."""
    own = figure.unit in RANGES
    factor = 1.0 if own else FACTORS[figure.unit]
    least, most = RANGES[figure.unit if own else dimension.removeprefix("relative ")]
    ends = [figure.value, *(figure.range or ())]
    # A hair of tolerance, as unit factors are no powers of two.
    if bad := [end for end in ends if end and not least * (1 - 1e-12) <= end * factor <= most * (1 + 1e-12)]:
        span = f"{least / factor:g} to {most / factor:g} {figure.unit}"
        article = "an" if dimension[0] in "aeiou" else "a"
        return Misfit(
            f"{article} {dimension} of {bad[0]:g} {figure.unit}", f"{span}, which is what makes physical sense"
        )
    return None


@dataclass(frozen=True)
class Dimension:
    """What kind of quantity a figure is: which units it may have, and whether it may be 0."""

    name: str
    positive: bool

    def check(self, figure: Figure) -> Figure:
        """The figure, if it is one of this dimension. Raises `Misfit` otherwise."""
        if figure.unit not in DIMENSIONS[self.name]:
            units = ", ".join(DIMENSIONS[self.name])
            raise Misfit(f"unit {figure.unit!r}", f"a unit of {self.name}: {units}")
        if self.positive and figure.value == 0:
            raise Misfit(f"a {self.name} of 0", "one above 0")
        if self.positive and figure.range is not None and figure.range[0] <= 0:
            raise Misfit(f"a range from {figure.range[0]:g}", "one that begins above 0")
        if figure.range is not None and figure.range[0] < 0:
            raise Misfit(f"a range from {figure.range[0]:g}", "one that begins at 0 at least")
        if broken := outside(self.name, figure):
            raise broken
        return figure

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "title": self.name, "properties": {"unit": {"enum": list(DIMENSIONS[self.name])}}}


Size = Annotated[Figure, Dimension("size", positive=False)]
ByteRate = Annotated[Figure, Dimension("byte rate", positive=True)]
WeightRate = Annotated[Figure, Dimension("weight rate", positive=True)]
OperationRate = Annotated[Figure, Dimension("operation rate", positive=True)]
Duration = Annotated[Figure, Dimension("duration", positive=False)]
Power = Annotated[Figure, Dimension("power", positive=False)]
Frequency = Annotated[Figure, Dimension("frequency", positive=True)]
Temperature = Annotated[Figure, Dimension("temperature", positive=True)]
TemperatureDifference = Annotated[Figure, Dimension("temperature difference", positive=False)]
HeatCapacity = Annotated[Figure, Dimension("heat capacity", positive=True)]
ThermalResistance = Annotated[Figure, Dimension("thermal resistance", positive=True)]
EnergyPerBit = Annotated[Figure, Dimension("energy per bit", positive=False)]
RelativeRate = Annotated[Figure, Dimension("relative rate", positive=True)]
RelativeDuration = Annotated[Figure, Dimension("relative duration", positive=False)]
Limit = Annotated[Figure, Dimension("size", positive=True)]
Share = Annotated[Figure, Dimension("count", positive=False)]
Count = Annotated[Figure, Dimension("count", positive=True)]
