"""Quantised ONNX graphs: what quantises becomes the number formats of tensors, and the graph around it stays in floats.

A compiler of such a file runs an operator in the formats of its tensors; QuantizeLinear and DequantizeLinear are no
work of their own. So a quantised tensor is carried as the floats that its integers stand for. While a file is held
against onnxruntime these are rounded as it says; what is checked afterwards is the graph without the rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hilsim.compiler.onnx_node import OnnxNode
from hilsim.describe.chip import Precision

RANGES = {
    "uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767),
    "uint4": (0, 15), "int4": (-8, 7), "int32": (-(2**31), 2**31 - 1),
}  # fmt: skip
ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear")
INTEGER = ("QLinearMatMul", "QLinearConv", "MatMulInteger", "ConvInteger")  # which are spelled out in others
# Operators that move numbers and do not change them, or take the largest: the same of integers and of what they mean.
MOVING = (
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather", "Identity", "Expand", "Tile",
    "MaxPool", "GlobalMaxPool", "DepthToSpace", "SpaceToDepth", "Max", "ReduceMax",
)  # fmt: skip
ONE = "(a scale of one)"
DYNAMIC = "found at run time"


@dataclass(frozen=True)
class TensorFormat:
    """How a tensor is quantised: its integers' type, one scale or one a channel, and whether it is a constant."""

    tensor: str
    type: str
    scales: int
    constant: bool
    how: str  # "per tensor", "per channel", "in blocks", or DYNAMIC
    scale: Tensor
    zero: Tensor

    def __str__(self) -> str:
        return f"{self.type} {self.how}"

    def same_scale(self, scale: Tensor, zero: Tensor) -> bool:
        """Whether a scale and zero point are its own."""
        pairs = ((self.scale, scale), (self.zero, zero))
        return all(torch.equal(own.flatten(), other.float().flatten()) for own, other in pairs)


def spelled_out(nodes: Sequence[OnnxNode]) -> Iterator[OnnxNode]:
    """The nodes, those on integers in terms of DequantizeLinear, a product or convolution, and QuantizeLinear."""
    for node in nodes:
        if node.op not in INTEGER:
            yield node
        elif node.op.startswith("QLinear"):
            yield from spelled_linear(node)
        else:
            yield from spelled_integer(node)


def beside(node: OnnxNode, op: str, what: str, takes: Sequence[str], **attributes: int) -> OnnxNode:
    """A node that a quantised one is made of."""
    return OnnxNode(f"{node.name}_{what}", op, node.opset, tuple(takes), (f"{node.gives[0]} {what}",), attributes)


def spelled_linear(node: OnnxNode) -> Iterator[OnnxNode]:
    """QLinearMatMul and QLinearConv."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *bias = node.takes
    product = node.op == "QLinearMatMul"
    first = beside(node, "DequantizeLinear", "left", (x, x_scale, x_zero), axis=-2)
    second = beside(node, "DequantizeLinear", "right", (w, w_scale, w_zero), axis=-1 if product else 0)
    yield from (first, second)
    takes = [first.gives[0], second.gives[0]]
    if bias and bias[0]:
        scale = beside(node, "Mul", "bias_scale", (x_scale, w_scale))
        added = beside(node, "DequantizeLinear", "bias", (bias[0], scale.gives[0], ""), axis=0)
        yield from (scale, added)
        takes.append(added.gives[0])
    made = f"{node.gives[0]} result"
    yield replace(node, op="MatMul" if product else "Conv", takes=tuple(takes), gives=(made,))
    rounded = beside(node, "QuantizeLinear", "rounded", (made, y_scale, y_zero))
    yield replace(rounded, gives=node.gives)


def spelled_integer(node: OnnxNode) -> Iterator[OnnxNode]:
    """MatMulInteger and ConvInteger: their integers less their zero points, multiplied; scales come later."""
    x, w, x_zero, w_zero = (*node.takes, "", "")[:4]
    product = node.op == "MatMulInteger"
    first = beside(node, "DequantizeLinear", "left", (x, ONE, x_zero), axis=-2)
    second = beside(node, "DequantizeLinear", "right", (w, ONE, w_zero), axis=-1 if product else 0)
    yield from (first, second)
    yield replace(node, op="MatMul" if product else "Conv", takes=(first.gives[0], second.gives[0]))


def laid_along(numbers: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """Scales or zero points in a shape that stretches over a tensor. Raises ValueError where it cannot."""
    if numbers.numel() == 1:
        return numbers.reshape(())
    if block:
        return numbers.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if numbers.dim() != 1 or numbers.numel() != x.shape[axis]:
        raise ValueError(f"{numbers.numel()} scales along axis {axis} of {tuple(x.shape)}")
    return numbers.reshape([-1 if place == axis % x.dim() else 1 for place in range(x.dim())])


def axis_of(node: OnnxNode, x: Tensor) -> int:
    axis: int = node.get("axis", 1)
    return axis if -x.dim() <= axis < x.dim() else 0


def rounded(x: Tensor, scale: Tensor, zero: Tensor, kind: str) -> Tensor:
    """The floats that the integers of `x` stand for: x over its scale, rounded half to even, cut at the type's ends."""
    low, high = RANGES[kind]
    whole: Tensor = ((x / scale).round() + zero).clamp(low, high)
    return (whole - zero) * scale


