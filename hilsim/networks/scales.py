"""The one rule of scales: the largest number that shares a scale lies on the last step, either way of zero."""

from __future__ import annotations

import numpy as np

from hilsim.networks.arrays import Array


def steps_of(bits: int) -> int:
    """Steps either way of zero: 127 of 8 bits. The one further step on the negative side is not used."""
    return int(2 ** (bits - 1)) - 1


def scale_of(numbers: Array, steps: int, axes: int | tuple[int, ...]) -> Array:
    """The size of a step, one for all numbers along `axes`, which stay with length 1."""
    scale: Array = np.abs(numbers).max(axes, keepdims=True) / steps
    return scale


def in_steps(numbers: Array, scale: Array, steps: int) -> Array:
    """Numbers rounded to the nearest step; those beyond the last one become it."""
    rounded: Array = (numbers / np.where(scale > 0, scale, scale.dtype.type(1))).round().clip(-steps, steps)
    return rounded * scale
