"""A runtime: what the program that runs a model decides and the chip does not - formats and kernels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.chip import Activations, Chip, Precision, Unit, UnitKind
from hilsim.describe.figure import Count, Named, Names, Share, Size, as_tuple
from hilsim.errors import Misfit

# How tokens can be proposed: by a draft model, by tokens looked up, by the target itself, or by a draft head.
Drafting = Literal["model", "lookup", "suffix", "lookahead", "ssd", "eagle", "eagle3", "mtp", "medusa", "block"]


class Runtime(Named):
    """How one runtime stores 4-bit models, how well its kernels stream them, and what it takes of the memory."""

    known_as: Names = ()
    """Other names that people and measurements use for it; each finds it."""
    units: Annotated[tuple[UnitKind, ...], BeforeValidator(as_tuple)] = Field(("npu", "gpu", "cpu"), min_length=1)
    """Kinds of units that it is made for."""
    vendors: Names = ()
    """Vendors of chips that it is made for; those of any vendor where empty."""
    vendors_source: str = ""
    """Where it is documented which hardware the runtime is made for; needed with vendors."""
    activations: Activations | None = None
    """Number format of activations, of measurements that do not state it."""
    weight_bits: Count | None = None
    """Bits for each weight of the layers in its 4-bit format; the unit's where not given."""
    head_bits: Count | None = None
    """Bits for each weight of the output head in its 4-bit format; the unit's where not given."""
    kv_bits: Count | None = None
    """Bits for each cached number beside its 4-bit format; the unit's where not given."""
    narrow_rows: Count | None = None
    """Most rows that its matrix-vector kernels take with 4-bit models; the unit's where not given."""
    memory_share: Count | None = None
    """Part that its 4-bit kernels reach of a memory rate fitted on quicker ones; all of it where not given."""
    staged: Share | None = None
    """Share of the weights held a second time while a model is loaded; the unit's where not given."""
    workspace: Size | None = None
    """Memory that it takes beside a model and its activations; the unit's where not given."""
    taken_in_advance: Share | None = None
    """Share of the chip's memory that it takes as it starts; the unit's where not given."""
    drafting: Annotated[tuple[Drafting, ...], BeforeValidator(as_tuple)] = ()
    """Ways of speculation that it offers; `hilsim modes` asks for them."""
    drafting_source: str = ""
    """Where it is documented that it offers them; needed with drafting."""
    batching: Count | None = None
    """Sessions that it computes in one step, which new ones join from step to step; one where not given."""

    @model_validator(mode="after")
    def _drafting_has_a_source(self) -> Runtime:
        if self.drafting and len(self.drafting_source) < 3:
            raise Misfit("drafting without drafting_source", "where it is documented that the runtime offers it")
        return self

    @model_validator(mode="after")
    def _vendors_have_a_source(self) -> Runtime:
        if self.vendors and len(self.vendors_source) < 3:
            raise Misfit(
                "vendors without vendors_source", "where it is documented what hardware the runtime is made for"
            )
        return self

    def made_for(self, chip: Chip, unit: Unit) -> bool:
        """Whether it runs on such a unit of that chip's vendor; with vendors of its own, on no chip without one."""
        return unit.kind in self.units and (not self.vendors or chip.vendor in self.vendors)

    @property
    def hardware(self) -> str:
        """The units that it is made for, in words."""
        kinds = " and ".join(self.units)
        return f"{kinds} of {' and '.join(self.vendors)}" if self.vendors else kinds

    def on(self, unit: Unit, precision: Precision) -> tuple[Unit, Precision]:
        """The unit and the number format as this runtime uses them."""
        bits = {name: getattr(self, name) for name in ("weight_bits", "head_bits", "kv_bits")}
        update: dict[str, object] = {name: figure for name, figure in bits.items() if figure is not None}
        if self.memory_share is not None:
            update["memory_rate"] = precision.memory_rate.times(self.memory_share)
        changed = precision.model_copy(update=update)
        return self.in_memory(unit, "narrow_rows"), changed

    def placed_on(self, unit: Unit, key: str) -> Unit:
        """The unit where a scenario names this runtime: its share of the memory, and its formats for 4-bit models."""
        precision = unit.precisions[key]
        if precision.weight_bits.si >= 8:
            return self.in_memory(unit)
        unit, changed = self.on(unit, precision)
        return unit.model_copy(update={"precisions": unit.precisions | {key: changed}})

    def in_memory(self, unit: Unit, *further: str) -> Unit:
        """The unit with what this runtime takes of the memory, and further figures of its own."""
        own = {name: getattr(self, name) for name in (*further, "staged", "workspace", "taken_in_advance")}
        own = {name: figure for name, figure in own.items() if figure is not None}
        return unit.model_copy(update=own) if own else unit
