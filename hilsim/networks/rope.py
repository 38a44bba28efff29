"""Rotary positions: the frequencies of every variant that is accepted, and tables of their cosines and sines.

Formulas: RoPE, Su et al. 2021 (arXiv 2104.09864); YaRN, Peng et al. 2023 (arXiv 2309.00071); LongRoPE, Ding et al. 2024
(arXiv 2402.13753); Llama 3 scaling as in Meta's reference code. All as Hugging Face parametrises them, with the same
operations in the same order: at position 100,000 the last bit of a frequency is worth 0.01 radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope", "proportional")


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for long contexts; fields as in Hugging Face's `rope_parameters`."""

    kind: str  # one of KINDS but "default" and "dynamic", which change nothing up to the last position
    factor: float
    original_positions: int
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    rotated: float = 1.0  # share of a head that turns (proportional)

    def long(self, context: int) -> bool:
        """Whether a pass in a context of so many positions uses the long factors."""
        return self.kind == "longrope" and context > self.original_positions


def rotary_tables(
    head_dim: int, theta: float, scaling: RopeScaling | None, positions: int, *, long: bool = False
) -> tuple[Tensor, Tensor]:
    """Cosine and (half-negated) sine, each (positions, 1, head_dim), in float32 as Hugging Face computes them.

    Always on the CPU: arithmetic on the meta device, where a checkpoint's shapes are checked, loads PyTorch's compiler.
    """
    frequency, magnitude = frequencies(head_dim, theta, scaling, long=long)
    angle = torch.outer(torch.arange(positions, dtype=torch.float32, device="cpu"), frequency)[:, None, :]
    cos, sin = angle.cos() * magnitude, angle.sin() * magnitude
    return torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None, *, long: bool = False
) -> tuple[Tensor, float]:
    """Radians a position of each pair of a head (head_dim / 2), and what cosine and sine are multiplied by."""
    half = head_dim // 2
    powers = theta ** (torch.arange(half, dtype=torch.float32, device="cpu") / half)
    if scaling is None:
        return 1.0 / powers, 1.0
    match scaling.kind:
        case "linear":
            return 1.0 / powers / scaling.factor, 1.0
        case "proportional":
            turning = int(scaling.rotated * head_dim // 2)
            frequency = torch.cat((1.0 / powers[:turning], torch.zeros(half - turning, device="cpu")))
            return frequency / scaling.factor, 1.0
        case "llama3":
            return llama3_frequencies(1.0 / powers, scaling), 1.0
        case "longrope":
            factors = scaling.long_factors if long else scaling.short_factors
            frequency = 1.0 / (torch.tensor(factors, dtype=torch.float32, device="cpu") * powers)
            return frequency, longrope_magnitude(scaling)
        case _:
            magnitude = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1.0 else 1.0
            given = scaling.attention_factor
            return yarn_frequencies(powers, theta, scaling), magnitude if given is None else given


def llama3_frequencies(frequency: Tensor, scaling: RopeScaling) -> Tensor:
    """Short waves stay, long ones are stretched by the factor, those between by something between."""
    original, factor = scaling.original_positions, scaling.factor
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    wavelength = 2 * math.pi / frequency
    stretched = torch.where(wavelength > original / low, frequency / factor, frequency)
    smooth = (original / wavelength - low) / (high - low)
    between = ~(wavelength < original / high) * ~(wavelength > original / low)
    return torch.where(between, (1 - smooth) * stretched / factor + smooth * stretched, stretched)


def longrope_magnitude(scaling: RopeScaling) -> float:
    """As the paper recommends, unless the config says otherwise."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.factor <= 1.0:
        return 1.0
    return math.sqrt(1 + math.log(scaling.factor) / math.log(scaling.original_positions))


def yarn_frequencies(powers: Tensor, theta: float, scaling: RopeScaling) -> Tensor:
    """Fast-turning frequencies stay, slow ones are stretched by the factor, with a linear ramp between."""
    half = len(powers)

    def dimension(turns: float) -> float:
        return (2 * half * math.log(scaling.original_positions / (turns * 2 * math.pi))) / (2 * math.log(theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * half - 1)
    width = (high + 0.001 if low == high else high) - low
    kept = 1 - ((torch.arange(half, dtype=torch.float32, device="cpu") - low) / width).clamp(0, 1)
    return 1.0 / (scaling.factor * powers) * (1 - kept) + 1.0 / powers * kept
