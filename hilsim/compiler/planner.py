"""Plans of whole models: a decoder at all its widths, or any module; here the graphs are made and rewritten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch.export import ExportedProgram

from hilsim.compiler.choose import plan_graph
from hilsim.compiler.deployed import deployed_config, meta_model
from hilsim.compiler.findings import Finding
from hilsim.compiler.language import language_counts
from hilsim.compiler.lengths import FixedLengths, fixed_lengths
from hilsim.compiler.limits import decoder_limits, module_limits
from hilsim.compiler.nodes import constants_of
from hilsim.compiler.operator_costs import parameter_sizes, products_of, weights_read, work_of_all, working_set
from hilsim.compiler.pass_time import PassTime
from hilsim.compiler.plan import UNCHECKED, Chosen, GraphPlan, Plan, timed
from hilsim.compiler.program import Subject, exported, exported_once
from hilsim.compiler.site import CompileSite
from hilsim.compiler.sized import program_at
from hilsim.compiler.unshare_calls import calls_apart
from hilsim.compiler.whole_graph import parts_finding
from hilsim.cost.network import network_seconds
from hilsim.cost.step import cost_of
from hilsim.describe.compiled import ACTIVATIONS, WORKING_SET, NetworkLoad, Work
from hilsim.describe.setup import Placed
from hilsim.networks.config import NetworkConfig, load_config
from hilsim.progress import Notify

# Runtimes of fixed graphs want logits of every row (Genie reads row n of them, vinc-lin/llm-deploy docs/REFERENCE.md
# 3.1), and verifying needs them; where any number of rows runs, the clock counts the wanted ones alone.
EVERY_ROW = "head_of_every_row"
PROMPT_ROWS = 128  # checked beside single rows where a unit takes any number of them


def graph_rows(placed: Placed, context: int) -> dict[str, int]:
    """Names and rows of the graphs that a decoder is compiled as."""
    widths = placed.widths or tuple(dict.fromkeys((1, min(PROMPT_ROWS, context))))
    names = ["decode" if rows == 1 else "prefill" if rows == widths[-1] else "verify" for rows in widths]
    return {f"{name} {rows}": rows for name, rows in zip(names, widths, strict=True)}


def decoder_graph(placed: Placed, site: CompileSite, context: int, name: str, rows: int, notify: Notify) -> GraphPlan:
    """One graph of a language model at its deployed size. Raises `InputError` where the stand-in is damaged."""
    config = config_of(placed, context)
    subject = f"{placed.role} {placed.model.name}"
    notify(f"{subject}: {name}")

    def at(rows: int, context: int) -> Subject:
        return meta_model(f"{subject}, {name}", replace(config, max_positions=context), rows, context, placed.head)

    program = program_at(at, rows, context, (replace(config, max_positions=0), repr(placed.head)))
    graph = plan_graph(name, rows, program, site, repeats=repeats_of(placed, config), layers="layers", decoder=True)
    return replace(graph, slow=tuple(found for found in graph.slow if found.name != EVERY_ROW))


def config_of(placed: Placed, context: int) -> NetworkConfig:
    """The meta model's configuration; that of a draft head's stand-in is of no decoder."""
    folder = placed.stand_in if placed.head_kind is None else None
    stand_in = None if folder is None else load_config(folder)
    return deployed_config(placed.model, stand_in, context)


def repeats_of(placed: Placed, config: NetworkConfig) -> float:
    """How many layers of the deployed model one exported layer represents."""
    return placed.model.architecture.layers / config.layers


def plan_decoder(
    placed: Placed, site: CompileSite, context: int, talkers: int, graph_of: Callable[[str, int], GraphPlan]
) -> Plan:
    """Every graph of a language model, each made or kept: `graph_of` knows it by name and rows."""
    config = config_of(placed, context)
    repeats = repeats_of(placed, config)
    subject = f"{placed.role} {placed.model.name}"
    graphs = [graph_of(name, rows) for name, rows in graph_rows(placed, context).items()]
    sizes = tuple(decoder_limits(placed, site.profile.name, context, talkers))
    graphs[0] = with_findings(graphs[0], sizes)
    notes = []
    if placed.head_note:
        notes.append(f"The graph ends in logits instead of {placed.placement.head.name}: {placed.head_note}.")
    if placed.placement.timer is not None:
        notes.append("Step times are given in the scenario; they are taken to include what compiling costs.")
    if repeats > 1:
        layers = placed.model.architecture.layers
        notes.append(f"Checked at the deployed size with {config.layers} of {layers} layers, all alike.")
    return Plan(
        subject,
        placed.role,
        f"{placed.chip.name}.{placed.placement.unit}",
        placed.placement.precision,
        site.precision.activations,
        site.profile.name,
        site.profile.title,
        site.profile.elsewhere,
        tuple(graphs),
        rewrite_items([use for graph in graphs for use in graph.chosen]),
        None,
        tuple(notes),
    )


def rewrite_items(uses: Sequence[Chosen]) -> tuple[tuple[str, int], ...]:
    """What rewrites keep in memory: the widest one's working set, and the constants of all."""
    items = [
        (WORKING_SET, max((use.working_bytes for use in uses), default=0)),
        ("constants of rewrites", sum(use.held_bytes for use in uses if use.operator != "module call")),
    ]
    return tuple(item for item in items if item[1])


