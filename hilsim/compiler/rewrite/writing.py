"""Writing by index without scatter: one-hot masks choose the source, slices are put together again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from hilsim.compiler.rewrite.indexing import (
    MASK_ELEMENTS,
    IndexLayout,
    back,
    fits_index,
    fits_mask,
    indices_of,
    last,
    like_index,
    one_hot,
    picked,
    size,
)
from hilsim.compiler.rewrite.record import Rewrite, argument, extent


def index_put(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    """`x[i, j, ...] = values`: for each row of x the last index that names it, and that index's values pulled out."""
    layout = IndexLayout(x, indices)
    mask = one_hot(layout.linear, layout.places)
    winner = last_hit(mask)
    source = torch.index_select(layout.rows(values), 0, torch.maximum(winner, torch.zeros_like(winner)))
    return layout.untable(torch.where((winner >= 0).unsqueeze(-1), source, layout.table(x)), x)


def last_hit(mask: Tensor) -> Tensor:
    """For a mask (..., m, n): the last of the m positions that is true, (..., n), and -1 where none is."""
    position = torch.arange(mask.shape[-2], device=mask.device).unsqueeze(-1)
    return torch.amax(torch.where(mask, position, torch.full((), -1, device=mask.device)), -2)


def scatter_src(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`torch.scatter`: where a one-hot mask (..., m, n) is hit, the last source that hits; elsewhere x."""
    src = like_index(src, dim, index).narrow(dim, 0, index.shape[dim])
    rows, places, values = last(x, dim), last(index, dim), last(src, dim)
    winner = last_hit(one_hot(places, rows.shape[-1]))
    position = torch.arange(places.shape[-1], device=x.device).unsqueeze(-1)
    chosen = picked(position == winner.unsqueeze(-2), values.unsqueeze(-1), -2)
    return back(torch.where(winner >= 0, chosen, rows), dim)


def scatter_value(x: Tensor, dim: int, index: Tensor, number: float) -> Tensor:
    """`torch.scatter` of one number."""
    rows, places = last(x, dim), last(index, dim)
    hit = torch.amax(one_hot(places, rows.shape[-1]).to(torch.float32), -2) > 0
    return back(torch.where(hit, torch.full((), number, dtype=x.dtype, device=x.device), rows), dim)


def scatter_add(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`torch.scatter_add`: sums of what a one-hot mask leaves of the source."""
    src = like_index(src, dim, index).narrow(dim, 0, index.shape[dim])
    rows, places, values = last(x, dim), last(index, dim), last(src, dim)
    return back(rows + picked(one_hot(places, rows.shape[-1]), values.unsqueeze(-1), -2), dim)


def slice_scatter(
    x: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """A slice replaced: what stands before it, the source, what stands after it."""
    first, stop, _ = slice(start, end).indices(x.shape[dim])
    parts = [x.narrow(dim, 0, first), src, x.narrow(dim, stop, x.shape[dim] - stop)]
    return torch.cat([part for part in parts if part.shape[dim] != 0], dim)


def select_scatter(x: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """One position replaced."""
    index %= x.shape[dim]
    return slice_scatter(x, src.unsqueeze(dim), dim, index, index + 1)


def fits_scatter(node: fx.Node) -> str:
    if why := fits_mask(node):
        return why
    x, dim, index = argument(node, 0, "self"), argument(node, 1, "dim"), argument(node, 2, "index")
    if any(x.shape[d] != index.shape[d] for d in range(x.dim()) if d != dim % x.dim()):
        return "its index covers a part of the other axes only"
    return ""


def fits_put(node: fx.Node) -> str:
    if argument(node, 3, "accumulate", False):
        return "it adds up (accumulate=True)"
    if why := fits_index(node):
        return why
    x, indices = argument(node, 0, "self"), indices_of(node)
    places = math.prod(x.shape[d] for d, index in enumerate(indices) if index is not None)
    count = max(size(index) for index in indices if index is not None)
    return "" if places * count <= MASK_ELEMENTS else f"its mask would have {places * count:,} elements"


def fits_slice(node: fx.Node) -> str:
    if argument(node, 5, "step", 1) != 1:
        return "it writes every n-th position"
    if not all(isinstance(argument(node, place, name), int | None) for place, name in ((3, "start"), (4, "end"))):
        return "its bounds are only known at run time"
    dim = argument(node, 2, "dim", 0)
    return "" if extent(argument(node, 0, "self"), dim) else f"the length of axis {dim} is only known at run time"


def fits_one(node: fx.Node) -> str:
    if not isinstance(argument(node, 3, "index"), int):
        return "its position is only known at run time"
    dim = argument(node, 2, "dim")
    return "" if extent(argument(node, 0, "self"), dim) else f"the length of axis {dim} is only known at run time"


TWICE = "of an index given twice the last wins; torch leaves that open, and does the same on a CPU"

REWRITES = (
    Rewrite("scatter_by_mask", "the last source that a one-hot mask lets through", ("aten.scatter.src",), "bits",
            scatter_src, fits_scatter, caveat=TWICE),
    Rewrite("scatter_value_by_mask", "one number where a one-hot mask is hit", ("aten.scatter.value",), "bits",
            scatter_value, fits_scatter),
    Rewrite("scatter_add_by_mask", "sums of what a one-hot mask leaves", ("aten.scatter_add.default",), "rounding",
            scatter_add, fits_scatter, caveat="sums in another order"),
    Rewrite("index_put_by_mask", "for each row the last index that names it", ("aten.index_put.default",), "bits",
            index_put, fits_put, caveat=TWICE),
    Rewrite("slice_scatter_by_cat", "before, source, after", ("aten.slice_scatter.default",), "bits", slice_scatter,
            fits_slice),
    Rewrite("select_scatter_by_cat", "before, source, after", ("aten.select_scatter.default",), "bits", select_scatter,
            fits_one),
)  # fmt: skip
