"""Orders of axes that are changed and changed back, with nothing between that cares."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, fx
from torch.export import ExportedProgram

from hilsim.compiler.nodes import operator_of, value_of
from hilsim.compiler.slow.factors import ALIASES, PERMUTATIONS, order_of
from hilsim.compiler.slow.facts import Facts
from hilsim.compiler.slow.heads import put_instead
from hilsim.compiler.slow.pattern import Pattern, SlowPlace, put_function
from hilsim.compiler.slow.repeats import is_pointwise

PAIR = Pattern(
    "permuted_and_back",
    "axes exchanged and exchanged back, copied each time",
    "leave both out: what stands between works on every number by itself",
    "bits",
    "tensors of an NPU are dense: each exchange writes all numbers (QNN Transpose)",
)


def exchanged_and_back(facts: Facts) -> Iterator[SlowPlace]:
    """Permutations that undo an earlier one, through copies and operators on single numbers."""
    for node in facts.nodes:
        # What a rewrite lays out in memory as it was is no exchange of the network's own.
        if operator_of(node) not in PERMUTATIONS or node in facts.constants or "rewritten" in node.meta:
            continue
        chain = chain_to(node, facts)
        if chain is None:
            continue
        first, between = chain
        orders = [order_of(one, value_of(one).dim()) for one in (first, node)]
        together = [orders[0][axis] for axis in orders[1]]
        if together == sorted(together) and orders[0] != together:
            yield SlowPlace(PAIR, (first, node), put=partial(put_straight, node, first, between))


def chain_to(node: fx.Node, facts: Facts) -> tuple[fx.Node, list[fx.Node]] | None:
    """The permutation before a permutation and what stands between, where nothing else reads of that."""
    between: list[fx.Node] = []
    args: Any = node.args
    one = args[0]
    while one.op == "call_function" and len(one.users) == 1:
        if operator_of(one) in PERMUTATIONS:
            return one, between[::-1]
        taken = [source for source in one.all_input_nodes if source not in facts.constants]
        single = all(is_single(source) for source in one.all_input_nodes if source in facts.constants)
        if len(taken) != 1 or not single or not (operator_of(one) in ALIASES or is_pointwise(one)):
            return None
        between.append(one)
        one = taken[0]
    return None


def is_single(node: fx.Node) -> bool:
    value = value_of(node)
    return isinstance(value, Tensor) and value.dim() == 0


def put_straight(node: fx.Node, first: fx.Node, between: list[fx.Node], program: ExportedProgram) -> None:
    """What stands between, over the numbers in their own order."""
    source: Any = first.args[0]
    steps = [one for one in between if operator_of(one) not in ALIASES]
    given = [other for one in steps for other in one.all_input_nodes if other in constants_among(steps)]

    def straight(x: Tensor, *others: Any) -> Tensor:
        known = dict(zip(given, others, strict=True))
        for one in steps:
            inside = {entry: known.get(entry, x) for entry in one.all_input_nodes}
            args, kwargs = fx.node.map_arg((one.args, dict(one.kwargs)), inside.__getitem__)
            target: Any = one.target
            x = target(*args, **kwargs)
        return x.contiguous()  # of which every reshape further down is a view

    put_instead(node, put_function(node, PAIR.name, straight, (source, *given)), program)


def constants_among(steps: list[fx.Node]) -> set[fx.Node]:
    """The single numbers that operators take beside the tensor that runs through them."""
    return {source for one in steps for source in one.all_input_nodes if is_single(source)}
