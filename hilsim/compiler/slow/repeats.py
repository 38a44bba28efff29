"""Where numbers of a graph are copies of others: the data flow of repeated heads, whatever operators repeat them.

Every axis of a tensor is a sequence of factors, slowest first; a factor counts numbers of its own, or copies. Of a
tensor with copies the same numbers without them can be computed: its `thin` form, which lacks the factors of copies.
Views, permutations, concatenations and pointwise operators keep that knowledge.
"""

from __future__ import annotations

import operator as python_operator
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import unset_fake_temporarily

from hilsim.compiler.nodes import fixed, numel, operator_of, value_of
from hilsim.compiler.slow.einsums import repeated_by_einsum
from hilsim.compiler.slow.factors import (
    ALIASES,
    EXPANSIONS,
    FILLS,
    PERMUTATIONS,
    RESHAPES,
    SELECTIONS,
    Axis,
    Copied,
    Factor,
    Make,
    Values,
    all_copies,
    any_copies,
    axis_of,
    leading,
    length_of,
    numbers,
    order_of,
    pattern_of,
    regrouped,
    thin_shape,
)

MOST = 1 << 16  # numbers in an index that is worked out


class CopyMap:
    """The nodes of a graph that hold copies. `held` are values of constants by placeholder, those that are there."""

    def __init__(self, graph: fx.Graph, constants: set[fx.Node], held: Mapping[str, Tensor]):
        self.constants, self.held = constants, held
        self.known: dict[fx.Node, Tensor | None] = {}
        self.found: dict[fx.Node, Copied] = {}
        for node in graph.nodes:
            if node.op == "call_function" and node not in constants and isinstance(value_of(node), Tensor):
                copied = self.copies_of(node)
                if copied is not None and copied.times > 1:
                    self.found[node] = copied

    def of(self, node: fx.Node) -> Copied:
        """What is known of a node; one without copies is its own source."""
        found = self.found.get(node)
        if found is not None:
            return found
        axes = tuple(axis_of(size) for size in value_of(node).shape)
        return Copied(axes, (node,), lambda values: values[node])

    def copies_of(self, node: fx.Node) -> Copied | None:
        """What a node copies, or what its operator makes of the copies that it takes; None where it ends them."""
        operator = operator_of(node)
        if operator == "aten.cat.default":
            return self.joined(node)
        if operator == "aten.einsum.default":
            return self.by_einsum(node)
        if operator not in ALIASES and is_pointwise(node):
            return self.pointwise(node)
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or not isinstance(value_of(source), Tensor):
            return None
        before = self.of(source)
        if operator in EXPANSIONS:
            return None if is_of_matmul(node) and not before.path else expanded(node, before)
        if operator == "aten.repeat.default":
            return tiled(node, before)
        if operator in SELECTIONS:
            return self.selected(node, before)
        if not before.path:
            return None
        if operator in ALIASES:
            return after(node, before, before.axes, before.make)
        if operator in RESHAPES:
            return reshaped(node, before)
        if operator in PERMUTATIONS:
            return permuted(node, before)
        return sliced(node, before) if operator in ("aten.slice.Tensor", "aten.select.int") else None

    def by_einsum(self, node: fx.Node) -> Copied | None:
        """An einsum of a tensor and a known constant that repeats it."""
        args: Any = node.args
        operands = list(args[1])
        known = [self.value(operand) for operand in operands]
        for side, other in ((0, 1), (1, 0)):
            held = known[other] if len(operands) == 2 else None
            if held is not None and operands[side] not in self.constants:
                return repeated_by_einsum(node, side, self.of(operands[side]), held)
        return None

    def selected(self, node: fx.Node, before: Copied) -> Copied | None:
        """Numbers by known places: copies where each place is there as often as any other."""
        axis, index = selection(node)
        if index is None or axis >= len(before.axes) or any_copies(before.axes[axis]):
            return None
        places = self.places(index, axis if operator_of(node) == "aten.gather.default" else None)
        pattern = None if places is None else pattern_of(places, length_of(before.axes[axis]))
        if pattern is None:
            return None
        return after(node, before, [*before.axes[:axis], pattern, *before.axes[axis + 1 :]], before.make)

    def places(self, index: fx.Node, axis: int | None) -> list[int] | None:
        """A known index as a list; of a gather's one that is the same along all other axes, this axis."""
        value = self.value(index)
        if value is not None and axis is not None:
            first = value[tuple(slice(None) if place == axis else slice(0, 1) for place in range(value.dim()))]
            value = first if torch.equal(first.expand_as(value), value) else None
        return None if value is None or (axis is None and value.dim() != 1) else numbers(value.flatten().tolist())

    def value(self, node: fx.Node) -> Tensor | None:
        """What a constant is, where it is there and small; an expansion of it takes no memory."""
        if node not in self.known:
            self.known[node] = None if node not in self.constants else self.worked_out(node)
        return self.known[node]

    def worked_out(self, node: fx.Node) -> Tensor | None:
        if node.op == "placeholder":
            held = self.held.get(node.name)
            return held if held is not None and held.numel() <= MOST else None
        made = value_of(node)
        if node.op != "call_function" or not isinstance(made, Tensor):
            return None
        given = {source: self.value(source) for source in node.all_input_nodes}
        small = operator_of(node) in EXPANSIONS or numel(made) <= MOST
        if not small and is_pointwise(node):  # of a stretched index: the small one, stretched again
            thin = {source: None if value is None else unstretched(value) for source, value in given.items()}
            small, given = all(value is not None and value.numel() <= MOST for value in thin.values()), thin
        if (
            not small
            or any(value is None for value in given.values())
            or any(not isinstance(s, int) for s in made.shape)
        ):
            return None
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), given.__getitem__)
        with torch.no_grad(), unset_fake_temporarily():
            target: Any = node.target
            found: Tensor = target(*args, **kwargs)
            return found.expand(made.shape)

    def pointwise(self, node: fx.Node) -> Copied | None:
        """An operator on each number by itself: copies where all that it takes are copies, or one number throughout."""
        taken = [source for source in node.all_input_nodes if isinstance(value_of(source), Tensor)]
        uniform = {source for source in taken if source in self.constants and self.is_uniform(source)}
        if not any(source in self.found for source in taken) and not uniform:
            return None
        rank = value_of(node).dim()
        operands = {source: self.spread(source) if source in uniform else self.of(source) for source in taken}
        aligned = [((),) * (rank - len(one.axes)) + one.axes for one in operands.values()]
        axes: list[Axis] = []
        for sides in zip(*aligned, strict=True):
            own = {axis for axis in sides if not all_copies(axis)}
            if len(own) > 1:
                return None
            axes.append(next(iter(own)) if own else max(sides, key=length_of))
        sources = tuple(dict.fromkeys(source for one in operands.values() for source in one.sources))
        path = tuple(dict.fromkeys(step for one in operands.values() for step in one.path))

        def make(values: Values) -> Tensor:
            thin = {source: one.make(values) for source, one in operands.items()}
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda entry: thin.get(entry, entry))
            target: Any = node.target
            made: Tensor = target(*args, **kwargs)
            return made

        return Copied(tuple(axes), sources, make, (*path, node))

    def is_uniform(self, node: fx.Node) -> bool:
        """Whether a constant is one number throughout."""
        if value_of(node).dim() == 0 or operator_of(node) in FILLS:
            return True
        value = self.value(node)
        return value is not None and value.numel() > 0 and bool((value == value.flatten()[0]).all())

    def spread(self, node: fx.Node) -> Copied:
        """A constant of one number throughout as copies of its first one."""
        axes = tuple(axis_of(size, copies=True) for size in value_of(node).shape)
        return Copied(axes, (node,), lambda values: values[node][(slice(0, 1),) * len(axes)])

    def joined(self, node: fx.Node) -> Copied | None:
        """A concatenation: of one tensor again and again, of heads picked one by one, or of tensors copied alike."""
        args: Any = node.args
        parts = list(args[0])
        dim = (args[1] if len(args) > 1 else 0) % value_of(node).dim()
        if len(parts) < 2 or any(value_of(part).dim() != value_of(node).dim() for part in parts):
            return None
        if len(set(parts)) == 1:
            one = self.of(parts[0])
            axes = [*one.axes[:dim], (Factor(len(parts), copies=True), *one.axes[dim]), *one.axes[dim + 1 :]]
            return after(node, one, axes, one.make)
        return picked_again(node, parts, dim) or self.side_by_side(node, parts, dim)

    def side_by_side(self, node: fx.Node, parts: list[fx.Node], dim: int) -> Copied | None:
        """Tensors that are copied alike, side by side along an axis whose fastest factors may be copies."""
        copied = [self.of(part) for part in parts]
        if not any(one.path for one in copied):
            return None
        others = {(*one.axes[:dim], *one.axes[dim + 1 :]) for one in copied}
        splits = [split_copies(one.axes[dim]) for one in copied]
        copies = {behind for _, behind in splits}
        if len(others) > 1 or len(copies) > 1 or any(any_copies(own) for own, _ in splits):
            return None
        dynamic = any(factor.dynamic for own, _ in splits for factor in own)
        total = Factor(sum(length_of(own) for own, _ in splits), dynamic=dynamic)
        axes = (*copied[0].axes[:dim], (total, *splits[0][1]), *copied[0].axes[dim + 1 :])
        sources = tuple(dict.fromkeys(source for one in copied for source in one.sources))
        path = tuple(dict.fromkeys(step for one in copied for step in one.path))
        return Copied(axes, sources, lambda values: torch.cat([one.make(values) for one in copied], dim), (*path, node))


