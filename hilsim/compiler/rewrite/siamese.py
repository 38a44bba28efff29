"""A module that one graph calls several times, where a compiler wants every parameter at one place.

Three ways out: copies of the parameters, one call with a larger batch, or one graph per call.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.export import ExportedProgram
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)
from torch.utils import _pytree as pytree

from hilsim.compiler.program import SAME_MODULES, Subject, exported, same_modules
from hilsim.compiler.rewrite.apply import tidy
from hilsim.compiler.rewrite.proof import cloned, prove_programs
from hilsim.errors import InputError

HELD = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)


def calls(program: ExportedProgram, path: str | Sequence[str]) -> list[list[fx.Node]]:
    """The nodes of each call of a module, in the order of the calls.

    torch marks the keys of the second call's `nn_module_stack` with "@1" and so on. A module that has several names
    is found by all of them.
    """
    names = [path] if isinstance(path, str) else list(path)
    found: dict[str, list[fx.Node]] = {}
    for node in program.graph.nodes:
        for key, (name, _) in node.meta.get("nn_module_stack", {}).items():
            if re.sub(r"@\d+", "", name) in names:
                found.setdefault(key, []).append(node)
                break
    return list(found.values())


def two_encoders(program: ExportedProgram, path: str | Sequence[str]) -> list[str]:
    """Give every call but the first its own copies of the parameters and buffers; the copies' names in the state.

    In place, bit for bit the same outputs; the copies count as memory of their own. Raises ValueError where there is
    one call only, or the program writes a buffer of the module back (its copies would drift apart).
    """
    groups = several(program, path)
    signature = program.graph_signature
    specs = {spec.arg.name: spec for spec in signature.input_specs}
    written = set(signature.buffers_to_mutate.values())
    made: list[str] = []
    for number, nodes in enumerate(groups[1:], 1):
        copies: dict[fx.Node, fx.Node] = {}
        for node in nodes:
            for entry in node.all_input_nodes:
                spec = specs.get(entry.name)
                if spec is None or spec.kind not in HELD or entry.op != "placeholder":
                    continue
                if spec.target in written:
                    raise ValueError(f"{spec.target} is written back by the program; copies of it would drift apart")
                if entry not in copies:
                    copies[entry], name = duplicate(program, entry, spec, f"_copy{number}")
                    made.append(name)
                node.replace_input_with(entry, copies[entry])
    tidy(program)
    return made


def several(program: ExportedProgram, path: str | Sequence[str]) -> list[list[fx.Node]]:
    """The calls of a module that is called more than once."""
    groups = calls(program, path)
    if len(groups) < 2:
        raise ValueError(f"{path} is called {len(groups)} times; there is nothing to take apart")
    return groups


def duplicate(program: ExportedProgram, entry: fx.Node, spec: InputSpec, suffix: str) -> tuple[fx.Node, str]:
    """A placeholder like another with a copy of what it holds; the name of the copy in the state or the constants."""
    assert spec.target is not None
    specs = program.graph_signature.input_specs
    with program.graph.inserting_after(entry):
        twin = program.graph.placeholder(entry.name + suffix)
    twin.meta = dict(entry.meta)
    # The name the graph settled on: another placeholder may have been called so already.
    name = spec.target + suffix
    specs.insert(specs.index(spec) + 1, InputSpec(spec.kind, TensorArgument(name=twin.name), name, spec.persistent))
    for holder in (program.state_dict, program.constants):
        if spec.target in holder:
            held = holder[spec.target]
            assert isinstance(held, Tensor)
            value = held.detach().clone()
            holder[name] = nn.Parameter(value, held.requires_grad) if isinstance(held, nn.Parameter) else value
    return twin, name


class WholeModuleTracer(fx.Tracer):
    """Traces a module with one submodule as a single call."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name == self.path or super().is_leaf_module(m, module_qualified_name)


def joined(*parts: Any) -> Any:
    """Arguments of several calls as those of one: tensors one after another along axis 0, the rest as in the first."""
    leaves = [pytree.tree_flatten(part) for part in parts]
    merged = [
        torch.cat(same, 0) if isinstance(same[0], Tensor) else same[0]
        for same in zip(*[flat for flat, _ in leaves], strict=True)
    ]
    return pytree.tree_unflatten(merged, leaves[0][1])


