"""A node of an ONNX file as plain data, and which of its inputs have to be known when the graph is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Operator = Callable[..., Any]  # (node, inputs...) -> a tensor, or several
# Inputs that have to be known when the graph is built, by operator: shapes, axes, bounds.
KNOWN_INPUTS: dict[str, tuple[int, ...]] = {
    "Reshape": (1,), "Squeeze": (1,), "Unsqueeze": (1,), "Expand": (1,), "Tile": (1,), "Slice": (1, 2, 3, 4),
    "Split": (1,), "Pad": (1, 2, 3), "Resize": (1, 2, 3), "Upsample": (1,), "ConstantOfShape": (0,), "TopK": (1,),
    "Range": (0, 1, 2), "OneHot": (1, 2), "CumSum": (1,), "Trilu": (1,), "Clip": (1, 2),
    **{f"Reduce{kind}": (1,) for kind in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum",
                                          "LogSumExp")},
}  # fmt: skip
# The same, of inputs that stay tensors: scales and zero points.
KNOWN_TENSORS: dict[str, tuple[int, ...]] = {"QuantizeLinear": (1, 2), "DequantizeLinear": (1, 2)}


@dataclass(frozen=True)
class OnnxNode:
    """An operator of a file: its attributes as plain data (a tensor as `Tensor`), names of what it takes and gives."""

    name: str
    op: str
    opset: int
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    attributes: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)