def is_pointwise(node: fx.Node) -> bool:
    """Whether an operator works on each number by itself."""
    return operator_of(node) == "aten._to_copy.default" or torch.Tag.pointwise in getattr(node.target, "tags", ())


def unstretched(x: Tensor) -> Tensor:
    """A tensor with the axes that are stretched at length 1 again."""
    return x[tuple(slice(0, 1) if step == 0 else slice(None) for step in x.stride())]


def split_copies(axis: Axis) -> tuple[Axis, Axis]:
    """An axis as what comes first and the copies that are its fastest factors."""
    cut = len(axis)
    while cut and axis[cut - 1].copies:
        cut -= 1
    return axis[:cut], axis[cut:]


def after(node: fx.Node, before: Copied, axes: Sequence[Axis], make: Make) -> Copied:
    return Copied(tuple(axes), before.sources, make, (*before.path, node))


def expanded(node: fx.Node, before: Copied) -> Copied:
    """Axes of length 1 become axes of copies; further ones come in front."""
    shape = value_of(node).shape
    more = len(shape) - len(before.axes)
    old = ((),) * more + before.axes
    axes = [
        axis if length_of(axis) == fixed(size) else axis_of(size, copies=True)
        for axis, size in zip(old, shape, strict=True)
    ]
    return after(node, before, axes, lambda values: leading(before.make(values), more))


