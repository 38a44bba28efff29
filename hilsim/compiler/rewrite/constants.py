"""Constants that a format does not hold, replaced where nothing that is read changes: bounds, low numbers of masks."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from hilsim.compiler.rewrite.masks import constant, soft
from hilsim.compiler.rewrite.record import Rewrite, argument, is_last

aten = torch.ops.aten
INT32 = torch.iinfo(torch.int32)
LOW = -3e4  # hides a score in fp16, and twice of it is still a number there
HALF = torch.finfo(torch.float16).max
# Operators that hand a mask on to the scores, or to attention.
PASSING = tuple(
    f"aten.{name}"
    for name in ("add.Tensor", "view.default", "expand.default", "unsqueeze.default", "clone.default", "slice.Tensor",
                 "_to_copy.default", "mul.Tensor", "select.int", "permute.default", "div.Tensor")
)  # fmt: skip
CASTS = (aten._to_copy.default, aten.view.default, aten.expand.default, aten.unsqueeze.default, aten.clone.default,
         aten.slice.Tensor)  # fmt: skip
HELD = ("b_", "c_", "p_")  # how an exported program calls buffers, constants and parameters


def hidden(node: fx.Node) -> bool:
    """Whether all that a node reaches is a softmax along the last axis, or the mask of attention."""
    for user in node.users:
        if user.target in (aten._softmax.default, aten.softmax.int):
            if not is_last(argument(user, 1, "dim"), argument(user, 0, "self").dim()):
                return False
        elif user.target is aten.scaled_dot_product_attention.default:
            if argument_node(user, 3, "attn_mask") is not node:
                return False
        elif str(user.target) not in PASSING or not hidden(user):
            return False
    return bool(node.users)


def argument_node(node: fx.Node, place: int, name: str) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name)


def zeros_and_ones(node: Any) -> bool:
    """Whether a factor holds 0 and 1: truth values or a mask of integers as floats, or one minus these."""
    if not isinstance(node, fx.Node):
        return False
    if not node.meta["val"].dtype.is_floating_point:
        return True
    if node.target in CASTS:
        return zeros_and_ones(node.args[0])
    if node.target in (aten.rsub.Scalar, aten.sub.Tensor):
        one, other = (node.args[1], node.args[0]) if node.target is aten.rsub.Scalar else node.args[:2]
        return constant(one) == 1 and zeros_and_ones(other)
    return False


def verdict(comparison: Callable[..., Any], x: Tensor, number: int) -> Tensor:
    """A comparison with a number beyond all of int32, which every number of x answers as 0 does."""
    kind = str(comparison).split(".")[1]
    return torch.full(x.shape, getattr(operator, kind)(0, number), dtype=torch.bool)


def bounded(clamp: Callable[..., Any], x: Tensor, *bounds: Any, **named: Any) -> Tensor:
    """A clamp with its bounds cut to int32, beyond which no number of x lies."""

    def cut(bound: Any) -> Any:
        return bound if bound is None else min(max(bound, INT32.min), INT32.max)

    made: Tensor = clamp(x, *map(cut, bounds), **{name: cut(bound) for name, bound in named.items()})
    return made


def filled(fill: Callable[..., Any], x: Tensor, mask: Tensor, number: float) -> Tensor:
    """A fill of what a softmax hides by a number that fp16 holds."""
    made: Tensor = fill(x, mask, LOW)
    return made


def chosen(where: Callable[..., Any], mask: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """A choice among a score, or zero, and what hides it: both cut to what fp16 holds."""
    made: Tensor = where(mask, *(part.clamp_min(LOW) if not part.dim() else part for part in (x, y)))
    return made


def added(x: Tensor, mask: Tensor) -> Tensor:
    """Scores plus a constant mask, cut to what fp16 holds when the graph is built."""
    return x + mask.clamp_min(LOW)


def scaled(mask: Tensor, number: float) -> Tensor:
    """0 where a mask of zeros and ones is 0, else a low number that fp16 holds."""
    return mask * LOW


def fits_far(node: fx.Node) -> str:
    x, number = argument(node, 0, "self"), argument(node, 1, "other")
    far = isinstance(number, int) and not INT32.min <= number <= INT32.max
    return "" if far and x.dtype is torch.int64 else "it compares with a number within int32"


def fits_bounds(node: fx.Node) -> str:
    x = argument(node, 0, "self")
    bounds = [argument(node, place, name) for place, name in ((1, "min"), (2, "max"))]
    far = any(isinstance(bound, int) and not INT32.min <= bound <= INT32.max for bound in bounds)
    return "" if far and x.dtype is torch.int64 else "its bounds are within int32"


SEEN = "something other than a softmax uses its result"


def fits_fill(node: fx.Node) -> str:
    number = argument(node, 2, "value")
    if not isinstance(number, (int, float)) or number >= -HALF:
        return "it fills in a number that fp16 holds"
    return "" if hidden(node) else SEEN


def fits_choice(node: fx.Node) -> str:
    numbers = [constant(node.args[place]) for place in (1, 2)]
    if not any(number is not None and number < -HALF for number in numbers):
        return "it chooses no number below what fp16 holds"
    return "" if hidden(node) else SEEN


def fits_mask(node: fx.Node) -> str:
    mask = node.args[1]
    held = isinstance(mask, fx.Node) and mask.op == "placeholder" and mask.name.startswith(HELD)
    if not held or not node.meta["val"].dtype.is_floating_point or node.kwargs:
        return "it adds no constant mask"
    return "" if hidden(node) else SEEN


def fits_scale(node: fx.Node) -> str:
    number = constant(node.args[1])
    if number is None or number >= -HALF or not zeros_and_ones(node.args[0]):
        return "it is no mask of zeros and ones times a number below what fp16 holds"
    return "" if hidden(node) else SEEN


COMPARISONS = tuple(f"aten.{kind}.Scalar" for kind in ("lt", "le", "gt", "ge", "eq", "ne"))
WITHIN = "the same while no number passes 2^31 - 1, as int64 becomes int32 there"
HIDES = f"equal behind a softmax while scores stay within 1e4: {LOW:g} hides them as well"


def cut(name: str, target: str, function: Any, fits: Any, keeps: bool) -> Rewrite:
    """A low number of a mask cut to what fp16 holds."""
    return Rewrite(
        name, "the low number of a mask cut to what fp16 holds", (target,), "rounding", function, fits, HIDES,
        domain="moderate", used=soft, with_operator=keeps,
    )  # fmt: skip


REWRITES = (
    Rewrite("comparison_beyond_int32", "the answer that every number of int32 gives", COMPARISONS, "bits", verdict,
            fits_far, WITHIN, with_operator=True),
    Rewrite("clamp_within_int32", "bounds cut to int32", ("aten.clamp.default",), "bits", bounded, fits_bounds, WITHIN,
            with_operator=True),
    cut("fill_within_fp16", "aten.masked_fill.Scalar", filled, fits_fill, True),
    cut("choice_within_fp16", "aten.where.self", chosen, fits_choice, True),
    cut("mask_within_fp16", "aten.add.Tensor", added, fits_mask, False),
    cut("factor_within_fp16", "aten.mul.Tensor", scaled, fits_scale, False),
)  # fmt: skip
