"""Block verification (Sun et al. 2403.10444): accepts drafted tokens jointly, and more of them than one by one.

It emits the target's distribution, but what stands at a position depends on the drafts behind it, so the text is not
the one that the target decodes alone; uniforms must be fresh for each block. Distributions are dense, (vocabulary,).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hilsim.sampling.distribution import Distribution, Probabilities
from hilsim.sampling.noise import Uniforms


def chances(
    ps: Sequence[Probabilities], qs: Sequence[Probabilities], drafted: Sequence[int]
) -> tuple[list[float], list[float]]:
    """For every i up to the number of drafts: the weight p_i of the first i drafts, and the chance h_i to accept them.

    p_0 = 1, p_i = min(1, p_(i-1) p(x_i) / q(x_i)); with S_i the sum of max(p_i p - q, 0) over the next token,
    h_i = S_i / (S_i + 1 - p_i), and h = p after the last draft (Sun et al., algorithm 2). Entry 0 is for accepting
    nothing.
    """
    weights, accepting = [1.0], [1.0]
    for place, token in enumerate(drafted, start=1):
        p, q = float(ps[place - 1][token]), float(qs[place - 1][token])
        joint = weights[-1] * p
        weight = 1.0 if joint >= q and joint > 0 else joint / q if q > 0 else 0.0
        weights.append(weight)
        if place == len(drafted):
            accepting.append(weight)
            continue
        surplus = float(np.maximum(weight * ps[place] - qs[place], 0.0).sum())
        # Without surplus at weight 1 both distributions agree and the next draft is accepted for certain.
        accepting.append(1.0 if weight == 1.0 else surplus / (surplus + 1.0 - weight))
    return weights, accepting


def residual(
    ps: Sequence[Probabilities], qs: Sequence[Probabilities], weights: Sequence[float], accepted: int
) -> Probabilities:
    """The distribution, not normalised, of the token after the accepted drafts."""
    if accepted == len(qs):
        return ps[accepted]
    rest: Probabilities = np.maximum(weights[accepted] * ps[accepted] - qs[accepted], 0.0)
    return rest if rest.sum() > 0 else ps[accepted]


def block(
    ps: Sequence[Probabilities],
    qs: Sequence[Probabilities],
    drafted: Sequence[int],
    noises: Sequence[Uniforms[float]],
) -> tuple[int, int, float]:
    """How many drafts are accepted, the token after them, and the margin of the decision.

    The margin is the least distance of a uniform from the threshold that it was compared with: below the networks'
    rounding error the decision is a numerical tie. `ps` and `noises` have one entry more than `drafted`.
    """
    weights, accepting = chances(ps, qs, drafted)
    accepted, margin = 0, 1.0
    for place in range(len(drafted), 0, -1):
        gap = accepting[place] - noises[place - 1].accept
        margin = min(margin, abs(gap))
        if gap > 0:
            accepted = place
            break
    token, drawn = Distribution.over_all(residual(ps, qs, weights, accepted)).draw(noises[accepted].residual)
    return accepted, int(token), min(margin, float(drawn))
