"""The one rule of scales: the largest number that shares a scale lies on the last step, either way of zero."""

from __future__ import annotations

from torch import Tensor


def steps_of(bits: int) -> int:
    """Steps either way of zero: 127 of 8 bits. The one further step on the negative side is not used."""
    return int(2 ** (bits - 1)) - 1


def scale_of(numbers: Tensor, steps: int, axes: int | tuple[int, ...]) -> Tensor:
    """The size of a step, one for all numbers along `axes`, which stay with length 1."""
    scale: Tensor = numbers.abs().amax(axes, keepdim=True) / steps
    return scale


def in_steps(numbers: Tensor, scale: Tensor, steps: int) -> Tensor:
    """Numbers rounded to the nearest step; those beyond the last one become it."""
    rounded: Tensor = (numbers / scale.where(scale > 0, 1)).round().clamp(-steps, steps)
    return rounded * scale
