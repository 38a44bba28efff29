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
    """What a toolchain does with tensors of some types; of types that no entry names nothing is known."""

    types: TensorTypes = Field(min_length=1)
    """Types of tensors that it is about, as PyTorch names them."""
    standing: FormatStanding
    """Whether it has them, has them after quantisation alone, turns them into others, or casts or refuses them."""
    becomes: TensorType | None = None
    """The type that the converter turns them into."""
    converts: TensorTypes = ()
    """Types from or to which inputs and outputs are cast at once."""
    release: float | None = None
    """Version of the tools from which on it holds, in place of earlier entries; always where not given."""
    evidence: Evidence
    """Whether a vendor documents it, a user reports it, or it is assumed."""
    why: str = Field(min_length=3)
    """What a finding says of the reason."""
    source: str = Field(min_length=3)
    """Where it is stated."""
    remedy: str = ""
    """What a finding says to do about it."""

    @model_validator(mode="after")
    def _says_what_it_becomes(self) -> NumberFormat:
        if (self.standing == "becomes") != (self.becomes is not None):
            raise Misfit(f"standing {self.standing!r} with becomes {self.becomes}", "both or neither")
        return self


class Formats(Record):
    """The file of number formats: a list for each toolchain, which is a column of the operator table."""

    toolchains: dict[Column, Annotated[tuple[NumberFormat, ...], BeforeValidator(as_tuple)]]
    """What each toolchain does with which types of tensors."""


class Ruling(Record):
    """A profile's statement about an operator against, or beyond, the table's cell."""

    operators: Names = Field(min_length=1)
    """Operators that it is about, as ATen overloads; * is all."""
    standing: Standing
    """Whether they run: in all forms, in some, in none, or nobody knows."""
    evidence: Evidence
    """Whether a vendor documents it, a user reports it, or it is assumed."""
    why: str = Field(min_length=3)
    """What a finding says of the reason."""
    source: str = Field(min_length=3)
    """Where it is stated."""
    remedy: str = ""
    """What a finding says to do about it."""


class Condition(Record):
    """Where an operator runs: all that is set here must hold, or the node is a finding of this severity."""

    rule: str = Field(pattern=r"^[a-z0-9-]+$")
    """Name of the rule in findings."""
    operators: Names = Field(min_length=1)
    """Operators that it is about, as ATen overloads; * is all."""
    severity: Severity = "error"
    """What a node is that breaks it: an error, a warning or a note."""
    axis: Literal["last", "last four", "channels", "not the batch"] | None = None
    """Where the operator's axis must be; channels are those of (batch, channels, height, width)."""
    from_rank: int | None = Field(default=None, ge=1, le=2**40)
    """It holds only where an operand has at least so many dimensions."""
    divides: bool = False
    """Whether the output's height and width and the like must divide the input's."""
    scale: Bounds | None = None
    """Smallest and largest whole factor from the input's height and width and the like to the output's."""
    outputs: int | None = Field(default=None, ge=1, le=1000)
    """Most outputs that may be read."""
    rank: int | None = Field(default=None, ge=1, le=2**40)
    """Most dimensions of a tensor."""
    size: int | None = Field(default=None, ge=1, le=2**40)
    """Most numbers along any dimension."""
    batch: int | None = Field(default=None, ge=1, le=2**40)
    """Most numbers along the batch of what is computed."""
    volume: int | None = Field(default=None, ge=1, le=2**40)
    """Most numbers in a tensor."""
    kernel: Bounds | None = None
    """Smallest and largest side of a convolution's window."""
    arguments: dict[str, Bounds] = Field(default_factory=dict)
    """Smallest and largest value of arguments by name; of every number where one is a list."""
    transposed: bool | None = None
    """It holds of convolutions alone that are transposed, or that are not."""
    spread: Literal["within batch and channels"] | None = None
    """How a computed operand may be stretched: over height and width, or over all but the batch."""
    axis_size: int | None = Field(default=None, ge=1, le=2**40)
    """Most numbers along the operator's axis."""
    axis_size_alone: int | None = Field(default=None, ge=1, le=2**40)
    """The same where every other dimension is 1; axis_size where not given."""
    k: int | None = Field(default=None, ge=1, le=2**40)
    """Largest k of a selection."""
    constant: int | None = Field(default=None, ge=0, le=1000)
    """Number of the operand, from 0, that must not be computed."""
    except_constant: int | None = Field(default=None, ge=0, le=1000)
    """Number of an operand, from 0: where that is not computed, the condition does not hold."""
    factors: Annotated[tuple[Annotated[int, Field(ge=0, le=1000)], ...] | None, BeforeValidator(as_tuple)] = None
    """Numbers of operands, from 0: where at most one of them is computed, the condition does not hold."""
    activations: Annotated[tuple[Activations, ...] | None, BeforeValidator(as_tuple)] = None
    """Number formats of activations that the operator runs in."""
    dtypes: Annotated[tuple[NumberKind, ...] | None, BeforeValidator(as_tuple)] = None
    """Kinds of numbers that operands may hold."""
    accumulate: Literal[False] | None = None
    """false: it must not add to what is there, nor reduce with it."""
    equation: Literal["plain"] | None = None
    """plain: an einsum without ellipsis, diagonal or broadcasting."""
    largest: bool | None = None
    """true: the largest must be asked for, not the smallest."""
    sorted: bool | None = None
    """true: the result must be sorted."""
    never: bool = False
    """true: no form of the operator is known to run."""
    why: str = Field(min_length=3)
    """What a finding says of the reason."""
    source: str = Field(min_length=3)
    """Where it is stated."""
    remedy: str = ""
    """What a finding says to do about it."""

    @model_validator(mode="after")
    def _can_be_broken(self) -> Condition:
        if self.factors is not None and len(self.factors) < 2:
            raise Misfit(f"factors {list(self.factors)}", "two operands or more, as one is never two activations")
        return self


