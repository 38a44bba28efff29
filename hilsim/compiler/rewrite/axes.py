"""Tensors of many dimensions, for toolchains that have five: axes that travel together become one and come apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import combinations, pairwise, permutations
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from hilsim.compiler.nodes import operator_of, tensors_of
from hilsim.compiler.rewrite.apply import tidy
from hilsim.compiler.rewrite.record import Rewrite, argument

MOST = 5  # dimensions of a tensor on Hexagon
SOURCE = "microsoft/onnxruntime PR 26338 and 26649 (the same fusion for six dimensions)"
MERGED = "reshapes_merged"
ALONG, FIRST = "the same along one axis of three", "leading axes as one, reshaped before and after"
VIEWS = frozenset(
    f"aten.{name}"
    for name in (
        "view.default", "_unsafe_view.default", "reshape.default", "unsqueeze.default", "squeeze.dims", "squeeze.dim",
    )
)  # fmt: skip
Order = tuple[int, ...]


def runs(order: Order) -> list[Order]:
    """An order of axes cut where two neighbours were none before."""
    found: list[Order] = []
    for axis in order:
        found[-1:] = [(*found[-1], axis)] if found and found[-1][-1] + 1 == axis else [*found[-1:], (axis,)]
    return found


@cache
def steps(order: Order) -> tuple[tuple[tuple[Order, ...], Order], ...]:
    """A permutation as a few of at most five blocks each: the blocks of neighbouring axes, and their new order."""
    blocks = runs(order)
    if len(blocks) <= MOST:
        before = tuple(sorted(blocks))
        return ((before, tuple(before.index(block) for block in blocks)),)
    best = min(moves(len(order)), key=lambda move: len(runs(after(order, move))))
    return (best, *steps(after(order, best)))


@cache
def moves(rank: int) -> tuple[tuple[tuple[Order, ...], Order], ...]:
    """Every way to move at most five blocks of so many axes about."""
    found = []
    for cuts in combinations(range(1, rank), MOST - 1):
        ends = (0, *cuts, rank)
        blocks = tuple(tuple(range(low, high)) for low, high in pairwise(ends))
        found += [(blocks, moved) for moved in permutations(range(MOST))]
    return tuple(found)


def after(order: Order, move: tuple[tuple[Order, ...], Order]) -> Order:
    """What is left to do of a permutation once blocks have moved."""
    blocks, moved = move
    now = [axis for block in moved for axis in blocks[block]]
    return tuple(now.index(axis) for axis in order)


def permute(x: Tensor, dims: Sequence[int]) -> Tensor:
    """`torch.permute` by reshapes and permutations of at most five axes; axes of one number need not move."""
    order = [dim % x.dim() for dim in dims]
    shape = [x.shape[axis] for axis in order]
    moving = [axis for axis in range(x.dim()) if x.shape[axis] != 1]
    sizes = [x.shape[axis] for axis in moving]
    for blocks, moved in steps(tuple(moving.index(axis) for axis in order if axis in moving)):
        x = x.reshape([prod(sizes[axis] for axis in block) for block in blocks]).permute(moved)
        sizes = [sizes[axis] for block in moved for axis in blocks[block]]
    return x.reshape(shape)


def groups(shapes: Sequence[Sequence[int]], full: Sequence[int]) -> list[list[int]]:
    """Neighbouring axes along which the same operands are stretched."""
    found: list[list[int]] = []
    before: tuple[bool, ...] | None = None
    for axis, size in enumerate(full):
        if size == 1:
            continue
        stretched = tuple(shape[axis] == 1 for shape in shapes)
        if stretched == before:
            found[-1].append(axis)
        else:
            found.append([axis])
        before = stretched
    return found


def aligned(x: Tensor, rank: int) -> list[int]:
    """A shape with ones in front."""
    return [1] * (rank - x.dim()) + list(x.shape)


def by_groups(operator: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """An operator on each number by itself, over axes that are stretched alike as one."""
    tensors = [x for x in args if isinstance(x, Tensor)]
    rank = max(x.dim() for x in tensors)
    shapes = [aligned(x, rank) for x in tensors]
    full = [next((size for size in sizes if size != 1), 1) for sizes in zip(*shapes, strict=True)]
    merged = groups(shapes, full)
    flat = [
        x.reshape([prod(shape[axis] for axis in group) for group in merged])
        for x, shape in zip(tensors, shapes, strict=True)
    ]
    given = iter(flat)
    return operator(*(next(given) if isinstance(x, Tensor) else x for x in args), **kwargs).reshape(full)


def around(x: Tensor, dim: int) -> list[int]:
    """A shape as what stands before an axis, the axis, and what stands after it."""
    place = dim % x.dim()
    return [prod(x.shape[:place]), x.shape[place], prod(x.shape[place + 1 :])]


def softmax(operator: Callable[..., Tensor], x: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    """A softmax along one axis of three."""
    return operator(x.reshape(around(x, dim)), 1, half_to_float).reshape(x.shape)


def reduced(operator: Callable[..., Tensor], x: Tensor, dim: Sequence[int], keepdim: bool = False) -> Tensor:
    """A reduction along one axis of three."""
    place = dim[0] % x.dim()
    shape = [*x.shape[:place], *([1] if keepdim else []), *x.shape[place + 1 :]]
    return operator(x.reshape(around(x, place)), [1]).reshape(shape)


def concatenated(operator: Callable[..., Tensor], parts: Sequence[Tensor], dim: int = 0) -> Tensor:
    """A concatenation along one axis of three."""
    place = dim % parts[0].dim()
    size = sum(part.shape[place] for part in parts)
    shape = [*parts[0].shape[:place], size, *parts[0].shape[place + 1 :]]
    return operator([part.reshape(around(part, place)) for part in parts], 1).reshape(shape)


def sliced(
    operator: Callable[..., Tensor], x: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Tensor:
    """A slice along one axis of three."""
    place = dim % x.dim()
    found = operator(x.reshape(around(x, place)), 1, start, end, step)
    return found.reshape([*x.shape[:place], found.shape[1], *x.shape[place + 1 :]])


def selected(operator: Callable[..., Tensor], x: Tensor, dim: int, index: Tensor) -> Tensor:
    """A selection along one axis of three."""
    place = dim % x.dim()
    return operator(x.reshape(around(x, place)), 1, index).reshape([*x.shape[:place], -1, *x.shape[place + 1 :]])


def gathered(operator: Callable[..., Tensor], x: Tensor, dim: int, index: Tensor, **kwargs: Any) -> Tensor:
    """A selection of its own at every place, along one axis of three."""
    return operator(x.reshape(around(x, dim)), 1, index.reshape(around(index, dim))).reshape(index.shape)


def looked_up(operator: Callable[..., Tensor], table: Tensor, index: Tensor, *rest: Any) -> Tensor:
    """Rows of a table for a flat list of places."""
    return operator(table, index.reshape(-1), *rest).reshape([*index.shape, table.shape[1]])


def linear(operator: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer over leading axes as one."""
    return operator(x.reshape(-1, x.shape[-1]), weight, bias).reshape([*x.shape[:-1], weight.shape[0]])


