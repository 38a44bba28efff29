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
    """How one runtime stores 4-bit models and how well its kernels stream them, on the kinds of `units` it is made for.

    With `vendors` it is made for units on chips of these alone.

    `activations` are those it uses where a measurement does not state them; `memory_share` is the part of a unit's
    memory rate that its kernels reach, where that was fitted on quicker ones. What it takes of the memory is named as
    in a unit, whose own figures are used where it gives none. `drafting` are the ways of speculation that it offers,
    `batching` how many sessions it computes together in one step, which new ones join from step to step.
    """

    known_as: Names = ()
    units: Annotated[tuple[UnitKind, ...], BeforeValidator(as_tuple)] = Field(("npu", "gpu", "cpu"), min_length=1)
    vendors: Names = ()
    vendors_source: str = ""
    activations: Activations | None = None
    weight_bits: Count | None = None
    head_bits: Count | None = None
    kv_bits: Count | None = None
    narrow_rows: Count | None = None
    memory_share: Count | None = None
    staged: Share | None = None
    workspace: Size | None = None
    taken_in_advance: Share | None = None
    drafting: Annotated[tuple[Drafting, ...], BeforeValidator(as_tuple)] = ()
    drafting_source: str = ""
    batching: Count | None = None

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
