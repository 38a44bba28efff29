"""Number formats of a key/value cache: keys and values as a deployed cache of that format gives them back."""

from __future__ import annotations

import numpy as np

from hilsim.networks.arrays import Array
from hilsim.networks.scales import in_steps, scale_of, steps_of

GROUP = 64  # numbers that share a scale in int4, as the bits of `target.kv_cache: int4` count them
BITS = {"int8": 8, "int4": 4}
# FP8 E4M3 (Micikevicius et al., arXiv 2209.05433, table 1): the largest number, the exponent of the smallest normal
# one, and the bits of a fraction.
MOST, LEAST_EXPONENT, FRACTION_BITS = 448, -6, 3


def stored(numbers: Array, cache: str | None) -> Array:
    """Keys (after their rotation) or values (..., head_dim) as they come out of a cache; unchanged for None.

    fp16 rounds each number, and so does fp8 (E4M3 at scale 1, as vLLM's default; what is beyond 448 becomes that).
    int8 has one scale a head's vector, int4 one for each 64 numbers of it (or the vector, where that does not divide):
    the largest number over 127 or 7 steps, in fp16.
    """
    if cache is None:
        return numbers
    if cache == "fp16":
        return as_half(numbers)
    if cache == "fp8":
        return as_fp8(numbers.clip(-MOST, MOST).astype(np.float32)).astype(numbers.dtype, copy=False)
    width = numbers.shape[-1]
    group = GROUP if cache == "int4" and width % GROUP == 0 else width
    groups = numbers.reshape(*numbers.shape[:-1], -1, group)
    steps = steps_of(BITS[cache])
    return in_steps(groups, as_half(scale_of(groups, steps, -1)), steps).reshape(numbers.shape)


def as_half(numbers: Array) -> Array:
    """Numbers rounded to float16; what is beyond its range becomes infinite."""
    with np.errstate(over="ignore"):
        return numbers.astype(np.float32, copy=False).astype(np.float16).astype(numbers.dtype)


def as_fp8(numbers: Array) -> Array:
    """Numbers of at most 448 rounded to FP8 E4M3, halves to the even one: whole steps of their power of two."""
    _, exponents = np.frexp(numbers)  # of fractions from a half to one
    steps = np.ldexp(numbers.dtype.type(1), np.maximum(exponents - 1, LEAST_EXPONENT) - FRACTION_BITS)
    rounded: Array = np.rint(numbers / steps) * steps
    return rounded