def shapes_of(node: fx.Node) -> list[tuple[Any, ...]]:
    """The shapes of what a node takes and yields."""
    return [tuple(tensor.shape) for one in (*node.all_input_nodes, node) for tensor in tensors_of(one)]


def fits_many(node: fx.Node) -> str:
    """Whether there are too many axes, and their lengths are known."""
    shapes = shapes_of(node)
    if max(map(len, shapes), default=0) <= MOST:
        return f"it has no more than {MOST} dimensions"
    if any(not isinstance(size, int) for shape in shapes for size in shape):
        return "a length is only known at run time"
    return "" if all(prod(shape) for shape in shapes) else "it is empty"


def fits_groups(node: fx.Node) -> str:
    if why := fits_many(node):
        return why
    tensors = [x for place in range(len(node.args)) if isinstance(x := argument(node, place, ""), Tensor)]
    full = list(node.meta["val"].shape)
    merged = groups([aligned(x, len(full)) for x in tensors], full)
    return "" if len(merged) <= MOST else "its operands are stretched in too many ways"


def fits_one_axis(node: fx.Node) -> str:
    dims = argument(node, 1, "dim")
    if not isinstance(dims, list | tuple) or len(dims) != 1:
        return "it reduces several axes"
    return fits_many(node)


def fits_gather(node: fx.Node) -> str:
    x, dim, index = (argument(node, place, name) for place, name in enumerate(("self", "dim", "index")))
    others = [axis for axis in range(x.dim()) if axis != dim % x.dim()]
    if any(x.shape[axis] != index.shape[axis] for axis in others):
        return "it reads a part of the other axes"
    return fits_many(node)


def fits_linear(node: fx.Node) -> str:
    x = argument(node, 0, "input")
    if x.dim() <= 4:
        return "it has no more than 4 dimensions"
    return "" if all(isinstance(size, int) for size in x.shape) else "a length is only known at run time"


