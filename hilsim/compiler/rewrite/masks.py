"""Masks as arithmetic, and plain advice for operators that no drop-in can replace."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from hilsim.compiler.rewrite.record import Rewrite, argument, value

FULL_LENGTH = "its length depends on the data: keep the mask and its full length, and cut on the host"

# What to do instead, where a replacement would need another graph: a new input, or a shape that depends on data.
REMEDIES: dict[str, str] = {
    "aten.multinomial.default": "draw uniform noise on the host, pass it as an input, compare with the cumulated "
    "probabilities",
    "aten.rand.default": "draw the numbers on the host and pass them as an input",
    "aten.randn.default": "draw the numbers on the host and pass them as an input",
    "aten.bernoulli.default": "draw uniform noise on the host, pass it as an input, compare with the probability",
    "aten.native_dropout.default": "export the module in evaluation mode, where dropout does nothing",
    "aten.nonzero.default": FULL_LENGTH,
    "aten.masked_select.default": FULL_LENGTH,
    "aten._unique2.default": "its length depends on the data: sort or count on the host",
    "aten.unique_dim.default": "its length depends on the data: sort or count on the host",
    "cond": "compute both branches and choose by where, or compile one graph per branch and choose on the host",
    "while_loop": "unroll a fixed number of rounds, or run one compiled round in a loop on the host",
}


def gate(mask: Tensor, like: Tensor) -> Tensor:
    """0 where the mask is true, else half the lowest number of the type: adding a score to it stays finite."""
    return (mask.to(like.dtype) - 1.0) * (torch.finfo(like.dtype).max / 2)


def where_additive(mask: Tensor, scores: Tensor, fill: Tensor) -> Tensor:
    """Scores where the mask is true, a finite low number elsewhere."""
    return scores + gate(mask, scores)


def where_additive_first(mask: Tensor, fill: Tensor, scores: Tensor) -> Tensor:
    """The same where the fill is the first of the two, as `masked_fill` exports."""
    return fill_additive(scores, mask, 0.0)


def fill_additive(scores: Tensor, mask: Tensor, number: float) -> Tensor:
    """The same for `masked_fill`, whose mask is true where the fill goes."""
    return scores - mask.to(scores.dtype) * (torch.finfo(scores.dtype).max / 2)


def where_arithmetic(mask: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """mask * x + (1 - mask) * y: products with 0 and 1 and a sum with 0 are exact."""
    kind = torch.result_type(x, y)
    share = mask.to(kind)
    return share * x.to(kind) + (1.0 - share) * y.to(kind)


def fill_where(x: Tensor, mask: Tensor, number: float) -> Tensor:
    """`masked_fill` as a choice against a constant."""
    return torch.where(mask, torch.full((), number, dtype=x.dtype, device=x.device), x)


def negation(x: Tensor) -> Tensor:
    return (x.to(torch.float32) if x.dtype is torch.bool else x) == 0


def complement(x: Tensor) -> Tensor:
    """`~x` of signed integers: -1 - x."""
    return -1 - x


def difference(x: Tensor, y: Tensor) -> Tensor:
    """Exclusive or of booleans: not equal."""
    apart = x.to(torch.float32) - y.to(torch.float32)
    return apart * apart > 0


def conjunction(x: Tensor, y: Tensor) -> Tensor:
    return x.to(torch.float32) * y.to(torch.float32) > 0


def disjunction(x: Tensor, y: Tensor) -> Tensor:
    return x.to(torch.float32) + y.to(torch.float32) > 0


def softmaxes(node: fx.Node) -> bool:
    """Whether a softmax along the last axis is all that sees a node: then a low number does what -inf does."""
    rank = node.meta["val"].dim()
    known = (torch.ops.aten._softmax.default, torch.ops.aten.softmax.int)
    return bool(node.users) and all(u.target in known and u.args[1] in (-1, rank - 1) for u in node.users)


def constant(node: Any) -> float | None:
    """The number that a node is everywhere, where it is made as a constant of the graph; else None."""
    aten = torch.ops.aten
    if not isinstance(node, fx.Node):
        return node if isinstance(node, int | float) else None
    if node.target is aten.scalar_tensor.default:
        return constant(node.args[0])
    if node.target in (aten.full.default, aten.full_like.default):
        return constant(node.args[1])
    if node.target in (aten._to_copy.default, aten.expand.default, aten.view.default, aten.clone.default):
        return constant(node.args[0])
    return None


def is_low(number: float | None, dtype: torch.dtype) -> bool:
    """Whether a fill means "masked": -inf, or the lowest number of the type."""
    return number is not None and dtype.is_floating_point and number <= torch.finfo(dtype).min


def fits_where_low(node: fx.Node) -> str:
    return fits_fill(node, fill=2, scores=1)


def fits_where_low_first(node: fx.Node) -> str:
    return fits_fill(node, fill=1, scores=2)


def fits_fill(node: fx.Node, fill: int, scores: int) -> str:
    """Whether one branch means "masked", the other is whole, and only a softmax looks at the result."""
    if not is_low(constant(node.args[fill]), node.meta["val"].dtype):
        return "what it fills in is not -inf or the type's lowest number"
    if value(node.args[scores]).shape != node.meta["val"].shape:
        return "its scores are stretched to the mask"
    return "" if softmaxes(node) else "something other than a softmax uses its result"


def fits_fill_low(node: fx.Node) -> str:
    return fits_fill(node, fill=2, scores=0)


def fits_floats(node: fx.Node) -> str:
    kind = node.meta["val"].dtype
    if not kind.is_floating_point:
        return "it chooses integers or booleans"
    low = [constant(argument) for argument in node.args[1:]]
    return "it chooses infinity" if any(x is not None and not math.isfinite(x) for x in low) else ""


def fits_booleans(node: fx.Node) -> str:
    tensors = [argument(node, place, "") for place in range(len(node.args))]
    return "" if all(t.dtype is torch.bool for t in tensors) else "it is over numbers, not booleans"


def fits_signed(node: fx.Node) -> str:
    kind = node.meta["val"].dtype
    return "" if kind in (torch.int8, torch.int16, torch.int32, torch.int64) else "it is of no signed integers"


def soft(outputs: Tensor) -> Tensor:
    """What the softmax behind a masked score makes of it; the only thing promised where the mask is additive."""
    return torch.softmax(outputs, -1)


MASKED = (
    "-inf becomes a finite low number: equal after a softmax, except in rows where everything is masked (NaN in torch, "
    "a finite distribution here); scores must stay above half the type's lowest number"
)

REWRITES = (
    Rewrite("where_by_additive_mask", "scores plus a float mask", ("aten.where.self",), "rounding", where_additive,
            fits_where_low, caveat=MASKED, domain="moderate", used=soft),
    Rewrite("where_first_by_additive_mask", "scores plus a float mask", ("aten.where.self",), "rounding",
            where_additive_first, fits_where_low_first, caveat=MASKED, domain="moderate", used=soft),
    Rewrite("where_by_arithmetic", "mask * x + (1 - mask) * y", ("aten.where.self",), "bits", where_arithmetic,
            fits_floats, caveat="only for finite values (0 * inf is NaN)", domain="finite"),
    Rewrite("masked_fill_by_additive_mask", "scores plus a float mask", ("aten.masked_fill.Scalar",), "rounding",
            fill_additive, fits_fill_low, caveat=MASKED, domain="moderate", used=soft),
    Rewrite("masked_fill_by_where", "a choice against a constant", ("aten.masked_fill.Scalar",), "bits", fill_where),
    Rewrite("not_by_comparison", "equal to 0", ("aten.logical_not.default",), "bits", negation),
    Rewrite("bitwise_not_by_comparison", "equal to 0", ("aten.bitwise_not.default",), "bits", negation, fits_booleans),
    Rewrite("bitwise_not_by_difference", "-1 - x", ("aten.bitwise_not.default",), "bits", complement, fits_signed),
    Rewrite("xor_by_difference", "difference of ones other than 0",
            ("aten.logical_xor.default", "aten.bitwise_xor.Tensor"), "bits", difference, fits_booleans),
    Rewrite("and_by_product", "product of ones above 0", ("aten.logical_and.default", "aten.bitwise_and.Tensor"),
            "bits", conjunction, fits_booleans),
    Rewrite("or_by_sum", "sum of ones above 0", ("aten.logical_or.default", "aten.bitwise_or.Tensor"), "bits",
            disjunction, fits_booleans),
)  # fmt: skip
