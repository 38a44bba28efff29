"""Randomness keyed by position: every uniform is a function of (seed, request, position, purpose), never of a stream.

So no draft length, policy, link or fault can change what is said, and a run can be cut and joined anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Purposes keep streams apart that share a seed: what is said, and how long a message dawdles.
CONTENT, SYNTHETIC, JITTER = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Uniforms:
    """The independent uniforms in [0, 1) that belong to one position."""

    draft: float
    accept: float
    residual: float
    spare: float


def uniforms(seed: int, purpose: int, request: int, position: int) -> Uniforms:
    """One Philox 4x64 block: key (seed, purpose), counter (request, position). 53 bits each."""
    block = np.random.Philox(key=(seed, purpose), counter=(0, position, request, 0)).random_raw(4)
    return Uniforms(*((block >> np.uint64(11)) * 2.0**-53).tolist())
