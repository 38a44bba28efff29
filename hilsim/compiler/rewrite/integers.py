"""A whole program in 32-bit integers, for compilers that have no 64-bit ones."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind, TensorArgument

from hilsim.compiler.rewrite.apply import tidy

CAVEAT = (
    "the answers are the same only while no value passes 2^31 - 1, above which values wrap around: token numbers and "
    "positions do not get there, hashes and milliseconds do, "
    "and so does a linear index into a tensor of more elements; "
    "integer outputs become int32 unless they are kept"
)
NAME = "int64_to_int32"
CAST = torch.ops.aten._to_copy.default


def int64_to_int32(program: ExportedProgram, keep_outputs: bool = False) -> int:
    """Make every int64 tensor inside the graph int32, in place; the number of nodes that were changed or came in.

    int64 inputs keep their type and are cast once. Constants and casts get the other type; an operator that answers in
    int64 whatever it is given (argmax) is cast right behind. Torch 2.13 takes int32 indices everywhere; an operator
    that refuses them gets its old types back by a cast right in front. Outputs become int32 unless `keep_outputs`;
    buffers and inputs that the program writes back keep their type.
    """
    graph, before = program.graph, types(program)
    narrowed: set[fx.Node] = set()  # nodes whose type differs from what it was
    changed = 0
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for node in list(graph.nodes):
        if node.op == "placeholder":
            changed += is_long(node) and cast_behind(node, placeholders[-1], narrowed)
        elif node.op == "call_function":
            changed += narrow(node, narrowed)
    changed += restore_outputs(program, before, keep_outputs)
    tidy(program)
    return changed


def is_long(node: fx.Node) -> bool:
    found = node.meta.get("val")
    return isinstance(found, Tensor) and found.dtype is torch.int64


def narrow(node: fx.Node, narrowed: set[fx.Node]) -> int:
    """One node: its own type argument, then its value from its new inputs, then a cast if it still is int64."""
    touched = any(entry in narrowed for entry in node.all_input_nodes)
    if node.target is torch.ops.aten._assert_tensor_metadata.default:
        # A check of the type that a cast in the module left behind; it holds no value.
        if touched:
            node.graph.erase_node(node)
        return int(touched)
    outputs = node.meta.get("val")
    if not touched and not any(isinstance(x, Tensor) and x.dtype is torch.int64 for x in listed(outputs)):
        return 0
    changed = 0
    if node.kwargs.get("dtype") is torch.int64 or (is_long(node) and takes_type(node)):
        node.kwargs = {**node.kwargs, "dtype": torch.int32}
        changed = 1
    if not isinstance(outputs, Tensor | tuple | list):
        return changed
    changed += recompute(node, narrowed)
    if isinstance(outputs, Tensor) and outputs.dtype is torch.int64:
        if is_long(node):
            return changed + cast_behind(node, node, narrowed)
        narrowed.add(node)
    return changed


def listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]


def takes_type(node: fx.Node) -> bool:
    """Whether the operator lets one say what it answers in, as a keyword."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(entry.name == "dtype" and entry.kwarg_only for entry in schema.arguments)


def recompute(node: fx.Node, narrowed: set[fx.Node]) -> int:
    """Set the node's fake value from its inputs' fake values; the number of casts that had to stand in front of it."""
    try:
        node.meta["val"] = run(node)
        return 0
    except (RuntimeError, IndexError, TypeError):
        before = 0
        for entry in node.all_input_nodes:
            if entry in narrowed:
                with node.graph.inserting_before(node):
                    node.replace_input_with(entry, cast(node.graph, entry, torch.int64))
                before += 1
        node.meta["val"] = run(node)
        return before


def run(node: fx.Node) -> Any:
    """The node's value on fakes."""
    if node.target is operator.getitem:
        return node.args[0].meta["val"][node.args[1]]  # type: ignore[union-attr]
    args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda entry: entry.meta["val"])
    fakes = [
        x
        for x in [*listed(node.meta["val"]), *(n.meta["val"] for n in node.all_input_nodes)]
        if hasattr(x, "fake_mode")
    ]
    assert callable(node.target)
    with fakes[0].fake_mode:
        return node.target(*args, **kwargs)


def cast(graph: fx.Graph, node: fx.Node, dtype: torch.dtype) -> fx.Node:
    """A cast of a node, at the graph's point of insertion."""
    new = graph.call_function(CAST, (node,), {"dtype": dtype})
    new.meta = {key: node.meta[key] for key in ("stack_trace", "nn_module_stack") if key in node.meta}
    new.meta["rewritten"] = (NAME, node.name)
    with node.meta["val"].fake_mode:
        new.meta["val"] = node.meta["val"].to(dtype)
    return new


def is_cast(node: fx.Node) -> bool:
    return node.target is CAST and node.kwargs.get("dtype") is torch.int32


def cast_behind(node: fx.Node, place: fx.Node, narrowed: set[fx.Node]) -> int:
    """A cast to int32 that all users but the outputs read instead; inserted behind `place`."""
    users = [
        user for user in node.users if not (node.op == "placeholder" and user.op == "output") and not is_cast(user)
    ]
    if not users:
        return 0
    with node.graph.inserting_after(place):
        new = cast(node.graph, node, torch.int32)
    for user in users:
        user.replace_input_with(node, new)
    narrowed.add(new)
    return 1


def types(program: ExportedProgram) -> list[torch.dtype | None]:
    """What each output of the graph is made of; None for what is no tensor."""
    results = program.graph.output_node().args[0]
    values = [entry.meta.get("val") if isinstance(entry, fx.Node) else None for entry in results]
    return [x.dtype if isinstance(x, Tensor) else None for x in values]


def restore_outputs(program: ExportedProgram, before: list[torch.dtype | None], keep_outputs: bool) -> int:
    """Names of the outputs in the signature; casts back to int64 where the type has to stay."""
    output = program.graph.output_node()
    results: list[Any] = list(output.args[0])
    after, changed = types(program), 0
    for place, spec in enumerate(program.graph_signature.output_specs):
        if before[place] != after[place] and (keep_outputs or spec.kind is not OutputKind.USER_OUTPUT):
            with program.graph.inserting_before(output):
                results[place] = cast(program.graph, results[place], torch.int64)
            changed += 1
        if isinstance(results[place], fx.Node) and isinstance(spec.arg, TensorArgument):
            spec.arg = TensorArgument(name=results[place].name)
    output.args = (tuple(results),)
    return changed
