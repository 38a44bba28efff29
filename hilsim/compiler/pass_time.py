"""What nodes of a graph take on a unit, in seconds of one pass: products, movements as they are lowered, launches.

    a product   = the longer of its operations / operation rate and its bytes / memory rate
    a view      = nothing
    a copy      = numbers read and written x activation bits / memory rate
    a multiply  = numbers written / the unit's rate of copying multiplies (`describe.movement.multiply_rate`)
    a gather    = a copy; where numbers are repeated, at most what a multiply takes
    a sort      = numbers x log2 of how many are kept / that rate; at most that of a bitonic network
    any other   = the longer of its bytes / memory rate and its operations / operation rate
    and a launch each where the unit has an `operator_overhead`

Times of nodes add up: nodes of several layers that stand for more of them count as often. The time of a whole pass is
the clock's of `hilsim.cost`, which has the operators between products in its fixed costs; slow patterns come on top.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil, log2
from typing import Any

from torch import fx

from hilsim.compiler.findings import SlowFinding
from hilsim.compiler.nodes import fixed, numel, operands, operator_of, place_of, sources_of, tensors_of
from hilsim.compiler.operator_costs import PRODUCTS, RECURRENT, is_free, operations_of, work_of
from hilsim.compiler.site import CompileSite
from hilsim.cost.extra import ACTIVATION_BITS, work_seconds
from hilsim.cost.step import operation_rate, read_seconds, si
from hilsim.describe.figure import Figure
from hilsim.describe.movement import Lowering, lowerings, multiply_rate

HEAD = "sampler"  # the module of a decoder that comes after its logits
# What PyTorch puts before a batched product: the same numbers under another shape.
BETWEEN = ("aten.expand.default", "aten.view.default", "aten.clone.default", "aten.unsqueeze.default")
ARITHMETIC = ("multiply", "gather", "sort")  # lowerings that are, or may be, vector arithmetic
WEIGHTED = frozenset((*PRODUCTS, *RECURRENT))  # operators that multiply matrices


@dataclass(frozen=True)
class Seconds:
    """A time with the range that assumed rates leave it."""

    value: float = 0.0
    low: float = 0.0
    high: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, times: float) -> Seconds:
        return Seconds(self.value * times, self.low * times, self.high * times)


@dataclass(frozen=True, kw_only=True)
class SlowPattern:
    """What a recogniser hands in: nodes of one pattern, how to write it instead, and what that form takes a pass.

    `kept_s` is of all layers. `count` is of how many places; `nodes` are the nodes that the better form does without.
    `exactness` is that of a `Rewrite` ("bits", "values", "rounding") or "" where there is none that is proven.
    """

    name: str
    title: str
    nodes: tuple[fx.Node, ...]
    remedy: str
    kept_s: float = 0.0
    rewrite: str = ""
    exactness: str = ""
    source: str = ""


class PassTime:
    """Seconds of nodes at one place: a unit at a precision under a profile.

    `constants` are the nodes that are known when the graph is built. Modules whose path begins with `layers` stand for
    `repeats` of themselves. `decoder` says which clock the whole pass has: that of decoders has what lies between their
    products in its fixed costs, that of other networks counts every launch.
    """

    def __init__(
        self,
        site: CompileSite,
        constants: set[fx.Node],
        repeats: float = 1.0,
        layers: str = "",
        *,
        decoder: bool = False,
    ):
        self.site, self.unit, self.precision = site, site.unit, site.precision
        self.column = site.profile.column
        self.constants, self.repeats, self.layers, self.decoder = constants, repeats, layers, decoder
        self.multiply = multiply_rate(site.unit, site.precision, self.column)

    def times(self, node: fx.Node) -> float:
        """How many of a node a pass of the deployed model has."""
        return self.repeats if self.layers and place_of(node).module.startswith(self.layers) else 1.0

    def lowering(self, node: fx.Node) -> Lowering | None:
        """What the toolchain is known, or assumed, to make of a node that moves numbers."""
        return lowerings().get((operator_of(node), self.column))

    def rate_of(self, node: fx.Node) -> Figure | None:
        """The rate of vector arithmetic that a movement is, or may be, lowered to; None where it is none."""
        entry = self.lowering(node)
        if self.multiply is None or entry is None or entry.lowering not in ARITHMETIC:
            return None
        if entry.lowering == "gather" and not repeats(node):
            return None
        return self.multiply if entry.lowering == "multiply" else self.multiply.model_copy(update={"kind": "assumed"})

    def span(self, node: fx.Node) -> Seconds:
        """One execution of one node, with its range."""
        if node in self.constants or node.op != "call_function":
            return Seconds()
        entry = self.lowering(node)
        if entry is not None and entry.lowering in ARITHMETIC and self.multiply is not None:
            return self.arithmetic_span(node, entry, self.multiply)
        if (entry is not None and entry.lowering == "view") or turns_operand(node):
            return Seconds()
        if entry is None and is_free(node):
            return Seconds()
        if operator_of(node) in WEIGHTED:
            seconds = self.product_seconds(node)
        else:
            seconds = work_seconds(work_of(node, self.constants), self.unit, self.precision)
        return Seconds(seconds, seconds, seconds)

    def arithmetic_span(self, node: fx.Node, entry: Lowering, rate: Figure) -> Seconds:
        """A movement that is, or may be, vector arithmetic at a rate."""
        made, taken = sum(map(numel, tensors_of(node))), sum(map(numel, operands(node)))
        low, high = rate.ends
        if entry.lowering == "multiply":
            return Seconds(made / rate.si, made / high, made / low) if made > taken else Seconds()
        copied_s = work_seconds(work_of(node, self.constants), self.unit, self.precision)
        if entry.lowering == "gather":
            return Seconds(copied_s, copied_s, max(copied_s, made / low if repeats(node) else 0.0))
        levels = ceil(log2(max(2, kept_by(node))))
        merged, network = taken * levels, taken * levels * (levels + 1) / 2
        return Seconds(*(max(copied_s, one) for one in (merged / rate.si, merged / high, network / low)))

    def product_seconds(self, node: fx.Node) -> float:
        """One product: weights at their own bits, activations at theirs."""
        sources = [source for source in sources_of(node) if tensors_of(source)]
        weights = sum(numel(tensor) for one in sources if one in self.constants for tensor in tensors_of(one))
        moved = sum(numel(tensor) for one in sources if one not in self.constants for tensor in tensors_of(one))
        moved += sum(map(numel, tensors_of(node)))
        moved_s = moved * ACTIVATION_BITS[self.precision.activations] / 8 / self.precision.memory_rate.si
        memory_s = read_seconds(weights, self.precision.weight_bits, self.precision) + moved_s
        rows = numel(tensors_of(sources[0])[0]) // max(1, int(tensors_of(sources[0])[0].shape[-1])) if sources else 1
        compute_s = operations_of(node) / operation_rate(self.precision, max(1, rows))
        return si(self.unit.operator_overhead) + max(memory_s, compute_s)

    def node_seconds(self, node: fx.Node) -> float:
        """Seconds a pass of one node, over all layers that it stands for."""
        return self.span(node).value * self.times(node)

    def counted_seconds(self, node: fx.Node) -> float:
        """What of a node's time the clock of the whole pass has already, over all layers."""
        if node in self.constants or node.op != "call_function":
            return 0.0
        if operator_of(node) in WEIGHTED or (self.decoder and place_of(node).module.startswith(HEAD)):
            return self.node_seconds(node)
        launched = not self.decoder and not is_free(node)
        return min(self.node_seconds(node), si(self.unit.operator_overhead) * self.times(node)) if launched else 0.0

    def seconds(self, nodes: Iterable[fx.Node]) -> float:
        """Seconds a pass of several nodes."""
        return self.range(nodes).value

    def range(self, nodes: Iterable[fx.Node]) -> Seconds:
        """Seconds a pass of several nodes, with their range."""
        total = Seconds()
        for node in nodes:
            total = total + self.span(node) * self.times(node)
        return total


