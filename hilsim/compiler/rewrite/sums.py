"""Running sums, any, extremes and order without their operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from hilsim.compiler.rewrite.indexing import MASK_ELEMENTS, back, last
from hilsim.compiler.rewrite.record import Rewrite, argument, extent
from hilsim.compiler.rewrite.topk import MOST_ROUNDS, rounds


def sum_type(x: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """What torch sums in: the given type, int64 for integers and booleans, else the tensor's own."""
    return dtype or (x.dtype if x.dtype.is_floating_point else torch.int64)


def cumsum_matmul(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """`torch.cumsum` as a product with the upper triangle of ones (n, n); integers by way of float32."""
    kind = sum_type(x, dtype)
    work = kind if kind.is_floating_point else torch.float32
    rows = last(x.to(kind).to(work), dim)
    n = rows.shape[-1]
    place = torch.arange(n, device=x.device)
    triangle = (place.unsqueeze(-1) <= place).to(work)
    return back(torch.mm(rows.reshape(-1, n), triangle).reshape(rows.shape).to(kind), dim)


def cumsum_shifts(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Tensor:
    """`torch.cumsum` by adding the row moved by 1, 2, 4, ... places: log2(n) additions (Hillis and Steele, 1986)."""
    total = x.to(sum_type(x, dtype))
    n = x.shape[dim]
    shift = 1
    while shift < n:
        shape = [*total.shape]
        shape[dim] = shift
        gap = torch.zeros(shape, dtype=total.dtype, device=x.device)
        total = total + torch.cat([gap, total.narrow(dim, 0, n - shift)], dim)
        shift *= 2
    return total


def truth(x: Tensor) -> Tensor:
    """1.0 where a value counts as true, else 0.0."""
    return x.to(torch.float32) if x.dtype is torch.bool else torch.logical_not(x == 0).to(torch.float32)


def any_dim(x: Tensor, dim: int, keepdim: bool = False) -> Tensor:
    return torch.amax(truth(x), dim, keepdim) > 0


def any_dims(x: Tensor, dim: list[int] | None = None, keepdim: bool = False) -> Tensor:
    return torch.amax(truth(x), dim if dim is not None else list(range(x.dim())), keepdim) > 0


def any_all(x: Tensor) -> Tensor:
    return torch.amax(truth(x)) > 0


def argmax_places(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The first place that equals the maximum; over the flattened tensor where no axis is given."""
    if dim is None:
        first = first_place(x.reshape(-1))
        return first.reshape([1] * x.dim()) if keepdim else first.reshape([])
    first = first_place(last(x, dim))
    return back(first, dim) if keepdim else first.squeeze(-1)


def first_place(rows: Tensor) -> Tensor:
    """(..., 1): the first place of each row that equals its maximum."""
    n = rows.shape[-1]
    place = torch.arange(n, device=rows.device)
    beyond = torch.full((), n, device=rows.device)
    return torch.amin(torch.where(rows == torch.amax(rows, -1, keepdim=True), place, beyond), -1, keepdim=True)


def argmin_places(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    return argmax_places(-x, dim, keepdim)


def max_parts(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """`torch.max` along an axis: the maximum, and where it is."""
    return torch.amax(x, dim, keepdim), torch.argmax(x, dim, keepdim)


def min_parts(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return torch.amin(x, dim, keepdim), torch.argmax(-x, dim, keepdim)


def sort_rounds(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """`torch.sort` as rounds of maxima over the whole row."""
    values, indices = rounds(x if descending else -x, x.shape[-1])
    return (values if descending else -values), indices


def sort_stable(x: Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    return sort_rounds(x, dim, descending)


def along(node: fx.Node, dim: Any) -> str:
    """Whether the axis has a known length."""
    x = argument(node, 0, "self")
    if x.dim() == 0:
        return "it is a single number"
    return "" if extent(x, dim) else f"the length of axis {dim} is only known at run time"


def fits_axis(node: fx.Node) -> str:
    return along(node, argument(node, 1, "dim"))


def fits_triangle(node: fx.Node) -> str:
    if why := fits_axis(node):
        return why
    n = extent(argument(node, 0, "self"), argument(node, 1, "dim"))
    return f"its triangle would have {n * n:,} elements (up to {MASK_ELEMENTS:,})" if n * n > MASK_ELEMENTS else ""


def fits_sort(node: fx.Node) -> str:
    x = argument(node, 0, "self")
    stable = str(node.target) == "aten.sort.stable"
    dim = node.kwargs.get("dim", -1) if stable else argument(node, 1, "dim", -1)
    if why := along(node, -1):
        return why
    if dim not in (-1, x.dim() - 1):
        return "it does not run along the last axis"
    if not x.dtype.is_floating_point:
        return "it is over integers"
    if stable and node.kwargs.get("stable"):
        return "equal values have to keep their order"
    return "" if extent(x) <= MOST_ROUNDS else f"{extent(x)} rounds make too large a graph (up to {MOST_ROUNDS})"


def fits_signed(node: fx.Node) -> str:
    """Whether the negative of every value exists."""
    x = argument(node, 0, "self")
    if x.dtype is torch.bool or not (x.dtype.is_floating_point or x.dtype.is_signed):
        return "its values have no negative"
    return fits_number(node)


def fits_number(node: fx.Node) -> str:
    x, dim = argument(node, 0, "self"), argument(node, 1, "dim")
    if x.dtype is torch.bool:
        return "it is over booleans"
    if dim is None:
        return "" if all(extent(x, d) for d in range(x.dim())) else "its length is only known at run time"
    return along(node, dim)


SUMS = "sums in another order"


def vector_norm(
    x: Tensor, ord: float = 2, dim: list[int] | None = None, keepdim: bool = False, dtype: torch.dtype | None = None
) -> Tensor:
    """The root of the sum of squares, after a division by the largest of them, so that no square overflows."""
    axes = list(range(x.dim())) if dim is None else dim
    kind = dtype or x.dtype
    size = torch.maximum(x.to(kind).amax(axes, keepdim=True), x.to(kind).amin(axes, keepdim=True) * -1.0)
    one = torch.where(size > 0, size, torch.ones_like(size))
    scaled = x.to(kind) / one
    norm = torch.sqrt((scaled * scaled).sum(axes, keepdim=True)) * one
    return norm if keepdim else norm.squeeze(axes)


def fits_euclidean(node: fx.Node) -> str:
    return "" if argument(node, 1, "ord", 2) == 2 else "only for the Euclidean norm"


TRIANGLE = f"{SUMS}; only for finite floats (0 * inf is NaN); integers are exact while their sums stay below 2^24"
EQUAL_MAXIMA, EQUAL_MINIMA = (
    f"of equal {ends} the first; torch leaves that open, and does the same on a CPU; not for rows with NaN"
    for ends in ("maxima", "minima")
)

REWRITES = (
    Rewrite("norm_by_squares", "root of the sum of squares", ("aten.linalg_vector_norm.default",), "rounding",
            vector_norm, fits_euclidean, caveat=SUMS, domain="finite"),
    Rewrite("cumsum_by_shifts", "log2(n) shifted additions", ("aten.cumsum.default",), "rounding", cumsum_shifts,
            fits_axis, caveat=f"{SUMS}; integers exact", source="Hillis and Steele 1986"),
    Rewrite("cumsum_by_matmul", "product with a triangle of ones", ("aten.cumsum.default",), "rounding", cumsum_matmul,
            fits_triangle, caveat=TRIANGLE, domain="finite"),
    Rewrite("any_by_maximum", "maximum of ones", ("aten.any.dim",), "bits", any_dim, fits_axis),
    Rewrite("any_dims_by_maximum", "maximum of ones", ("aten.any.dims",), "bits", any_dims),
    Rewrite("any_all_by_maximum", "maximum of ones", ("aten.any.default",), "bits", any_all),
    Rewrite("argmax_by_places", "the first place that equals the maximum", ("aten.argmax.default",), "bits",
            argmax_places, fits_number, caveat=EQUAL_MAXIMA),
    Rewrite("argmin_by_places", "the first place that equals the minimum", ("aten.argmin.default",), "bits",
            argmin_places, fits_signed, caveat=EQUAL_MINIMA),
    Rewrite("max_by_parts", "the maximum and its place apart", ("aten.max.dim",), "values", max_parts, fits_number,
            caveat="among equal maxima another index may be given"),
    Rewrite("min_by_parts", "the minimum and its place apart", ("aten.min.dim",), "values", min_parts, fits_signed,
            caveat="among equal minima another index may be given"),
    Rewrite("sort_by_rounds", "as many rounds of maxima as the row is long", ("aten.sort.default",), "values",
            sort_rounds, fits_sort, caveat="among equal values other indices may be given; not for NaN"),
    Rewrite("sort_stable_by_rounds", "as many rounds of maxima as the row is long", ("aten.sort.stable",), "values",
            sort_stable, fits_sort, caveat="among equal values other indices may be given; not for NaN"),
)  # fmt: skip
