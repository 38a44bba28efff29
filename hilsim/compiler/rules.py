"""The rule book of one profile: every node of a graph against the operator table, conditions, rulings and switches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from hilsim.compiler.conditions import broken, kind_of
from hilsim.compiler.findings import Finding, module_text
from hilsim.compiler.nodes import (
    constants_of,
    first_line,
    fixed,
    folded_inside,
    is_wide,
    operands,
    operator_of,
    place_of,
    sources_of,
    tensors_of,
    unbacked,
    used_of,
)
from hilsim.compiler.number_formats import about_formats, passes_for, types_of
from hilsim.compiler.number_formats import fault_of as format_fault
from hilsim.compiler.rewrite.axes import MERGED, VIEWS, fits_many
from hilsim.compiler.rewrite.constants import REWRITES as CLAMPS
from hilsim.compiler.rewrite.masks import REMEDIES
from hilsim.compiler.rewrite.registry import rewrites_for
from hilsim.compiler.shared import Shared, shared_in
from hilsim.compiler.values import beyond_formats, held_in, known_values
from hilsim.describe.chip import Activations
from hilsim.describe.profile import (
    STANDINGS,
    Condition,
    Evidence,
    NumberKind,
    Profile,
    Severity,
    Spelling,
    Standing,
    formats_of,
    operators,
    spellings,
    standing_of,
)

TO_HOST = ("aten._local_scalar_dense.default", "aten.item.default")  # a number as Python has it
NO_INTEGERS = "the unit has no integers"
DLA = "NVIDIA/Deep-Learning-Accelerator-SW: FP16 and INT8 only"


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
        self.formats = formats_of(profile)
        self.known: dict[fx.Node, Tensor] = {}
        self.rulings = {name: ruling for ruling in profile.rulings for name in ruling.operators}

    def findings(self, program: ExportedProgram, graph: str) -> list[Finding]:
        """Every finding of one graph, nodes in their order, then what is about the whole."""
        constants = constants_of(program)
        self.known = known_values(program.graph.nodes, constants, held_in(program))
        found: list[Finding] = []
        for node in program.graph.nodes:
            if node.op == "call_function" and node not in constants:
                found += self.about(node, constants, graph)
                found += self.inside(node, program.graph_module, constants, graph)
        return [
            *found,
            *self.about_shapes(program, graph),
            *self.about_integers(program, constants, graph),
            *about_formats(program, constants, self.formats, self.profile.name, graph),
            *self.about_state(program, graph),
            *self.about_sharing(program, graph),
        ]

    def judgement(self, operator: str, kinds: frozenset[NumberKind] | None = None) -> Judgement:
        """The operator's standing for operands of some kinds: a ruling, its row, how it is read, or unknown.

        How an operator of these very kinds is read comes before its row, which is about all of them.
        """
        if ruling := self.rulings.get(operator):
            return Judgement(ruling.standing, ruling.evidence, ruling.why, ruling.source, ruling.remedy)
        row = operators().get(operator)
        spelling = self.reading(operator, kinds)
        cell = "" if row is None else row.cells[self.profile.column]
        if row is not None and cell and not (spelling is not None and spelling.dtypes):
            standing = standing_of(cell, self.profile.release)
            of = f"{row.onnx} ({operator})" if row.onnx else operator
            why = f"{of} is {cell!r} in column {self.profile.column}"
            if row.limits and standing != "supported":
                why += f"; {row.limits}"
            return Judgement(standing, "documented", why, row.source, row.workaround)
        if spelling is not None and not spelling.reads:
            return Judgement("supported", "assumed", spelling.why, "spellings.yaml")
        if spelling is not None and operator not in spelling.reads:
            parts = [self.judgement(name, kinds) for name in spelling.reads]
            worst = max(parts, key=lambda part: STANDINGS.index(part.standing))
            why = f"{operator} is read as {' and '.join(spelling.reads)} ({spelling.why}); {worst.why}"
            return Judgement(worst.standing, worst.evidence, why, worst.source, worst.remedy)
        if row is not None:
            why = f"{row.onnx or operator} has a blank in column {self.profile.column}: no source states it"
            return Judgement("unknown", "documented", why, row.source, row.workaround)
        return Judgement(
            "unknown",
            "assumed",
            f"{operator} is not in the operator table for {self.profile.column}",
            "chips/operators/table.csv",
            "Add a row to the table once it is known, or rewrite it with operators that are there.",
        )

    def reading(self, operator: str, kinds: frozenset[NumberKind] | None = None) -> Spelling | None:
        """How an operator is read in this toolchain."""
        spelling = spellings().get(operator)
        return spelling if spelling is not None and spelling.holds(self.profile.column, kinds) else None

    def about(self, node: fx.Node, constants: set[fx.Node], graph: str) -> Iterator[Finding]:
        """Findings about one node."""
        operator = operator_of(node)
        if (spelling := spellings().get(operator)) and not spelling.reads:
            return  # no operation: whatever there is to say was said of the numbers that it names
        yield from self.about_operator(node, operator, constants, graph)
        if broken_format := format_fault(node, constants, self.formats):
            entry, what = broken_format
            grounds = Judgement(
                "unsupported", entry.evidence, f"{operator} {what}: {entry.why}", entry.source, entry.remedy
            )
            kinds = dict.fromkeys(kind for one in (node, *node.all_input_nodes) for kind in types_of(one))
            ways = tuple(dict.fromkeys(way for kind in kinds if kind in entry.types for way in passes_for(kind)))
            yield self.finding(node, graph, "number-format", "error", grounds, ways)
        yield from self.about_values(node, operator, constants, graph)
        if self.profile.integers == "refused" and is_wide(node, constants):
            away = "" if self.profile.elsewhere == "nowhere" else f", or leave it to the {self.profile.elsewhere}"
            remedy = f"work out the integers before, on the host{away}"
            grounds = Judgement("unsupported", "documented", f"{operator} works with int64; {NO_INTEGERS}", DLA, remedy)
            yield self.finding(node, graph, "int64", "error", grounds, ())

    def about_values(self, node: fx.Node, operator: str, constants: set[fx.Node], graph: str) -> Iterator[Finding]:
        """The finding about a number that is known when the graph is built and that a format does not hold.

        What it becomes there makes the answer wrong, so it is refused unless a rewrite proves that it does not.
        """
        single = (wide := self.formats.get("float64")) is not None and wide.becomes == "float32"
        narrow = self.profile.integers == "become int32"
        why, matters = beyond_formats(node, constants, self.known, narrow, self.activations, single)
        if why:
            remedy = "a number within the format: -3e4 hides a score in fp16, and an index is smaller than 2^31"
            source = "IEEE 754 and the range of int32; TensorRT: outside the range of INT32 was clamped"
            grounds = Judgement("partial", "documented", f"{operator} with {why}", source, remedy)
            ways = tuple(rewrite.name for rewrite in CLAMPS if operator in rewrite.operators and not rewrite.fits(node))
            yield self.finding(node, graph, "constant-range", "error" if matters else "warning", grounds, ways)

    def about_operator(self, node: fx.Node, operator: str, constants: set[fx.Node], graph: str) -> Iterator[Finding]:
        """Findings about one node from its operator and the conditions on it."""
        kinds = frozenset(map(kind_of, operands(node)))
        judgement = self.judgement(operator, kinds)
        rewrites = rewrites_of(node)
        conditions = list(self.conditions_of(operator, kinds))
        if judgement.standing == "unsupported":
            yield self.finding(node, graph, "operator-missing", "error", judgement, rewrites)
            return
        if judgement.standing == "unknown" and not format_fault(node, constants, self.formats):
            asked = replace(judgement, remedy=f"{self.question(node, operator)}. {judgement.remedy}".removesuffix(". "))
            yield self.finding(node, graph, "operator-unknown", "warning", asked, rewrites)
        elif judgement.standing == "partial" and not any("*" not in rule.operators for rule in conditions):
            yield self.finding(node, graph, "operator-partial", "warning", judgement, rewrites)
        for rule in conditions:
            if done := broken(rule, node, constants, self.activations):
                why = f"{done}: {rule.why}" if done != rule.why else rule.why
                stated = Judgement("partial", "documented", why, rule.source, rule.remedy or judgement.remedy)
                assumed = rule.source.startswith("assumed")
                stated = stated if not assumed else Judgement("partial", "assumed", why, rule.source, rule.remedy)
                yield self.finding(node, graph, rule.rule, rule.severity, stated, rewrites)
        if sizes := unbacked(node):
            yield self.about_data(node, graph, sizes, judgement, rewrites)

    def question(self, node: fx.Node, operator: str) -> str:
        """What to ask the vendor of an operator that no source speaks of."""
        row = operators().get(operator)
        name = operator if row is None or not row.onnx else f"{row.onnx} ({operator})"
        shapes = " and ".join(dict.fromkeys("x".join(map(str, tensor.shape)) or "1" for tensor in operands(node)[:2]))
        return (
            f"Ask the vendor: does {self.profile.title} run {name} of {shapes} in {self.activations}, and if not, where"
        )

    def about_data(
        self, node: fx.Node, graph: str, made: list[str], judgement: Judgement, rewrites: tuple[str, ...]
    ) -> Finding:
        """The finding about a node that makes sizes, or plain numbers, which only its data decide."""
        taken, operator, names = self.profile.dynamic_shapes.value, operator_of(node), ", ".join(made)
        source = judgement.source if taken else self.profile.dynamic_shapes.source
        if operator in TO_HOST:
            rule, source = "value-to-host", "PyTorch: .item() makes a Python number of a tensor"
            why = f"the value leaves the graph for the host ({names}), and what the host makes of it comes back"
            remedy = "keep it in the graph as a tensor of one number, without .item(), or end the graph here"
        else:
            rule, why = "data-dependent-size", f"the size of {operator}'s result depends on the data ({names})"
            why += "; what it costs is counted for a size of 1" if taken else ""
            remedy = REMEDIES.get(operator, "give it a fixed size with a mask and a count, or leave it to the host")
        standing: Standing = "partial" if taken else "unsupported"
        grounds = Judgement(standing, "documented", why, source, remedy)
        return self.finding(node, graph, rule, "warning" if taken else "error", grounds, rewrites)

    def inside(self, node: fx.Node, module: torch.nn.Module, constants: set[fx.Node], graph: str) -> Iterator[Finding]:
        """Findings about the graphs that a branch or a loop holds, reported at its own node: it moves as a whole."""
        place = place_of(node)
        for source in node.all_input_nodes:
            held = getattr(module, str(source.target), None) if source.op == "get_attr" else None
            if not isinstance(held, fx.GraphModule):
                continue
            count = sum(inner.op == "placeholder" for inner in held.graph.nodes)
            # A loop's numbers change, those of a branch do not.
            given = sources_of(node)[-count:] if count and operator_of(node) == "cond" else []
            known = folded_inside(held, given, constants)
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

    def conditions_of(self, operator: str, kinds: frozenset[NumberKind] | None = None) -> Iterator[Condition]:
        """The profile's conditions on an operator, also under the names it is read as."""
        names = {operator, "*"}
        row, spelling = operators().get(operator), self.reading(operator, kinds)
        if spelling is not None and (row is None or not row.cells[self.profile.column] or spelling.dtypes):
            names |= set(spelling.reads)
        for condition in self.profile.conditions:
            if names & set(condition.operators):
                yield condition

    def about_shapes(self, program: ExportedProgram, graph: str) -> Iterator[Finding]:
        """One finding a dynamic dimension of the inputs, where the compiler wants fixed shapes."""
        if self.profile.dynamic_shapes.value:
            return
        varying: dict[str, list[tuple[fx.Node, int, object]]] = {}
        for node in program.graph.nodes:
            for tensor in tensors_of(node) if node.op == "placeholder" else ():
                for axis, size in enumerate(tensor.shape):
                    if isinstance(size, torch.SymInt):
                        varying.setdefault(str(size), []).append((node, axis, size))
        switch = self.profile.dynamic_shapes
        for symbol, ((node, axis, length), *others) in varying.items():
            further = f", with {len(others)} further ax{'es' if len(others) > 1 else 'is'} of inputs" if others else ""
            yield Finding(
                graph, "dynamic-shape", "error", self.profile.name,
                f"axis {axis} of input {node.name} varies ({symbol}, {fixed(length)} in the example){further}",
                switch.source, switch.evidence, "export one graph for each of a few fixed lengths, pad up to the next",
                ("fixed_widths",), node.name, "placeholder", line=first_line(node),
            )  # fmt: skip

    def about_integers(self, program: ExportedProgram, constants: set[fx.Node], graph: str) -> Iterator[Finding]:
        """One note a graph for its 64-bit integers; refused ones are reported node by node, here only inputs."""
        if self.profile.integers == "native":
            return
        refused = self.profile.integers == "refused"
        wide = [
            node
            for node in program.graph.nodes
            if node.op in (("placeholder",) if refused else ("placeholder", "call_function"))
            and node not in constants
            and any(tensor.dtype == torch.int64 for tensor in used_of(node))
        ]
        if not wide:
            return
        place = place_of(wide[0])
        kind = ("input" if refused else "tensor") + ("s" if len(wide) > 1 else "")
        what = f"{len(wide)} {kind} of int64, from {wide[0].name} on; "
        yield Finding(
            graph, "int64", "note", self.profile.name,
            what + (NO_INTEGERS if refused else "the converter makes them int32"),
            DLA if refused else "pytorch/executorch _passes/i64_to_i32.py", "documented",
            "ship embeddings instead of ids" if refused else "keep values below 2^31; cast once at the inputs",
            () if refused else ("int64_to_int32",),
            place.node, place.operator, place.module, place.call, place.line or first_line(wide[0]),
        )  # fmt: skip

    def about_state(self, program: ExportedProgram, graph: str) -> Iterator[Finding]:
        """One finding a buffer or input that the graph writes to."""
        signature = program.graph_signature
        for held in sorted({*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()}):
            yield Finding(
                graph, "state-inside", "warning", self.profile.name,
                f"{held} is written to within the graph, and no source states that this compiler supports state",
                "pytorch/executorch static_llama.py gives new keys and values out, the runtime writes them back",
                "assumed", "take it as an input and return what is new",
            )  # fmt: skip

    def about_sharing(self, program: ExportedProgram, graph: str) -> Iterator[Finding]:
        """Parameters with several uses: a module called twice, a parameter used twice, a tensor in two modules."""
        for shared in shared_in(program):
            if shared.kind == "tied tensor":
                yield Finding(
                    graph, "tied-tensor", "note", self.profile.name,
                    f"{shared.names[0]} is used by {' and '.join(map(module_text, shared.modules))}: one tensor in two "
                    "modules, no siamese network",
                    "torch.export graph signature", "documented",
                    "each use may hold its own copy once quantised", module=shared.modules[0], line=shared.line,
                )  # fmt: skip
            else:
                yield self.about_calls(shared, graph)

    def about_calls(self, shared: Shared, graph: str) -> Finding:
        """The finding about what a siamese network does: the same parameters at work several times."""
        switch = self.profile.shared_calls
        ways: tuple[str, ...] = ()
        if shared.kind == "module called again":
            again = f"module {shared.modules[0]} is called {shared.calls} times"
            again += f" with the same {len(shared.names)} parameters"
            remedy = "two encoders, one call with a batch of two, or two graphs"
            if not switch.value:
                ways = ("two_encoders", "one_call", *(("two_graphs",) if self.profile.shared_context.value else ()))
            call = shared.calls - 1
        else:
            again = (
                f"{listed(shared.names)} used {shared.calls} times within one call of {module_text(shared.modules[0])}"
            )
            again += ": a siamese network without a module; no source states whether it is refused"
            remedy = "a copy of the parameter for each use, or one use with the inputs stacked"
            call = shared.call
        return Finding(
            graph, "shared-calls", "note" if switch.value else "error" if ways else "warning", self.profile.name,
            again + (f" ({switch.evidence}: siamese networks are refused)" if ways else ""), switch.source,
            switch.evidence, "" if switch.value else remedy, ways,
            module=shared.modules[0], call=call, line=shared.line,
        )  # fmt: skip

    def finding(
        self, node: fx.Node, graph: str, rule: str, severity: Severity, grounds: Judgement, rewrites: tuple[str, ...]
    ) -> Finding:
        """A finding about a node, with its place."""
        place = place_of(node)
        remedy = grounds.remedy or REMEDIES.get(place.operator, "")
        if not remedy and not rewrites and severity != "note":
            away = self.profile.elsewhere
            remedy = "express it with other operators" + (f", or leave it to the {away}" if away != "nowhere" else "")
        return Finding(
            graph, rule, severity, self.profile.name, grounds.why, grounds.source, grounds.evidence, remedy, rewrites,
            place.node, place.operator, place.module, place.call, place.line,
        )  # fmt: skip


def rewrites_of(node: fx.Node) -> tuple[str, ...]:
    """Names of the rewrites that fit a node; a reshape to many dimensions goes away with what stands around it."""
    fitting = tuple(rewrite.name for rewrite in rewrites_for(operator_of(node)) if not rewrite.fits(node))
    return (MERGED,) if operator_of(node) in VIEWS and not fits_many(node) else fitting


def listed(names: tuple[str, ...]) -> str:
    """Parameters with their verb, the first few by name."""
    several = names if len(names) <= 4 else (*names[:3], f"{len(names) - 3} more")
    return f"{names[0]} is" if len(names) == 1 else f"{', '.join(several[:-1])} and {several[-1]} are"
