"""A runtime: what the program that runs a model decides and the chip does not - formats and kernels."""

from __future__ import annotations

from hilsim.describe.chip import Activations, Precision, Unit
from hilsim.describe.figure import Count, Named, Names


class Runtime(Named):
    """How one runtime stores 4-bit models and how well its kernels stream them.

    `activations` are those it uses where a measurement does not state them; `memory_share` is the part of a unit's
    memory rate that its kernels reach, where that was fitted on quicker ones.
    """

    known_as: Names = ()
    activations: Activations | None = None
    weight_bits: Count | None = None
    head_bits: Count | None = None
    kv_bits: Count | None = None
    narrow_rows: Count | None = None
    memory_share: Count | None = None

    def on(self, unit: Unit, precision: Precision) -> tuple[Unit, Precision]:
        """The unit and the number format as this runtime uses them."""
        bits = {name: getattr(self, name) for name in ("weight_bits", "head_bits", "kv_bits")}
        update: dict[str, object] = {name: figure for name, figure in bits.items() if figure is not None}
        if self.memory_share is not None:
            rate = precision.memory_rate
            update["memory_rate"] = rate.model_copy(update={"value": rate.value * self.memory_share.si, "range": None})
        changed = precision.model_copy(update=update)
        if self.narrow_rows is None:
            return unit, changed
        return unit.model_copy(update={"narrow_rows": self.narrow_rows}), changed
