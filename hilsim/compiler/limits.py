"""Size rules: what one graph and one context may hold, as findings; the cuts that follow are the ledger's."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from hilsim.compiler.findings import Finding
from hilsim.cost.counts import body_weights
from hilsim.cost.memory import split, weight_bytes
from hilsim.describe.chip import Unit
from hilsim.describe.setup import Placed
from hilsim.units import gib

FEWER_BITS = "fewer bits a weight"
FEWER_PARTS = f"{FEWER_BITS} make fewer parts"
LESS_TO_MAP = f"{FEWER_BITS}, a smaller context, or one width less where every graph holds its own weights"
SPLIT = "split that parameter"
NOT_EXPORTED = "experts, recurrent layers, shared caches and vision towers have times and bytes here, and no program"
HEADS_NOT_EXPORTED = "draft heads have times and bytes here, and no program of their own"


def decoder_limits(placed: Placed, profile: str, context: int, talkers: int) -> Iterator[Finding]:
    """Whether all of a model is checked, and whether it must and can be cut up: between layers, along the head."""
    unit, graph = placed.unit, "all graphs"
    if placed.head_kind is not None:
        reason = f"{placed.model.name} takes the target's hidden states: a decoder of its sizes, from token ids, was"
        yield limit_finding(graph, "not-exported", "warning", profile, reason, HEADS_NOT_EXPORTED, "export it yourself")
    elif not placed.model.plain:
        reason = f"{placed.model.name} has layers or parts that are not exported here: a plain decoder of its sizes was"
        yield limit_finding(graph, "not-exported", "warning", profile, reason, NOT_EXPORTED, "export it yourself")
    precision = unit.precisions[placed.placement.precision]
    cut = split(placed, context, talkers)
    if unit.graph_limit is not None:
        limit, shape = unit.graph_limit, placed.model.architecture
        layer = body_weights(shape) / shape.layers * precision.weight_bits.si / 8
        if layer > limit.si:
            reason = f"one layer of {gib(round(layer)):.2f} GiB, and {limit.value:g} {limit.unit} a graph"
            yield limit_finding(graph, "graph-size", "error", profile, reason, limit.source, FEWER_BITS)
        elif cut.graphs > 1:
            whole = gib(weight_bytes(placed))
            least = unit.graphs_per_step
            if weight_bytes(placed) <= limit.si and least is not None and cut.graphs == round(least.si):
                reason = f"{whole:.2f} GiB of weights in {cut.graphs} parts, the least of a pipeline"
                source, remedy = least.source, ""
            else:
                allowed = f"{limit.value:g} {limit.unit} a graph"
                reason = f"{whole:.2f} GiB of weights, and {allowed}: cut into {cut.graphs} parts"
                source, remedy = limit.source, FEWER_PARTS
            yield limit_finding(graph, "graph-size", "note", profile, reason, source, remedy)
    if unit.context_limit is not None and cut.contexts > 1:
        limit = unit.context_limit
        reason = f"more than {limit.value:g} {limit.unit} to map: {cut.contexts} contexts, each with its runtime"
        yield limit_finding(graph, "context-size", "note", profile, reason, limit.source, LESS_TO_MAP)


def module_limits(nbytes: int, largest: int, unit: Unit, profile: str, graph: str) -> Iterator[Finding]:
    """The same for any module: bytes of all its parameters, and of the largest one, which no cut divides."""
    limit = unit.graph_limit
    if limit is None or nbytes <= limit.si:
        return
    allowed = f"{limit.value:g} {limit.unit} a graph"
    if largest > limit.si:
        reason = f"one parameter of {gib(largest):.2f} GiB, and {allowed}"
        yield limit_finding(graph, "graph-size", "error", profile, reason, limit.source, f"{SPLIT}, or {FEWER_BITS}")
    else:
        reason = f"{gib(nbytes):.2f} GiB of parameters, and {allowed}: cut into {ceil(nbytes / limit.si)} parts"
        yield limit_finding(graph, "graph-size", "note", profile, reason, limit.source, FEWER_PARTS)


def limit_finding(
    graph: str, rule: str, severity: str, profile: str, reason: str, source: str, remedy: str = ""
) -> Finding:
    """A finding about sizes; a limit's source is given with the chip's figures."""
    return Finding(graph, rule, severity, profile, reason, source, "documented", remedy)  # type: ignore[arg-type]
