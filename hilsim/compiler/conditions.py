"""Conditions of a profile against one node: what its operands, shapes, formats and arguments do that is not allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import torch
from torch import Tensor, fx

from hilsim.compiler.nodes import fixed, operands, operator_of, sources_of, tensors_of, used_of
from hilsim.describe.chip import Activations
from hilsim.describe.profile import Condition, NumberKind

# Operators that add to what is there, or reduce with it, whatever their arguments.
ADDING = ("aten.scatter_add.default", "aten.scatter_reduce.two", "aten.scatter.reduce", "aten.scatter.value_reduce")


def broken(rule: Condition, node: fx.Node, constants: set[fx.Node], activations: Activations) -> str:
    """What a node does that a condition does not allow, or "" where it holds."""
    sources = sources_of(node)
    if rule.except_constant is not None and is_constant(sources, rule.except_constant, constants):
        return ""
    if rule.factors is not None and len([index for index in rule.factors if computed(sources, index, constants)]) < 2:
        return ""
    if rule.transposed is not None and arguments(node).get("transposed") is not rule.transposed:
        return ""
    if rule.from_rank is not None and max((x.dim() for x in operands(node)), default=0) < rule.from_rank:
        return ""
    if rule.never:
        return rule.why
    if rule.activations is not None and activations not in rule.activations and is_float(node):
        return f"activations are {activations}"
    if rule.constant is not None and not is_constant(sources, rule.constant, constants):
        return f"operand {rule.constant + 1} is computed"
    if rule.dtypes is not None and (others := sorted(set(map(kind_of, operands(node))) - set(rule.dtypes))):
        return f"operands of {' and '.join(others)}"
    return broken_shape(rule, node, constants) or broken_arguments(rule, node)


def broken_shape(rule: Condition, node: fx.Node, constants: set[fx.Node]) -> str:
    """The same for sizes."""
    shapes = [tuple(fixed(size) for size in tensor.shape) for tensor in (*operands(node), *tensors_of(node))]
    if rule.rank is not None and (rank := max((len(shape) for shape in shapes), default=0)) > rule.rank:
        return f"{rank} dimensions"
    if rule.size is not None and (large := [size for shape in shapes for size in shape if size > rule.size]):
        return f"a dimension of {max(large)}"
    if rule.volume is not None and (numbers := max(map(prod, shapes), default=0)) > rule.volume:
        return f"a tensor of {numbers:,} numbers"
    if rule.kernel is not None and (why := beyond("window", window_of(node), rule.kernel)):
        return why
    if rule.spread is not None and (why := spread_beyond(node, constants)):
        return why
    if rule.batch is not None:  # of activations: the first dimension of a weight is no batch
        own = [source for source in (*sources_of(node), node) if source not in constants]
        batches = [batch_of(tensor) for source in own for tensor in tensors_of(source) if tensor.dim()]
        if batches and max(batches) > rule.batch:
            return f"a batch of {max(batches)}"
    return broken_factor(rule, node)


def batch_of(tensor: Tensor) -> int:
    """The batch: the first dimension, or all before channels, height and width together."""
    return prod(map(fixed, tensor.shape[: max(1, tensor.dim() - 3)]))


def broken_factor(rule: Condition, node: fx.Node) -> str:
    """The same for the factor between what goes in and what comes out, along height and width and the like."""
    if not rule.divides and rule.scale is None:
        return ""
    source, made = operands(node)[0], tensors_of(node)[0]
    for before, behind in zip(map(fixed, source.shape[2:]), map(fixed, made.shape[2:]), strict=True):
        if rule.divides and before % behind:
            return f"{before} pooled to {behind}, which does not divide it"
        if rule.scale is not None and (behind % before or beyond("scale", behind // before, rule.scale)):
            low, high = rule.scale
            return f"{before} resized to {behind}, where whole factors of {low} to {high} will do"
    return ""


def broken_arguments(rule: Condition, node: fx.Node) -> str:
    """The same for what hangs on the operator's arguments: axis, k, order, equation."""
    given = arguments(node)
    if fault := broken_axis(rule, node, given):
        return fault
    if rule.outputs is not None and (read := len(used_of(node))) > rule.outputs:
        return f"{read} outputs are read"
    for name, bounds in rule.arguments.items():
        if why := beyond(name, given.get(name), bounds):
            return why
    k = given.get("k")
    if rule.k is not None and isinstance(k, int) and k > rule.k:
        return f"k = {k}"
    if rule.largest and given.get("largest") is False:
        return "the smallest"
    if rule.sorted and given.get("sorted") is False:
        return "unsorted"
    if rule.accumulate is False and (given.get("accumulate") is True or operator_of(node) in ADDING):
        reduce = given.get("reduce", "sum")
        return "it adds to what is there" if reduce in ("sum", "add") else f"it reduces ({reduce})"
    if rule.equation == "plain":
        taken = [tensor for source in sources_of(node) for tensor in tensors_of(source)]
        return beyond_plain(str(given.get("equation", "")), [[fixed(size) for size in x.shape] for x in taken])
    return ""


