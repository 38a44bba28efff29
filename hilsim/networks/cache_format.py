"""Number formats of a key/value cache: keys and values as a deployed cache of that format gives them back."""

from __future__ import annotations

import torch
from torch import Tensor

from hilsim.networks.scales import in_steps, scale_of, steps_of

GROUP = 64  # numbers that share a scale in int4, as the bits of `target.kv_cache: int4` count them
BITS = {"int8": 8, "int4": 4}


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
    steps = steps_of(BITS[cache])
    scale = scale_of(groups, steps, -1).to(torch.float16).to(numbers.dtype)
    return in_steps(groups, scale, steps).flatten(-2)