def plan_module(
    subject: Subject, site: CompileSite, notify: Notify, *, role: str = "module", unit: str, precision: str
) -> tuple[Plan, dict[str, Prepared]]:
    """The graphs of any module, and their programs as rewritten. Raises `InputError` where it cannot be exported.

    One graph, or one a width where the module takes any length and the compiler does not.
    """
    notify(subject.name)
    whole = exported_once(subject)
    lengths = fixed_lengths(subject, whole, site)
    prepared: dict[str, Prepared] = {}
    graphs = []
    for name, (rows, sized) in lengths.sized.items():
        notify(f"{subject.name}: {name}")
        program = whole if sized is subject else exported(sized)
        # In a scenario a network is timed as the simulator times it, whatever it is.
        graph, prepared[name] = plan_sized(name, rows, sized, program, site, language=role == "module")
        graphs.append(with_findings(graph, lengths.findings) if not prepared.keys() - {name} else graph)
    if len(lengths.sized) > 1 and not lengths.refusal:
        graphs[0] = replace(graphs[0], chosen=(padded(lengths), *graphs[0].chosen))
    if lengths.refusal:
        graphs[0] = replace(graphs[0], refusals=(lengths.refusal,))
    example = next((part for part in prepared.values() if part.rows >= lengths.example), list(prepared.values())[-1])
    plan = Plan(
        subject.name,
        role,
        unit,
        precision,
        site.precision.activations,
        site.profile.name,
        site.profile.title,
        site.profile.elsewhere,
        tuple(graphs),
        items_of(list(prepared.values()), site),
        example.load,
        lengths.notes,
        example.rows,
    )
    return plan, prepared


def padded(lengths: FixedLengths) -> Chosen:
    """Fixed widths, listed as a rewrite; what the further graphs hold is in the module's own items."""
    title = f"{len(lengths.sized)} graphs of fixed width, inputs padded to the next"
    caveat = "proven on random lengths: real positions do not see the padding"
    source = "pytorch/executorch llama README (AR-N graphs)"
    return Chosen(
        name="fixed_widths", title=title, operator="dynamic-shape", nodes=1, exactness="rounding", caveat=caveat,
        source=source,
    )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """A module's graph at one size: what it was made of, where it goes, as rewritten and by what, load and memory."""

    rows: int
    subject: Subject
    site: CompileSite
    program: ExportedProgram
    uses: tuple[Chosen, ...]
    load: NetworkLoad
    parameter_bytes: int
    doubled_bytes: int
    activation_bytes: int


