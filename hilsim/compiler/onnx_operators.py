"""ONNX operators in PyTorch, by name: what each computes, at the opset of its file.

An operator gets its node and its inputs; those of `KNOWN_INPUTS` as plain numbers, as they must be known when the graph
is built.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hilsim.compiler.onnx_images import (
    average_pool,
    conv,
    conv_transpose,
    depth_to_space,
    grid_sample,
    laid_around,
    max_pool,
    resize,
    space_to_depth,
)
from hilsim.compiler.onnx_node import OnnxNode, Operator
from hilsim.compiler.onnx_quantised import dequantised, dynamically, quantised

END = (1 << 31) - 1  # an end beyond every length


def unary(function: Callable[[Tensor], Tensor]) -> Operator:
    return lambda node, x: function(x)


def binary(function: Callable[[Any, Any], Any]) -> Operator:
    return lambda node, x, y: function(x, y)


def several(function: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator on two tensors over any number of them."""

    def over(node: OnnxNode, x: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            x = function(x, other)
        return x

    return over


def divided(x: Tensor, y: Tensor) -> Tensor:
    """A quotient; of integers without its fraction."""
    return x / y if x.dtype.is_floating_point else torch.div(x, y, rounding_mode="trunc")


def axes_of(node: OnnxNode, given: Any) -> list[int] | None:
    """Axes as an input of later opsets or an attribute of earlier ones."""
    axes = node.get("axes") if given is None else given
    return [axes] if isinstance(axes, int) else axes


def over_space(function: Callable[..., Tensor]) -> Operator:
    """A reduction of all spatial axes."""
    return lambda node, x: function(x, list(range(2, x.dim())), keepdim=True)


def batch_norm(node: OnnxNode, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if node.get("training_mode", 0):
        raise ValueError("it is in training mode")
    return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, node.get("epsilon", 1e-5))


def layer_norm(node: OnnxNode, x: Tensor, scale: Tensor, shift: Tensor | None = None) -> Tensor:
    axis = node.get("axis", -1) % x.dim()
    return F.layer_norm(x, x.shape[axis:], scale, shift, node.get("epsilon", 1e-5))


def group_norm(node: OnnxNode, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    groups = node.get("num_groups")
    if scale.numel() == groups != x.shape[1]:  # before opset 21 a scale for each group
        scale, shift = (part.repeat_interleave(x.shape[1] // groups) for part in (scale, shift))
    return F.group_norm(x, groups, scale, shift, node.get("epsilon", 1e-5))


def lp_norm(node: OnnxNode, x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x, node.get("p", 2), node.get("axis", -1), keepdim=True)
    return x / norm


def gemm(node: OnnxNode, x: Tensor, y: Tensor, bias: Tensor | None = None) -> Tensor:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    x = x.t() if node.get("transA", 0) else x
    if bias is not None and bias.dim() == 1 and alpha == beta == 1 and node.get("transB", 0):
        return F.linear(x, y, bias)
    made = x @ (y.t() if node.get("transB", 0) else y)
    made = made if alpha == 1 else made * alpha
    return made if bias is None else made + (bias if beta == 1 else bias * beta)


def soft(function: Callable[..., Tensor]) -> Operator:
    """A softmax along its axis; before opset 13 over all axes from it on."""

    def along(node: OnnxNode, x: Tensor) -> Tensor:
        if node.opset >= 13:
            return function(x, node.get("axis", -1))
        axis = node.get("axis", 1) % max(x.dim(), 1)
        return function(x, axis) if axis == x.dim() - 1 else function(x.flatten(axis), axis).reshape(x.shape)

    return along


def clip(node: OnnxNode, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    low, high = node.get("min", low), node.get("max", high)
    return x if low is None and high is None else torch.clamp(x, low, high)


def reshape(node: OnnxNode, x: Tensor, shape: Sequence[int]) -> Tensor:
    kept = not node.get("allowzero", 0)
    return x.reshape([x.shape[axis] if not size and kept else size for axis, size in enumerate(shape)])


def flatten(node: OnnxNode, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    return x.reshape(math.prod(x.shape[: axis % x.dim() if axis < 0 else axis]), -1)


def squeeze(node: OnnxNode, x: Tensor, axes: Any = None) -> Tensor:
    found = axes_of(node, axes)
    return x.squeeze() if found is None else x.squeeze(tuple(found))


def unsqueeze(node: OnnxNode, x: Tensor, axes: Any = None) -> Tensor:
    found = axes_of(node, axes) or []
    for axis in sorted(axis % (x.dim() + len(found)) for axis in found):
        x = x.unsqueeze(axis)
    return x


def split(node: OnnxNode, x: Tensor, sizes: Any = None) -> Any:
    axis, sizes = node.get("axis", 0), node.get("split", sizes)
    return torch.split(x, sizes or math.ceil(x.shape[axis] / len(node.gives)), axis)


def sliced(
    node: OnnxNode, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Tensor:
    starts, ends = node.get("starts", starts), node.get("ends", ends)
    axes = axes_of(node, axes) or list(range(len(starts)))
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        if step > 0:
            x = x[(slice(None),) * (axis % x.dim()) + (slice(start, end if end < END else None, step),)]
            continue
        places = range(x.shape[axis])[slice(start, end if end > -END else None, step)]
        whole = list(places) == list(range(x.shape[axis]))[::-1]
        x = x.flip(axis) if whole else x.index_select(axis, torch.tensor(list(places)))
    return x


def gather(node: OnnxNode, x: Tensor, places: Tensor) -> Tensor:
    axis = node.get("axis", 0) % x.dim()
    if not places.dim():
        return x.index_select(axis, places.reshape(1)).squeeze(axis)
    if axis == 0 and x.dim() == 2 and x.dtype.is_floating_point:
        return F.embedding(places, x)
    made = x.index_select(axis, places.reshape(-1))
    return made.reshape(*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])


def gather_nd(node: OnnxNode, x: Tensor, places: Tensor) -> Tensor:
    if node.get("batch_dims", 0):
        raise ValueError("it has batch dimensions")
    return x[tuple(places.unbind(-1))]


def scatter(node: OnnxNode, x: Tensor, places: Tensor, values: Tensor) -> Tensor:
    if (kind := node.get("reduction", "none")) != "none":
        return x.scatter_reduce(
            node.get("axis", 0), places, values, {"add": "sum", "mul": "prod"}.get(kind, f"a{kind}")
        )
    return x.scatter(node.get("axis", 0), places, values)


def scatter_nd(node: OnnxNode, x: Tensor, places: Tensor, values: Tensor) -> Tensor:
    if (kind := node.get("reduction", "none")) not in ("none", "add"):
        raise ValueError(f"it reduces ({kind})")
    return x.index_put(tuple(places.unbind(-1)), values, accumulate=kind == "add")


def padded(node: OnnxNode, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    pads, mode = node.get("pads", pads), node.get("mode", "constant")
    axes = axes_of(node, axes) or list(range(x.dim()))
    pairs = [(0, 0)] * x.dim()
    for place, axis in enumerate(axes):
        pairs[axis] = (pads[place], pads[place + len(axes)])
    if mode == "constant":
        return laid_around(x, pairs, node.get("value", 0.0) if value is None else value)
    more = max(0, 3 - x.dim())  # PyTorch mirrors and repeats the axes behind batch and channels
    pairs = [(0, 0)] * more + pairs
    if any(map(any, pairs[:2])):
        raise ValueError(f"it pads batch or channels by {mode}")
    flat = [size for pair in reversed(pairs[2:]) for size in pair]
    made = F.pad(x.reshape([1] * more + list(x.shape)), flat, {"edge": "replicate", "wrap": "circular"}.get(mode, mode))
    return made.reshape(made.shape[more:])


def topk(node: OnnxNode, x: Tensor, k: Any = None) -> Any:
    k = node.get("k", k)
    k = k[0] if isinstance(k, list) else k
    return torch.topk(x, k, node.get("axis", -1), bool(node.get("largest", 1)), bool(node.get("sorted", 1)))


def best(function: Callable[..., Tensor]) -> Operator:
    """The place of a largest or smallest number."""

    def place(node: OnnxNode, x: Tensor) -> Tensor:
        if node.get("select_last_index", 0):
            raise ValueError("it takes the last of equal numbers")
        return function(x, node.get("axis", 0), keepdim=bool(node.get("keepdims", 1)))

    return place


def reduced(function: Callable[..., Tensor]) -> Operator:
    """A reduction along axes, or all of them."""

    def along(node: OnnxNode, x: Tensor, axes: Any = None) -> Tensor:
        found = axes_of(node, axes)
        if not found:
            if node.get("noop_with_empty_axes", 0):
                return x
            found = list(range(x.dim()))
        return function(x, [axis % x.dim() for axis in found], bool(node.get("keepdims", 1)))

    return along


def product_over(x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def cumsum(node: OnnxNode, x: Tensor, axis: Any) -> Tensor:
    if node.get("exclusive", 0) or node.get("reverse", 0):
        raise ValueError("it sums up backwards, or without the number itself")
    return x.cumsum(axis[0] if isinstance(axis, list) else axis)


def one_hot(node: OnnxNode, places: Tensor, depth: Any, values: Sequence[float]) -> Tensor:
    depth = depth[0] if isinstance(depth, list) else depth
    axis = node.get("axis", -1) % (places.dim() + 1)
    hit = places.remainder(depth).unsqueeze(axis) == torch.arange(depth).reshape(-1, *[1] * (places.dim() - axis))
    return torch.where(hit, float(values[1]), float(values[0]))


def recurrent(node: OnnxNode, x: Tensor, *given: Any) -> Any:
    """LSTM, GRU and RNN: the gates put into PyTorch's order, each direction with weights of its own."""
    weight, repeat, bias, lengths, hidden, memory, holes = (*given, *[None] * 7)[:7]
    ways, size = weight.shape[0], node.get("hidden_size")
    usual = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[node.op]
    names = node.get("activations", usual * ways)
    relu = node.op == "RNN" and set(names) == {"Relu"}
    if (
        lengths is not None
        or holes is not None
        or node.get("layout", 0)
        or node.get("clip")
        or node.get("input_forget", 0)
    ):
        raise ValueError("it has lengths, peepholes, a clip or another layout")
    if names != usual * ways and not relu:
        raise ValueError(f"its activations are {', '.join(names)}")
    if node.get("direction", "forward") == "reverse":
        raise ValueError("it runs backwards alone")
    if node.op == "GRU" and not node.get("linear_before_reset", 0):
        raise ValueError("it resets before the product (linear_before_reset 0), which PyTorch's GRU does not")
    order = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}[node.op]  # iofc to ifgo, zrh to rzn
    flat: list[Tensor] = []
    for way in range(ways):
        parts = [weight[way], repeat[way]]
        parts += [] if bias is None else list(bias[way].chunk(2))
        flat += [torch.cat([part.chunk(len(order))[gate] for gate in order]) for part in parts]
    start = torch.zeros(ways, x.shape[1], size, dtype=x.dtype)
    hidden = start if hidden is None else hidden
    rest = (flat, bias is not None, 1, 0.0, False, ways > 1, False)
    if node.op == "LSTM":
        made, *last = torch.lstm(x, [hidden, start if memory is None else memory], *rest)
    elif node.op == "GRU":
        made, *last = torch.gru(x, hidden, *rest)
    else:
        made, *last = (torch.rnn_relu if relu else torch.rnn_tanh)(x, hidden, *rest)
    length, batch, _ = x.shape
    return made.reshape(length, batch, ways, size).permute(0, 2, 1, 3), *last


def attention(node: OnnxNode, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    if node.get("softcap", 0.0) or q.dim() != 4:
        raise ValueError("it has a soft cap, or operands that are no (batch, heads, length, size)")
    causal, shared = bool(node.get("is_causal", 0)), q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, 0.0, causal, scale=node.get("scale"), enable_gqa=shared)


def prelu(node: OnnxNode, x: Tensor, slope: Tensor) -> Tensor:
    shared = slope.numel() in (1, x.shape[1]) and slope.dim() < x.dim()
    return F.prelu(x, slope.reshape(-1)) if shared else torch.where(x > 0, x, slope * x)


def stretched(node: OnnxNode, x: Tensor, shape: Sequence[int]) -> Tensor:
    own = [1] * (len(shape) - x.dim()) + list(x.shape)
    sizes = [size if size != 1 else length for size, length in zip(shape, own[-len(shape) :], strict=True)]
    return x.expand([*own[: len(own) - len(shape)], *sizes])


def constant(node: OnnxNode) -> Tensor:
    name, value = next(iter(node.attributes.items()))
    if isinstance(value, Tensor):
        return value
    return torch.tensor(value, dtype=torch.float32 if "float" in name else torch.int64)


def filled(node: OnnxNode, shape: Sequence[int]) -> Tensor:
    value = node.get("value", torch.zeros(1))
    return torch.full(list(shape), value.item(), dtype=value.dtype)


def gelu(node: OnnxNode, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.get("approximate", "none"))


OPERATORS: dict[str, Operator] = {
    **{name: unary(getattr(torch, name.lower())) for name in (
        "Abs", "Neg", "Exp", "Log", "Sqrt", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh",
        "Acosh", "Atanh", "Erf", "Sigmoid", "Tanh", "Relu", "Floor", "Ceil", "Round", "Sign", "Reciprocal", "IsNaN",
    )},
    "Identity": unary(lambda x: x), "Dropout": lambda node, x, *rest: x, "Not": unary(torch.logical_not),
    "BitwiseNot": unary(torch.bitwise_not), "Softsign": unary(F.softsign), "Softplus": unary(F.softplus),
    "Mish": unary(F.mish), "HardSwish": unary(F.hardswish), "Gelu": gelu, "IsInf": lambda node, x: torch.isinf(x),
    "Add": several(torch.add), "Sub": binary(torch.sub), "Mul": several(torch.mul), "Div": binary(divided),
    "Pow": binary(torch.pow), "Max": several(torch.maximum), "Min": several(torch.minimum), "Sum": several(torch.add),
    "Mean": lambda node, *parts: sum(parts) / len(parts), "And": binary(torch.logical_and),
    "Or": binary(torch.logical_or), "Xor": binary(torch.logical_xor), "Equal": binary(torch.eq),
    "Greater": binary(torch.gt), "Less": binary(torch.lt), "GreaterOrEqual": binary(torch.ge),
    "LessOrEqual": binary(torch.le), "BitwiseAnd": binary(torch.bitwise_and), "BitwiseOr": binary(torch.bitwise_or),
    "BitwiseXor": binary(torch.bitwise_xor), "Where": lambda node, c, x, y: torch.where(c, x, y),
    "Mod": lambda node, x, y: torch.fmod(x, y) if node.get("fmod", 0) else torch.remainder(x, y),
    "PRelu": prelu,
    "LeakyRelu": lambda node, x: F.leaky_relu(x, node.get("alpha", 0.01)),
    "Elu": lambda node, x: F.elu(x, node.get("alpha", 1.0)), "Selu": unary(F.selu),
    "Celu": lambda node, x: F.celu(x, node.get("alpha", 1.0)),
    "HardSigmoid": lambda node, x: torch.clamp(x * node.get("alpha", 0.2) + node.get("beta", 0.5), 0, 1),
    "ThresholdedRelu": lambda node, x: torch.where(x > node.get("alpha", 1.0), x, 0.0), "Clip": clip,
    "Softmax": soft(torch.softmax), "LogSoftmax": soft(torch.log_softmax),
    "MatMul": binary(torch.matmul), "Gemm": gemm, "Einsum": lambda node, *x: torch.einsum(node.get("equation"), *x),
    "Conv": conv, "ConvTranspose": conv_transpose, "MaxPool": max_pool, "AveragePool": average_pool,
    "GlobalAveragePool": over_space(torch.mean), "GlobalMaxPool": over_space(torch.amax),
    "BatchNormalization": batch_norm, "LayerNormalization": layer_norm, "GroupNormalization": group_norm,
    "InstanceNormalization": lambda node, x, w, b: F.instance_norm(x, weight=w, bias=b, eps=node.get("epsilon", 1e-5)),
    "RMSNormalization": lambda node, x, w: F.rms_norm(
        x, x.shape[node.get("axis", -1) % x.dim():], w, node.get("epsilon", 1e-5)),
    "LRN": lambda node, x: F.local_response_norm(
        x, node.get("size"), node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)),
    "LpNormalization": lp_norm, "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze,
    "Transpose": lambda node, x: x.permute(node.get("perm", list(range(x.dim()))[::-1])),
    "Concat": lambda node, *parts: torch.cat(parts, node.get("axis")), "Split": split, "Slice": sliced,
    "Gather": gather, "GatherElements": lambda node, x, i: torch.gather(x, node.get("axis", 0), i),
    "GatherND": gather_nd, "ScatterElements": scatter, "ScatterND": scatter_nd,
    "Expand": stretched,
    "Tile": lambda node, x, times: x.repeat(times), "Pad": padded, "Resize": resize, "Upsample": resize,
    "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth, "GridSample": grid_sample, "TopK": topk,
    "ArgMax": best(torch.argmax), "ArgMin": best(torch.argmin), "CumSum": cumsum, "OneHot": one_hot,
    "NonZero": lambda node, x: torch.nonzero(x).t(),
    "Trilu": lambda node, x, k=0: (torch.triu if node.get("upper", 1) else torch.tril)(x, k or 0),
    "Cast": lambda node, x: x.to(node.get("to")), "CastLike": lambda node, x, like: x.to(like.dtype),
    "Shape": lambda node, x: torch.tensor(list(x.shape)[slice(node.get("start"), node.get("end"))]),
    "Size": lambda node, x: torch.tensor(x.numel()), "Constant": constant, "ConstantOfShape": filled,
    "Range": lambda node, start, end, step: torch.arange(start, end, step),
    "ReduceMean": reduced(torch.mean), "ReduceSum": reduced(torch.sum), "ReduceMax": reduced(torch.amax),
    "ReduceMin": reduced(torch.amin), "ReduceProd": reduced(product_over),
    "ReduceL1": reduced(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": reduced(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceSumSquare": reduced(lambda x, axes, keep: (x * x).sum(axes, keep)),
    "ReduceLogSum": reduced(lambda x, axes, keep: x.sum(axes, keep).log()), "ReduceLogSumExp": reduced(torch.logsumexp),
    "QuantizeLinear": quantised, "DequantizeLinear": dequantised, "DynamicQuantizeLinear": dynamically,
    "LSTM": recurrent, "GRU": recurrent, "RNN": recurrent, "Attention": attention,
}  # fmt: skip