def is_of_matmul(node: fx.Node) -> bool:
    """Whether an expansion is how PyTorch takes a matmul apart: between an operand and the bmm of the same call.

    Toolchains know a MatMul whose batch axes broadcast, and put it together again (ExecuTorch: ConvertBmmToMatmul).
    """
    call, open_ = node.meta.get("torch_fn"), list(node.users)
    while call is not None and len(open_) == 1 and open_[0].meta.get("torch_fn") == call:
        if operator_of(open_[0]) == "aten.bmm.default":
            return True
        open_ = list(open_[0].users) if operator_of(open_[0]) in ALIASES | RESHAPES else []
    return False


def tiled(node: fx.Node, before: Copied) -> Copied | None:
    """All of an axis several times over."""
    times: Any = node.args[1]
    if any(not isinstance(count, int) for count in times):
        return None
    more = len(times) - len(before.axes)
    old = ((),) * more + before.axes
    axes = [(*axis_of(count, copies=True), *axis) for axis, count in zip(old, times, strict=True)]
    return after(node, before, axes, lambda values: leading(before.make(values), more))


def reshaped(node: fx.Node, before: Copied) -> Copied | None:
    axes = regrouped([factor for axis in before.axes for factor in axis], value_of(node).shape)
    if axes is None:
        return None
    return after(node, before, axes, lambda values: before.make(values).reshape(thin_shape(axes)))


def permuted(node: fx.Node, before: Copied) -> Copied:
    order = order_of(node, len(before.axes))
    return after(node, before, [before.axes[axis] for axis in order], lambda v: before.make(v).permute(order))


