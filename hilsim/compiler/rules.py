"""The rule book of one profile: every node of a graph against the operator table, conditions, rulings and switches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import fx
from torch.export import ExportedProgram

from hilsim.compiler.findings import Finding
from hilsim.compiler.nodes import (
    constants_of,
    fixed,
    is_random,
    operands,
    operator_of,
    place_of,
    sources_of,
    tensors_of,
    value_of,
)
from hilsim.compiler.rewrite.masks import REMEDIES
from hilsim.compiler.rewrite.registry import rewrites_for
from hilsim.compiler.shared import shared_in
from hilsim.describe.chip import Activations
from hilsim.describe.profile import (
    STANDINGS,
    Condition,
    Evidence,
    Profile,
    Standing,
    operators,
    spellings,
    standing_of,
)


@dataclass(frozen=True)
class Judgement:
    """What is known of an operator under a profile, before its shapes and arguments are looked at."""

    standing: Standing
    evidence: Evidence
    why: str
    source: str
    remedy: str = ""


class RuleBook:
    """One profile at one number format of activations."""

    def __init__(self, profile: Profile, activations: Activations):
        self.profile, self.activations = profile, activations
        self.rulings = {name: ruling for ruling in profile.rulings for name in ruling.operators}

    def findings(self, program: ExportedProgram, graph: str) -> list[Finding]:
        """Every finding of one graph, nodes in their order, then what is about the whole."""
        constants = constants_of(program)
        found: list[Finding] = []
        for node in program.graph.nodes:
            if node.op == "call_function" and node not in constants:
                found += self.about(node, constants, graph)
                found += self.inside(node, program.graph_module, constants, graph)
        return [*found, *self.about_shapes(program, graph), *self.about_integers(program, constants, graph),
                *self.about_sharing(program, graph)]  # fmt: skip

    def judgement(self, operator: str) -> Judgement:
        """The operator's standing: a ruling, else its row, else how it is spelled, else unknown."""
        if ruling := self.rulings.get(operator):
            return Judgement(ruling.standing, ruling.evidence, ruling.why, ruling.source, ruling.remedy)
        row = operators().get(operator)
        spelling = spellings().get(operator)
        cell = "" if row is None else row.cells[self.profile.column]
        if row is not None and cell:
            standing = standing_of(cell, self.profile.release)
            of = f"{row.onnx} ({operator})" if row.onnx else operator
            why = f"{of} is {cell!r} in column {self.profile.column}"
            if row.limits and standing != "supported":
                why += f"; {row.limits}"
            return Judgement(standing, "documented", why, row.source, row.workaround)
        if spelling is not None and not spelling.reads:
            return Judgement("supported", "assumed", spelling.why, "spellings.yaml")
        if spelling is not None and operator not in spelling.reads:
            parts = [self.judgement(name) for name in spelling.reads]
            worst = max(parts, key=lambda part: STANDINGS.index(part.standing))
            why = f"{operator} is read as {' and '.join(spelling.reads)} ({spelling.why}); {worst.why}"
            return Judgement(worst.standing, worst.evidence, why, worst.source, worst.remedy)
        if row is not None:
            why = f"{row.onnx or operator} has a blank in column {self.profile.column}: nobody said"
            return Judgement("unknown", "documented", why, row.source, row.workaround)
        return Judgement(
            "unknown",
            "assumed",
            f"{operator} is not in the operator table",
            "chips/operators/table.csv",
            "Add a row to the table once it is known, or rewrite it with operators that are there.",
        )

    def about(self, node: fx.Node, constants: set[fx.Node], graph: str) -> Iterator[Finding]:
        """Findings about one node."""
        operator = operator_of(node)
        if (spelling := spellings().get(operator)) and not spelling.reads:
            return  # no operation: whatever there is to say was said of the numbers that it names
        judgement = self.judgement(operator)
        mending = mending_of(node)
        conditions = list(self.conditions_of(operator))
        if judgement.standing == "unsupported":
            yield self.finding(node, graph, "operator-missing", "error", judgement, mending)
            return
        if judgement.standing == "unknown":
            yield self.finding(node, graph, "operator-unknown", "warning", judgement, mending)
        elif judgement.standing == "partial" and not any("*" not in rule.operators for rule in conditions):
            yield self.finding(node, graph, "operator-partial", "warning", judgement, mending)
        for rule in conditions:
            if broken := self.broken(rule, node, constants):
                why = f"{broken}: {rule.why}" if broken != rule.why else rule.why
                stated = Judgement("partial", "documented", why, rule.source, rule.remedy or judgement.remedy)
                assumed = rule.source.startswith("assumed")
                stated = stated if not assumed else Judgement("partial", "assumed", why, rule.source, rule.remedy)
                yield self.finding(node, graph, rule.rule, rule.severity, stated, mending)
        if sizes := unbacked(node):
            taken = self.profile.dynamic_shapes.value
            why = f"the size of {operator}'s result depends on the data ({', '.join(sizes)})"
            said = Judgement(
                "partial" if taken else "unsupported",
                "documented",
                why + ("; what it costs is counted for a size of 1" if taken else ""),
                judgement.source if taken else self.profile.dynamic_shapes.source,
                REMEDIES.get(operator, "give it a fixed size with a mask and a count, or leave it to the host"),
            )
            yield self.finding(node, graph, "data-dependent-size", "warning" if taken else "error", said, mending)

    def inside(self, node: fx.Node, module: torch.nn.Module, constants: set[fx.Node], graph: str) -> Iterator[Finding]:
        """Findings about the graphs that a branch or a loop holds, told of its own node: it moves as a whole."""
        place = place_of(node)
        for source in node.all_input_nodes:
            held = getattr(module, str(source.target), None) if source.op == "get_attr" else None
            if not isinstance(held, fx.GraphModule):
                continue
            known = folded_inside(node, held, constants)
            for inner in held.graph.nodes:
                if inner.op == "call_function" and inner not in known:
                    for found in (*self.about(inner, known, graph), *self.inside(inner, held, known, graph)):
                        yield replace(
                            found,
                            node=node.name,
                            module=found.module or place.module,
                            line=found.line or place.line,
                            rewrites=(),
                        )

    def conditions_of(self, operator: str) -> Iterator[Condition]:
        """The profile's conditions on an operator, also under the names it is read as."""
        names = {operator, "*"}
        row = operators().get(operator)
        if (row is None or not row.cells[self.profile.column]) and (spelling := spellings().get(operator)):
            names |= set(spelling.reads)
        for condition in self.profile.conditions:
            if names & set(condition.operators):
                yield condition

    def broken(self, rule: Condition, node: fx.Node, constants: set[fx.Node]) -> str:
        """What a node does that a condition does not allow, or "" where it holds."""
        sources = sources_of(node)
        shapes = [tuple(fixed(size) for size in tensor.shape) for tensor in (*operands(node), *tensors_of(node))]
        if rule.except_constant is not None and is_constant(sources, rule.except_constant, constants):
            return ""
        if rule.never:
            return rule.why
        if rule.activations is not None and self.activations not in rule.activations and is_float(node):
            return f"activations are {self.activations}"
        if rule.constant is not None and not is_constant(sources, rule.constant, constants):
            return f"operand {rule.constant + 1} is computed"
        if rule.rank is not None and (rank := max((len(shape) for shape in shapes), default=0)) > rule.rank:
            return f"{rank} dimensions"
        if rule.size is not None:
            large = [size for shape in shapes for size in shape if size > rule.size]
            if large:
                return f"a dimension of {max(large)}"
        if rule.batch is not None:  # of activations: the first dimension of a weight is no batch
            computed = [source for source in (*sources, node) if source not in constants]
            firsts = [fixed(tensor.shape[0]) for source in computed for tensor in tensors_of(source) if tensor.dim()]
            if firsts and max(firsts) > rule.batch:
                return f"a batch of {max(firsts)}"
        return self.broken_arguments(rule, node)

    def broken_arguments(self, rule: Condition, node: fx.Node) -> str:
        """The same for what hangs on the operator's arguments: axis, k, order."""
        given = arguments(node)
        shape = tuple(fixed(size) for size in operands(node)[0].shape) if operands(node) else ()
        axis = given.get("dim", -1)
        axis = axis[0] if isinstance(axis, (list, tuple)) and axis else axis
        if isinstance(axis, int) and shape:
            place = axis % len(shape)
            if rule.axis == "last" and place != len(shape) - 1:
                return f"axis {axis} of {len(shape)}"
            if rule.axis == "last four" and place < len(shape) - 4:
                return f"axis {axis} of {len(shape)}"
            if rule.axis_size is not None:
                alone = all(size == 1 for dim, size in enumerate(shape) if dim != place)
                most = rule.axis_size_alone if alone and rule.axis_size_alone is not None else rule.axis_size
                if shape[place] > most:
                    return f"{shape[place]} numbers along the axis"
        k = given.get("k")
        if rule.k is not None and isinstance(k, int) and k > rule.k:
            return f"k = {k}"
        if rule.largest and given.get("largest") is False:
            return "the smallest"
        if rule.sorted and given.get("sorted") is False:
            return "unsorted"
        return ""

    def about_shapes(self, program: ExportedProgram, graph: str) -> Iterator[Finding]:
        """One finding a dynamic dimension of the inputs, where the compiler wants fixed shapes."""
        if self.profile.dynamic_shapes.value:
            return
        seen: set[str] = set()
        for node in program.graph.nodes:
            if node.op != "placeholder":
                continue
            for tensor in tensors_of(node):
                for size in tensor.shape:
                    if isinstance(size, torch.SymInt) and str(size) not in seen:
                        seen.add(str(size))
                        yield Finding(
                            graph,
                            "dynamic-shape",
                            "error",
                            self.profile.name,
                            f"input {node.name} has a dimension that varies ({size})",
                            self.profile.dynamic_shapes.source,
                            self.profile.dynamic_shapes.evidence,
                            "export one graph for each of a few fixed lengths, pad up to the next",
                            ("fixed_widths",),
                            node.name,
                            "placeholder",
                        )

    def about_integers(self, program: ExportedProgram, constants: set[fx.Node], graph: str) -> Iterator[Finding]:
        """One finding a graph for its 64-bit integers."""
        if self.profile.integers == "native":
            return
        wide = [
            node
            for node in program.graph.nodes
            if node.op in ("placeholder", "call_function")
            and node not in constants
            and any(tensor.dtype == torch.int64 for tensor in tensors_of(node))
        ]
        if not wide:
            return
        refused = self.profile.integers == "refused"
        place = place_of(wide[0])
        yield Finding(
            graph,
            "int64",
            "error" if refused else "note",
            self.profile.name,
            f"{len(wide)} tensors of int64, from {wide[0].name} on; "
            + ("the unit has no integers" if refused else "the converter makes them int32"),
            "pytorch/executorch _passes/i64_to_i32.py"
            if not refused
            else "NVIDIA/Deep-Learning-Accelerator-SW: FP16 and INT8 only",
            "documented",
            "keep values below 2^31; cast once at the inputs" if not refused else "ship embeddings instead of ids",
            ("int64_to_int32",) if not refused else (),
            place.node,
            place.operator,
            place.module,
            place.call,
            place.line,
        )

    def about_sharing(self, program: ExportedProgram, graph: str) -> Iterator[Finding]:
        """Parameters with several uses: one module called twice, one tensor in two modules."""
        switch = self.profile.shared_calls
        ways = ("two_encoders", "one_call", *(("two_graphs",) if self.profile.shared_context.value else ()))
        for shared in shared_in(program):
            again = f"is called {shared.calls} times with the same {len(shared.names)} parameters"
            if shared.kind == "tied tensor":
                where = " and ".join(shared.modules)
                yield Finding(
                    graph, "tied-tensor", "note", self.profile.name,
                    f"{shared.names[0]} is used by {where}: one tensor in two modules, no siamese network",
                    "torch.export graph signature", "documented",
                    "each use may hold its own copy once quantised", (), "", "", shared.modules[0],
                )  # fmt: skip
                continue
            yield Finding(
                graph,
                "shared-calls",
                "note" if switch.value else "error",
                self.profile.name,
                f"module {shared.modules[0]} {again}"
                + ("" if switch.value else f" ({switch.evidence}: siamese networks are refused)"),
                switch.source,
                switch.evidence,
                "" if switch.value else "two encoders, one call with a batch of two, or two graphs",
                () if switch.value else ways,
                "",
                "",
                shared.modules[0],
                shared.calls - 1,
                shared.line,
            )  # fmt: skip

    def finding(
        self, node: fx.Node, graph: str, rule: str, severity: str, said: Judgement, mending: tuple[str, ...]
    ) -> Finding:
        """A finding about a node, with its place."""
        place = place_of(node)
        remedy = said.remedy or REMEDIES.get(place.operator, "")
        if not remedy and not mending and severity != "note":
            away = self.profile.elsewhere
            remedy = "say it with other operators" + (f", or leave it to the {away}" if away != "nowhere" else "")
        return Finding(
            graph,
            rule,
            severity,  # type: ignore[arg-type]
            self.profile.name,
            said.why,
            said.source,
            said.evidence,
            remedy,
            mending,
            place.node,
            place.operator,
            place.module,
            place.call,
            place.line,
        )


