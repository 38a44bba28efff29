"""Plans of whole models: a decoder at all its widths, or any module; here the graphs are made and rewritten."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from torch.export import ExportedProgram

from hilsim.compiler.choose import EXACTNESS, Place, plan_graph
from hilsim.compiler.deployed import deployed_config, twin
from hilsim.compiler.findings import Finding
from hilsim.compiler.limits import decoder_limits, module_limits
from hilsim.compiler.nodes import constants_of, numel, parameters_of
from hilsim.compiler.plan import Chosen, GraphPlan, Option, Plan
from hilsim.compiler.prices import products_of, work_of_all, working_set
from hilsim.compiler.program import Subject, exported
from hilsim.compiler.rewrite.siamese import one_call, two_encoders, two_graphs
from hilsim.compiler.shared import Shared, shared_in
from hilsim.describe.compiled import NetworkLoad, Work
from hilsim.describe.load import Placed
from hilsim.logits.checkpoint import load_config

PROMPT_ROWS = 128  # checked beside single rows where a unit takes any number of them
SIAMESE = {
    "two_encoders": ("a second copy of the parameters for the second call", "bits", ""),
    "one_call": ("both inputs in one call, a batch of two", "rounding", "a batch of two may round otherwise than one"),
    "two_graphs": ("a graph for each call, in one context that shares weights", "bits", ""),
}


def graph_rows(placed: Placed, context: int) -> dict[str, int]:
    """Names and rows of the graphs that a decoder is compiled as."""
    widths = placed.widths or tuple(dict.fromkeys((1, min(PROMPT_ROWS, context))))
    names = ["decode" if rows == 1 else "prefill" if rows == widths[-1] else "verify" for rows in widths]
    return {f"{name} {rows}": rows for name, rows in zip(names, widths, strict=True)}


def plan_decoder(placed: Placed, place: Place, context: int, talkers: int, say: Callable[[str], None]) -> Plan:
    """Every graph of a language model at its deployed size. Raises `InputError` where the stand-in is damaged."""
    began = time.perf_counter()
    stand_in = None if placed.stand_in is None else load_config(placed.stand_in)
    config = deployed_config(placed.model, stand_in, context)
    repeats = placed.model.architecture.layers / config.layers
    subject, graphs = f"{placed.role} {placed.model.name}", []
    for name, rows in graph_rows(placed, context).items():
        say(f"{subject}: {name}")
        program = exported(twin(f"{subject}, {name}", config, rows, context, placed.placement.head))
        graphs.append(plan_graph(name, rows, program, place, repeats=repeats, layers="layers"))
    sizes = tuple(decoder_limits(placed, place.profile.name, context, talkers))
    graphs[0] = with_findings(graphs[0], sizes)
    what = f"working set of rewrites ({', '.join(dict.fromkeys(use.name for graph in graphs for use in graph.chosen))})"
    most = max((use.bytes for graph in graphs for use in graph.chosen), default=0)
    notes = [
        f"Checked at the deployed size with {config.layers} of {placed.model.architecture.layers} layers, all alike."
    ]
    return Plan(
        subject,
        placed.role,
        f"{placed.chip.name}.{placed.placement.unit}",
        placed.placement.precision,
        place.precision.activations,
        place.profile.name,
        place.profile.title,
        place.profile.elsewhere,
        tuple(graphs),
        ((what, most),) if most else (),
        None,
        tuple(notes if repeats > 1 else []),
        time.perf_counter() - began,
    )


def plan_module(
    subject: Subject, place: Place, say: Callable[[str], None], *, role: str = "module", unit: str, precision: str
) -> tuple[Plan, ExportedProgram]:
    """One graph of any module, and the program as rewritten. Raises `InputError` where it cannot be exported."""
    began = time.perf_counter()
    say(subject.name)
    program = exported(subject)
    findings = place.book.findings(program, "whole")
    program, siamese = one_by_one(
        subject, program, place, [found for found in findings if found.rule == "shared-calls"]
    )
    graph = plan_graph("whole", 1, program, place)
    # What was found before the calls were told apart belongs to the story.
    told = [found for found in findings if found.rule == "shared-calls" and found.severity == "error"]
    parameters = parameters_of(program)
    bits = place.precision.weight_bits.si
    nbytes = round(sum(map(numel, parameters.values())) * bits / 8)
    largest = round(max(map(numel, parameters.values()), default=0) * bits / 8)
    sizes = tuple(module_limits(nbytes, largest, place.unit, place.profile.name, "whole"))
    graph = with_findings(graph, (*(found for found in told if found not in graph.findings), *sizes))
    graph = replace(graph, chosen=(*siamese, *graph.chosen))
    constants = constants_of(program)
    here = [node for node in program.graph.nodes if node.name not in graph.away and node.op == "call_function"]
    work = work_of_all(here, constants)
    load = NetworkLoad(products_of(here, constants) / 2e9, sum(map(numel, parameters.values())) / 1e9, work.launches)
    # The load has the rewrites' operators in it: what is extra is only what leaves the unit.
    graph = replace(graph, extra=replace(graph.extra, here=Work()))
    doubled = sum(use.bytes for use in siamese)
    items = [("parameters", nbytes - doubled), ("second copy of shared parameters", doubled)]
    items.append(("activations", place.bytes(working_set(here, constants))))
    plan = Plan(
        subject.name,
        role,
        unit,
        precision,
        place.precision.activations,
        place.profile.name,
        place.profile.title,
        place.profile.elsewhere,
        (graph,),
        tuple(item for item in items if item[1]),
        load,
        (),
        time.perf_counter() - began,
    )
    return plan, program


def one_by_one(
    subject: Subject, program: ExportedProgram, place: Place, findings: list[Finding]
) -> tuple[ExportedProgram, tuple[Chosen, ...]]:
    """The program without modules that are called twice, where they are refused; most exact way first."""
    chosen: list[Chosen] = []
    for found in findings:
        if found.severity != "error":
            continue
        shared = next((part for part in shared_in(program) if part.modules[0] == found.module), None)
        if shared is None:
            continue
        made = [entry for name in found.rewrites if (entry := siamese_way(name, subject, program, place, shared))]
        if not made:
            continue
        made.sort(key=lambda entry: (EXACTNESS.index(entry[1].exactness), entry[1].seconds, entry[1].bytes))
        (program, first), others = made[0], made[1:]
        options = tuple(Option(use.name, use.seconds, use.bytes, use.exactness, use.caveat) for _, use in others)
        chosen.append(replace(first, others=options))
    return program, tuple(chosen)


def siamese_way(
    name: str, subject: Subject, program: ExportedProgram, place: Place, shared: Shared
) -> tuple[ExportedProgram, Chosen] | None:
    """One way to tell calls of a module apart, and its price against leaving it as it is; None where it cannot."""
    if not place.may_use(name):
        return None
    path, before = shared.modules[0], work_of_all(program.graph.nodes, constants_of(program))
    numbers = sum(
        numel(tensor) for held, tensor in parameters_of(program).items() if held_name(program, held) in shared.names
    )
    doubled = round(numbers * place.precision.weight_bits.si / 8) * (shared.calls - 1)
    try:
        if name == "one_call":
            made, nbytes = one_call(subject.module, subject.inputs, path), 0
        else:
            made = exported(subject)
            if name == "two_graphs":
                two_graphs(made, path)  # that it can be cut; in numbers it is two encoders with one copy of weights
            two_encoders(made, path)
            nbytes = doubled if name == "two_encoders" else 0
    except ValueError:
        return None
    after = work_of_all(made.graph.nodes, constants_of(made))
    title, exactness, caveat = SIAMESE[name]
    more = after - before
    source = "pytorch/executorch PR 6657" if name == "two_graphs" else "general technique"
    use = Chosen(
        name, title, "module call", path, shared.calls, exactness, caveat, source, more, place.seconds(more), nbytes
    )
    return made, use


def held_name(program: ExportedProgram, placeholder: str) -> str:
    """A parameter's own name by its placeholder's."""
    signature = program.graph_signature
    return {**signature.inputs_to_parameters, **signature.inputs_to_buffers}.get(placeholder, placeholder)


def with_findings(graph: GraphPlan, more: tuple[Finding, ...]) -> GraphPlan:
    """A graph's plan with further findings; errors among those about sizes refuse it."""
    refusals = [
        f"{found.reason}. Remedy: {found.remedy}."
        for found in more
        if found.rule == "graph-size" and found.severity == "error"
    ]
    return replace(graph, findings=(*graph.findings, *more), refusals=(*graph.refusals, *refusals))
