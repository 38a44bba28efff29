"""How a precision rounds a network: bits of weights, scales that they share, activations, the cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hilsim.describe.chip import Activations, Precision

WHOLE = 32  # bits of a number that is left as it is
HALF = 16  # bits of a float16
SCALE_BITS = 16  # of a scale beside a group of weights
CACHES = {16: "fp16", 8: "int8", 4: "int4"}


@dataclass(frozen=True)
class Rounding:
    """Bits of weights and of those of the head: 32 as they are, 16 as float16, fewer in steps.

    `scales`: what shares one scale: the whole matrix ("tensor"), the weights of an output ("channel"), or `group` of
    them. `ranges`: the same of integer activations at the inputs of matrices: the whole tensor, over a text read
    before; a row, found when it comes; or each of its channels. Embeddings and norms stay as they are.
    """

    name: str
    weight_bits: int = WHOLE
    head_bits: int = WHOLE
    scales: Literal["tensor", "channel", "group"] = "channel"
    group: int = 0
    activations: Activations = "fp32"
    ranges: Literal["tensor", "row", "channel"] = "tensor"
    cache: str | None = None

    @property
    def weights_by(self) -> str:
        """What shares a scale of weights; "" where they are not rounded to steps."""
        if self.weight_bits >= HALF:
            return ""
        return f"groups of {self.group}" if self.scales == "group" else self.scales

    @property
    def inputs_by(self) -> str:
        """The same of activations."""
        return self.ranges if self.activations.startswith("int") else ""


def rounding_of(name: str, precision: Precision) -> Rounding:
    """The rounding of a unit's precision. What weights have beyond whole bits are scales of groups, 16 bits each."""
    bits = precision.weight_bits.si
    whole = int(bits)
    group = round(SCALE_BITS / (bits - whole)) if bits > whole and whole < HALF else 0
    return Rounding(
        name, whole, int(precision.head_bits.si), "group" if group else "channel", group, precision.activations,
        "tensor", CACHES.get(int(precision.kv_bits.si)),
    )  # fmt: skip


def usual(name: str, bits: int, activations: Activations, scales: Literal["tensor", "channel"] = "channel") -> Rounding:
    """A rounding of body and head alike."""
    return Rounding(name, bits, bits, scales, 0, activations)


FLOAT = Rounding("fp32")
COMPARED = (
    FLOAT,
    usual("fp16", HALF, "fp16"),
    usual("w8a16", 8, "int16"),
    usual("w8a8", 8, "int8"),
    usual("w8a8", 8, "int8", "tensor"),
    Rounding("w8a8", 8, 8, activations="int8", ranges="row"),
    usual("w4a16", 4, "int16"),
    usual("w4a16", 4, "int16", "tensor"),
    usual("w4", 4, "fp16"),
    Rounding("w4", 4, 4, "group", 32, "fp16"),
)