def folded_inside(node: fx.Node, held: fx.GraphModule, constants: set[fx.Node]) -> set[fx.Node]:
    """What is known when the graph is built, in a graph that a branch (or a loop, whose numbers change) holds."""
    inputs = [inner for inner in held.graph.nodes if inner.op == "placeholder"]
    given = sources_of(node)[len(sources_of(node)) - len(inputs) :] if operator_of(node) == "cond" else []
    found = {inner for inner, source in zip(inputs, given, strict=False) if source in constants}
    for inner in held.graph.nodes:
        if inner.op == "get_attr" or (
            inner.op == "call_function" and not is_random(inner) and all(at in found for at in inner.all_input_nodes)
        ):
            found.add(inner)
    return found


def mending_of(node: fx.Node) -> tuple[str, ...]:
    """Names of the rewrites that fit a node."""
    return tuple(rewrite.name for rewrite in rewrites_for(operator_of(node)) if not rewrite.fits(node))


def is_constant(sources: list[fx.Node], index: int, constants: set[fx.Node]) -> bool:
    """Whether one of a node's operands is known when the graph is built."""
    return index < len(sources) and sources[index] in constants


def is_float(node: fx.Node) -> bool:
    """Whether a node computes with numbers that a precision quantises, or with truth values made of these."""
    tensors = (*operands(node), *tensors_of(node))
    return any(tensor.dtype.is_floating_point or tensor.dtype == torch.bool for tensor in tensors)


def arguments(node: fx.Node) -> dict[str, object]:
    """A node's arguments by name, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return dict(node.kwargs)
    given: dict[str, object] = {}
    for index, argument in enumerate(schema.arguments):
        if index < len(node.args):
            given[argument.name] = node.args[index]
        elif argument.name in node.kwargs:
            given[argument.name] = node.kwargs[argument.name]
        elif argument.has_default_value():
            given[argument.name] = argument.default_value
    return given


def unbacked(node: fx.Node) -> list[str]:
    """Names of the sizes that this node makes and only its data decides."""
    bindings = node.meta.get("unbacked_bindings") or {}
    return [str(symbol) for symbol in bindings] if value_of(node) is not None else []
