"""What hangs on positions alone and is worked out again: in every layer, or the attention mask in every pass."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from hilsim.compiler.nodes import fixed, operator_of, value_of
from hilsim.compiler.operator_costs import is_free
from hilsim.compiler.rewrite.apply import tidy
from hilsim.compiler.slow.facts import Facts
from hilsim.compiler.slow.pattern import Pattern, SlowPlace

AGAIN = Pattern(
    "positions_again",
    "the same rows of tables, or the same mask, worked out of positions again in every layer",
    "work it out once before the layers, cos and sin of the positions above all, and give it to each of them",
    "bits",
    "pytorch/executorch examples/qualcomm/oss_scripts/llama/model/static_llama.py: tables are read once, before the "
    "layers",
)
MASK = Pattern(
    "mask_in_graph",
    "the attention mask worked out of positions in every pass",
    "make the mask an input, (rows, cached + rows), zeros and a large negative number added to the scores: the host "
    "knows it; of a prompt without a cache it is a constant",
    "values",
    "pytorch/executorch examples/qualcomm/oss_scripts/llama/model/static_llama.py: atten_mask is an input",
    applies=False,
)
COMPARISONS = frozenset(
    f"aten.{name}.{kind}" for name in ("eq", "ne", "lt", "le", "gt", "ge") for kind in ("Scalar", "Tensor")
) | {"aten.tril.default", "aten.triu.default"}  # fmt: skip
TAKERS = frozenset(
    ("aten.add.Tensor", "aten.where.self", "aten.masked_fill.Scalar", "aten.mul.Tensor",
     "aten.scaled_dot_product_attention.default", "aten.sub.Tensor", "aten.maximum.default", "aten.minimum.default")
)  # fmt: skip


def worked_out_again(facts: Facts) -> Iterator[SlowPlace]:
    """Nodes of positions alone that are the same as one before them; what is only shown otherwise costs nothing."""
    known: dict[Any, Any] = {}
    first: dict[fx.Node, fx.Node] = {}
    for node in facts.nodes:
        if node in facts.constants:
            first[node] = constant_alike(node, facts, known, first)
        elif node in facts.positional:
            first[node] = known.setdefault(key_of(node, first), node)
            if first[node] is not node and not is_free(node):
                yield SlowPlace(AGAIN, (node,), put=partial(put_first, node, first[node]))


def key_of(node: fx.Node, first: dict[fx.Node, fx.Node]) -> Any:
    """What nodes of the same result have in common."""
    args = fx.node.map_arg((node.args, dict(node.kwargs)), lambda source: first.get(source, source))
    return operator_of(node), repr(args)


def constant_alike(node: fx.Node, facts: Facts, known: dict[Any, Any], first: dict[fx.Node, fx.Node]) -> fx.Node:
    """The first constant of the same numbers: tables are registered in every layer anew."""
    if node.op == "call_function":
        made: fx.Node = known.setdefault(key_of(node, first), node)
        return made
    held = facts.held.get(node.name)
    if held is None or facts.is_parameter(node):
        return node
    tables = known.setdefault(("tables", tuple(held.shape), held.dtype), [])
    alike = next((table for table in tables if torch.equal(facts.held[table.name], held)), None)
    if alike is None:
        tables.append(node)
    return alike or node


def put_first(node: fx.Node, first: fx.Node, program: ExportedProgram) -> None:
    """Use what was worked out first."""
    node.replace_all_uses_with(first)
    program.graph_signature.replace_all_uses(node.name, first.name)
    tidy(program)


def masks_in_graph(facts: Facts) -> Iterator[SlowPlace]:
    """Regions of comparisons of positions that end in scores, or in an attention."""
    for node in facts.nodes:
        if (
            node not in facts.positional
            or not is_mask(node)
            or not any(taken(node, user, facts) for user in node.users)
        ):
            continue
        region = region_of(node, facts)
        if any(operator_of(inner) in COMPARISONS for inner in region):
            yield SlowPlace(MASK, tuple(region))


def is_mask(node: fx.Node) -> bool:
    """Whether a node has a column for every position, and rows or is a single one."""
    value = value_of(node)
    return isinstance(value, Tensor) and value.dim() >= 2 and fixed(value.shape[-1]) > 1


def taken(node: fx.Node, user: fx.Node, facts: Facts) -> bool:
    """Whether a user lays the node over scores: numbers that are no positions, with as many columns."""
    if user in facts.positional or operator_of(user) not in TAKERS:
        return False
    if operator_of(user) == "aten.scaled_dot_product_attention.default":
        given: Any = (*user.args, *user.kwargs.values())
        return node in given[3:]
    return scores(user, facts)


def scores(node: fx.Node, facts: Facts) -> bool:
    """Whether what is made is scores of attention: a softmax follows."""
    open_, steps = [node], 0
    while open_ and steps < 16:
        one, steps = open_.pop(), steps + 1
        if operator_of(one) in ("aten._softmax.default", "aten._safe_softmax.default"):
            return True
        if operator_of(one) in TAKERS or is_free(one) or operator_of(one) == "aten._to_copy.default":
            open_ += list(one.users)
    return False


def region_of(node: fx.Node, facts: Facts) -> list[fx.Node]:
    """The nodes of positions alone that a mask is made of, in order."""
    found, open_ = {node}, [node]
    while open_:
        fresh = [source for source in open_.pop().all_input_nodes if source in facts.positional and source not in found]
        found.update(fresh)
        open_ += fresh
    return [inner for inner in facts.nodes if inner in found]
