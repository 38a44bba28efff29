"""Caches of keys and values that are written anew in every pass: by a concatenation, or in another order of axes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor, fx

from hilsim.compiler.nodes import fixed, numel, operator_of, value_of
from hilsim.compiler.pass_time import PassTime
from hilsim.compiler.slow.factors import ALIASES, PERMUTATIONS, RESHAPES, order_of
from hilsim.compiler.slow.facts import Facts, seen_through
from hilsim.compiler.slow.pattern import Pattern, SlowPlace

CAT = Pattern(
    "cache_by_cat",
    "the whole cache copied in every pass to put a few rows behind it, and sent out again",
    "return the new rows alone and let the host write them behind the others; or write them into a cache of fixed "
    "length in place, cache.index_copy_(2, positions, new)",
    "bits",
    "pytorch/executorch examples/qualcomm/oss_scripts/llama: the graph returns the new keys and values alone",
    applies=False,
)
PERMUTED = Pattern(
    "cache_permuted",
    "the whole cache brought into another order of axes in every pass",
    "keep the cache as the product reads it: (batch, kv_heads, positions, head_dim), keys perhaps with the last two "
    "axes exchanged",
    "bits",
    "pytorch/executorch examples/qualcomm/oss_scripts/llama: keys are stored transposed",
    applies=False,
)
WHOLE = ALIASES | PERMUTATIONS | RESHAPES | {"aten.cat.default"}  # what keeps all numbers of what it takes


def caches_by_cat(facts: Facts) -> Iterator[SlowPlace]:
    """Concatenations of a cache that comes in with new rows, where the whole goes out again."""
    for node in facts.nodes:
        if operator_of(node) != "aten.cat.default":
            continue
        args: Any = node.args
        parts = [part for part in args[0] if numel(value_of(part))]
        old = max(parts, key=size, default=node)
        share = 1 - size(old) / max(1, size(node))
        if len(parts) > 1 and share < 0.5 and is_cache(old, facts) and goes_out(node, facts):
            yield SlowPlace(CAT, (node,), partial(new_rows, node, share))


def new_rows(node: fx.Node, share: float, clock: PassTime) -> float:
    """What writing the new rows takes."""
    return clock.node_seconds(node) * share


def is_cache(node: fx.Node, facts: Facts) -> bool:
    """Whether a node shows a cache that comes in; a concatenation with nothing is the same cache."""
    while True:
        node = seen_through(node)
        if operator_of(node) != "aten.cat.default":
            return node in facts.caches
        args: Any = node.args
        parts = [part for part in args[0] if numel(value_of(part))]
        if len(parts) != 1:
            return False
        node = parts[0]


def goes_out(node: fx.Node, facts: Facts) -> bool:
    """Whether all of a node's numbers come out, beside others perhaps."""
    seen, open_ = {node}, [node]
    while open_:
        one = open_.pop()
        if one in facts.results:
            return True
        for user in one.users:
            whole = operator_of(user) in WHOLE
            if whole and isinstance(value_of(user), Tensor) and user not in seen and size(user) >= size(node):
                seen.add(user)
                open_.append(user)
    return False


def size(node: fx.Node) -> int:
    return numel(value_of(node))


def caches_permuted(facts: Facts) -> Iterator[SlowPlace]:
    """Permutations of a cache that move more than the last two axes, which a product reads either way."""
    for node in facts.nodes:
        if operator_of(node) not in PERMUTATIONS or node in facts.constants:
            continue
        source = node.args[0]
        if isinstance(source, fx.Node) and holds_cache(source, facts) and moves(node):
            yield SlowPlace(PERMUTED, (node,))


def holds_cache(node: fx.Node, facts: Facts) -> bool:
    """Whether a node is a cache that comes in, with new rows behind it perhaps."""
    node = seen_through(node)
    if operator_of(node) == "aten.cat.default":
        args: Any = node.args
        return any(is_cache(part, facts) and 2 * size(part) > size(node) for part in args[0] if size(part))
    return node in facts.caches


def moves(node: fx.Node) -> bool:
    """Whether an order of axes is another order in memory, but for the last two."""
    args: Any = node.args
    shape = value_of(args[0]).shape
    order = [axis for axis in order_of(node, len(shape)) if fixed(shape[axis]) != 1]
    plain = sorted(order)
    return order not in (plain, [*plain[:-2], *plain[:-3:-1]])
