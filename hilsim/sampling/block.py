"""Block verification (Sun et al. 2403.10444): drafted tokens are accepted jointly, and more of them than one by one.

It emits the target's law, but what stands at a position depends on the drafts behind it, so the text is not the one
that the target tells alone; uniforms must be fresh for each block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hilsim.sampling.distribution import Law, draw
from hilsim.sampling.noise import Uniforms


def chances(ps: Sequence[Law], qs: Sequence[Law], drafted: Sequence[int]) -> tuple[list[float], list[float]]:
    """For every i up to the number of drafts: the weight p_i of the first i drafts, and the chance h_i to keep them.

    p_0 = 1, p_i = min(1, p_(i-1) p(x_i) / q(x_i)); with S_i the sum of max(p_i p - q, 0) over the next token,
    h_i = S_i / (S_i + 1 - p_i), and h = p after the last draft. Entry 0 stands for keeping nothing.
    """
    weights, kept = [1.0], [1.0]
    for place, token in enumerate(drafted, start=1):
        p, q = float(ps[place - 1][token]), float(qs[place - 1][token])
        joint = weights[-1] * p
        weight = 1.0 if joint >= q and joint > 0 else joint / q if q > 0 else 0.0
        weights.append(weight)
        if place == len(drafted):
            kept.append(weight)
            continue
        surplus = float(np.maximum(weight * ps[place] - qs[place], 0.0).sum())
        # Without surplus at weight 1 both laws agree and the next draft is sure to stand.
        kept.append(1.0 if weight == 1.0 else surplus / (surplus + 1.0 - weight))
    return weights, kept


def residual(ps: Sequence[Law], qs: Sequence[Law], weights: Sequence[float], accepted: int) -> Law:
    """The law, not normalised, of the token after the accepted drafts."""
    if accepted == len(qs):
        return ps[accepted]
    rest: Law = np.maximum(weights[accepted] * ps[accepted] - qs[accepted], 0.0)
    return rest if rest.sum() > 0 else ps[accepted]


def block(
    ps: Sequence[Law], qs: Sequence[Law], drafted: Sequence[int], noises: Sequence[Uniforms]
) -> tuple[int, int, float]:
    """How many drafts stand, the token after them, and the margin of it all. `ps` and `noises` have one more entry."""
    weights, kept = chances(ps, qs, drafted)
    accepted, margin = 0, 1.0
    for place in range(len(drafted), 0, -1):
        gap = kept[place] - noises[place - 1].accept
        margin = min(margin, abs(gap))
        if gap > 0:
            accepted = place
            break
    token, drawn = draw(residual(ps, qs, weights, accepted), noises[accepted].residual)
    return accepted, token, min(margin, drawn)
