"""One pass of every graph of a scenario's language models, by the clock that simulates them; nothing here needs torch.

An export that copies key/value heads (`expanded_kv` of a placement) is a slow pattern that no graph here shows: the
scenario says so.
"""

from __future__ import annotations

from dataclasses import replace

from hilsim.compiler.findings import SlowFinding
from hilsim.compiler.plan import GraphPlan, Plan, timed
from hilsim.compiler.slow.repeated_heads import NAME, REMEDY, TITLE
from hilsim.cost.counts import expanded_numbers
from hilsim.cost.extra import expanded_range
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.setup import Placed


def with_pass_times(plan: Plan, placed: Placed, context: int) -> Plan:
    """A language model's plan with the time of a pass of each graph, at a cache that fills the context."""
    plain = placed.placement.model_copy(update={"expanded_kv": False})
    timer = timer_for(replace(placed, placement=plain, compiled=plan.compiled()), context)
    graphs = []
    for graph in plan.graphs:
        if placed.placement.expanded_kv:
            # The graph that was exported here has its queries in groups; the scenario's own has not.
            graph = replace(graph, slow=(*graph.slow, copied_heads(placed, context, graph)), fine=())
        step = Step(phase_of(placed, graph), graph.rows, max(0, context - graph.rows))
        graphs.append(timed(graph, timer.duration_ns(step) / 1e9))
    return replace(plan, graphs=tuple(graphs))


def phase_of(placed: Placed, graph: GraphPlan) -> Phase:
    """What a graph is for, as its name has it."""
    reading = graph.name.startswith("prefill")
    if placed.role == "draft":
        return Phase.DRAFT_PREFILL if reading else Phase.DRAFT
    if reading:
        return Phase.PREFILL
    return Phase.DECODE if graph.rows == 1 else Phase.VERIFY


def copied_heads(placed: Placed, context: int, graph: GraphPlan) -> SlowFinding:
    """What an export with copied key/value heads takes in every pass, whatever its rows."""
    rate = placed.unit.expand_rate
    assert rate is not None, "checked when the scenario is loaded"
    seconds, low_s, high_s = expanded_range(placed.model, placed.unit, context)
    numbers = expanded_numbers(placed.model.architecture, context)
    return SlowFinding(
        graph=graph.name,
        name=NAME,
        title=f"{TITLE}: {numbers / 1e6:,.1f} million numbers a pass",
        operators=("aten.expand.default",),
        count=2 * placed.model.architecture.layers,
        takes_s=seconds,
        low_s=low_s,
        high_s=high_s,
        beyond_s=seconds,
        kind=rate.kind,
        exactness="rounding",
        remedy=REMEDY,
        source="expanded_kv: true in the scenario",
        figures=(rate.source,),
    )
