"""Numbers that are known when a graph is built, against the formats that they end up in.

64-bit integers that become 32-bit ones are clamped or wrap around; floats beyond 65,504 become infinite in fp16, and
with them the scores that a mask was added to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.export import ExportedProgram

from hilsim.compiler.nodes import numel, operands, operator_of, parameters_of, tensors_of, value_of
from hilsim.describe.chip import Activations

INT32 = torch.iinfo(torch.int32)
HALF = torch.finfo(torch.float16)
LEAST = 2.0**-25  # what is no larger than this rounds to 0 in fp16
MOST = 1 << 22  # numbers in a constant that is worked out
# Operators that a bound beyond every value leaves as it is.
BOUNDS = frozenset(
    f"aten.{name}" for kind in ("eq", "ne", "lt", "le", "gt", "ge") for name in (f"{kind}.Scalar", f"{kind}.Tensor")
) | {"aten.clamp.default", "aten.clamp_min.default", "aten.clamp_max.default", "aten.hardtanh.default"}
WIDE = (torch.float32, torch.float64)  # of the others PyTorch may lack an extreme


def literals(node: fx.Node) -> Iterator[int | float]:
    """Plain numbers among a node's operands; sizes, axes and indices are none."""
    schema = getattr(node.target, "_schema", None)
    for place, argument in enumerate(schema.arguments if schema is not None else ()):
        given = node.args[place] if place < len(node.args) else node.kwargs.get(argument.name)
        kind = str(argument.type).removeprefix("Optional[").removesuffix("]")
        numeric = kind in ("Tensor", "number", "Scalar") or kind.startswith("Union[")
        if numeric and isinstance(given, int | float) and not isinstance(given, bool):
            yield given


def held_in(program: ExportedProgram) -> dict[str, Tensor]:
    """Values of parameters, buffers and constants by placeholder, those that are there."""
    lifted = program.graph_signature.inputs_to_lifted_tensor_constants
    held = {**parameters_of(program), **{key: program.constants[name] for key, name in lifted.items()}}
    return {
        key: value for key, value in held.items() if isinstance(value, Tensor) and not isinstance(value, FakeTensor)
    }


def known_values(nodes: Any, constants: set[fx.Node], held: Mapping[str, Tensor]) -> dict[fx.Node, Tensor]:
    """What constants of a graph are, where their values are there and not too many."""
    found: dict[fx.Node, Tensor] = {}
    with torch.no_grad(), unset_fake_temporarily():
        for node in nodes:
            if node not in constants:
                continue
            if node.op == "placeholder" and node.name in held:
                found[node] = held[node.name]
            elif node.op == "call_function" and is_small(node) and found.keys() >= set(node.all_input_nodes):
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), found.__getitem__)
                found[node] = node.target(*args, **kwargs)
    return found


def is_small(node: fx.Node) -> bool:
    """Whether a node yields one tensor of known shape, and one that is quickly worked out."""
    made = tensors_of(node)
    known = len(made) == 1 and all(isinstance(size, int) for size in made[0].shape)
    return known and isinstance(value_of(node), Tensor) and numel(made[0]) <= MOST


def extremes(value: Tensor) -> list[int | float]:
    """The smallest and the largest finite number of a tensor of integers or floats."""
    if value.dtype == torch.bool or value.dtype.is_complex or not value.numel():
        return []
    if value.dtype.is_floating_point:
        value = value if value.dtype in WIDE else value.float()
        ends = [end.item() for end in value.aminmax()]
        if all(map(isfinite, ends)):
            return ends
        value = value[value.isfinite()]
    return [end.item() for end in value.aminmax()] if value.numel() else []


def beyond_formats(
    node: fx.Node,
    constants: set[fx.Node],
    known: Mapping[fx.Node, Tensor],
    narrow: bool,
    activations: Activations,
    single: bool,
) -> tuple[str, bool]:
    """What known numbers of a node do not fit into, and whether that matters to every answer; ("", False) where all do.

    `narrow`: int64 becomes int32. `single`: float64 becomes float32.
    """
    taken = operands(node)
    made = tensors_of(node)
    numbers: list[tuple[int | float, torch.dtype]] = []
    floats = any(tensor.dtype.is_floating_point for tensor in (*taken, *made))
    double = any(tensor.dtype == torch.float64 for tensor in (*taken, *made))
    longs = any(tensor.dtype == torch.int64 for tensor in (*taken, *made))
    plain = torch.float64 if double else torch.float32 if floats else torch.int64 if longs else torch.int32
    numbers += [(number, plain) for number in literals(node)]
    for source in node.all_input_nodes:
        if source in known:
            numbers += [(number, known[source].dtype) for number in extremes(known[source])]
        elif source in constants and source.op == "call_function":
            numbers += [(number, tensor.dtype) for tensor in tensors_of(source) for number in literals(source)]
    return first_fault(numbers, operator_of(node) in BOUNDS, narrow, activations, single)


def first_fault(
    numbers: list[tuple[int | float, torch.dtype]], bounds: bool, narrow: bool, activations: Activations, single: bool
) -> tuple[str, bool]:
    """The first number that does not fit."""
    low = ""
    for number, dtype in numbers:
        if dtype == torch.int64:
            if narrow and not INT32.min <= number <= INT32.max:
                edge = INT32.max if number > 0 else INT32.min
                return f"{number:,} is beyond int32: it becomes {edge:,} or wraps around", True
            continue
        if not dtype.is_floating_point or dtype == torch.float16 or bounds or not number or not isfinite(number):
            continue
        if activations == "fp16" and abs(number) > HALF.max:
            sign = "-" if number < 0 else ""
            return f"{number:.6g} is beyond fp16 ({sign}{HALF.max:,.0f}): it becomes {sign}inf", True
        if single and dtype == torch.float64 and abs(number) > torch.finfo(torch.float32).max:
            return f"{number:.6g} is beyond float32: it is clamped or becomes infinite", True
        if activations == "fp16" and abs(number) <= LEAST and not low:
            low = f"{number:.3g} is below what fp16 holds: it becomes 0"
    return low, False
