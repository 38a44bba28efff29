"""Parameters with more than one use, told apart: one module called several times, or one tensor in two modules.

A scalar used in many places is neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, fx
from torch.export import ExportedProgram

from hilsim.compiler.nodes import line_of, module_call, parameters_of
from hilsim.compiler.program import SAME_MODULES


@dataclass(frozen=True)
class Shared:
    """`names` of the parameters; the one module called `calls` times, by all its names, or the `modules` of a tie."""

    kind: Literal["module called again", "tied tensor"]
    names: tuple[str, ...]
    modules: tuple[str, ...]
    calls: int
    bytes: int
    line: str = ""


def shared_in(program: ExportedProgram) -> list[Shared]:
    """What is shared in a graph; the parameters of one module that is called again are one entry."""
    held = parameters_of(program)
    one = one_name(program)
    again: dict[tuple[str, int], list[tuple[str, Tensor, fx.Node]]] = {}
    tied = []
    for node in program.graph.nodes:
        tensor = held.get(node.name)
        if node.op != "placeholder" or tensor is None or tensor.numel() <= 1:
            continue
        users = users_of(node)
        uses = {module_call(user) for user in users}
        modules = sorted({one.get(module, module) for module, _ in uses})
        if len(uses) > len(modules):
            calls = max(sum(1 for module, _ in uses if one.get(module, module) == name) for name in modules)
            again.setdefault((repeated_module(users, one), calls), []).append((node.name, tensor, users[-1]))
        elif len(modules) > 1:
            size = tensor.numel() * tensor.element_size()
            tied.append(Shared("tied tensor", (parameter_name(program, node.name),), tuple(modules), 1, size))
    found = []
    for (path, calls), entries in again.items():
        size = sum(tensor.numel() * tensor.element_size() for _, tensor, _ in entries)
        names = tuple(parameter_name(program, name) for name, _, _ in entries)
        paths = (path, *sorted(name for name, first in one.items() if first == path != name))
        found.append(Shared("module called again", names, paths, calls, size, line_of(entries[0][2])))
    return [*found, *tied]


def users_of(node: fx.Node) -> list[fx.Node]:
    """The nodes that compute with a parameter; views of it are looked through."""
    found = []
    for user in node.users:
        if len(user.all_input_nodes) == 1 and user.op == "call_function" and "permute" in str(user.target):
            found += users_of(user)
        else:
            found.append(user)
    return found


def one_name(program: ExportedProgram) -> dict[str, str]:
    """Modules that go by several names, by path: the first name of each. A graph does not keep it; `exported` does."""
    names: dict[str, str] = program.graph_module.meta.get(SAME_MODULES, {})
    return names


def repeated_module(users: list[fx.Node], one: dict[str, str]) -> str:
    """The outermost module that is called again around these uses."""
    for user in users:
        stack: dict[str, tuple[str, object]] = user.meta.get("nn_module_stack") or {}
        for key, (path, _) in stack.items():
            if one.get(path, path) != path:
                return one[path]
            if "@" in key or "@" in path:
                return path.partition("@")[0] if "@" in path else path
    return module_call(users[0])[0]


def parameter_name(program: ExportedProgram, placeholder: str) -> str:
    """The parameter's own name."""
    signature = program.graph_signature
    names: dict[str, str] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return names.get(placeholder, placeholder)
