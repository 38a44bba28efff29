"""Facts of a node of an exported graph: its operator, its place in the user's code, its shapes."""

from __future__ import annotations

import operator
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils._pytree import tree_leaves

from hilsim.places import CODE, PACKAGE

FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\w+)')
CALL = re.compile(r"@(\d+)")


@dataclass(frozen=True)
class NodePlace:
    """Where a node comes from: `module` is a path ("blocks.0.attention"), `call` counts from 0, `line` is a file's."""

    node: str
    operator: str
    module: str
    call: int
    line: str


def operator_of(node: fx.Node) -> str:
    """The operator as the table spells it."""
    target = node.target
    if isinstance(target, torch._ops.HigherOrderOperator):
        return str(target.name())  # type: ignore[no-untyped-call]
    return str(target)


def place_of(node: fx.Node) -> NodePlace:
    """The node's place; empty where the export did not keep one."""
    module, call = module_call(node)
    return NodePlace(node.name, operator_of(node), module, call, line_of(node))


def module_call(node: fx.Node) -> tuple[str, int]:
    """Path of the innermost module that the node belongs to, and which call of it or of one around it this is."""
    stack = node.meta.get("nn_module_stack") or {}
    if not stack:
        return "", 0
    key, (path, _) = list(stack.items())[-1]
    if path.startswith("_empty_nn_module_stack"):  # torch's own nodes: sizes of inputs, checks
        return "", 0
    calls = [int(found) for found in CALL.findall(f"{key} {path}")]
    return CALL.sub("", path), max(calls, default=0)


def line_of(node: fx.Node) -> str:
    """The line of the user's code: the innermost frame that is neither PyTorch's, nor generated, nor reads ONNX.

    PyTorch keeps frames of `forward` methods alone, so what a function does is at the line that calls it.
    """
    foreign = (str(Path(torch.__file__).parent), "torch/", "<", str(PACKAGE / "compiler" / "onnx_"))
    frames = FRAME.findall(node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if not frame[0].startswith(foreign)]
    if not own:
        return ""
    file, line, _ = own[-1]
    path = Path(file)
    return f"{path.relative_to(CODE) if path.is_relative_to(CODE) else path}:{line}"


def first_line(node: fx.Node) -> str:
    """The line where an input, or a parameter, is first used."""
    seen, open_ = {node}, deque([node])
    while open_:
        for user in open_.popleft().users:
            if line := line_of(user):
                return line
            if user not in seen:
                seen.add(user)
                open_.append(user)
    return ""


def value_of(node: fx.Node) -> Any:
    """What the node yields: a fake tensor, a number, or a tuple of these."""
    return node.meta.get("val")


def tensors_of(node: fx.Node) -> list[Tensor]:
    """Every tensor that a node yields."""
    value = value_of(node)
    found = value if isinstance(value, (tuple, list)) else [value]
    return [item for item in found if isinstance(item, Tensor)]


def used_of(node: fx.Node) -> list[Tensor]:
    """The tensors that a node yields and that something reads: of a maximum and its place perhaps one of the two."""
    value = value_of(node)
    if not isinstance(value, (tuple, list)):
        return tensors_of(node)
    parts = {user.args[1] for user in node.users if user.target is operator.getitem}
    return [item for place, item in enumerate(value) if place in parts and isinstance(item, Tensor)]


def sources_of(node: fx.Node) -> list[fx.Node]:
    """The nodes that a node takes, in the order of its arguments; one that is taken twice is there twice."""
    return [leaf for leaf in tree_leaves((node.args, node.kwargs)) if isinstance(leaf, fx.Node)]


def operands(node: fx.Node) -> list[Tensor]:
    """Every tensor that a node takes."""
    return [tensor for source in node.all_input_nodes for tensor in tensors_of(source)]


def fixed(size: object) -> int:
    """A dimension as a number; a dynamic one counts as its example."""
    if isinstance(size, torch.SymInt):
        hint = size.node.maybe_as_int()
        if hint is None:
            hint = size.node.hint if size.node.has_hint() else 1
        return int(hint)
    return int(size)  # type: ignore[call-overload,no-any-return]


def numel(tensor: Tensor) -> int:
    """Numbers in a tensor, dynamic dimensions at their example."""
    count = 1
    for size in tensor.shape:
        count *= fixed(size)
    return count


def constants_of(program: ExportedProgram) -> set[fx.Node]:
    """Nodes whose values no input decides: parameters and what is folded out of them when the graph is built."""
    inputs = {spec.arg.name for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT}
    changed = set(program.graph_signature.buffers_to_mutate.values())
    held = {
        placeholder for placeholder, buffer in program.graph_signature.inputs_to_buffers.items() if buffer in changed
    }
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    return folded(program.graph, {node for node in placeholders if node.name not in inputs and node.name not in held})


def folded(graph: fx.Graph, known: set[fx.Node]) -> set[fx.Node]:
    """What is known when a graph is built: these inputs, and what is worked out of them and of nothing else."""
    found = set(known)
    for node in graph.nodes:
        if node.op == "get_attr" or (
            node.op == "call_function"
            and not is_random(node)
            and all(source in found for source in node.all_input_nodes)
        ):
            found.add(node)
    return found


def is_random(node: fx.Node) -> bool:
    """Whether an operator draws random numbers, so that it cannot be folded."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


def parameters_of(program: ExportedProgram) -> dict[str, Tensor]:
    """Placeholders of parameters and buffers, and their values."""
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    held = {**program.state_dict, **program.constants}
    return {placeholder: held[name] for placeholder, name in names.items() if name in held}


def folded_inside(held: fx.GraphModule, given: Sequence[fx.Node], constants: set[fx.Node]) -> set[fx.Node]:
    """What is known when a graph is built that another one holds, and that takes these nodes of it."""
    inputs = [inner for inner in held.graph.nodes if inner.op == "placeholder"]
    return folded(held.graph, {inner for inner, source in zip(inputs, given, strict=False) if source in constants})


def unbacked(node: fx.Node) -> list[str]:
    """Names of the sizes that this node makes and only its data decides."""
    bindings = node.meta.get("unbacked_bindings") or {}
    return [str(symbol) for symbol in bindings] if value_of(node) is not None else []


def is_wide(node: fx.Node, constants: set[fx.Node]) -> bool:
    """Whether a node works with 64-bit integers: yields them, or takes such as are computed; a size is none."""
    taken = [source for source in node.all_input_nodes if source not in constants]
    asks = operator_of(node) == "aten.sym_size.int"
    return not asks and any(tensor.dtype == torch.int64 for one in (node, *taken) for tensor in used_of(one))
