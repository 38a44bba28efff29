"""The k largest of a row without a top-k operator: rounds of maxima, chunks first, or a threshold alone."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx

from hilsim.compiler.rewrite.record import Rewrite, argument, extent, is_last

MOST_ROUNDS = 128  # a round is about seven nodes; beyond this the graph grows larger than most networks
STEPS = 40  # bisection steps of the threshold; float32 has 24 bits of mantissa, the rest is for uneven spacing


def lowest(dtype: torch.dtype) -> float | int:
    """The value that no maximum prefers to another."""
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min


def rounds(row: Tensor, k: int, closed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """k rounds of maxima: values and indices (..., k) of `row` (..., n), falling, leaving `closed` positions out.

    Which positions are taken is kept apart from the values. A row may hold more -inf than n - k: from then on a maximum
    over the masked row would find taken positions again, so the index is looked for among the open ones that equal it.
    """
    place = torch.arange(row.shape[-1], device=row.device)
    low = torch.full((), lowest(row.dtype), dtype=row.dtype, device=row.device)
    values, indices = [], []
    for turn in range(k):
        if closed is None:
            best = torch.amax(row, -1, keepdim=True)
            found = row == best
        else:
            best = torch.amax(torch.where(closed, low, row), -1, keepdim=True)
            found = torch.logical_and(row == best, torch.logical_not(closed))
        index = torch.argmax(found.to(torch.float32), -1, keepdim=True)
        values.append(best)
        indices.append(index)
        if turn < k - 1:
            taken = place == index
            closed = taken if closed is None else torch.logical_or(closed, taken)
    if k == 1:
        return values[0], indices[0]
    return torch.cat(values, -1), torch.cat(indices, -1)


def by_rounds(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """`torch.topk` along the last axis, always sorted. The k smallest are the k largest of the negative (exact)."""
    values, indices = rounds(x if largest else -x, k)
    return (values if largest else -values), indices


def chunk_length(n: int, k: int) -> int:
    """Length of a chunk: about sqrt(n / k), where chunks and candidates weigh the same; a divisor of n if near."""
    wanted = max(2, round(math.sqrt(n / k)))
    near = [length for length in range(max(2, wanted // 2), 2 * wanted + 1) if n % length == 0]
    return min(near, key=lambda length: abs(length - wanted), default=wanted)


def by_chunks(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """`torch.topk` of long rows: the k chunks with the largest maxima, then rounds over what they hold.

    They suffice: a value outside them is at most its own chunk's maximum, so at most the maximum of each of the k
    chosen chunks; these are k values that may stand in its place. Filling up the last chunk changes nothing of that, as
    it holds at least one true position, and positions that were filled up are closed to the rounds.
    """
    n = x.shape[-1]
    length = chunk_length(n, k)
    chunks = -(-n // length)
    flat = (x if largest else -x).reshape(-1, n)
    rows = flat.shape[0]
    if chunks * length > n:
        filler = torch.full((1, chunks * length - n), lowest(x.dtype), dtype=x.dtype, device=x.device)
        flat = torch.cat([flat, filler.expand(rows, -1)], -1)
    parts = flat.reshape(rows, chunks, length)
    _, chosen = rounds(torch.amax(parts, -1), k)
    row = torch.arange(rows, device=x.device).unsqueeze(-1)
    pulled = torch.index_select(flat.reshape(rows * chunks, length), 0, (chosen + row * chunks).reshape(-1))
    place = chosen.unsqueeze(-1) * length + torch.arange(length, device=x.device)
    place = place.reshape(rows, k * length)
    closed = place >= n if chunks * length > n else None
    values, within = rounds(pulled.reshape(rows, k * length), k, closed)
    indices = torch.index_select(place.reshape(-1), 0, (within + row * (k * length)).reshape(-1))
    shape = (*x.shape[:-1], k)
    values = values.reshape(shape)
    return (values if largest else -values), indices.reshape(shape)


def threshold(x: Tensor, k: int, steps: int = STEPS) -> Tensor:
    """The k-th largest value (..., 1) of rows (..., n) by bisection between two values of the row.

    `low` and `high` are values of the row with the k-th largest between them, both included. Each step halves the gap
    and snaps the new end to the nearest value of the row, so one outlier costs one step, not the resolution. -inf and
    +inf stay out of the range and are told by their counts. Halves are added, as high - low may overflow.
    """
    top = torch.full((), torch.finfo(x.dtype).max, dtype=x.dtype, device=x.device)
    bottom = torch.full((), torch.finfo(x.dtype).min, dtype=x.dtype, device=x.device)
    low = torch.minimum(torch.amin(torch.where(x == -math.inf, top, x), -1, keepdim=True), top)
    high = torch.maximum(torch.amax(torch.where(x == math.inf, bottom, x), -1, keepdim=True), bottom)
    for _ in range(steps):
        middle = low * 0.5 + high * 0.5
        above = x > middle
        enough = count(above) >= k
        low = torch.where(enough, torch.amin(torch.where(above, x, top), -1, keepdim=True), low)
        high = torch.where(enough, high, torch.amax(torch.where(above, bottom, x), -1, keepdim=True))
    # Two neighbouring floats have no middle, so the last decision is made at the upper end itself.
    found = torch.where(count(x >= high) >= k, high, low)
    found = torch.where(count(x > -math.inf) >= k, found, -math.inf)
    return torch.where(count(x == math.inf) >= k, math.inf, found)


def count(mask: Tensor) -> Tensor:
    """How many of each row are true, (..., 1); float32 counts exactly to 2^24."""
    return torch.sum(mask.to(torch.float32), -1, keepdim=True)


def by_threshold(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Tensor, Tensor]:
    """The k-th largest in every place of the values; the indices mean nothing. Where only the last is used."""
    cut = threshold(x if largest else -x, k)
    cut = (cut if largest else -cut).expand(*x.shape[:-1], k)
    return cut, torch.zeros(1, dtype=torch.int64, device=x.device).expand(*x.shape[:-1], k)


def fits_row(node: fx.Node) -> str:
    """Whether it is a top-k along the last axis of rows whose length is known."""
    x = argument(node, 0, "self")
    if x.dim() == 0:
        return "it is a single number"
    if not is_last(argument(node, 2, "dim", -1), x.dim()):
        return "it does not run along the last axis"
    if not extent(x):
        return "the length of its rows is only known at run time"
    if not argument(node, 3, "largest", True) and not x.dtype.is_floating_point:
        return "the smallest of integers cannot be found by their negatives"
    k = argument(node, 1, "k")
    if not isinstance(k, int):
        return "k is only known at run time"
    if k == 0:
        return "k is 0"
    return "" if x.dtype is not torch.bool else "it is over booleans"


def fits_rounds(node: fx.Node) -> str:
    k = argument(node, 1, "k")
    if not (why := fits_row(node)) and k > MOST_ROUNDS:
        return f"{k} rounds make too large a graph (up to {MOST_ROUNDS})"
    return why


def fits_chunks(node: fx.Node) -> str:
    if why := fits_rounds(node):
        return why
    n, k = extent(argument(node, 0, "self")), argument(node, 1, "k")
    length = chunk_length(n, k)
    if -(-n // length) < k or 2 * k * length >= n:
        return f"rows of {n} are too short for chunks to pay at k = {k}"
    return ""


def fits_threshold(node: fx.Node) -> str:
    """Whether only the smallest of the kept values is used."""
    if why := fits_row(node):
        return why
    x, k = argument(node, 0, "self"), argument(node, 1, "k")
    if not x.dtype.is_floating_point:
        return "it is over integers"
    if extent(x) >= 2**24:
        return "rows beyond 2^24 cannot be counted in float32"
    for part in node.users:
        if part.target is not operator.getitem or (part.args[1] == 1 and part.users):
            return "its indices are used"
        for user in part.users if part.args[1] == 0 else ():
            if not only_last(user, x.dim(), k, argument(node, 4, "sorted", True)):
                return f"{user.name} uses more than the smallest of its values"
    return ""


def only_last(user: fx.Node, rank: int, k: int, in_order: bool) -> bool:
    """Whether a user of the values looks at the k-th alone."""
    aten = torch.ops.aten
    if user.target is aten.amin.default:
        dims = argument(user, 1, "dim", [])
        return isinstance(dims, Sequence) and len(dims) == 1 and is_last(dims[0], rank)
    if not in_order or not is_last(argument(user, 1, "dim", 0), rank):
        return False
    if user.target is aten.select.int:
        return argument(user, 2, "index") in (-1, k - 1)
    if user.target is aten.slice.Tensor:
        return argument(user, 2, "start") in (-1, k - 1) and (argument(user, 3, "end") or k) >= k
    return False


TIES = "among equal values other indices may be given; not for rows with NaN"

CUT = (
    f"after {STEPS} halvings values closer than range / 2^{STEPS} are not distinguished (only rows whose values thin "
    "out geometrically get there); a cut at the value keeps more than k where values tie with it; not for NaN"
)

REWRITES = (
    Rewrite("topk_by_chunks", "maxima of chunks, the k best chunks pulled out, rounds over what they hold",
            ("aten.topk.default",), "values", by_chunks, fits_chunks, caveat=TIES,
            source="general technique (two-stage top-k)"),
    Rewrite("topk_by_rounds", "k rounds of maximum, its position, and closing that position", ("aten.topk.default",),
            "values", by_rounds, fits_rounds, caveat=TIES, source="general technique"),
    Rewrite("topk_by_threshold", "the k-th largest value by bisection, where only the cut is used",
            ("aten.topk.default",), "values", by_threshold, fits_threshold,
            caveat=CUT,
            source="general technique (bisection on the count)", used=lambda outputs: (outputs[0][..., -1:],)),
)  # fmt: skip
