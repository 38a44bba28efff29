"""ONNX operators with windows and on pictures in PyTorch: convolutions, poolings, resizing, blocks of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hilsim.compiler.onnx_node import OnnxNode


def padding_of(
    node: OnnxNode, x: Tensor, window: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> Any:
    """Padding before and behind each spatial axis."""
    rank, kind = len(window), node.get("auto_pad", "NOTSET")
    if kind in ("NOTSET", "VALID"):
        pads = node.get("pads", [0] * 2 * rank) if kind == "NOTSET" else [0] * 2 * rank
        return list(zip(pads[:rank], pads[rank:], strict=True))
    pairs = []
    for length, size, stride, step in zip(x.shape[2:], window, strides, dilations, strict=True):
        all_in_all = max((math.ceil(length / stride) - 1) * stride + (size - 1) * step + 1 - length, 0)
        less, more = all_in_all // 2, all_in_all - all_in_all // 2
        pairs.append((less, more) if kind == "SAME_UPPER" else (more, less))
    return pairs


def laid_around(x: Tensor, pairs: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Numbers around the spatial axes."""
    return F.pad(x, [size for pair in reversed(list(pairs)) for size in pair], value=value)


def shared_padding(x: Tensor, pairs: Sequence[tuple[int, int]], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """What PyTorch pads by itself, alike on both sides; anything else is laid around first."""
    if all(before == behind for before, behind in pairs):
        return x, [before for before, _ in pairs]
    return laid_around(x, pairs, value), [0] * len(pairs)


def conv(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = weight.dim() - 2
    strides, dilations = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    x, padding = shared_padding(x, padding_of(node, x, weight.shape[2:], strides, dilations))
    function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return function(x, weight, bias, strides, padding, dilations, node.get("group", 1))


def conv_transpose(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    rank = weight.dim() - 2
    strides, dilations = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    more = node.get("output_padding", [0] * rank)
    pads = node.get("pads", [0] * 2 * rank)
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or node.get("output_shape"):
        raise ValueError("it is padded by its output's shape")
    if pads[:rank] != pads[rank:]:
        raise ValueError("it is padded otherwise before than behind")
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    return function(x, weight, bias, strides, pads[:rank], more, node.get("group", 1), dilations)


def max_pool(node: OnnxNode, x: Tensor) -> Tensor:
    window = node.get("kernel_shape")
    strides, dilations = node.get("strides", [1] * len(window)), node.get("dilations", [1] * len(window))
    low = -math.inf if x.dtype.is_floating_point else torch.iinfo(x.dtype).min
    x, padding = shared_padding(x, padding_of(node, x, window, strides, dilations), low)
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(window) - 1]
    return function(x, window, strides, padding, dilations, ceil_mode=bool(node.get("ceil_mode", 0)))


def average_pool(node: OnnxNode, x: Tensor) -> Tensor:
    window = node.get("kernel_shape")
    strides, counted = node.get("strides", [1] * len(window)), bool(node.get("count_include_pad", 0))
    if any(step != 1 for step in node.get("dilations", [1])):
        raise ValueError("it has dilations")
    pairs = padding_of(node, x, window, strides, [1] * len(window))
    if not counted and any(before != behind for before, behind in pairs):
        raise ValueError("it is padded otherwise before than behind, and counts no padding")
    x, padding = shared_padding(x, pairs)
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(window) - 1]
    return function(x, window, strides, padding, bool(node.get("ceil_mode", 0)), counted)


def resize(node: OnnxNode, x: Tensor, *given: Any) -> Tensor:
    factors, sizes = (given[0], None) if node.op == "Upsample" else (*given[1:3], None, None)[:2]
    mode, corners = node.get("mode", "nearest"), node.get("coordinate_transformation_mode", "half_pixel")
    before = list(x.shape)
    factors = node.get("scales", factors)
    sizes = sizes or [int(length * factor) for length, factor in zip(before, factors, strict=True)]
    if node.op == "Upsample" or node.opset < 11:
        corners = "asymmetric"
    if sizes[:2] != before[:2]:
        raise ValueError("it resizes batch or channels")
    if mode == "nearest":
        whole = all(behind % length == 0 for length, behind in zip(before, sizes, strict=True))
        floor = corners == "asymmetric" and node.get("nearest_mode", "round_prefer_floor") == "floor"
        if not whole and not floor:
            raise ValueError(f"it takes nearest neighbours by {corners}")
        return F.interpolate(x, sizes[2:], mode="nearest")
    kind = {"linear": ("linear", "bilinear", "trilinear")[x.dim() - 3], "cubic": "bicubic"}[mode]
    if corners not in ("half_pixel", "pytorch_half_pixel", "align_corners") or node.get("antialias", 0):
        raise ValueError(f"it resizes by {corners}" if corners == "asymmetric" else "it smoothes (antialias)")
    if mode == "cubic" and node.get("cubic_coeff_a", -0.75) != -0.75:
        raise ValueError("its cubic has another coefficient")
    return F.interpolate(x, sizes[2:], mode=kind, align_corners=corners == "align_corners")


def depth_to_space(node: OnnxNode, x: Tensor) -> Tensor:
    size = node.get("blocksize")
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, size)
    n, channels, height, width = x.shape
    x = x.reshape(n, size, size, channels // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(n, channels // size**2, height * size, width * size)


def space_to_depth(node: OnnxNode, x: Tensor) -> Tensor:
    size = node.get("blocksize")
    n, channels, height, width = x.shape
    x = x.reshape(n, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(n, channels * size**2, height // size, width // size)


def grid_sample(node: OnnxNode, x: Tensor, grid: Tensor) -> Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(node.get("mode", "linear"), node.get("mode", "bilinear"))
    return F.grid_sample(x, grid, mode, node.get("padding_mode", "zeros"), bool(node.get("align_corners", 0)))
