"""Types of tensors against what a toolchain has: at inputs, at outputs, inside, of constants and of casts."""

from __future__ import annotations

from collections.abc import Iterator
from math import log2

import torch
from torch import fx
from torch.export import ExportedProgram

from hilsim.compiler.findings import Finding
from hilsim.compiler.nodes import first_line, operator_of, place_of, sources_of, tensors_of
from hilsim.compiler.rewrite.formats import PASSES
from hilsim.describe.profile import NumberFormat

CAST = "aten._to_copy.default"
UNKNOWN = "no source states whether this toolchain has tensors of that type"


def type_name(dtype: torch.dtype) -> str:
    """A type as PyTorch names it: "float64"."""
    return str(dtype).removeprefix("torch.")


def types_of(node: fx.Node) -> list[str]:
    """The types of the tensors that a node yields, each once; int64 is not asked for here."""
    found = dict.fromkeys(type_name(tensor.dtype) for tensor in tensors_of(node))
    return [name for name in found if name != "int64"]


def passes_for(name: str) -> tuple[str, ...]:
    """The passes over whole programs that take tensors of a type out of the graph."""
    return tuple(entry.name for entry in PASSES if name in entry.types)


def fault_of(
    node: fx.Node, constants: set[fx.Node], formats: dict[str, NumberFormat]
) -> tuple[NumberFormat, str] | None:
    """The entry that a node breaks by what it takes or yields, and what it does; None where there is none."""
    for name in types_of(node):
        entry = formats.get(name)
        if entry is not None and (why := fault_of_result(node, name, entry)):
            return entry, why
    for source in sources_of(node):
        for name in types_of(source):
            entry = formats.get(name)
            if entry is not None and (why := fault_of_operand(node, source, name, entry, constants)):
                return entry, why
    return None


def fault_of_result(node: fx.Node, name: str, entry: NumberFormat) -> str:
    """What is wrong with yielding a type, or ""."""
    if entry.standing == "unsupported":
        return f"yields {name}"
    if entry.standing != "inputs and outputs":
        return ""
    if not all(user.op == "output" for user in node.users):
        return f"yields {name} inside the graph"
    strange = [kind for source in sources_of(node) for kind in types_of(source) if kind not in entry.converts]
    return "" if operator_of(node) == CAST and not strange else f"yields {name} other than by a cast"


def fault_of_operand(node: fx.Node, source: fx.Node, name: str, entry: NumberFormat, constants: set[fx.Node]) -> str:
    """What is wrong with taking a type, or ""."""
    if entry.standing == "unsupported":
        return f"takes {name}"
    if entry.standing != "inputs and outputs":
        return ""
    if source.op != "placeholder" or source in constants:
        return f"takes {name} inside the graph"
    wrong = operator_of(node) != CAST or any(kind not in entry.converts for kind in types_of(node))
    return f"takes {name} other than by a cast to {' or '.join(entry.converts)}" if wrong else ""


def changed(
    program_nodes: list[fx.Node], constants: set[fx.Node], formats: dict[str, NumberFormat]
) -> Iterator[tuple[NumberFormat | None, str, list[fx.Node]]]:
    """By type that the converter changes, wants quantised, or of which nothing is known, the nodes that have it."""
    found: dict[str, list[fx.Node]] = {}
    for node in program_nodes:
        counts = node in constants and any(user not in constants and user.op != "output" for user in node.users)
        if node.op in ("placeholder", "call_function") and (counts or node not in constants):
            for name in types_of(node):
                found.setdefault(name, []).append(node)
    for name, nodes in found.items():
        entry = formats.get(name)
        if entry is None or entry.standing in ("becomes", "quantised only"):
            yield entry, name, nodes


def loss(name: str, becomes: str) -> str:
    """What a float loses by becoming another one."""
    wide, narrow = (torch.finfo(getattr(torch, kind)) for kind in (name, becomes))
    bits = [round(1 - log2(kind.eps)) for kind in (wide, narrow)]
    return f"{bits[1]} bits of precision instead of {bits[0]}, and nothing beyond {narrow.max:.2g}"


def about_formats(
    program: ExportedProgram, constants: set[fx.Node], formats: dict[str, NumberFormat], profile: str, graph: str
) -> Iterator[Finding]:
    """One finding a type that the converter changes, wants quantised, or of which nothing is known."""
    for entry, name, nodes in changed(list(program.graph.nodes), constants, formats):
        place, remedy = place_of(nodes[0]), "compute in float32, or in a type that the toolchain has"
        what = f"{len(nodes)} tensor{'s' if len(nodes) > 1 else ''} of {name}, from {nodes[0].name} on: "
        if entry is None:
            what += UNKNOWN
        else:
            what += entry.why + (f"; {loss(name, entry.becomes)}" if entry.becomes is not None else "")
        yield Finding(
            graph, "number-format", "warning", profile, what,
            "chips/operators/formats.yaml" if entry is None else entry.source,
            "assumed" if entry is None else entry.evidence,
            remedy if entry is None else entry.remedy or remedy,
            passes_for(name), place.node, place.operator, place.module, place.call,
            place.line or first_line(nodes[0]),
        )  # fmt: skip
