"""Randomness keyed by position: every uniform is a function of (seed, request, position, purpose), never of a stream.

So no draft length, policy, link or fault can change what is said, and a run can be cut and joined anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Purposes keep streams apart that share a seed: what is said, and how long a message dawdles.
CONTENT, SYNTHETIC, JITTER, GUMBEL, BLOCK = 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True)
class Uniforms:
    """The independent uniforms in [0, 1) that belong to one position."""

    draft: float
    accept: float
    residual: float
    spare: float


def uniforms(seed: int, purpose: int, request: int, position: int, block: int = 0) -> Uniforms:
    """One Philox 4x64 block: key (seed, purpose), counter (request, position, block). 53 bits each.

    `block` is for rules that decide about a position more than once: where the block of drafts began.
    """
    bits = np.random.Philox(key=(seed, purpose), counter=(0, position, request, block)).random_raw(4)
    return Uniforms(*((bits >> np.uint64(11)) * 2.0**-53).tolist())


def gumbel_noise(seed: int, request: int, position: int, count: int) -> npt.NDArray[np.float64]:
    """Standard Gumbel noise for the first `count` tokens; a token's noise does not depend on `count`."""
    bits = np.random.Philox(key=(seed, GUMBEL), counter=(0, position, request, 0)).random_raw(count)
    noise: npt.NDArray[np.float64] = -np.log(-np.log(((bits >> np.uint64(11)) + 0.5) * 2.0**-53))
    return noise
