"""Reading by index without gather: one-hot masks, or rows pulled out of a flattened table. `writing` builds on it.

A mask selects by `where` and adds up zeros, never by a product: 0 * inf is NaN, and a sum of one value and zeros is
that value. Only the one-hot matmuls multiply, and say so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from hilsim.compiler.rewrite.record import Rewrite, argument, extent, value

MASK_ELEMENTS = 2**26  # a larger mask costs more memory than any operator it could replace


def last(x: Tensor, dim: int) -> Tensor:
    """The tensor with one axis moved to the end."""
    dim %= x.dim()
    return x if dim == x.dim() - 1 else x.permute(*[d for d in range(x.dim()) if d != dim], dim)


def back(x: Tensor, dim: int) -> Tensor:
    """The tensor with its last axis moved to `dim`: undoes `last`."""
    dim %= x.dim()
    if dim == x.dim() - 1:
        return x
    order = list(range(x.dim() - 1))
    order.insert(dim, x.dim() - 1)
    return x.permute(*order)


def like_index(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """The part of x that a gather can see: cut to the index on every axis but `dim`."""
    for d in range(x.dim()):
        if d != dim % x.dim() and x.shape[d] != index.shape[d]:
            x = x.narrow(d, 0, index.shape[d])
    return x


def picked(mask: Tensor, x: Tensor, dim: int) -> Tensor:
    """The one value along `dim` where the mask is true, 0 where it is nowhere."""
    if x.dtype is torch.bool:
        return torch.amax(torch.logical_and(mask, x).to(torch.float32), dim) > 0
    return torch.sum(torch.where(mask, x, torch.zeros((), dtype=x.dtype, device=x.device)), dim, dtype=x.dtype)


def one_hot(index: Tensor, n: int) -> Tensor:
    """Mask (..., n) that is true at the index (...)."""
    return index.unsqueeze(-1) == torch.arange(n, device=index.device)


def gather_mask(x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    """`torch.gather` as a sum over what a one-hot mask (..., m, n) leaves."""
    rows, places = last(like_index(x, dim, index), dim), last(index, dim)
    return back(picked(one_hot(places, rows.shape[-1]), rows.unsqueeze(-2), -1), dim)


def gather_select(x: Tensor, dim: int, index: Tensor, sparse_grad: bool = False) -> Tensor:
    """`torch.gather` as index_select on the flattened input, each row's positions moved on by its start."""
    rows, places = last(like_index(x, dim, index), dim), last(index, dim)
    n, m = rows.shape[-1], places.shape[-1]
    flat = places.reshape(-1, m)
    start = torch.arange(flat.shape[0], device=x.device).unsqueeze(-1) * n
    return back(torch.index_select(rows.reshape(-1), 0, (flat + start).reshape(-1)).reshape(places.shape), dim)


