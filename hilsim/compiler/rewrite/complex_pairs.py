"""Complex numbers as pairs of real ones: products by cos and sin, views and shapes on both parts.

What is folded when the graph is built may stay complex: `torch.polar` of known angles becomes two tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from hilsim.compiler.nodes import constants_of, operator_of, tensors_of
from hilsim.compiler.rewrite.apply import spliced, tidy, trace

Pair = tuple[Any, Any]
NAME = "complex_by_pairs"


def both(x: Any) -> Pair:
    """A number or tensor as a pair; a real one has no imaginary part."""
    if isinstance(x, tuple):
        return x
    if isinstance(x, complex):
        return x.real, x.imag
    return x, None


def add(x: Any, y: Any, sign: int = 1, alpha: Any = 1) -> Pair:
    (a, b), (c, d) = both(x), both(y)
    c, d = (part if part is None or sign * alpha == 1 else part * (sign * alpha) for part in (c, d))
    parts = [q if p is None else p if q is None else p + q for p, q in ((a, c), (b, d))]
    real, imaginary = (part for part in parts)
    zero = torch.zeros_like(real) + torch.zeros_like(imaginary)  # of the shape that both stretch to
    return real + zero, imaginary + zero


def subtract(x: Any, y: Any, alpha: Any = 1) -> Pair:
    return add(x, y, -1, alpha)


def multiply(x: Any, y: Any) -> Pair:
    (a, b), (c, d) = both(x), both(y)
    if b is None:
        return a * c, a * d
    if d is None:
        return a * c, b * c
    return a * c - b * d, a * d + b * c


def divide(x: Any, y: Any) -> Pair:
    (c, d) = both(y)
    if d is None:
        a, b = both(x)
        return a / c, b / c
    size = c * c + d * d
    real, imaginary = multiply(x, (c, -d))
    return real / size, imaginary / size


def polar(size: Tensor, angle: Tensor) -> Pair:
    return size * torch.cos(angle), size * torch.sin(angle)


def absolute(x: Pair) -> Tensor:
    return torch.sqrt(x[0] * x[0] + x[1] * x[1])


def on_both(operator: Callable[..., Any]) -> Callable[..., Pair]:
    """An operator that moves numbers about, on both parts."""

    def function(*args: Any, **kwargs: Any) -> Pair:
        def part(index: int) -> Any:
            pick = pytree.tree_map(lambda x: x[index] if isinstance(x, tuple) else x, (args, kwargs), is_leaf=is_pair)
            return operator(*pick[0], **pick[1])

        return part(0), part(1)

    return function


def is_pair(x: Any) -> bool:
    """Whether something is a complex number as two tensors, and no list of arguments."""
    return isinstance(x, tuple) and len(x) == 2 and all(isinstance(part, Tensor) for part in x)


aten = torch.ops.aten
MOVES = (
    aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.expand.default, aten.unsqueeze.default,
    aten.squeeze.dims, aten.squeeze.dim, aten.permute.default, aten.transpose.int, aten.slice.Tensor, aten.select.int,
    aten.cat.default, aten.clone.default, aten.alias.default, aten.detach.default, aten.index_select.default,
    aten.repeat.default, aten.flip.default, aten.neg.default, aten.sum.dim_IntList, aten.mean.dim, aten.index.Tensor,
    aten.embedding.default,
)  # fmt: skip
TABLE: dict[str, Callable[..., Any]] = {
    "aten.view_as_complex.default": lambda x: (x[..., 0], x[..., 1]),
    "aten.view_as_real.default": lambda x: torch.stack(x, -1),
    "aten.complex.default": lambda real, imaginary: add(real, (torch.zeros_like(imaginary), imaginary)),
    "aten.polar.default": polar,
    "aten.real.default": lambda x: x[0],
    "aten.imag.default": lambda x: x[1],
    "aten.abs.default": absolute,
    "aten._conj.default": lambda x: (x[0], -x[1]),
    "aten.conj.default": lambda x: (x[0], -x[1]),
    "aten._conj_physical.default": lambda x: (x[0], -x[1]),
    "aten.conj_physical.default": lambda x: (x[0], -x[1]),
    "aten.add.Tensor": lambda x, y, alpha=1: add(x, y, 1, alpha),
    "aten.sub.Tensor": subtract,
    "aten.mul.Tensor": multiply,
    "aten.mul.Scalar": multiply,
    "aten.div.Tensor": divide,
    **{str(operator): on_both(operator) for operator in MOVES},
}


def is_complex(node: fx.Node) -> bool:
    return any(tensor.dtype.is_complex for tensor in tensors_of(node))


def complex_by_pairs(program: ExportedProgram) -> int:
    """Replace every complex tensor that is computed by two real ones, in place; how many nodes were replaced.

    Raises ValueError where an operator has no form in pairs, or where an input or output is complex.
    """
    constants = constants_of(program)
    parts: dict[fx.Node, tuple[fx.Node, fx.Node]] = {}
    done: list[fx.Node] = []
    for node in list(program.graph.nodes):
        if node.op == "output" and any(source in parts for source in node.all_input_nodes):
            raise ValueError("an output is complex; give its parts out by torch.view_as_real")
        if node.op == "placeholder" and is_complex(node) and node not in constants:
            raise ValueError(f"input {node.name} is complex; take its parts in as a real tensor")
        if node.op != "call_function" or node in constants:
            continue
        complex_sources = [source for source in node.all_input_nodes if is_complex(source)]
        if not complex_sources and not is_complex(node):
            continue
        for source in complex_sources:
            if source in constants and source not in parts:
                parts[source] = split(source)
        done.append(node)
        replace(program, node, parts)
    for node in reversed(done):
        if not node.users and node.graph is program.graph and not node._erased:
            program.graph.erase_node(node)
    tidy(program)
    return len(done)


def split(node: fx.Node) -> tuple[fx.Node, fx.Node]:
    """The parts of a constant, worked out when the graph is built; behind all inputs where it is one."""
    graph = node.graph
    place = [other for other in graph.nodes if other.op == "placeholder"][-1] if node.op == "placeholder" else node
    made = []
    with graph.inserting_after(place):
        whole = graph.call_function(aten.view_as_real.default, (node,))
    whole.meta["val"] = torch.view_as_real(node.meta["val"])
    for index in (1, 0):
        with graph.inserting_after(whole):
            part = graph.call_function(aten.select.int, (whole, -1, index))
        part.meta["val"] = whole.meta["val"].select(-1, index)
        made.append(part)
    for new in (whole, *made):
        new.meta["rewritten"] = (NAME, node.name)
    return made[1], made[0]


def replace(program: ExportedProgram, node: fx.Node, parts: dict[fx.Node, tuple[fx.Node, fx.Node]]) -> None:
    """One node in pairs, spliced in before it; a real result takes its place, a complex one is kept as its parts."""
    function = TABLE.get(operator_of(node))
    if function is None:
        raise ValueError(f"{operator_of(node)} has no form in pairs of real numbers")
    sources = node.all_input_nodes
    flat: list[fx.Node] = [part for source in sources for part in parts.get(source, (source,))]

    def plain(*tensors: Any) -> Any:
        given = iter(tensors)
        known = {source: (next(given), next(given)) if source in parts else next(given) for source in sources}
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda entry: known[entry])
        return function(*args, **{key: value for key, value in kwargs.items() if value is not None})

    graph_module = trace(plain, [entry.meta["val"] for entry in flat])
    results, _ = spliced(node, graph_module, flat, NAME)
    if is_complex(node):
        if not isinstance(results, Sequence) or len(results) != 2:
            raise ValueError(f"{operator_of(node)} has no form in pairs of real numbers")
        parts[node] = (results[0], results[1])
    else:
        node.replace_all_uses_with(results)
        program.graph_signature.replace_all_uses(node.name, results.name)
