"""Layers of perception networks from plainer ones: resizing, padding, pooling, normalisation by image or group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from hilsim.compiler.rewrite.record import Rewrite, argument

MODES = {
    "aten.upsample_linear1d.vec": "linear",
    "aten.upsample_bilinear2d.vec": "bilinear",
    "aten.upsample_bicubic2d.vec": "bicubic",
    "aten.upsample_trilinear3d.vec": "trilinear",
}
LINE = {"linear": "linear", "bilinear": "linear", "trilinear": "linear", "bicubic": "bicubic"}


def sizes_of(x: Tensor, size: Sequence[int] | None, scales: Sequence[float] | None) -> list[int]:
    """Lengths behind a resizing, by its size or its factors."""
    if size is not None:
        return list(size)
    assert scales is not None
    return [int(length * factor) for length, factor in zip(x.shape[2:], scales, strict=True)]


def resized(operator: Any, x: Tensor, size: Any, align_corners: bool, scales: Any = None) -> Tensor:
    """A resizing as a product with a constant matrix along each axis: what it does to each unit vector."""
    mode = LINE[MODES[str(operator)]]
    for axis, length in enumerate(sizes_of(x, size, scales), 2):
        factor = None if scales is None else scales[axis - 2]
        matrix = line(x.shape[axis], length, mode, align_corners, factor).to(x.dtype)
        x = torch.matmul(x.movedim(axis, -1), matrix).movedim(-1, axis)
    return x.contiguous()


def line(before: int, behind: int, mode: str, align_corners: bool, factor: float | None) -> Tensor:
    """The matrix of a resizing in one dimension, a row for each place before."""
    units = torch.arange(before)[:, None] == torch.arange(before)
    given: dict[str, Any] = {"size": behind} if factor is None else {"scale_factor": factor}
    settings = {"mode": mode, "align_corners": align_corners, **given}
    if mode == "linear":
        return F.interpolate(units.float()[None], **settings)[0]
    # Cubic weights along a dimension of one sum up to one.
    given = {"size": (1, behind)} if factor is None else {"scale_factor": (1.0, factor)}
    return F.interpolate(units.float()[None, :, None], mode=mode, align_corners=align_corners, **given)[0, :, 0]


def repeated(operator: Any, x: Tensor, size: Any, scales: Any = None) -> Tensor:
    """Nearest neighbours by whole factors: every number as often as the factor."""
    for axis, length in enumerate(sizes_of(x, size, scales), 2):
        times, shape = length // x.shape[axis], x.shape
        if times > 1:
            x = x.unsqueeze(axis + 1).expand(*shape[: axis + 1], times, *shape[axis + 1 :])
            x = x.reshape(*shape[:axis], length, *shape[axis + 1 :])
    return x


def padded(operator: Any, x: Tensor, padding: Sequence[int]) -> Tensor:
    """Edges as slices of one, mirrored or repeated, around what there is; the last axis first, as PyTorch counts."""
    mirrored = "reflection" in str(operator)
    for place in range(len(padding) // 2):
        axis, before, behind = x.dim() - 1 - place, padding[2 * place], padding[2 * place + 1]
        length = x.shape[axis]
        left = [far if mirrored else 0 for far in range(before, 0, -1)]
        right = [length - 1 - far if mirrored else length - 1 for far in range(1, behind + 1)]
        edges = [[x.narrow(axis, at, 1) for at in side] for side in (left, right)]
        x = torch.cat([*edges[0], x, *edges[1]], axis) if left or right else x
    return x


def pooled(operator: Any, x: Tensor, size: Sequence[int]) -> Tensor:
    """An adaptive average whose output divides the input, as the mean over blocks."""
    lead, lengths = x.shape[: -len(size)], x.shape[-len(size) :]
    blocks = [part for length, count in zip(lengths, size, strict=True) for part in (count, length // count)]
    axes = [len(lead) + 1 + 2 * place for place in range(len(size))]
    return x.reshape(*lead, *blocks).mean(axes)


def instance_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, variance: Tensor | None,
    use_input: bool, momentum: float, eps: float, cudnn: bool,
) -> Tensor:  # fmt: skip
    """Mean and variance of each image and channel, then a scale and a shift of each channel."""
    flat = x.reshape(*x.shape[:2], -1)
    return scaled(standard(flat, eps).reshape(x.shape), weight, bias)


def group_norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, batch: int, channels: int, rest: int, groups: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of each image and group of channels, then a scale and a shift of each channel."""
    flat = x.reshape(batch, groups, -1)
    made = scaled(standard(flat, eps).reshape(x.shape), weight, bias)
    return made, flat.mean(-1), flat.mean(-1)  # the two others are for training, and fits_alone sees to it


def standard(x: Tensor, eps: float) -> Tensor:
    """Numbers along the last axis with mean 0 and variance 1."""
    apart = x - x.mean(-1, keepdim=True)
    return apart * torch.rsqrt((apart * apart).mean(-1, keepdim=True) + eps)


def scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """A scale and a shift of each channel."""
    shape = [1, -1, *([1] * (x.dim() - 2))]
    x = x if weight is None else x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


def prelu(x: Tensor, weight: Tensor) -> Tensor:
    """max(x, 0) + w min(x, 0)."""
    zero = torch.zeros((), dtype=x.dtype)
    slope = weight.reshape([1, -1, *([1] * (x.dim() - 2))]) if weight.numel() > 1 else weight
    return torch.maximum(x, zero) + slope * torch.minimum(x, zero)


def shuffled(operator: Any, x: Tensor, factor: int) -> Tensor:
    """Blocks of channels as blocks of pixels, or back, as view, permute and view."""
    *lead, channels, height, width = x.shape
    n = len(lead)
    if "unshuffle" in str(operator):
        x = x.reshape(*lead, channels, height // factor, factor, width // factor, factor)
        x = x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
        return x.reshape(*lead, channels * factor * factor, height // factor, width // factor)
    x = x.reshape(*lead, channels // factor**2, factor, factor, height, width)
    x = x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*lead, channels // factor**2, height * factor, width * factor)


def is_known(node: fx.Node) -> bool:
    x = argument(node, 0, "input")
    return all(isinstance(size, int) for size in x.shape) and prod(x.shape) > 0


def fits_lines(node: fx.Node) -> str:
    """Whether every length is known."""
    return "" if is_known(node) else "a length is only known at run time"


def fits_whole(node: fx.Node) -> str:
    """Whether it makes whole multiples of known lengths."""
    if why := fits_lines(node):
        return why
    pairs = zip(argument(node, 0, "input").shape[2:], node.meta["val"].shape[2:], strict=True)
    return "" if all(behind % before == 0 for before, behind in pairs) else "its factor is no whole number"


def fits_blocks(node: fx.Node) -> str:
    """Whether the output divides the input."""
    if why := fits_lines(node):
        return why
    pairs = zip(argument(node, 0, "input").shape[-2:], node.meta["val"].shape[-2:], strict=True)
    return "" if all(before % behind == 0 for before, behind in pairs) else "its output does not divide the input"


def fits_inference(node: fx.Node) -> str:
    """Whether it takes mean and variance of what comes in, all of it of known size."""
    if not argument(node, 5, "use_input_stats", True):
        return "it uses mean and variance of training"
    return fits_lines(node)


def fits_alone(node: fx.Node) -> str:
    """Whether nothing reads mean and deviation."""
    read = {user.args[1] for user in node.users if len(user.args) > 1}
    return "its mean or deviation is read" if read & {1, 2} else fits_lines(node)


def first(outputs: Any) -> Any:
    """The normalised numbers, without the two for training."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def kept(
    name: str,
    title: str,
    operators: tuple[str, ...],
    exactness: Any,
    function: Callable[..., Any],
    fits: Any,
    **more: Any,
) -> Rewrite:
    """A rewrite whose function hangs on which operator it stands for."""
    return Rewrite(name, title, operators, exactness, function, fits, with_operator=True, **more)


PADS = tuple(f"aten.{kind}_pad{rank}d.default" for kind in ("reflection", "replication") for rank in (1, 2, 3))
NEAREST = tuple(f"aten.upsample_nearest{rank}d.vec" for rank in (1, 2, 3))
SUMS = "sums in another order"
ALIKE = f"{SUMS}, off by up to 1e-3 where all numbers are alike, as the root of eps divides their rounding"

REWRITES = (
    kept("resize_by_products", "a product with a constant matrix an axis", tuple(MODES), "rounding", resized,
         fits_lines, caveat=SUMS, domain="moderate"),
    kept("nearest_by_repeats", "every number as often as the factor", NEAREST, "bits", repeated, fits_whole),
    kept("pad_by_cat", "slices of the edges, concatenated", PADS, "bits", padded, fits_lines),
    kept("adaptive_pool_by_blocks", "the mean over blocks",
         ("aten._adaptive_avg_pool2d.default",), "rounding", pooled, fits_blocks, caveat=SUMS, domain="moderate"),
    Rewrite("instance_norm_by_parts", "mean, difference, mean of squares, rsqrt", ("aten.instance_norm.default",),
            "rounding", instance_norm, fits_inference, caveat=ALIKE, source="Ulyanov, Vedaldi and Lempitsky 2016",
            domain="moderate", bound=1e-3),
    Rewrite("group_norm_by_parts", "mean, difference, mean of squares, rsqrt", ("aten.native_group_norm.default",),
            "rounding", group_norm, fits_alone, caveat=ALIKE, source="Wu and He 2018", domain="moderate", bound=1e-3,
            used=first),
    Rewrite("prelu_by_bounds", "max(x, 0) + w min(x, 0)", ("aten.prelu.default",), "bits", prelu, domain="finite"),
    kept("shuffle_by_permute", "view, permute and view", ("aten.pixel_shuffle.default", "aten.pixel_unshuffle.default"),
         "bits", shuffled, fits_lines),
)  # fmt: skip
