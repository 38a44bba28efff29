"""A whole program in another type of number: 32-bit integers for 64-bit ones, float32 for float64 and the like."""

from __future__ import annotations

import operator
from dataclasses import dataclass
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
    "integer outputs become int32 unless they are excepted"
)
NAME = "int64_to_int32"
CAST = torch.ops.aten._to_copy.default


@dataclass(frozen=True)
class TypeChange:
    """From one type to another; a cast goes through `through`, as some toolchains cast uint8 to floats only."""

    name: str
    source: torch.dtype
    goal: torch.dtype
    through: torch.dtype | None = None


LONG = TypeChange(NAME, torch.int64, torch.int32)


def int64_to_int32(program: ExportedProgram, keep_outputs: bool = False) -> int:
    """Make every int64 tensor inside the graph int32, in place; the number of nodes that were changed or came in."""
    return retyped(program, LONG, keep_outputs)


def retyped(program: ExportedProgram, change: TypeChange, keep_outputs: bool = False) -> int:
    """Make every tensor of a type inside the graph one of another, in place; how many nodes were changed or came in.

    Inputs keep their type and are cast once. Constants and casts get the other type; an operator that answers in
    the old one whatever it is given (argmax in int64) is cast right behind. Torch 2.13 takes int32 indices everywhere;
    an operator that refuses them gets its old types back by a cast right in front. Outputs get the other type unless
    `keep_outputs`; buffers and inputs that the program writes back keep theirs.
    """
    graph, before = program.graph, types(program)
    narrowed: set[fx.Node] = set()  # nodes whose type differs from what it was
    changed = 0
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    for node in list(graph.nodes):
        if node.op == "placeholder":
            changed += has_type(node, change.source) and cast_behind(node, placeholders[-1], narrowed, change)
        elif node.op == "call_function":
            changed += narrow(node, narrowed, change)
    changed += restore_outputs(program, before, keep_outputs, change)
    tidy(program)
    return changed


def has_type(node: fx.Node, dtype: torch.dtype) -> bool:
    found = node.meta.get("val")
    return isinstance(found, Tensor) and found.dtype is dtype


def narrow(node: fx.Node, narrowed: set[fx.Node], change: TypeChange) -> int:
    """One node: its own type argument, then its value from its new inputs, then a cast if it still has the old type."""
    touched = any(entry in narrowed for entry in node.all_input_nodes)
    if node.target is torch.ops.aten._assert_tensor_metadata.default:
        # A check of the type that a cast in the module left behind; it holds no value.
        if touched:
            node.graph.erase_node(node)
        return int(touched)
    outputs = node.meta.get("val")
    if not touched and not any(isinstance(x, Tensor) and x.dtype is change.source for x in listed(outputs)):
        return 0
    changed = 0
    if node.kwargs.get("dtype") is change.source or (has_type(node, change.source) and takes_type(node)):
        node.kwargs = {**node.kwargs, "dtype": change.goal}
        changed = 1
    if not isinstance(outputs, Tensor | tuple | list):
        return changed
    changed += recompute(node, narrowed, change)
    if isinstance(outputs, Tensor) and outputs.dtype is change.source:
        if has_type(node, change.source):
            return changed + cast_behind(node, node, narrowed, change)
        narrowed.add(node)
    return changed


def listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]


def takes_type(node: fx.Node) -> bool:
    """Whether the operator lets one say what it answers in, as a keyword."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and any(entry.name == "dtype" and entry.kwarg_only for entry in schema.arguments)


def recompute(node: fx.Node, narrowed: set[fx.Node], change: TypeChange) -> int:
    """Set the node's fake value from its inputs' fake values; the number of casts that had to stand in front of it."""
    try:
        node.meta["val"] = run(node)
        return 0
    except (RuntimeError, IndexError, TypeError):
        before = 0
        for entry in node.all_input_nodes:
            if entry in narrowed:
                with node.graph.inserting_before(node):
                    node.replace_input_with(entry, cast(node.graph, entry, change.source, change.name))
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


def cast(graph: fx.Graph, node: fx.Node, dtype: torch.dtype, name: str) -> fx.Node:
    """A cast of a node, at the graph's point of insertion."""
    new = graph.call_function(CAST, (node,), {"dtype": dtype})
    new.meta = {key: node.meta[key] for key in ("stack_trace", "nn_module_stack") if key in node.meta}
    new.meta["rewritten"] = (name, node.name)
    with node.meta["val"].fake_mode:
        new.meta["val"] = node.meta["val"].to(dtype)
    return new


def is_cast(node: fx.Node, dtype: torch.dtype) -> bool:
    return node.target is CAST and node.kwargs.get("dtype") is dtype


def cast_behind(node: fx.Node, place: fx.Node, narrowed: set[fx.Node], change: TypeChange) -> int:
    """A cast to the new type that all users but the outputs read instead; inserted behind `place`."""
    users = [
        user
        for user in node.users
        if not (node.op == "placeholder" and user.op == "output") and not is_cast(user, change.goal)
    ]
    if not users:
        return 0
    new = node
    for dtype in (change.through, change.goal):
        if dtype is not None:
            with node.graph.inserting_after(place if new is node else new):
                new = cast(node.graph, new, dtype, change.name)
    for user in users:
        user.replace_input_with(node, new)
    narrowed.add(new)
    return 1


def types(program: ExportedProgram) -> list[torch.dtype | None]:
    """What each output of the graph is made of; None for what is no tensor."""
    results = program.graph.output_node().args[0]
    values = [entry.meta.get("val") if isinstance(entry, fx.Node) else None for entry in results]
    return [x.dtype if isinstance(x, Tensor) else None for x in values]


def restore_outputs(
    program: ExportedProgram, before: list[torch.dtype | None], keep_outputs: bool, change: TypeChange
) -> int:
    """Names of the outputs in the signature; casts back to the old type where it has to stay."""
    output = program.graph.output_node()
    results: list[Any] = list(output.args[0])
    after, changed = types(program), 0
    for place, spec in enumerate(program.graph_signature.output_specs):
        if before[place] != after[place] and (keep_outputs or spec.kind is not OutputKind.USER_OUTPUT):
            with program.graph.inserting_before(output):
                results[place] = cast(program.graph, results[place], change.source, change.name)
            changed += 1
        if isinstance(results[place], fx.Node) and isinstance(spec.arg, TensorArgument):
            spec.arg = TensorArgument(name=results[place].name)
    output.args = (tuple(results),)
    return changed
