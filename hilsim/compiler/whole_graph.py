"""What makes a graph slow as a whole: ways to another unit and back, more parts than need be, thousands of launches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

from torch import fx
from torch.export import ExportedProgram

from hilsim.compiler.findings import Finding, SlowFinding
from hilsim.compiler.islands import Islands
from hilsim.compiler.language import attention_layers, products_in
from hilsim.compiler.nodes import numel, operator_of, place_of, tensors_of
from hilsim.compiler.operator_costs import is_free
from hilsim.compiler.pass_time import WEIGHTED, PassTime
from hilsim.cost.extra import ACTIVATION_BITS, work_seconds
from hilsim.cost.step import si
from hilsim.describe.chip import Unit

MANY_LAUNCHES = 1000  # a network of fewer is none of thousands of tiny operators
LAUNCHES_A_LAYER = 100  # of a decoder written plainly, at most


def cut_finding(
    islands: Islands, nodes: Iterable[fx.Node], clock: PassTime, unit: Unit, errors: Sequence[Finding], graph: str
) -> SlowFinding | None:
    """Operators that leave the unit: the ways there and back, and their work elsewhere; None where none do.

    `unit` has the figures of leaving it, the profile's where its own file has none.
    """
    fallback = unit.fallback
    if not islands.crossings or fallback is None:
        return None
    here_s = max(0.0, work_seconds(islands.away, unit, clock.precision))
    ways, times = fallback.crossing, fallback.penalty
    takes_s = islands.crossings * ways.si + here_s * times.si
    ends = [islands.crossings * ways.ends[end] + here_s * (times.ends[end] - 1) for end in (0, 1)]
    away = set(islands.nodes)
    left = [node for node in nodes if node.name in away]
    place = place_of(left[0])
    moved = crossing_numbers(left, away) * ACTIVATION_BITS[clock.precision.activations] / 8
    advice = dict.fromkeys(found.remedy for found in errors if found.node in away and found.remedy)
    return SlowFinding(
        graph=graph,
        name="graph_cut",
        title=f"{', '.join(islands.operators)} cannot stay: {islands.crossings} ways there and back a pass, "
        f"{moved / 2**20:.3g} MiB of one exported graph",
        module=place.module,
        line=place.line,
        nodes=islands.nodes,
        operators=islands.operators,
        count=round(sum(map(clock.times, left))),
        takes_s=takes_s,
        could_s=here_s,
        low_s=ends[0],
        high_s=ends[1],
        kind=ways.kind,
        remedy="; ".join(advice) or "write it with operators that the compiler takes, or move it to the graph's ends",
        source="the unit's cost of leaving it",
        figures=(ways.source, times.source),
    )


def crossing_numbers(left: Sequence[fx.Node], away: set[str]) -> int:
    """Numbers that go to another unit and come back."""
    there = {source for node in left for source in node.all_input_nodes if source.name not in away}
    back = {node for node in left if any(user.name not in away for user in node.users)}
    return sum(numel(tensor) for node in there | back for tensor in tensors_of(node))


def launch_finding(program: ExportedProgram, clock: PassTime, graph: str) -> SlowFinding | None:
    """Launches that outweigh what they do, of a graph of thousands; None of one that has fewer."""
    overhead = clock.unit.operator_overhead
    launched = [node for node in program.graph.nodes if node not in clock.constants and not is_free(node)]
    launches = round(sum(map(clock.times, launched)))
    products = round(sum(clock.times(node) for node in launched if operator_of(node) in WEIGHTED))
    # A decoder's clock has those of a plain one in its fixed costs; a product takes its neighbours with it.
    layers = attention_layers(list(products_in(program, clock.constants)), clock.times) if clock.decoder else 0
    usual = LAUNCHES_A_LAYER * (layers + 1) if clock.decoder else products
    if overhead is None or launches < max(MANY_LAUNCHES, 2 * usual):
        return None
    slow, fast = overhead.ends[1], overhead.ends[0]
    place = place_of(next((node for node in launched if place_of(node).line), launched[0]))
    takes_s, could_s = launches * si(overhead), usual * si(overhead)
    return SlowFinding(
        graph=graph,
        name="many_launches",
        title=f"{launches:,} operators, {products:,} of them products: launching them outweighs what they do",
        module=place.module,
        line=place.line,
        count=launches,
        takes_s=takes_s,
        could_s=could_s,
        low_s=(launches - usual) * fast,
        high_s=(launches - usual) * slow,
        beyond_s=takes_s - could_s if clock.decoder else 0.0,
        kind=overhead.kind,
        remedy="one operator over a stacked dimension instead of a loop over steps, heads or experts",
        source="a launch each; that a product takes its neighbours with it is assumed",
        figures=(overhead.source,),
    )


def parts_finding(nbytes: float, clock: PassTime, graph: str) -> SlowFinding | None:
    """Parameters beyond what one graph may hold: parts that run one after another; None where one is enough."""
    limit, call = clock.unit.graph_limit, clock.unit.graph_overhead
    # A decoder's pipeline has so many parts whatever its size, and its clock counts their calls.
    usual = round(si(clock.unit.graphs_per_step, 1)) if clock.decoder else 1
    parts = 1 if limit is None else ceil(nbytes / limit.si)
    if limit is None or call is None or parts <= usual:
        return None
    takes_s = (parts - usual) * call.si
    return SlowFinding(
        graph=graph,
        name="graph_parts",
        title=f"{nbytes / 2**20:,.0f} MiB of parameters in {parts} parts, each a call of its own",
        count=parts,
        takes_s=takes_s,
        low_s=(parts - usual) * call.ends[0],
        high_s=(parts - usual) * call.ends[1],
        beyond_s=0.0 if clock.decoder else takes_s,
        kind=call.kind,
        remedy="fewer bits a weight",
        source=limit.source,
        figures=(call.source,),
    )
