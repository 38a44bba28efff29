"""Wide arithmetic between narrow tensors: what is cast up, computed and cast back, where no compiler fuses it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx

from hilsim.compiler.nodes import operator_of, value_of
from hilsim.compiler.operator_costs import PRODUCTS
from hilsim.compiler.slow.facts import Facts
from hilsim.compiler.slow.pattern import Pattern, SlowPlace

NARROW = (torch.float16, torch.bfloat16)
CAST = "aten._to_copy.default"
ISLAND = Pattern(
    "wide_island",
    "products computed in float32 between tensors of half precision",
    "leave out the casts around the products, .float() and .to(x.dtype); norms and softmax may keep theirs, which "
    "toolchains fuse",
    "rounding",
    "torch.nn.functional computes norms of half precision in float32 within one operator; products it does not",
    applies=False,
)


def wide_islands(facts: Facts) -> Iterator[SlowPlace]:
    """Casts to float32 around a product of activations or weights, whose result is cast back."""
    for node in facts.nodes:
        if node.op != "call_function" or operator_of(node) not in PRODUCTS or type_of(node) is not torch.float32:
            continue
        up = [found for source in node.all_input_nodes if (found := cast_before(source)) is not None]
        down = cast_after(node)
        if up and len(up) == len(node.all_input_nodes) and down is not None:
            casts = tuple(cast for cast in dict.fromkeys((*up, down)) if cast not in facts.constants)
            if casts:
                yield SlowPlace(ISLAND, casts)


def type_of(node: fx.Node) -> torch.dtype | None:
    value = value_of(node)
    return value.dtype if isinstance(value, Tensor) else None


def cast_before(node: fx.Node) -> fx.Node | None:
    """The cast from half precision that a wide tensor comes from, through operators of one tensor."""
    for _ in range(8):
        if node.op != "call_function":
            return None
        sources = node.all_input_nodes
        if operator_of(node) == CAST and sources and type_of(sources[0]) in NARROW:
            return node
        if len(sources) != 1:
            return None
        node = sources[0]
    return None


def cast_after(node: fx.Node) -> fx.Node | None:
    """The cast back to half precision, before anything else is made of a wide tensor but views, scales and masks."""
    open_ = list(node.users)
    for _ in range(32):
        if not open_:
            return None
        one = open_.pop(0)
        if operator_of(one) == CAST and type_of(one) in NARROW:
            return one
        if operator_of(one) not in PRODUCTS:
            open_ += list(one.users)
    return None
