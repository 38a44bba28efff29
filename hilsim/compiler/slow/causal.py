"""Whether rows of a graph see the rows before them alone, as those of a decoder do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from hilsim.compiler.nodes import fixed, operator_of, value_of
from hilsim.compiler.pass_time import WEIGHTED
from hilsim.compiler.slow.facts import Facts

ATTENTION = "aten.scaled_dot_product_attention.default"
SOFTMAXES = ("aten._softmax.default", "aten._safe_softmax.default")
ORDERS = frozenset(f"aten.{name}.{kind}" for name in ("lt", "le", "gt", "ge") for kind in ("Scalar", "Tensor"))
TRIANGLES = ("aten.tril.default", "aten.triu.default")


def is_causal(facts: Facts) -> bool:
    """Whether attention reads a cache, is called causal, or has a mask over rows and positions that is causal.

    A mask that comes in is taken to be one: it has a row for each query, which padding has not.
    """
    return bool(facts.caches) or any(hides_later_rows(node, facts) for node in facts.nodes)


def hides_later_rows(node: fx.Node, facts: Facts) -> bool:
    """Whether a softmax or an attention gives no weight to later rows."""
    args: Any = node.args
    if operator_of(node) in SOFTMAXES and node not in facts.constants:
        return any(is_causal_mask(one, value_of(node).shape, facts) for one in laid_over(args[0]))
    if operator_of(node) != ATTENTION:
        return False
    mask = args[3] if len(args) > 3 else node.kwargs.get("attn_mask")
    if args[5] if len(args) > 5 else node.kwargs.get("is_causal", False):
        return True
    shape = (*value_of(args[0]).shape[:-1], value_of(args[1]).shape[-2])
    return isinstance(mask, fx.Node) and any(is_causal_mask(one, shape, facts) for one in laid_over(mask))


def laid_over(node: fx.Node) -> list[fx.Node]:
    """A node and what it is made of, back to products of matrices."""
    found, open_ = {node: True}, [node]
    while open_:
        one = open_.pop()
        if operator_of(one) not in WEIGHTED:
            fresh = [source for source in one.all_input_nodes if source not in found]
            found.update(dict.fromkeys(fresh, True))
            open_ += fresh
    return list(found)


def is_causal_mask(node: fx.Node, scores: Any, facts: Facts) -> bool:
    """Whether a node is a mask, over rows and positions of scores, that hides what comes after a row."""
    value = value_of(node)
    if not isinstance(value, Tensor) or value.dim() < 2 or fixed(value.shape[-2]) < 2:
        return False
    if node in facts.constants:
        known = facts.held.get(node.name) if node.op == "placeholder" else facts.copies.value(node)
        if known is not None:
            return is_triangular(known)
    if [fixed(size) for size in value.shape[-2:]] != [fixed(size) for size in scores[-2:]]:
        return False
    if node in facts.inputs:
        return True
    # A window to both sides compares distances, which have no sign.
    ordered = node in facts.constants or node in facts.positional
    distances = any(operator_of(one) == "aten.abs.default" for one in laid_over(node))
    return ordered and (operator_of(node) in TRIANGLES or (operator_of(node) in ORDERS and not distances))


def is_triangular(mask: Tensor) -> bool:
    """Whether all above the diagonal is one number, which the diagonal has nowhere; the last row sees every column."""
    table = mask[(0,) * (mask.dim() - 2)]
    rows, columns = table.shape
    if columns < rows or rows < 2:
        return False
    above = table[torch.ones(rows, columns).triu(1 + columns - rows).bool()]
    return bool((above == above[0]).all()) and bool((table.diagonal(columns - rows) != above[0]).all())