class Switch(Record):
    """A yes or no about a compiler, with what it rests on."""

    value: bool
    """Whether it can."""
    evidence: Evidence
    """Whether a vendor documents it, a user reports it, or it is assumed."""
    source: str = Field(min_length=3)
    """Where it is stated."""


class Profile(Named):
    """One compiler's rules."""

    units: Annotated[tuple[UnitKind, ...], BeforeValidator(as_tuple)] = Field(min_length=1)
    """Kinds of units that it is for."""
    families: Names = ()
    """Silicon families of units that it is for; any of the right kind where empty."""
    column: Column
    """Column of the operator table that it begins with."""
    release: float | None = Field(default=None, ge=0, le=1e6)
    """Version of the tools that "yes (from X)" in the table is held against."""
    elsewhere: Literal["cpu", "gpu", "nowhere"]
    """Where an operator runs that this compiler refuses; nowhere: the build fails."""
    integers: Literal["native", "become int32", "refused"]
    """What becomes of int64: it stays, becomes int32, or is refused."""
    dynamic_shapes: Switch
    """Whether graphs may have dimensions that are known only as they run."""
    shared_calls: Switch
    """Whether one module may be called twice in one graph, as in a siamese network."""
    shared_context: Switch
    """Whether several graphs of one context share weights."""
    fallback: Fallback | None = None
    """What operators that run elsewhere cost, where the unit's file has no figure."""
    rulings: Annotated[tuple[Ruling, ...], BeforeValidator(as_tuple)] = ()
    """Statements about operators against, or beyond, the table."""
    conditions: Annotated[tuple[Condition, ...], BeforeValidator(as_tuple)] = ()
    """What operators that run are limited to."""
    formats: Annotated[tuple[NumberFormat, ...], BeforeValidator(as_tuple)] = ()
    """What it does with types of tensors, against or beyond what is known of the toolchain."""
    notes: str = ""
    """Remarks for readers; no finding follows from them."""

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
    """How an overload without a row, or with a blank cell, is read: as other operators together, or as none."""

    operators: Names = Field(min_length=1)
    """ATen overloads that are read so."""
    reads: Names = ()
    """Operators that they are read as; where empty, none: another view of the same numbers."""
    dtypes: Annotated[tuple[NumberKind, ...], BeforeValidator(as_tuple)] = ()
    """It holds only where all operands are of these kinds, and then before their row; always where empty."""
    columns: Annotated[tuple[Column, ...], BeforeValidator(as_tuple)] = ()
    """Toolchains of which it is known; all where empty."""
    why: str = Field(min_length=3)
    """Why they are read so."""
    source: str = ""
    """Where that is stated."""

    def holds(self, column: Column, kinds: frozenset[NumberKind] | None) -> bool:
        """Whether it is read so by a toolchain, for operands of these kinds (None: whatever they are)."""
        of_kind = not self.dtypes or (kinds is not None and kinds <= set(self.dtypes))
        return of_kind and (not self.columns or column in self.columns)


class Spellings(Record):
    """The file of spellings."""

    spellings: Annotated[tuple[Spelling, ...], BeforeValidator(as_tuple)]
    """The overloads, and what they are read as."""


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