def plan_sized(
    name: str, rows: int, subject: Subject, program: ExportedProgram, site: CompileSite, *, language: bool
) -> tuple[GraphPlan, Prepared]:
    """Plan one graph of a module: calls unshared first, then node by node.

    A pass of a language model is timed as decoders are, where `language` says so, any other as a network.
    """
    whole = program
    calls = [found for found in site.book.findings(program, name) if found.rule == "shared-calls"]
    refused = [found for found in calls if found.severity == "error"]
    if refused:
        whole = exported_once(subject)  # taking calls apart changes the program
    program, apart = calls_apart(subject, program, site, refused)
    counts = language_counts(program, site.unit, site.precision) if language else None
    graph = plan_graph(name, rows, program, site, decoder=counts is not None)
    nbytes, largest = parameter_bytes(whole, site)
    sizes = module_limits(nbytes, largest, site.unit, site.profile.name, name)
    # What was found before the calls were told apart belongs to the story.
    graph = with_findings(graph, (*(found for found in refused if found not in graph.findings), *sizes))
    # The load has the rewrites' operators in it: what is extra is only what leaves the unit.
    extra = replace(graph.extra, here=Work())
    seconds, *_ = site.costs(extra, rows)
    graph = replace(graph, chosen=(*apart, *graph.chosen), extra=extra, extra_s=seconds)
    doubled = sum(use.held_bytes for use in apart)
    load, used = load_of(program, site, set(graph.away))
    if counts is None:
        clock_s = network_seconds(load, site.unit, site.precision) + seconds
    else:
        clock_s = cost_of(counts, site.unit, site.precision).seconds + seconds
        clock_s += sum(use.seconds for use in graph.chosen)
    clock = PassTime(site, set(), decoder=counts is not None)
    parts = parts_finding(nbytes, clock, name)
    graph = timed(replace(graph, slow=(*graph.slow, *([] if parts is None else [parts]))), clock_s)
    load = replace(load, slow_s=sum((found.beyond_s for found in graph.slow), 0.0))
    return graph, Prepared(rows, subject, site, program, tuple(graph.chosen), load, nbytes, doubled, used)


def parameter_bytes(program: ExportedProgram, site: CompileSite) -> tuple[int, int]:
    """Bytes of all parameters, and of the largest."""
    sizes, bits = parameter_sizes(program), site.precision.weight_bits.si
    return round(sum(sizes) * bits / 8), round(max(sizes, default=0) * bits / 8)


def load_of(program: ExportedProgram, site: CompileSite, away: set[str]) -> tuple[NetworkLoad, int]:
    """A program's load without what runs elsewhere, and the bytes of its widest operator."""
    constants = constants_of(program)
    here = [node for node in program.graph.nodes if node.name not in away and node.op == "call_function"]
    work, products = work_of_all(here, constants), products_of(here, constants)
    load = NetworkLoad(products / 2e9, weights_read(here, constants) / 1e9, work.launches)
    return load, site.bytes(working_set(here, constants))


def measured(subject: Subject, site: CompileSite, notify: Notify, *, role: str, unit: str, precision: str) -> Plan:
    """The plan of a module where no rules are known: its load and its memory, and no findings."""
    notify(subject.name)
    program = exported(subject)
    load, used = load_of(program, site, set())
    graph = GraphPlan(name="whole", rows=1, nodes=len(program.graph.nodes))
    graph = timed(graph, network_seconds(load, site.unit, site.precision))
    items = (("parameters", parameter_bytes(program, site)[0]), (ACTIVATIONS, used))
    return Plan(
        subject.name, role, unit, precision, site.precision.activations, UNCHECKED, "no rules: nothing was checked",
        "nowhere", (graph,), items, load,
    )  # fmt: skip


def items_of(parts: list[Prepared], site: CompileSite) -> tuple[tuple[str, int], ...]:
    """What a module keeps in memory: parameters once a graph, unless the compiler's graphs share them."""
    copies = 1 if site.profile.shared_context.value else len(parts)
    times = f" x {copies} graphs" if copies > 1 else ""
    items = [
        (f"parameters{times}", copies * parts[0].parameter_bytes),
        (f"second copy of shared parameters{times}", copies * parts[0].doubled_bytes),
        (ACTIVATIONS, max(part.activation_bytes for part in parts)),
    ]
    held = sum(use.held_bytes for part in parts for use in part.uses if use.operator != "module call")
    items.append(("constants of rewrites", held))
    return tuple(item for item in items if item[1])


def with_findings(graph: GraphPlan, more: tuple[Finding, ...]) -> GraphPlan:
    """A graph's plan with further findings; errors among those about sizes refuse it."""
    refusals = [
        f"{found.reason}. Remedy: {found.remedy}."
        for found in more
        if found.rule == "graph-size" and found.severity == "error"
    ]
    return replace(graph, findings=(*graph.findings, *more), refusals=(*graph.refusals, *refusals))