def share(outputs: Any, place: int, count: int) -> Any:
    """One call's part of the outputs of the joined call."""

    def cut(x: Any) -> Any:
        return x.narrow(0, place * (x.shape[0] // count), x.shape[0] // count) if isinstance(x, Tensor) else x

    return pytree.tree_map(cut, outputs)


def one_call(
    module: nn.Module, args: Sequence[Any], path: str, cases: int = 20, kwargs: Mapping[str, Any] | None = None
) -> ExportedProgram:
    """The module exported with one call of `path` in place of several, their inputs joined along the batch.

    Raises ValueError with the reason where the module cannot be traced or exported so, it has keyword inputs, a call
    needs another's output, inputs differ in shape, or the outputs change because rows of a batch see each other. The
    last is tried on `cases` inputs, which needs parameters that hold values; with fakes it is left out.
    """
    if kwargs:
        raise ValueError(f"keyword inputs ({', '.join(kwargs)}): calls are joined for positional ones only")
    try:
        graph = WholeModuleTracer(path).trace(module)
    except Exception as fault:  # whatever the module's own Python raises on symbols
        raise ValueError(f"the module cannot be traced symbolically: {fault}") from fault
    traced = fx.GraphModule(module, graph)
    sites = [node for node in graph.nodes if node.op == "call_module" and node.target == path]
    if len(sites) < 2:
        raise ValueError(f"{path} is called {len(sites)} times; there is nothing to join")
    for later in sites[1:]:
        if any(site is not later and depends(later, site) for site in sites):
            raise ValueError(f"a call of {path} needs the output of an earlier one ({later.name})")
    same_shapes(traced, sites, args)
    merge(graph, sites)
    graph.lint()
    traced.recompile()
    try:
        program = exported(Subject("joined", traced, tuple(args)))
    except InputError as fault:
        raise ValueError(f"the module with one call cannot be exported: {fault}") from fault
    program.graph_module.meta[SAME_MODULES] = same_modules(module)  # tracing drops modules, and with them names
    held = [*module.parameters(), *module.buffers()]
    if not any(isinstance(x, FakeTensor) or x.is_meta for x in held):
        proof = prove_programs(exported(Subject("apart", module, tuple(args))), program, args, cases)
        if not proof.passed:
            raise ValueError(f"rows of one batch of {path} see each other: {proof.detail}")
    return program


def depends(node: fx.Node, earlier: fx.Node) -> bool:
    """Whether a node needs another's output, at any distance."""
    seen, open_ = set(), [node]
    while open_:
        for entry in open_.pop().all_input_nodes:
            if entry is earlier:
                return True
            if entry not in seen:
                seen.add(entry)
                open_.append(entry)
    return False


def same_shapes(traced: fx.GraphModule, sites: Sequence[fx.Node], args: Sequence[Any]) -> None:
    """Run the traced module once and compare what each call is given."""
    given: dict[fx.Node, Any] = {}

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            if n in sites:
                given[n] = self.fetch_args_kwargs_from_env(n)
            return super().run_node(n)

    fault: Exception | None = None
    fakes = [x for x in [*args, *traced.parameters(), *traced.buffers()] if isinstance(x, FakeTensor)]
    buffers = dict(traced.named_buffers())
    with torch.no_grad(), fakes[0].fake_mode if fakes else nullcontext():
        before = cloned(buffers)
        try:
            Watch(traced).run(
                *[fakes[0].fake_mode.from_tensor(x) if fakes and isinstance(x, Tensor) else cloned(x) for x in args]
            )
        except RuntimeError as found:  # often the very shapes that are compared below
            fault = found
        for name, buffer in buffers.items():  # they are the user's own
            buffer.copy_(before[name])
    if len(given) < len(sites):
        raise ValueError(f"the traced module does not run: {fault}")
    described = [
        [(tuple(x.shape), x.dtype) if isinstance(x, Tensor) else x for x in pytree.tree_leaves(given[site])]
        for site in sites
    ]
    for site, other in zip(sites[1:], described[1:], strict=True):
        if other != described[0]:
            raise ValueError(
                f"its calls are given different shapes or settings: {described[0]} and {other} ({site.name})"
            )
    if not any(isinstance(x, tuple) and x[0] for x in described[0]):
        raise ValueError("its calls are given no tensors with a batch axis")
    if fault:
        raise ValueError(f"the traced module does not run: {fault}")


def merge(graph: fx.Graph, sites: Sequence[fx.Node]) -> None:
    """One call at the place of the last; what needed earlier calls moves behind it."""
    final = sites[-1]
    order = list(graph.nodes)
    between = order[order.index(sites[0]) : order.index(final)]
    waiting = [n for n in between if n not in sites and any(depends(n, site) for site in sites)]
    with graph.inserting_before(final):
        args = graph.call_function(joined, tuple(site.args for site in sites))
        kwargs = graph.call_function(joined, tuple(site.kwargs for site in sites))
        call = graph.call_function(called(final, graph), (args, kwargs))
        parts = [graph.call_function(share, (call, place, len(sites))) for place in range(len(sites))]
    anchor = final
    for node in waiting:
        anchor.append(node)
        anchor = node
    for site, part in zip(sites, parts, strict=True):
        site.replace_all_uses_with(part)
    for site in sites:
        graph.erase_node(site)


def called(site: fx.Node, graph: fx.Graph) -> Any:
    """The submodule as a function of positional and keyword arguments."""
    submodule = graph.owning_module.get_submodule(str(site.target))  # type: ignore[union-attr]

    def call(args: Any, kwargs: Any) -> Any:
        return submodule(*args, **kwargs)

    return call


@dataclass(frozen=True)
class GraphStage:
    """One graph of several that run one after another."""

    program: ExportedProgram
    inputs: tuple[str, ...]  # values it needs: inputs of the whole, or outputs of earlier stages
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class StagedGraphs:
    """Graphs that together are one program; the last makes the outputs."""

    stages: tuple[GraphStage, ...]
    inputs: tuple[str, ...]
    outputs: tuple[Any, ...]  # names of values, or constants
    in_spec: Any
    out_spec: Any

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the stages in order."""
        values = dict(zip(self.inputs, pytree.tree_leaves((args, kwargs)), strict=True))
        for stage in self.stages:
            results = stage.program.module()(*[values[name] for name in stage.inputs])
            values.update(zip(stage.outputs, results, strict=True))
        found = [values[x.name] if isinstance(x, TensorArgument) else x for x in self.outputs]
        return pytree.tree_unflatten(found, self.out_spec)


def two_graphs(program: ExportedProgram, path: str | Sequence[str]) -> StagedGraphs:
    """One graph per call of a module, with what that call needs; the rest goes with the last. Same bits.

    Raises ValueError where the program writes buffers or inputs back, or a call's inputs need a later call.
    """
    groups = several(program, path)
    signature = program.graph_signature
    if any(spec.kind is not OutputKind.USER_OUTPUT for spec in signature.output_specs):
        raise ValueError("the program writes buffers or inputs back; its graphs cannot be run apart")
    stage_of: dict[fx.Node, int] = {}
    for number, nodes in enumerate(groups):
        for node in nodes:
            stage_of.setdefault(node, number)
    for node in reversed(list(program.graph.nodes)):  # what a call needs runs with it, or earlier
        if node.op == "call_function":
            users = [stage_of[user] for user in node.users if user in stage_of]
            own = stage_of.get(node, len(groups) - 1)
            if node in stage_of and min(users, default=own) < own:
                raise ValueError(f"{node.name} of call {own + 1} is needed by an earlier call")
            stage_of[node] = min([own, *users])
    made = [stage(program, stage_of, number) for number in range(len(groups))]
    root = program.module_call_graph[0].signature
    assert root is not None
    named = tuple(
        x.arg if isinstance(x.arg, TensorArgument) else getattr(x.arg, "value", None) for x in signature.output_specs
    )
    return StagedGraphs(tuple(made), tuple(signature.user_inputs), named, root.in_spec, root.out_spec)


def stage(program: ExportedProgram, stage_of: dict[fx.Node, int], number: int) -> GraphStage:
    """The graph of one stage as a program of its own, with the parameters it uses."""
    nodes = [node for node in program.graph.nodes if stage_of.get(node) == number]
    final = program.graph.output_node()
    leaving = [n for n in nodes if any(user is final or stage_of.get(user, number) != number for user in n.users)]
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    needed = {entry for node in nodes for entry in node.all_input_nodes if stage_of.get(entry) != number}
    entering = [node for node in program.graph.nodes if node in needed]
    held = [n for n in entering if n.name in specs and specs[n.name].kind in HELD]
    given = [n for n in entering if n not in held]
    graph, known = fx.Graph(), {}
    for node in [*held, *given]:
        known[node] = graph.placeholder(node.name)
        known[node].meta = dict(node.meta)
    for node in nodes:
        known[node] = graph.node_copy(node, lambda entry: known[entry])
    graph.output(tuple(known[n] for n in leaving))
    inputs = [
        InputSpec(
            specs[n.name].kind, TensorArgument(name=known[n].name), specs[n.name].target, specs[n.name].persistent
        )
        for n in held
    ]
    inputs += [InputSpec(InputKind.USER_INPUT, TensorArgument(name=known[n].name), None) for n in given]
    outputs = [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name=known[n].name), None) for n in leaving]
    names = {spec.target for spec in inputs if spec.target}
    shape = ModuleCallSignature(
        inputs=[],
        outputs=[],
        in_spec=pytree.tree_flatten((tuple(range(len(given))), {}))[1],
        out_spec=pytree.tree_flatten(tuple(range(len(leaving))))[1],
    )
    with unset_fake_temporarily():  # the program has a fake mode of its own
        part = ExportedProgram(
            root={},
            graph=graph,
            graph_signature=ExportGraphSignature(inputs, outputs),
            state_dict={name: value for name, value in program.state_dict.items() if name in names},
            range_constraints=copy.copy(program.range_constraints),
            module_call_graph=[ModuleCallEntry(fqn="", signature=shape)],
            constants={name: value for name, value in program.constants.items() if name in names},
            verifiers=program.verifiers,
        )
    return GraphStage(part, tuple(n.name for n in given), tuple(n.name for n in leaving))