def repeats(node: fx.Node) -> bool:
    """Whether a node yields more numbers than it takes, places to gather them from left out."""
    given = sum(numel(one) for one in operands(node) if one.is_floating_point())
    return sum(map(numel, tensors_of(node))) > given


def kept_by(node: fx.Node) -> int:
    """How many numbers of each row a sort or a top-k puts in order."""
    shape, place = tensors_of(node)[0].shape, 2 if operator_of(node) == "aten.topk.default" else 1
    axis: Any = node.args[place] if len(node.args) > place else node.kwargs.get("dim", -1)
    return fixed(shape[axis]) if shape else 1


def turns_operand(node: fx.Node) -> bool:
    """Whether a node exchanges the last two axes for products alone, which take an operand either way round.

    QNN's MatMul has transpose_in0 and transpose_in1, TensorRT's IMatrixMultiplyLayer an operation for each operand.
    """
    if operator_of(node) != "aten.permute.default":
        return False
    given: Any = node.args[1]
    order = [axis % len(given) for axis in given]
    if order != [*range(len(order) - 2), len(order) - 1, len(order) - 2]:
        return False
    readers = list(node.users)
    while any(operator_of(reader) in BETWEEN for reader in readers):
        readers = [user for one in readers for user in (one.users if operator_of(one) in BETWEEN else (one,))]
    return bool(readers) and all(operator_of(reader) in PRODUCTS for reader in readers)


def slow_finding(pattern: SlowPattern, clock: PassTime, graph: str) -> SlowFinding:
    """A pattern with its times; how much of the whole pass it is comes from `plan.timed`."""
    taken = clock.range(pattern.nodes)
    place = place_of(pattern.nodes[0])
    rates = dict.fromkeys(rate.source for node in pattern.nodes if (rate := clock.rate_of(node)) is not None)
    evidence = [rate.kind for node in pattern.nodes if (rate := clock.rate_of(node)) is not None]
    lowered = dict.fromkeys(entry.source for node in pattern.nodes if (entry := clock.lowering(node)) is not None)
    return SlowFinding(
        graph=graph,
        name=pattern.name,
        title=pattern.title,
        module=place.module,
        line=next((line for node in pattern.nodes if (line := place_of(node).line)), ""),
        nodes=tuple(node.name for node in pattern.nodes),
        operators=tuple(dict.fromkeys(map(operator_of, pattern.nodes))),
        count=round(sum(map(clock.times, pattern.nodes))),
        takes_s=taken.value,
        could_s=pattern.kept_s,
        low_s=taken.low - pattern.kept_s,
        high_s=taken.high - pattern.kept_s,
        kind=evidence[0] if evidence else "assumed",
        rewrite=pattern.rewrite,
        exactness=pattern.exactness,
        remedy=pattern.remedy,
        beyond_s=taken.value - sum(map(clock.counted_seconds, pattern.nodes)),
        source=pattern.source or "general technique",
        figures=(*rates, *lowered),
    )


def slow_findings(patterns: Iterator[SlowPattern], clock: PassTime, graph: str) -> tuple[SlowFinding, ...]:
    """Patterns with their times, the dearest first; what gains nothing here is none."""
    found = [slow_finding(pattern, clock, graph) for pattern in patterns]
    return tuple(sorted((one for one in found if one.gain_s > 0), key=lambda one: -one.gain_s))
