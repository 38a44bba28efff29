"""The accept rules, alone: laws and uniforms in, token out. No chip, no time, no cache.

`p` is the target's law, `q` the draft's (Leviathan's letters; Chen et al. swap them). Both rules emit the target's law
exactly, whatever the draft is:

- greedy: the target's largest logit; a drafted token is accepted if it is that one.
- ratio (Leviathan et al. 2211.17192, Chen et al. 2302.01318): a token drafted from q is accepted with probability
  min(1, p/q); otherwise the token is drawn from the normalised positive part of p - q.

Decisions on the edges: a drafted token that q gives no mass (underflow) is accepted only if p gives it mass; a
residual that sums to zero means p = q up to rounding, so p itself is drawn from; an empty draft is a plain draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hilsim.logits.noise import Uniforms
from hilsim.logits.sampling import Law, Logits, draw


@dataclass(frozen=True, slots=True)
class Emission:
    """The token at one position. `margin` says how little would have changed it: a logit gap or a share of law."""

    token: int
    drafted: int | None
    margin: float

    @property
    def accepted(self) -> bool:
        return self.token == self.drafted


def greedy(target_logits: Logits) -> Emission:
    """The first largest logit; the margin is its lead over the second."""
    token = int(np.argmax(target_logits))
    lead = np.partition(target_logits, -2)[-2:] if len(target_logits) > 1 else np.zeros(2)
    return Emission(token, None, float(lead[1] - lead[0]))


def ratio(p: Law, q: Law, noise: Uniforms) -> tuple[int, Emission]:
    """Draft from q, accept or replace. Returns the drafted token and the emission.

    `drafted` of the emission is None after a rejection, also in the rare case that float rounding lets the residual
    draw the very same token again.
    """
    drafted, drafted_margin = draw(q, noise.draft)
    # uniform < p / q without the division, which would overflow where q is next to nothing.
    gap = float(p[drafted] - noise.accept * q[drafted])
    if gap > 0:
        return drafted, Emission(drafted, drafted, min(drafted_margin, gap))
    residual = np.maximum(p - q, 0.0)
    token, margin = draw(residual if residual.sum() > 0 else p, noise.residual)
    return drafted, Emission(token, None, min(drafted_margin, -gap, margin))


def plain(p: Law, noise: Uniforms) -> Emission:
    """A draw from the target's own law, where there is no draft at all."""
    token, margin = draw(p, noise.residual)
    return Emission(token, None, margin)
