"""A rule profile: what one compiler takes, as data - a column of the operator table, conditions, rulings, switches.

The table (`chips/operators/table.csv`) has a row per operator and a column per toolchain; `spellings.yaml` states how
ATen overloads that have no row of their own are read. A profile chooses a column and adds what a cell cannot express.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hilsim.describe.catalogue import load_named, load_record
from hilsim.describe.chip import Activations, Fallback, Unit, UnitKind
from hilsim.describe.figure import Named, Names, Record, as_tuple
from hilsim.errors import Fault, Misfit, ScenarioError
from hilsim.files import read_text
from hilsim.places import DATA

Standing = Literal["supported", "partial", "unknown", "unsupported"]
STANDINGS: tuple[Standing, ...] = ("supported", "partial", "unknown", "unsupported")  # from good to bad
# documented: a vendor or project states it; reported: a user's claim; assumed: no source says it, we had to choose.
Evidence = Literal["documented", "reported", "assumed"]
Severity = Literal["error", "warning", "note"]
NumberKind = Literal["bool", "int", "float"]
Column = Literal["snpe_2023_htp", "qnn_htp_2025", "tensorrt_gpu", "orin_dla"]
COLUMNS: tuple[Column, ...] = ("snpe_2023_htp", "qnn_htp_2025", "tensorrt_gpu", "orin_dla")
# Types of tensors as PyTorch names them; int64 is apart, as the switch `integers` decides about it.
TensorType = Literal[
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float16", "bfloat16", "float32",
    "float64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "complex32",
    "complex64", "complex128",
]  # fmt: skip
TensorTypes = Annotated[tuple[TensorType, ...], BeforeValidator(as_tuple)]
FormatStanding = Literal["native", "quantised only", "becomes", "inputs and outputs", "unsupported"]
TABLE = DATA / "chips/operators/table.csv"
SPELLINGS = DATA / "chips/operators/spellings.yaml"
FORMATS = DATA / "chips/operators/formats.yaml"


def bounds_in_order(bounds: tuple[int, int]) -> tuple[int, int]:
    """The smallest and the largest that is allowed."""
    if bounds[0] > bounds[1]:
        raise Misfit(f"bounds {bounds[0]} to {bounds[1]}", "the lower one first")
    return bounds


Bounds = Annotated[tuple[int, int], BeforeValidator(as_tuple), AfterValidator(bounds_in_order)]


class NumberFormat(Record):
    """What a toolchain does with tensors of some types; of types that no entry names nothing is known.

    native: has them; quantised only: as results of quantisation; becomes: the converter makes them `becomes`;
    inputs and outputs: only there, cast at once from or to one of `converts`; unsupported: has none. `release`: the
    entry holds from that version of the tools on, and then replaces an earlier one.
    """

    types: TensorTypes = Field(min_length=1)
    standing: FormatStanding
    becomes: TensorType | None = None
    converts: TensorTypes = ()
    release: float | None = None
    evidence: Evidence
    why: str = Field(min_length=3)
    source: str = Field(min_length=3)
    remedy: str = ""

    @model_validator(mode="after")
    def _says_what_it_becomes(self) -> NumberFormat:
        if (self.standing == "becomes") != (self.becomes is not None):
            raise Misfit(f"standing {self.standing!r} with becomes {self.becomes}", "both or neither")
        return self


class Formats(Record):
    """The file of number formats: a list for each toolchain, which is a column of the operator table."""

    toolchains: dict[Column, Annotated[tuple[NumberFormat, ...], BeforeValidator(as_tuple)]]


class Ruling(Record):
    """A profile's statement about an operator against, or beyond, the table's cell."""

    operators: Names = Field(min_length=1)
    standing: Standing
    evidence: Evidence
    why: str = Field(min_length=3)
    source: str = Field(min_length=3)
    remedy: str = ""


class Condition(Record):
    """Where an operator runs: all that is set here must hold, or the node is a finding of this `severity`.

    `axis`: the operator's axis is the last one, one of the last four, the channels of (batch, channels, height, width),
    or any but the batch. `rank`, `size`, `batch`, `volume`: at most so many dimensions, numbers along a dimension,
    along the first one, in a tensor. `kernel`: bounds of a convolution's window. `arguments`: bounds of arguments by
    name, of every number where one is a list. `transposed`: only of convolutions that are, or are not. `from_rank`:
    only where an operand has that many dimensions. `divides`: the output's last dimensions divide the input's.
    `scale`: the output's last dimensions are whole multiples of the input's within these bounds. `outputs`: so many
    are read at most.
    `spread`: a computed operand that is stretched keeps batch and channels, or the batch alone. `axis_size`,
    `axis_size_alone`: numbers along the operator's axis, and where every other dimension is 1. `k`: at most.
    `constant`: this operand (from 0) is no activation. `except_constant`: where this operand is none, the condition
    says nothing; `factors`: where of these operands at most one is. `activations`: number formats it runs in.
    `dtypes`: what its operands may hold. `largest`, `sorted`: arguments that must be true. `accumulate: false`: it
    must not add to what is there, nor reduce with it. `equation: plain`: an einsum without ellipsis, diagonal or
    broadcasting. `never`: no form is known to run.
    """

    rule: str = Field(pattern=r"^[a-z0-9-]+$")
    operators: Names = Field(min_length=1)
    severity: Severity = "error"
    axis: Literal["last", "last four", "channels", "not the batch"] | None = None
    from_rank: int | None = Field(default=None, ge=1, le=2**40)
    divides: bool = False
    scale: Bounds | None = None
    outputs: int | None = Field(default=None, ge=1, le=1000)
    rank: int | None = Field(default=None, ge=1, le=2**40)
    size: int | None = Field(default=None, ge=1, le=2**40)
    batch: int | None = Field(default=None, ge=1, le=2**40)
    volume: int | None = Field(default=None, ge=1, le=2**40)
    kernel: Bounds | None = None
    arguments: dict[str, Bounds] = Field(default_factory=dict)
    transposed: bool | None = None
    spread: Literal["within batch and channels"] | None = None
    axis_size: int | None = Field(default=None, ge=1, le=2**40)
    axis_size_alone: int | None = Field(default=None, ge=1, le=2**40)
    k: int | None = Field(default=None, ge=1, le=2**40)
    constant: int | None = Field(default=None, ge=0, le=1000)
    except_constant: int | None = Field(default=None, ge=0, le=1000)
    factors: Annotated[tuple[Annotated[int, Field(ge=0, le=1000)], ...] | None, BeforeValidator(as_tuple)] = None
    activations: Annotated[tuple[Activations, ...] | None, BeforeValidator(as_tuple)] = None
    dtypes: Annotated[tuple[NumberKind, ...] | None, BeforeValidator(as_tuple)] = None
    accumulate: Literal[False] | None = None
    equation: Literal["plain"] | None = None
    largest: bool | None = None
    sorted: bool | None = None
    never: bool = False
    why: str = Field(min_length=3)
    source: str = Field(min_length=3)
    remedy: str = ""

    @model_validator(mode="after")
    def _can_be_broken(self) -> Condition:
        if self.factors is not None and len(self.factors) < 2:
            raise Misfit(f"factors {list(self.factors)}", "two operands or more, as one is never two activations")
        return self


class Switch(Record):
    """A yes or no about a compiler, with what it rests on."""

    value: bool
    evidence: Evidence
    source: str = Field(min_length=3)


class Profile(Named):
    """One compiler's rules.

    `release` is the TensorRT version that "yes (from X)" is held against. `elsewhere` is where an operator runs that
    this compiler refuses, "nowhere" where the build fails; `fallback` what that costs, where no unit's file says.
    `integers` says what becomes of int64.
    """

    units: Annotated[tuple[UnitKind, ...], BeforeValidator(as_tuple)] = Field(min_length=1)
    families: Names = ()  # of units that it is for; any of the right kind where there are none
    column: Column
    release: float | None = Field(default=None, ge=0, le=1e6)
    elsewhere: Literal["cpu", "gpu", "nowhere"]
    integers: Literal["native", "become int32", "refused"]
    dynamic_shapes: Switch
    shared_calls: Switch  # one module called twice in one graph: a siamese network
    shared_context: Switch  # several graphs of one context that share weights
    fallback: Fallback | None = None
    rulings: Annotated[tuple[Ruling, ...], BeforeValidator(as_tuple)] = ()
    conditions: Annotated[tuple[Condition, ...], BeforeValidator(as_tuple)] = ()
    formats: Annotated[tuple[NumberFormat, ...], BeforeValidator(as_tuple)] = ()  # against, or beyond, the toolchain's
    notes: str = ""

    def suits(self, unit: Unit) -> bool:
        """Whether the rules are about this kind of unit, and this silicon."""
        return unit.kind in self.units and (not self.families or unit.family in self.families)

    @model_validator(mode="after")
    def _knows_its_operators(self) -> Profile:
        known = set(operators()) | set(spellings())
        named = [name for ruling in self.rulings for name in ruling.operators]
        named += [name for condition in self.conditions for name in condition.operators]
        if strangers := sorted({name for name in named if name not in known and name != "*"}):
            raise Misfit(f"rules for {', '.join(strangers)}", "operators of the table or of spellings.yaml, or *")
        return self


@dataclass(frozen=True)
class Operator:
    """A row of the table."""

    name: str
    onnx: str
    cells: dict[str, str]
    limits: str
    workaround: str
    source: str


class Spelling(Record):
    """How an overload without a row, or with a blank cell, is read: as other operators together, or as none at all.

    With `dtypes` only where every operand is of these kinds, and then before the row. `columns`: the toolchains of
    which it is known, all where there are none.
    """

    operators: Names = Field(min_length=1)
    reads: Names = ()  # empty: no operator, only another view of the same numbers
    dtypes: Annotated[tuple[NumberKind, ...], BeforeValidator(as_tuple)] = ()
    columns: Annotated[tuple[Column, ...], BeforeValidator(as_tuple)] = ()
    why: str = Field(min_length=3)
    source: str = ""

    def holds(self, column: Column, kinds: frozenset[NumberKind] | None) -> bool:
        """Whether it is read so by a toolchain, for operands of these kinds (None: whatever they are)."""
        of_kind = not self.dtypes or (kinds is not None and kinds <= set(self.dtypes))
        return of_kind and (not self.columns or column in self.columns)


class Spellings(Record):
    """The file of spellings."""

    spellings: Annotated[tuple[Spelling, ...], BeforeValidator(as_tuple)]


@cache
def operators() -> dict[str, Operator]:
    """The table by ATen overload, as `str(node.target)` spells it. Raises `InputError` where it is damaged."""
    rows = csv.DictReader(read_text(TABLE).splitlines())
    wanted = {"aten_op", "onnx_op", *COLUMNS, "limits", "workaround", "source"}
    if missing := wanted - set(rows.fieldnames or ()):
        found = f"no column {', '.join(sorted(missing))}"
        raise ScenarioError([Fault(str(TABLE), "line 1", found, f"the columns {', '.join(sorted(wanted))}")])
    found_rows = {}
    for row in rows:
        if None in row or None in row.values():
            found = f"{len([cell for cell in row.values() if cell is not None])} cells"
            raise ScenarioError(
                [Fault(str(TABLE), f"line {rows.line_num}", found, f"{len(rows.fieldnames or ())}, as in the heading")]
            )
        cells: dict[str, str] = {column: row[column] for column in COLUMNS}
        found_rows[row["aten_op"]] = Operator(
            row["aten_op"], row["onnx_op"], cells, row["limits"], row["workaround"], row["source"]
        )
    return found_rows


@cache
def spellings() -> dict[str, Spelling]:
    """How overloads without a row are read."""
    found = load_record(Spellings, SPELLINGS)
    return {name: spelling for spelling in found.spellings for name in spelling.operators}


@cache
def number_formats() -> dict[Column, tuple[NumberFormat, ...]]:
    """What each toolchain does with which types of tensors."""
    return load_record(Formats, FORMATS).toolchains


def formats_of(profile: Profile) -> dict[str, NumberFormat]:
    """By type of tensor what a profile's toolchain does with it: the newest entry of its release, its own last."""
    found: dict[str, NumberFormat] = {}
    for entry in (*number_formats().get(profile.column, ()), *profile.formats):
        if entry.release is None or (profile.release is not None and profile.release >= entry.release):
            found.update(dict.fromkeys(entry.types, entry))
    return found


def standing_of(cell: str, release: float | None) -> Standing:
    """What a cell of the table means; `release` is the version that "yes (from X)" is held against."""
    if since := re.fullmatch(r"yes \(from ([0-9.]+)\)", cell):
        return "supported" if release is not None and release >= float(since[1]) else "unsupported"
    if cell in ("listed", "yes", "native"):
        return "supported"
    if cell in ("unlisted", "no", "none", "none (DLA SW only)"):
        return "unsupported"
    # "partial", "reconstruction", "build-time only", "native, constant 2nd input only", "yes (SDK 2.45+)"
    return "partial" if cell else "unknown"


def load_profile(value: str, named_in: Path) -> Profile:
    """A profile by name or file. Raises `InputError`."""
    return load_named("profile", Profile, value, named_in)
