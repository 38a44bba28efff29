"""Attention, einsum, linear and norms as matrix products, sums and elementwise steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from hilsim.compiler.rewrite.record import Rewrite, argument


def einsum(equation: str, operands: Sequence[Tensor], path: Sequence[int] | None = None) -> Tensor:
    """`torch.einsum` from left to right: sum what only one operand has, then one bmm for each pair."""
    left, output = sides_of(equation)
    letters, x = left[0], operands[0]
    for place, y in enumerate(operands[1:], 1):
        needed = set(output).union(*left[place + 1 :])
        letters, x = contract(letters, x, left[place], y, needed)
    letters, x = summed(letters, x, set(output))
    return x.permute([letters.index(letter) for letter in output]) if letters != output else x


def sides_of(equation: str) -> tuple[list[str], str]:
    """The letters of each operand and of the output; without an arrow those that stand once, in alphabetical order."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    return left.split(","), right if arrow else "".join(sorted(c for c in set(left) - {","} if left.count(c) == 1))


def summed(letters: str, x: Tensor, needed: set[str]) -> tuple[str, Tensor]:
    """The operand without the axes that nothing else needs."""
    gone = [place for place, letter in enumerate(letters) if letter not in needed]
    return ("".join(c for c in letters if c in needed), torch.sum(x, gone)) if gone else (letters, x)


def contract(left: str, x: Tensor, right: str, y: Tensor, needed: set[str]) -> tuple[str, Tensor]:
    """Two operands as one bmm (batch, own, inner) x (batch, inner, own); batch axes are shared and still needed."""
    left, x = summed(left, x, needed | set(right))
    right, y = summed(right, y, needed | set(left))
    batch = [c for c in left if c in right and c in needed]
    inner = [c for c in left if c in right and c not in needed]
    own_x, own_y = [c for c in left if c not in right], [c for c in right if c not in left]
    length = dict(zip(right, y.shape, strict=True))
    for letter, size in zip(left, x.shape, strict=True):
        if length.get(letter, 1) == 1:
            length[letter] = size
    x = arranged(left, x, [batch, own_x, inner], length)
    y = arranged(right, y, [batch, inner, own_y], length)
    order = [*batch, *own_x, *own_y]
    return "".join(order), torch.bmm(x, y).reshape([length[letter] for letter in order])