def sliced(node: fx.Node, before: Copied) -> Copied | None:
    """A part of an axis without copies, or of one that is nothing but copies."""
    args: Any = node.args
    target: Any = node.target
    dim, rest, keeps = (args[1] if len(args) > 1 else 0), args[1:], operator_of(node) == "aten.slice.Tensor"
    dim %= len(before.axes)
    axis = before.axes[dim]
    if any_nodes(rest):
        return None

    def part(values: Values) -> Tensor:
        made: Tensor = target(before.make(values), *rest)
        return made

    def whole(values: Values) -> Tensor:
        return before.make(values) if keeps else before.make(values).squeeze(dim)

    if any_copies(axis) and not all_copies(axis):
        return None
    own = [axis_of(value_of(node).shape[dim], copies=bool(axis) and all_copies(axis))] if keeps else []
    make = whole if axis and all_copies(axis) else part
    return after(node, before, [*before.axes[:dim], *own, *before.axes[dim + 1 :]], make)


def selection(node: fx.Node) -> tuple[int, fx.Node | None]:
    """The axis that an operator selects from and the node of the places; None where there is more than one."""
    if operator_of(node) == "aten.index.Tensor":
        given: Any = node.args[1]
        places = [(axis, index) for axis, index in enumerate(given) if index is not None]
        return places[0] if len(places) == 1 and isinstance(places[0][1], fx.Node) else (0, None)
    args: Any = node.args
    return args[1] % value_of(node).dim(), args[2] if isinstance(args[2], fx.Node) else None


def pick_of(node: fx.Node) -> tuple[fx.Node, int, int] | None:
    """The tensor, axis and place that a node shows, reshapes looked through; None where it shows no single place."""
    args: Any = node.args
    while operator_of(node) in RESHAPES | ALIASES and isinstance(args[0], fx.Node):
        node, args = args[0], args[0].args
    if node.target is python_operator.getitem:
        return pick_of_pieces(args[0], args[1])
    if operator_of(node) not in ("aten.select.int", "aten.slice.Tensor") or any_nodes(args[1:]):
        return None
    source = args[0]
    axis = args[1] if len(args) > 1 else 0
    start = args[2] if len(args) > 2 else 0
    if start is None or (operator_of(node) == "aten.slice.Tensor" and fixed(value_of(node).shape[axis]) != 1):
        return None
    shape = value_of(source).shape
    return source, axis % len(shape), start % fixed(shape[axis])


def pick_of_pieces(pieces: fx.Node, place: int) -> tuple[fx.Node, int, int] | None:
    """The same of a piece of a tensor that was split into single places."""
    args: Any = pieces.args
    operator, sizes = operator_of(pieces), args[1] if len(args) > 1 else 1
    if operator == "aten.unbind.int":
        axis = sizes if len(args) > 1 else 0
    elif operator in ("aten.split_with_sizes.default", "aten.split.Tensor"):
        axis = args[2] if len(args) > 2 else 0
        if any(size != 1 for size in (sizes if isinstance(sizes, list | tuple) else [sizes])):
            return None
    else:
        return None
    return args[0], axis % value_of(args[0]).dim(), place


def any_nodes(arguments: Any) -> bool:
    return any(isinstance(argument, fx.Node) for argument in arguments)


def picked_again(node: fx.Node, parts: list[fx.Node], dim: int) -> Copied | None:
    """Single places of one tensor laid beside each other, each as often as any other: `torch.stack` of heads."""
    picks = [pick_of(part) for part in parts]
    shape = value_of(parts[0]).shape
    first = picks[0]
    if first is None or len({(pick[0], pick[1]) if pick else None for pick in picks}) > 1:
        return None
    source, axis, _ = first
    length = value_of(source).shape[axis]
    pattern = pattern_of([pick[2] for pick in picks if pick], fixed(length))
    own = [axis_of(size) for size in shape]
    others = [fixed(size) for place, size in enumerate(value_of(source).shape) if place != axis]
    before = prod(fixed(size) for size in shape[:dim])
    behind = [place for place in range(len(others) + 1) if prod(others[:place]) == before]
    if pattern is None or not behind or sum(any(factor.dynamic for factor in one) for one in own) > 1:
        return None
    axes = [*own[:dim], (*pattern, *own[dim]), *own[dim + 1 :]]
    place = min(behind, key=lambda found: abs(found - axis))

    def make(values: Values) -> Tensor:
        return values[source].movedim(axis, place).reshape(thin_shape(axes))

    return Copied(tuple(axes), (source,), make, (*parts, node))