def merge_reshapes(program: ExportedProgram, most: int = MOST) -> int:
    """Reshapes of reshapes as one where what stands between has too many dimensions, in place; how many there were.

    A copy between two reshapes is looked through: it holds the same numbers.
    """
    done = 0
    for node in list(program.graph.nodes):
        if operator_of(node) not in VIEWS or rank_of(node) > most:
            continue
        source = node.args[0]
        while isinstance(source, fx.Node) and rank_of(source) > most and passes_on(source):
            source = source.args[0]
        if source is node.args[0] or not isinstance(source, fx.Node) or rank_of(source) > most:
            continue
        with program.graph.inserting_before(node):
            new = reshaped(program.graph, source, list(node.meta["val"].shape))
        for key in ("stack_trace", "nn_module_stack"):
            if key in node.meta:
                new.meta[key] = node.meta[key]
        new.meta["rewritten"] = (MERGED, node.name)
        node.replace_all_uses_with(new)
        program.graph_signature.replace_all_uses(node.name, new.name)
        program.graph.erase_node(node)
        done += 1
    tidy(program)
    return done


def rank_of(node: fx.Node) -> int:
    return max((tensor.dim() for tensor in tensors_of(node)), default=0)


def passes_on(node: fx.Node) -> bool:
    """Whether a node yields the numbers of its input in their order."""
    return operator_of(node) in VIEWS or operator_of(node) in ("aten.clone.default", "aten.alias.default")


def reshaped(graph: fx.Graph, source: fx.Node, shape: list[Any]) -> fx.Node:
    """A reshape, behind a copy where the numbers do not lie in order."""
    aten, value = torch.ops.aten, source.meta["val"]
    if not value.is_contiguous():
        new = graph.call_function(aten.clone.default, (source,), {"memory_format": torch.contiguous_format})
        new.meta["val"] = value = value.clone(memory_format=torch.contiguous_format)
        source = new
    new = graph.call_function(aten.view.default, (source, shape))
    new.meta["val"] = value.view(shape)
    return new


def named(*names: str) -> tuple[str, ...]:
    return tuple(f"aten.{name}" for name in names)


def fewer(
    name: str, title: str, operators: Iterable[str], exactness: Any, fits: Callable[[fx.Node], str], function: Any
) -> Rewrite:
    """A rewrite that keeps its operator, on fewer axes."""
    return Rewrite(
        name, title, tuple(operators), exactness, function, fits, source=SOURCE, with_operator=True, contiguous=True
    )


REWRITES = (
    Rewrite("permute_by_fewer_axes", "axes that travel together as one, permutations of at most five",
            ("aten.permute.default",), "bits", permute, fits_many, source=SOURCE, contiguous=True),
    fewer("unary_by_fewer_axes", "the same over one axis, reshaped before and after",
          named("relu.default", "sigmoid.default", "tanh.default", "gelu.default", "exp.default", "neg.default",
                "abs.default", "sqrt.default", "rsqrt.default", "silu.default", "cos.default", "sin.default",
                "erf.default", "log.default", "hardswish.default", "logical_not.default"), "rounding", fits_groups,
          by_groups),
    fewer("binary_by_fewer_axes", "the same over axes that are stretched alike as one",
          named("add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor", "maximum.default", "minimum.default",
                "eq.Tensor", "gt.Tensor", "lt.Tensor"), "bits", fits_groups, by_groups),
    fewer("where_by_fewer_axes", "the same over axes that are stretched alike as one", named("where.self"), "bits",
          fits_groups, by_groups),
    fewer("softmax_by_three_axes", ALONG, named("_softmax.default"), "rounding", fits_many, softmax),
    fewer("reduction_by_three_axes", ALONG, named("sum.dim_IntList", "mean.dim", "amax.default", "amin.default"),
          "rounding", fits_one_axis, reduced),
    fewer("cat_by_three_axes", ALONG, named("cat.default"), "bits", fits_many, concatenated),
    fewer("slice_by_three_axes", ALONG, named("slice.Tensor"), "bits", fits_many, sliced),
    fewer("index_select_by_three_axes", ALONG, named("index_select.default"), "bits", fits_many, selected),
    fewer("gather_by_three_axes", ALONG, named("gather.default"), "bits", fits_gather, gathered),
    fewer("embedding_by_one_axis", "places in one row, reshaped after", named("embedding.default"), "bits", fits_many,
          looked_up),
    fewer("linear_by_two_axes", FIRST, named("linear.default"), "rounding", fits_linear, linear),
)  # fmt: skip