def quantised(node: OnnxNode, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """QuantizeLinear. Raises ValueError for a type that is no integer's."""
    if not node.get("rounds", True):
        return x
    kind = type_of(node, zero)
    axis, block = axis_of(node, x), node.get("block_size", 0)
    offset = torch.zeros(()) if zero is None else laid_along(zero.float(), x, axis, block)
    return rounded(x, laid_along(scale.float(), x, axis, block), offset, kind)


def type_of(node: OnnxNode, zero: Tensor | None) -> str:
    """The type that QuantizeLinear yields. Raises ValueError for a type that is no integer's."""
    kind = node.get("type") or ("uint8" if zero is None else str(zero.dtype).removeprefix("torch."))
    if kind not in RANGES:
        raise ValueError(f"it quantises to {kind}; read here: {', '.join(RANGES)}")
    return str(kind)


def dequantised(node: OnnxNode, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """DequantizeLinear: of integers (scale x (integer - zero)); a tensor that is carried as floats has them already.

    The node's `from` are scale and zero point that such a tensor was quantised with, where these are others.
    """
    origin = node.get("from")
    if x.dtype.is_floating_point and origin is None:
        return x
    axis, block = axis_of(node, x), node.get("block_size", 0)
    offset = torch.zeros(()) if zero is None else laid_along(zero.float(), x, axis, block)
    by = laid_along(scale.float(), x, axis, block)
    if origin is None:
        return (x.float() - offset) * by
    its_scale, its_zero = (laid_along(part.float(), x, axis, 0) for part in origin)
    return x * (by / its_scale) + (its_zero - offset) * by


def dynamically(node: OnnxNode, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """DynamicQuantizeLinear: uint8 over the range that a tensor has when it comes.

    It is carried as floats, so what it gives as its scale and zero point are 1 and 0.
    """
    found = x
    if node.get("rounds", True):
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        scale = ((high - low) / 255).clamp_min(torch.finfo(torch.float32).tiny)
        found = rounded(x, scale, (-low / scale).round().clamp(0, 255), "uint8")
    return found, torch.ones(()), torch.zeros((), dtype=torch.uint8)


def format_of(node: OnnxNode, known: dict[str, Tensor], x: Tensor, types: dict[str, str]) -> TensorFormat:
    """The format that a node gives a tensor, or takes of a constant. Raises ValueError where its type is not read."""
    if node.op == "DynamicQuantizeLinear":
        return TensorFormat(node.gives[0], "uint8", 1, False, DYNAMIC, torch.ones(()), torch.zeros(()))
    scale = known[node.takes[1]]
    name = node.takes[2] if len(node.takes) > 2 else ""
    zero = known.get(name) if name else None
    how = "per tensor" if scale.numel() == 1 else "in blocks" if node.get("block_size", 0) else "per channel"
    if node.op == "QuantizeLinear":
        tensor, constant, kind = node.gives[0], False, type_of(node, zero)
    else:
        tensor, constant = node.takes[0], True
        kind = types.get(tensor, str(x.dtype).removeprefix("torch."))
    zeros = torch.zeros(()) if zero is None else zero.float()
    return TensorFormat(tensor, kind, scale.numel(), constant, how, scale.float(), zeros)


def summary(formats: Sequence[TensorFormat]) -> str:
    """What is quantised how, in a sentence; "" where nothing is."""
    parts = []
    for constant, what in ((True, "constant"), (False, "tensor")):
        kinds = Counter(str(one) for one in formats if one.constant == constant and one.how != "")
        parts += [f"{count} {what}{'s' if count > 1 else ''} {kind}" for kind, count in kinds.items()]
    if not parts:
        return ""
    return f"Quantised: {', '.join(parts)}; the graph is checked in floats, each tensor in its own format."


def mismatch(formats: Sequence[TensorFormat], name: str, precision: Precision) -> str:
    """That a file's activations have other bits than the precision it is checked in; "" where they have not."""
    own = {one.type.removeprefix("u") for one in formats if not one.constant} or {"floats"}
    asked = str(precision.activations)
    if own == {asked} or (own == {"floats"} and not asked.startswith("int")):
        return ""
    return f"It is checked in {name}, whose activations are {asked}; those of the file are {', '.join(sorted(own))}."