def arranged(letters: str, x: Tensor, groups: Sequence[Sequence[str]], length: dict[str, int]) -> Tensor:
    """The operand with its axes in the groups' order and each group as one axis; axes of length 1 are stretched."""
    order = [letter for group in groups for letter in group]
    stretched = x.permute([letters.index(letter) for letter in order]).expand([length[letter] for letter in order])
    return stretched.reshape([math.prod(length[letter] for letter in group) for group in groups])


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q k^T * scale + mask) v, with a finite number for "masked".

    Half the type's lowest number, as a score may be added to it. A row that may see nothing would spread evenly; torch
    answers 0 there, so such rows are set to 0.
    """
    grouped = enable_gqa and query.shape[-3] != key.shape[-3]
    product = by_groups if grouped else torch.matmul
    scores = product(query, key.transpose(-2, -1)) * (scale or 1 / math.sqrt(query.shape[-1]))
    low = torch.finfo(query.dtype).min / 2
    sees = None
    if is_causal:
        row = torch.arange(query.shape[-2], device=query.device).unsqueeze(-1)
        attn_mask = row >= torch.arange(key.shape[-2], device=query.device)
    if attn_mask is not None:
        seen = attn_mask if attn_mask.dtype is torch.bool else attn_mask > -math.inf
        floor = torch.full((), low, dtype=query.dtype, device=query.device)
        open_ = torch.zeros_like(floor) if attn_mask.dtype is torch.bool else attn_mask
        scores = scores + torch.where(seen, open_, floor)
        sees = None if is_causal else torch.amax(seen.to(query.dtype), -1, keepdim=True) > 0
    result = product(torch.softmax(scores, -1), value)
    return result if sees is None else torch.where(sees, result, torch.zeros((), dtype=result.dtype))


def by_groups(x: Tensor, y: Tensor) -> Tensor:
    """x y for each head of x, of which those of a group share a head of y: a group's rows are one matrix."""
    *batch, heads, rows, width = x.shape
    shared = y.shape[-3]
    made = torch.matmul(x.reshape(*batch, shared, heads // shared * rows, width), y)
    return made.reshape(*batch, heads, rows, y.shape[-1])


def wide_type(x: Tensor) -> torch.dtype:
    """What torch computes norms in: float32 for half precision."""
    return torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x * rsqrt(mean(x * x) + eps) * weight. Without an eps torch takes the epsilon of the type it computes in."""
    wide = x.to(wide_type(x))
    axes = list(range(-len(normalized_shape), 0))
    smallest = torch.finfo(wide.dtype).eps if eps is None else eps
    result = wide * torch.rsqrt(torch.mean(wide * wide, axes, keepdim=True) + smallest)
    return (result if weight is None else result * weight).to(x.dtype)


def layer_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`native_layer_norm`: the normalised rows, their means, and one over their deviation.

    Centred twice: in a row of equal values the mean's last bit would be magnified by 1 / sqrt(eps).
    """
    wide = x.to(wide_type(x))
    axes = list(range(-len(normalized_shape), 0))
    mean = torch.mean(wide, axes, keepdim=True)
    centred = wide - mean
    rest = torch.mean(centred, axes, keepdim=True)
    centred, mean = centred - rest, mean + rest
    inverse = torch.rsqrt(torch.mean(centred * centred, axes, keepdim=True) + eps)
    result = centred * inverse
    result = result if weight is None else result * weight
    result = result if bias is None else result + bias
    return result.to(x.dtype), mean.to(x.dtype), inverse.to(x.dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b with the rows flattened into one matrix product."""
    rows = torch.mm(x.reshape(-1, x.shape[-1]), weight.permute(1, 0)).reshape(*x.shape[:-1], weight.shape[0])
    return rows if bias is None else rows + bias


def addmm(bias: Tensor, x: Tensor, y: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * bias + alpha * x y."""
    product = torch.mm(x, y)
    return (product if alpha == 1 else product * alpha) + (bias if beta == 1 else bias * beta)


def fits_einsum(node: fx.Node) -> str:
    """Whether every operand has each letter once, and there is no ellipsis."""
    equation = str(node.args[0])
    if "." in equation:
        return "it has an ellipsis"
    left, output = sides_of(equation)
    if any(len(set(letters)) != len(letters) for letters in [*left, output]):
        return "an operand has a letter twice (a diagonal)"
    return ""


def fits_attention(node: fx.Node) -> str:
    if argument(node, 4, "dropout_p", 0.0):
        return "it drops at random (dropout)"
    if argument(node, 3, "attn_mask") is not None and argument(node, 5, "is_causal", False):
        return "it has a mask and is causal, which torch refuses as well"
    return ""


def fits_width(node: fx.Node) -> str:
    """Whether the matrix product has rows: a lone vector has none."""
    x, weight = argument(node, 0, "input"), argument(node, 1, "weight")
    return "" if x.dim() and weight.dim() == 2 else "its weight is no matrix"


SUMS = "sums in another order"

ATTENTION = f"{SUMS}; rows that may see nothing answer 0, as torch does; the whole score matrix is held in memory"

REWRITES = (
    Rewrite("einsum_by_bmm", "permutations and one bmm for each pair", ("aten.einsum.default",), "rounding", einsum,
            fits_einsum, caveat=SUMS, domain="moderate"),
    Rewrite("attention_by_matmul", "matmul, additive mask, softmax, matmul",
            ("aten.scaled_dot_product_attention.default",), "rounding", attention, fits_attention,
            caveat=ATTENTION,
            source="definition in torch.nn.functional.scaled_dot_product_attention", domain="moderate"),
    Rewrite("rms_norm_by_parts", "x * rsqrt(mean(x * x) + eps) * weight", ("aten.rms_norm.default",), "rounding",
            rms_norm, caveat="half precision computes in float32, as torch does", source="Zhang and Sennrich 2019",
            domain="moderate"),
    Rewrite("layer_norm_by_parts", "mean, difference, mean of squares, rsqrt", ("aten.native_layer_norm.default",),
            "rounding", layer_norm, caveat="half precision computes in float32, as torch does",
            source="Ba, Kiros and Hinton 2016", domain="moderate"),
    Rewrite("linear_by_matmul", "matmul and addition", ("aten.linear.default",), "rounding", linear, fits_width,
            caveat=SUMS, domain="moderate"),
    Rewrite("addmm_by_matmul", "matmul and addition", ("aten.addmm.default",), "rounding", addmm, caveat=SUMS,
            domain="moderate"),
)  # fmt: skip
