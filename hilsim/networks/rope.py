"""Rotary positions: the frequencies of every variant that is accepted, and tables of their cosines and sines.

Formulas: RoPE, Su et al. 2021 (arXiv 2104.09864); YaRN, Peng et al. 2023 (arXiv 2309.00071); LongRoPE, Ding et al. 2024
(arXiv 2402.13753); Llama 3 scaling as in Meta's reference code. All as Hugging Face parametrises them, with the same
operations in the same order and in float32: at position 100,000 the last bit of a frequency is worth 0.01 radians.
Powers, cosines and sines are rounded from float64, the same on every processor; PyTorch's own, which differ from one
processor to another, are a last bit away now and then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
KINDS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope", "proportional")
FIRST_POSITIONS = 1024  # tables begin so long


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


def table_length(positions: int, held: int, most: int) -> int:
    """How many positions a table that has `held` should have, where `positions` are needed and `most` are allowed.

    Tables are kept and grow: a config.json may allow a million positions of which a run uses a thousand.
    """
    held = held or FIRST_POSITIONS
    return min(most, held if positions <= held else max(positions, 2 * held))


def rotary_tables(
    head_dim: int, theta: float, scaling: RopeScaling | None, positions: int, *, long: bool = False
) -> tuple[Floats, Floats]:
    """Cosine and (half-negated) sine, each (positions, 1, head_dim), in float32."""
    frequency, magnitude = frequencies(head_dim, theta, scaling, long=long)
    angle = np.outer(np.arange(positions, dtype=np.float32), frequency)[:, None, :].astype(np.float64)
    cos, sin = (turn(angle).astype(np.float32) * np.float32(magnitude) for turn in (np.cos, np.sin))
    return np.concatenate((cos, cos), -1), np.concatenate((-sin, sin), -1)


def frequencies(
    head_dim: int, theta: float, scaling: RopeScaling | None, *, long: bool = False
) -> tuple[Floats, float]:
    """Radians a position of each pair of a head (head_dim / 2), and what cosine and sine are multiplied by."""
    half = head_dim // 2
    exponents = np.arange(half, dtype=np.float32) / np.float32(half)
    powers = np.power(np.float64(np.float32(theta)), exponents.astype(np.float64)).astype(np.float32)
    plain: Floats = np.reciprocal(powers)
    if scaling is None:
        return plain, 1.0
    match scaling.kind:
        case "linear":
            return plain / np.float32(scaling.factor), 1.0
        case "proportional":
            plain[int(scaling.rotated * head_dim // 2) :] = 0
            return plain / np.float32(scaling.factor), 1.0
        case "llama3":
            return llama3_frequencies(plain, scaling), 1.0
        case "longrope":
            factors = scaling.long_factors if long else scaling.short_factors
            return np.reciprocal(np.array(factors, np.float32) * powers), longrope_magnitude(scaling)
        case _:
            magnitude = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1.0 else 1.0
            given = scaling.attention_factor
            return yarn_frequencies(powers, theta, scaling), magnitude if given is None else given


def llama3_frequencies(frequency: Floats, scaling: RopeScaling) -> Floats:
    """Short waves stay, long ones are stretched by the factor, those between by something between."""
    original, factor = scaling.original_positions, np.float32(scaling.factor)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    # A number over an array is, in PyTorch, the array's reciprocal times the number.
    wavelength = np.reciprocal(frequency) * np.float32(2 * math.pi)
    long, short = (wavelength > np.float32(original / low), wavelength < np.float32(original / high))
    stretched = np.where(long, frequency / factor, frequency)
    smooth = (np.reciprocal(wavelength) * np.float32(original) - np.float32(low)) / np.float32(high - low)
    between: Floats = (1 - smooth) * stretched / factor + smooth * stretched
    return np.where(long | short, stretched, between)


def longrope_magnitude(scaling: RopeScaling) -> float:
    """As the paper recommends, unless the config says otherwise."""
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.factor <= 1.0:
        return 1.0
    return math.sqrt(1 + math.log(scaling.factor) / math.log(scaling.original_positions))


def yarn_frequencies(powers: Floats, theta: float, scaling: RopeScaling) -> Floats:
    """Fast-turning frequencies stay, slow ones are stretched by the factor, with a linear ramp between."""
    half = len(powers)

    def dimension(turns: float) -> float:
        return (2 * half * math.log(scaling.original_positions / (turns * 2 * math.pi))) / (2 * math.log(theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * half - 1)
    width = (high + 0.001 if low == high else high) - low
    kept = 1 - ((np.arange(half, dtype=np.float32) - np.float32(low)) / np.float32(width)).clip(0, 1)
    slowed = np.reciprocal(np.float32(scaling.factor) * powers)
    frequency: Floats = slowed * (1 - kept) + np.reciprocal(powers) * kept
    return frequency
