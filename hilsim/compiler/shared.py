"""Parameters with more than one use, by kind.

One module called several times, one parameter at work several times within one call, or one tensor in two modules. A
scalar used in many places is none of these, nor is a table of constants that is not multiplied as a weight is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, fx
from torch.export import ExportedProgram

from hilsim.compiler.nodes import constants_of, line_of, module_call, operator_of, parameters_of
from hilsim.compiler.operator_costs import PRODUCTS, is_free
from hilsim.compiler.program import SAME_MODULES

LOOKUPS = ("aten.embedding.default", "aten.index_select.default", "aten.index.Tensor", "aten.gather.default")
# The same numbers laid out otherwise; a slice is no such thing, as each part of a parameter may have its own use.
LAYOUTS = tuple(
    f"aten.{name}"
    for name in (
        "permute.default", "transpose.int", "t.default", "view.default", "reshape.default", "_unsafe_view.default",
        "expand.default", "unsqueeze.default", "squeeze.default", "squeeze.dim", "squeeze.dims", "clone.default",
        "alias.default", "detach.default", "_to_copy.default",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Shared:
    """`names` of the parameters; `modules`: the one that is called again by all its names, or those of a tie.

    `calls` are those of the module, or uses within the one call `call` (from 0); `line` is that of a later use.
    """

    kind: Literal["module called again", "used again", "tied tensor"]
    names: tuple[str, ...]
    modules: tuple[str, ...]
    calls: int
    bytes: int
    line: str = ""
    call: int = 0


def shared_in(program: ExportedProgram) -> list[Shared]:
    """What is shared in a graph; the parameters of one module that is called again are one entry."""
    held = parameters_of(program)
    one = one_name(program)
    again: dict[tuple[str, int], list[tuple[str, Tensor, fx.Node]]] = {}
    tied, called_again = [], set()
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
            called_again.add(node.name)
        elif len(modules) > 1:
            second = next(user for user in users if module_call(user)[0] != module_call(users[0])[0])
            title = parameter_name(program, node.name)
            tied.append(Shared("tied tensor", (title,), tuple(modules), 1, bytes_of(tensor), line_of(second)))
    found = []
    for (path, calls), entries in again.items():
        size = sum(bytes_of(tensor) for _, tensor, _ in entries)
        names = tuple(parameter_name(program, name) for name, _, _ in entries)
        paths = (path, *sorted(name for name, first in one.items() if first == path != name))
        found.append(Shared("module called again", names, paths, calls, size, line_of(entries[0][2])))
    return [*found, *used_again(program, called_again), *tied]


def bytes_of(tensor: Tensor) -> int:
    """What a parameter takes as it is."""
    return tensor.numel() * tensor.element_size()


def used_again(program: ExportedProgram, reported: set[str]) -> Iterator[Shared]:
    """Parameters at work several times within one call of one module, those `reported` already left out.

    A table that is looked up once and multiplied once is a tie, so lookups count by themselves.
    """
    held = parameters_of(program)
    parameters = set(program.graph_signature.inputs_to_parameters)
    found: dict[tuple[str, int, int], Shared] = {}
    for (module, call), nodes, sources in repeated_uses(program):
        for name in sources:
            weight = name in parameters or all(operator_of(node) in PRODUCTS for node in nodes)
            if name in reported or not weight or name not in held or held[name].numel() <= 1:
                continue
            key = (module, call, len(nodes))
            before = found.get(key, Shared("used again", (), (module,), len(nodes), 0, line_of(nodes[1]), call))
            title = parameter_name(program, name)
            if title not in before.names:
                found[key] = replace(before, names=(*before.names, title), bytes=before.bytes + bytes_of(held[name]))
    yield from found.values()


def repeated_uses(program: ExportedProgram) -> Iterator[tuple[tuple[str, int], list[fx.Node], list[str]]]:
    """By module and call the nodes, two or more, that compute with the same constant, and the parameters it is made of.

    What is folded when the graph is built is no use: a weight that is the product of two parameters is one weight.
    """
    constants = constants_of(program)
    same: dict[object, int] = {}  # a number for every way to make a constant
    number: dict[fx.Node, int] = {}
    origins: dict[int, list[str]] = {}
    sites: dict[tuple[int, tuple[str, int], bool], list[fx.Node]] = defaultdict(list)
    for node in program.graph.nodes:
        first = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if operator_of(node) in LAYOUTS and first in number:
            number[node] = number[first]
        elif node in constants:
            plain = fx.node.map_arg((node.args, dict(node.kwargs)), lambda source: f"%{number[source]}")
            key = (node.name if node.op == "placeholder" else str(node.target), str(plain))
            number[node] = same.setdefault(key, len(same))
            inner = [name for source in node.all_input_nodes for name in origins[number[source]]]
            origins[number[node]] = [node.name] if node.op == "placeholder" else list(dict.fromkeys(inner))
        elif node.op == "call_function" and not is_free(node):
            for taken in dict.fromkeys(number[source] for source in node.all_input_nodes if source in number):
                sites[taken, module_call(node), operator_of(node) in LOOKUPS].append(node)
    for (taken, place, _), nodes in sites.items():
        if len(nodes) > 1 and origins[taken]:
            yield place, nodes, origins[taken]


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
