"""Number formats of a key/value cache: keys and values as a deployed cache of that format gives them back."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 64  # numbers that share a scale in int4, as the bits of `target.kv_cache: int4` count them
STEPS = {"int8": 127, "int4": 7}  # either way of zero


def stored(numbers: Tensor, cache: str | None) -> Tensor:
    """Keys (after their rotation) or values (..., head_dim) as they come out of a cache; unchanged for None.

    fp16 rounds each number, and so does fp8 (E4M3 at scale 1, as vLLM's default; what is beyond 448 becomes that).
    int8 has one scale a head's vector, int4 one for each 64 numbers of it (or the vector, where that does not divide):
    the largest number over 127 or 7 steps, in fp16.
    """
    if cache is None:
        return numbers
    if cache == "fp16":
        return numbers.to(torch.float16).to(numbers.dtype)
    if cache == "fp8":
        most = torch.finfo(torch.float8_e4m3fn).max
        return numbers.clamp(-most, most).to(torch.float32).to(torch.float8_e4m3fn).to(numbers.dtype)
    width = numbers.shape[-1]
    group = GROUP if cache == "int4" and width % GROUP == 0 else width
    groups = numbers.reshape(*numbers.shape[:-1], -1, group)
    steps = STEPS[cache]
    scale = (groups.abs().amax(-1, keepdim=True) / steps).to(torch.float16).to(numbers.dtype)
    rounded = (groups / scale.where(scale > 0, 1)).round().clamp(-steps, steps)
    found: Tensor = (rounded * scale).flatten(-2)
    return found
