"""Puts a rewrite into an exported program: trace the plain function over the node's fakes, splice the graph in.

Owns graph surgery for single nodes; what the replacements compute is in the modules beside it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.export import ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import statically_known_true

from hilsim.compiler.program import decompositions
from hilsim.compiler.rewrite.record import Rewrite


def traced(rewrite: Rewrite, node: fx.Node) -> fx.GraphModule:
    """The rewrite's function as a graph over the node's own shapes; one placeholder per argument that is a node.

    The placeholders stand in the order of `node.all_input_nodes`; other arguments become constants. Fakes suffice,
    so a program whose parameters hold no memory is rewritten like any other. Raises ValueError where an argument has
    no fake value, or the function makes a constant that is not an operator of the graph.
    """
    inputs = node.all_input_nodes
    values = [entry.meta.get("val") for entry in inputs]
    if any(entry is None for entry in values):
        raise ValueError(f"{node.name}: an argument has no meta['val']; export the program before rewriting it")

    def plain(*tensors: Any) -> Any:
        known = dict(zip(inputs, tensors, strict=True))
        args = fx.node.map_arg(node.args, lambda entry: known[entry])
        kwargs = fx.node.map_arg(node.kwargs, lambda entry: known[entry])
        assert callable(node.target)
        made = rewrite.called(node.target)(*args, **kwargs)
        return made if rewrite.contiguous else laid_out(made, node.meta.get("val"))

    return trace(plain, values)


def laid_out(results: Any, likes: Any) -> Any:
    """The results with their axes in memory in the order of the values they replace.

    A view further down the graph was recorded for that order and fails on another; a clone costs nothing where a
    compiler plans its own memory.
    """
    if isinstance(likes, tuple | list):
        return tuple(laid_out(result, like) for result, like in zip(results, likes, strict=True))
    sizes = list(zip(results.shape, results.stride(), likes.stride(), strict=True))
    if all(statically_known_true(own == other) for size, own, other in sizes if size != 1):
        return results
    order = sorted(range(likes.dim()), key=lambda axis: -likes.stride(axis))
    dense = results.permute(order).clone(memory_format=torch.contiguous_format)
    return dense.permute([order.index(axis) for axis in range(likes.dim())])


def trace(function: Callable[..., Any], values: Sequence[Any]) -> fx.GraphModule:
    """Graph of a plain function of tensors (real or fake), in core ATen."""
    dynamic = any(
        isinstance(size, torch.SymInt) for entry in values for size in (getattr(entry, "shape", None) or [entry])
    )
    with torch.no_grad(), unset_fake_temporarily():  # the program has a fake mode of its own
        made = make_fx(function, dict(decompositions()), tracing_mode="symbolic" if dynamic else "fake")
        graph_module = made(*one_mode(values))
    graph_module.graph.eliminate_dead_code()
    for node in graph_module.graph.nodes:
        if node.op not in ("placeholder", "call_function", "output"):
            raise ValueError(f"{node.op} {node.target} in a traced rewrite; make constants by arange or full")
    graph_module.recompile()
    return graph_module


def one_mode(values: Sequence[Any]) -> list[Any]:
    """The values under one fake mode. Fakes of several modes are made anew, with their strides."""
    modes = {id(entry.fake_mode) for entry in values if isinstance(entry, FakeTensor)}
    if len(modes) < 2:
        return list(values)
    with FakeTensorMode():
        return [
            torch.empty_strided(entry.shape, entry.stride(), dtype=entry.dtype, device=entry.device)
            if isinstance(entry, torch.Tensor)
            else entry
            for entry in values
        ]


def insert(program: ExportedProgram, node: fx.Node, graph_module: fx.GraphModule, name: str) -> list[fx.Node]:
    """Splice a traced graph in place of a node; changes the program in place and returns the nodes that came in.

    They carry the replaced node's origin (`stack_trace`, `nn_module_stack`) and `meta["rewritten"]`: the rewrite and
    the node it replaced. Output names of the signature follow.
    """
    graph = program.graph
    results, inserted = spliced(node, graph_module, node.all_input_nodes, name)
    substitute(program, node, results)
    tidy(program)
    return [entry for entry in inserted if entry.graph is graph and not entry._erased]


def spliced(
    node: fx.Node, graph_module: fx.GraphModule, sources: Sequence[fx.Node], name: str
) -> tuple[Any, list[fx.Node]]:
    """A traced graph copied in before a node, its inputs the `sources`: what it yields, and the nodes that came in."""
    graph = node.graph
    known: dict[fx.Node, fx.Node] = {}
    inputs = iter(sources)
    inserted: list[fx.Node] = []
    results: Any = None
    with graph.inserting_before(node):
        for entry in graph_module.graph.nodes:
            if entry.op == "placeholder":
                known[entry] = next(inputs)
            elif entry.op == "output":
                results = fx.node.map_arg(entry.args[0], lambda old: known[old])
            else:
                new = graph.node_copy(entry, lambda old: known[old])
                for key in ("stack_trace", "nn_module_stack"):
                    if key in node.meta:
                        new.meta[key] = node.meta[key]
                new.meta["rewritten"] = (name, node.name)
                known[entry] = new
                inserted.append(new)
    return results, inserted


def substitute(program: ExportedProgram, node: fx.Node, results: Any) -> None:
    """Make what used a node, or a part of its tuple, use the results instead; the signature's outputs too."""
    if isinstance(node.meta.get("val"), tuple | list):
        for user in list(node.users):
            if user.target is not operator.getitem:
                raise ValueError(f"{user.name} uses the whole tuple of {node.name}; only its parts can be replaced")
            part = results[user.args[1]]
            user.replace_all_uses_with(part)
            program.graph_signature.replace_all_uses(user.name, part.name)
            program.graph.erase_node(user)
    else:
        result = results[0] if isinstance(results, tuple | list) else results
        node.replace_all_uses_with(result)
        program.graph_signature.replace_all_uses(node.name, result.name)
    program.graph.erase_node(node)


def tidy(program: ExportedProgram) -> None:
    """Drop dead code, check the graph, and make the module's code anew."""
    program.graph.eliminate_dead_code()
    program.graph.lint()
    program.graph_module.recompile()


def apply(program: ExportedProgram, rewrite: Rewrite, nodes: Iterable[fx.Node] | None = None) -> list[list[fx.Node]]:
    """Rewrite the given nodes, or every node that it fits, in place; the inserted nodes, one list per replaced node.

    Raises ValueError for a given node that the rewrite does not fit.
    """
    if nodes is None:
        chosen = [n for n in program.graph.nodes if str(n.target) in rewrite.operators and not rewrite.fits(n)]
    else:
        chosen = list(nodes)
    done = []
    for node in chosen:
        why = rewrite.fits(node) if str(node.target) in rewrite.operators else f"it is {node.target}"
        if why:
            raise ValueError(f"{rewrite.name} does not fit {node.name}: {why}")
        done.append(insert(program, node, traced(rewrite, node), rewrite.name))
    return done