def broken_axis(rule: Condition, node: fx.Node, given: dict[str, object]) -> str:
    """The same for the operator's axis, and what lies along it."""
    shape = tuple(fixed(size) for size in operands(node)[0].shape) if operands(node) else ()
    axis = given.get("dim", -1)
    axis = axis[0] if isinstance(axis, (list, tuple)) and axis else axis
    if not isinstance(axis, int) or not shape:
        return ""
    place = axis % len(shape)
    if rule.axis == "last" and place != len(shape) - 1:
        return f"axis {axis} of {len(shape)}"
    if rule.axis == "last four" and place < len(shape) - 4:
        return f"axis {axis} of {len(shape)}"
    if rule.axis == "channels" and place != channels_of(len(shape)):
        return f"axis {axis} of {len(shape)}, where the channels are axis {channels_of(len(shape))}"
    if rule.axis == "not the batch" and len(shape) > 1 and place < channels_of(len(shape)):
        return f"axis {axis} of {len(shape)}"
    if rule.axis_size is not None:
        alone = all(size == 1 for dim, size in enumerate(shape) if dim != place)
        most = rule.axis_size_alone if alone and rule.axis_size_alone is not None else rule.axis_size
        if shape[place] > most:
            return f"{shape[place]} numbers along the axis"
    return ""


def channels_of(rank: int) -> int:
    """The axis of the channels: third from the end, or the last of (batch, channels)."""
    return rank - 3 if rank > 2 else rank - 1


def beyond(name: str, given: object, bounds: tuple[int, int]) -> str:
    """Which number of an argument is beyond its bounds, or ""; an empty list is the operator's own default."""
    numbers = given if isinstance(given, (list, tuple)) else [given]
    low, high = bounds
    wrong = [number for number in numbers if isinstance(number, int) and not low <= number <= high]
    return f"{name} {wrong[0]}, where {low} to {high} will do" if wrong else ""


def window_of(node: fx.Node) -> list[int]:
    """The window of a convolution: what its weight has after output and input channels."""
    taken = [tensor for source in sources_of(node) for tensor in tensors_of(source)]
    return [fixed(size) for size in taken[1].shape[2:]] if len(taken) > 1 else []


def spread_beyond(node: fx.Node, constants: set[fx.Node]) -> str:
    """What is stretched otherwise than over height and width, or over all but the batch, of two computed operands."""
    computed_ones = [source for source in sources_of(node) if source not in constants]
    shapes = [tuple(map(fixed, tensor.shape)) for source in computed_ones for tensor in tensors_of(source)]
    made = [tuple(map(fixed, tensor.shape)) for tensor in tensors_of(node)]
    if len(shapes) < 2 or not made or torch.Tag.pointwise not in getattr(node.target, "tags", ()):
        return ""
    full = made[0]
    first = max(channels_of(len(full)), 0)
    kept = [full, (*full[: first + 1], *(1 for _ in full[first + 1 :])), (*full[:first], *(1 for _ in full[first:]))]
    for shape in shapes:
        padded = (*(1 for _ in full[len(shape) :]), *shape)
        if padded not in kept:
            return f"{'x'.join(map(str, shape)) or 'a number'} stretched to {'x'.join(map(str, full))}"
    return ""


def beyond_plain(equation: str, shapes: Iterable[Sequence[int]]) -> str:
    """What an einsum does beyond naming every axis of every operand once, or ""."""
    if "..." in equation:
        return f"an ellipsis in {equation!r}"
    sizes: dict[str, set[int]] = {}
    for side, shape in zip(equation.replace(" ", "").partition("->")[0].split(","), shapes, strict=False):
        if repeated := next((letter for letter in side if side.count(letter) > 1), ""):
            return f"a diagonal along {repeated} in {equation!r}"
        for letter, size in zip(side, shape, strict=False):
            sizes.setdefault(letter, set()).add(size)
    stretched = next((letter for letter, found in sizes.items() if len(found) > 1), "")
    return f"broadcasting along {stretched} in {equation!r}" if stretched else ""


def is_constant(sources: Sequence[fx.Node], index: int, constants: set[fx.Node]) -> bool:
    """Whether one of a node's operands is known when the graph is built."""
    return index < len(sources) and sources[index] in constants


def computed(sources: Sequence[fx.Node], index: int, constants: set[fx.Node]) -> bool:
    """Whether one of a node's operands is an activation; one that it lacks is none."""
    return index < len(sources) and sources[index] not in constants


def is_float(node: fx.Node) -> bool:
    """Whether a node computes with numbers that a precision quantises, or with truth values made of these."""
    return any(kind_of(tensor) != "int" for tensor in (*operands(node), *tensors_of(node)))


def kind_of(tensor: Tensor) -> NumberKind:
    """The number format of a tensor, by the names that profiles use."""
    if tensor.dtype == torch.bool:
        return "bool"
    return "float" if tensor.dtype.is_floating_point or tensor.dtype.is_complex else "int"


def arguments(node: fx.Node) -> dict[str, object]:
    """A node's arguments by name, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return dict(node.kwargs)
    given: dict[str, object] = {}
    for index, argument in enumerate(schema.arguments):
        if index < len(node.args):
            given[argument.name] = node.args[index]
        elif argument.name in node.kwargs:
            given[argument.name] = node.kwargs[argument.name]
        elif argument.has_default_value():
            given[argument.name] = argument.default_value
    return given