def select_matmul(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """`torch.index_select` as a one-hot matrix times the table."""
    table = last(x, dim)
    flat = table.reshape(-1, table.shape[-1])
    return back(
        torch.mm(flat, one_hot(index, table.shape[-1]).to(x.dtype).permute(1, 0)).reshape(*table.shape[:-1], -1), dim
    )


def embedding_matmul(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Tensor:
    """An embedding as a one-hot matrix (tokens, rows) times its table (rows, width)."""
    hot = one_hot(indices.reshape(-1), weight.shape[0]).to(weight.dtype)
    return torch.mm(hot, weight).reshape(*indices.shape, weight.shape[1])


def embedding_select(
    weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False
) -> Tensor:
    """An embedding as index_select of rows."""
    return torch.index_select(weight, 0, indices.reshape(-1)).reshape(*indices.shape, weight.shape[1])


class IndexLayout:
    """How `x[indices]` reads: the indexed axes in front, one linear index over them, and where the result's axes go."""

    def __init__(self, x: Tensor, indices: Sequence[Tensor | None]):
        self.axes = [d for d, index in enumerate(indices) if index is not None]
        self.others = [d for d in range(x.dim()) if d not in self.axes]
        self.order = [*self.axes, *self.others]
        given = torch.broadcast_tensors(*[i for i in indices if i is not None])  # type: ignore[no-untyped-call]
        self.index_shape = given[0].shape
        self.rest = [x.shape[d] for d in self.others]
        self.places = math.prod(x.shape[d] for d in self.axes)
        linear: Tensor | None = None
        for axis, index in zip(self.axes, given, strict=True):
            size = x.shape[axis]
            index = torch.where(index < 0, index + size, index)
            linear = index if linear is None else linear * size + index
        assert linear is not None
        self.linear = linear.reshape(-1)
        # Indexed axes that stand together keep their place; torch moves them to the front otherwise.
        together = self.axes == list(range(self.axes[0], self.axes[-1] + 1))
        self.before = self.axes[0] if together else 0

    def table(self, x: Tensor) -> Tensor:
        """x as (places, everything else)."""
        return x.permute(self.order).reshape(self.places, -1)

    def untable(self, table: Tensor, x: Tensor) -> Tensor:
        """Undoes `table`."""
        full = table.reshape([x.shape[d] for d in self.order])
        return full.permute([self.order.index(d) for d in range(x.dim())])

    def result(self, rows: Tensor) -> Tensor:
        """Rows (index, everything else) in the axes of `x[indices]`."""
        full, wide = rows.reshape(*self.index_shape, *self.rest), len(self.index_shape)
        axes = list(range(wide, full.dim()))
        return full.permute(*axes[: self.before], *range(wide), *axes[self.before :])

    def rows(self, values: Tensor) -> Tensor:
        """Values that broadcast to `x[indices]` as rows (index, everything else): undoes `result`."""
        shape = [*self.rest[: self.before], *self.index_shape, *self.rest[self.before :]]
        wide, full = len(self.index_shape), values.expand(shape)
        inner = range(self.before, self.before + wide)
        return full.permute(*inner, *[d for d in range(len(shape)) if d not in inner]).reshape(self.linear.shape[0], -1)


def index_select_flat(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """`x[i, j, ...]` as index_select of rows by one linear index; negative indices count from the end."""
    layout = IndexLayout(x, indices)
    return layout.result(torch.index_select(layout.table(x), 0, layout.linear))


def size(*tensors: torch.Tensor) -> int:
    """Elements of all tensors multiplied, unknown lengths as 1."""
    return math.prod(extent(t, d) or 1 for t in tensors for d in range(t.dim()))


def fits_length(node: fx.Node) -> str:
    """Whether the indexed axis has a known length."""
    x, dim = argument(node, 0, "self"), argument(node, 1, "dim")
    if x.dim() == 0:
        return "it is a single number"
    return "" if extent(x, dim) else f"the length of axis {dim} is only known at run time"


def fits_mask(node: fx.Node) -> str:
    """Whether a mask of every index against every position is affordable."""
    if why := fits_length(node):
        return why
    x, dim, index = argument(node, 0, "self"), argument(node, 1, "dim"), argument(node, 2, "index")
    elements = size(index) * extent(x, dim)
    return f"its mask would have {elements:,} elements (up to {MASK_ELEMENTS:,})" if elements > MASK_ELEMENTS else ""


def fits_matmul(node: fx.Node) -> str:
    if why := fits_mask(node):
        return why
    return "" if argument(node, 0, "self").dtype.is_floating_point else "it selects integers"


def fits_embedding(node: fx.Node) -> str:
    weight, indices = argument(node, 0, "weight"), argument(node, 1, "indices")
    elements = size(indices) * extent(weight, 0)
    return f"its mask would have {elements:,} elements (up to {MASK_ELEMENTS:,})" if elements > MASK_ELEMENTS else ""


def indices_of(node: fx.Node) -> list[Tensor | None]:
    """The indices of a node, one per axis, None where an axis is taken whole."""
    entries = node.args[1]
    assert isinstance(entries, list | tuple)
    return [value(entry) for entry in entries]


def fits_index(node: fx.Node) -> str:
    """Whether all indices are integers over axes of known length."""
    x, indices = argument(node, 0, "self"), indices_of(node)
    if any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices):
        return "it selects by a mask, so its length depends on the data"
    if not all(extent(x, d) for d, index in enumerate(indices) if index is not None):
        return "the length of an indexed axis is only known at run time"
    return ""


ONE_HOT = (
    "only for finite values (0 * inf is NaN); where the chip rounds matmul inputs, the selected values are rounded"
)

REWRITES = (
    Rewrite("gather_by_index_select", "index_select on the flattened input", ("aten.gather.default",), "bits",
            gather_select, fits_length),
    Rewrite("gather_by_mask", "sum over what a one-hot mask leaves", ("aten.gather.default",), "bits", gather_mask,
            fits_mask, caveat="the mask has an element per index and position"),
    Rewrite("index_select_by_matmul", "one-hot matrix times the table", ("aten.index_select.default",), "bits",
            select_matmul, fits_matmul, caveat=ONE_HOT, domain="finite"),
    Rewrite("embedding_by_index_select", "index_select of rows", ("aten.embedding.default",), "bits", embedding_select),
    Rewrite("embedding_by_matmul", "one-hot matrix times the table", ("aten.embedding.default",), "bits",
            embedding_matmul, fits_embedding, caveat=ONE_HOT, domain="finite"),
    Rewrite("index_by_index_select", "index_select of rows by one linear index", ("aten.index.Tensor",), "bits",
            index_select_flat, fits_index),
)  # fmt: skip
