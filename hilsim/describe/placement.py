"""Where a model runs: one role of a scenario, a draft head in place of a draft model, a network beside them."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from hilsim.describe.chip import rising
from hilsim.describe.cockpit import Milliseconds
from hilsim.describe.drafting import ONE_PASS, HeadKind
from hilsim.describe.figure import PLAIN_NAME, Record, Spelling
from hilsim.describe.head import LOGITS, Head
from hilsim.errors import Misfit, Misfits


class TableTimer(Record):
    """Step times given by the user: milliseconds by phase and by rows; the next entry up is charged."""

    prefill: dict[str, Milliseconds] = Field(min_length=1)
    """Milliseconds of reading a prompt, by rows; longer prompts take several of the widest."""
    decode: Milliseconds
    """Milliseconds of a pass of one row."""
    verify: dict[str, Milliseconds] = Field(default_factory=dict)
    """Milliseconds of a pass of several rows, by rows; a target that verifies needs it."""
    source: str = Field(min_length=3)
    """Where the times are from."""

    @field_validator("prefill", "verify")
    @classmethod
    def _rows(cls, table: dict[str, float]) -> dict[str, float]:
        for key in table:
            if not key.isascii() or not key.isdigit() or not 1 <= int(key) <= 10**6:
                raise Misfit(f"rows {key!r}", "whole numbers of rows mapped to milliseconds")
        if len({int(key) for key in table}) < len(table):
            raise Misfit(f"rows {', '.join(table)}, some of them twice", "each number of rows once")
        return table


CacheFormat = Literal["fp16", "fp8", "int8", "int4"]


class Placement(Record):
    """One role: the deployed model, its stand-in, and the unit it runs on."""

    model: str
    """The deployed model, which times and memory follow from: a name, a file, or a Hugging Face folder."""
    stand_in: str | None = None
    """Folder of the network that generates the text here; live and recorded logits need one."""
    chip: Spelling
    """The chip, by name, CHIP@MODE, or file."""
    unit: str
    """The compute unit of the chip."""
    precision: str
    """Number format that the model is deployed in, one of the unit's."""
    widths: tuple[int, ...] | None = Field(default=None, min_length=1)
    """Rows of the graphs that are compiled; the unit's where not given."""
    head: Head = LOGITS
    """What the graph ends in: logits, the likeliest token, or some of the likeliest."""
    expanded_kv: bool = False
    """Whether the export copies key/value heads to query heads (repeat_kv), in place of grouped queries."""
    runtime: str | None = None
    """Runtime of chips/runtimes: how it stores 4-bit models, and what it takes of the memory."""
    kv_cache: CacheFormat | None = None
    """How cached keys and values are stored; as the precision has it where not given."""
    timer: TableTimer | None = None
    """Step times in place of the chip model's."""
    batch: int | None = Field(default=None, ge=1, le=4096)
    """Sessions computed in one step; where not given what the runtime does, and one on an NPU."""

    @field_validator("widths", mode="before")
    @classmethod
    def _list(cls, data: object) -> object:
        return tuple(data) if isinstance(data, list) else data

    @field_validator("widths")
    @classmethod
    def _rising(cls, widths: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return None if widths is None else rising(widths)


class HeadPlacement(Placement):
    """A draft head in place of a draft model: its kind, and where it runs; `describe/drafting.py` has its shape.

    Where no chip, unit, precision and runtime are given, they are the target's.
    """

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=["head_kind"]))

    model: str = ""
    """Left out: a draft head has the target's sizes."""
    head_kind: HeadKind
    """The kind of draft head, which reads the target's hidden states."""
    layers: int | None = Field(None, ge=1, le=64)
    """Layers of the head; as published of its kind where not given."""
    head_entries: int | None = Field(None, ge=2, le=10**7)
    """Tokens that a trimmed output head knows; the whole vocabulary where not given."""
    positions: int | None = Field(None, ge=1, le=64)
    """Tokens that a medusa head or a block proposes in its one pass."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> HeadPlacement:
        broken = []
        if self.model:
            broken.append(
                Misfit(f"head_kind {self.head_kind} with model {self.model}", "a draft head or a draft model, not both")
            )
        if self.head_kind in ONE_PASS and self.positions is None:
            broken.append(Misfit(f"{self.head_kind} without positions", "positions, the tokens it proposes in a pass"))
        if self.head_kind not in ONE_PASS and self.positions is not None:
            expected = f"no positions, which {' and '.join(ONE_PASS)} have: other heads run a pass a token"
            broken.append(Misfit(f"positions {self.positions} with {self.head_kind}", expected))
        if broken:
            raise Misfits(broken)
        return self


def at_home(data: dict[str, object], target: Placement | None) -> dict[str, object]:
    """A draft head's keys, with the target's place where none is given; its runtime and batch on the target's unit."""
    place = {key: "?" if target is None else getattr(target, key) for key in ("chip", "unit", "precision")}
    found = place | data
    same = all(found[key] == place[key] for key in ("chip", "unit"))
    return ({"runtime": target.runtime, "batch": target.batch} if target is not None and same else {}) | found


class NetworkPlacement(Record):
    """A network beside the language model, run once a question."""

    name: str = Field(pattern=PLAIN_NAME, max_length=100)
    """What reports call the network."""
    module: str
    """What makes it: PACKAGE.MODULE:FACTORY or FILE.py:FACTORY."""
    chip: Spelling | None = None
    """The chip; the target's where not given."""
    unit: str | None = None
    """The compute unit; the target's where not given."""
    precision: str | None = None
    """Its number format; 8 bits where the unit has them."""

    @field_validator("module")
    @classmethod
    def _names_a_factory(cls, value: str) -> str:
        package, colon, factory = value.rpartition(":")
        named = package.endswith(".py") or all(part.isidentifier() for part in package.split("."))
        if not colon or not named or not factory.isidentifier():
            expected = "PACKAGE.MODULE:FACTORY or FILE.py:FACTORY"
            raise Misfit(f"module {value!r}", f"{expected}, such as my_models.intent:build")
        return value
