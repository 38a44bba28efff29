"""The accept rules, alone: laws and uniforms in, token out. No chip, no time, no cache.

`p` is the target's law, `q` the draft's (Leviathan's letters; Chen et al. swap them). These emit the target's law
exactly, whatever the draft is:

- greedy: the target's largest logit; a drafted token is accepted if it is that one.
- ratio (Leviathan et al. 2211.17192, Chen et al. 2302.01318): a token drafted from q is accepted with probability
  min(1, p/q); otherwise the token is drawn from the normalised positive part of p - q.
- gumbel (Daliri et al. 2408.07978): the largest of log p plus noise that the draft has used as well.
- plain, under the name of sample_match: the target's own draw, on a match and on a mismatch alike.
- block (Sun et al. 2403.10444) is in `block.py`.

And these do not: lenient, typical, and ratio where `known` is not the law that was drawn from.

Decisions on the edges: a drafted token that q gives no mass (underflow) is accepted only if p gives it mass; a
residual that sums to zero means p = q up to rounding, so p itself is drawn from; an empty draft is a plain draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hilsim.describe.decoding import Accept
from hilsim.sampling.distribution import Law, Logits, draw
from hilsim.sampling.noise import Uniforms


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
    return Emission(token, None, lead(target_logits))


def lead(scores: Logits | Law) -> float:
    """How far the largest is ahead of the second."""
    if len(scores) < 2:
        return 0.0
    second, first = np.partition(scores, -2)[-2:]
    return float(first - second)


def ratio(p: Law, q: Law, noise: Uniforms, known: Law | None = None) -> tuple[int, Emission]:
    """Draft from q, accept or replace. Returns the drafted token and the emission.

    `known` is the law that the verifier takes for q; unless it is q itself the rule is lossy. `drafted` of the emission
    is None after a rejection, also in the rare case that float rounding lets the residual draw the very same token.
    """
    tested = q if known is None else known
    drafted, drafted_margin = draw(q, noise.draft)
    # uniform < p / q without the division, which would overflow where q is next to nothing.
    gap = float(p[drafted] - noise.accept * tested[drafted])
    if gap > 0:
        return drafted, Emission(drafted, drafted, min(drafted_margin, gap))
    residual = np.maximum(p - tested, 0.0)
    token, margin = draw(residual if residual.sum() > 0 else p, noise.residual)
    return drafted, Emission(token, None, min(drafted_margin, -gap, margin))


def lenient(p: Law, q: Law, noise: Uniforms, known: Law, lenience: float) -> tuple[int, Emission]:
    """The ratio rule against `lenience` times the draft's law: no token gets more than p / lenience. Lossy."""
    return ratio(p, q, noise, lenience * known)


def gumbel(p: Law, noise: Law) -> Emission:
    """The largest of log p plus the position's noise; the draft takes the largest of log q plus the same."""
    with np.errstate(divide="ignore"):
        scores = np.log(p) + noise[: len(p)]
    return Emission(int(scores.argmax()), None, lead(scores))


def plain(p: Law, noise: Uniforms) -> Emission:
    """A draw from the target's own law: the sample-match rule, and where there is no draft at all."""
    token, margin = draw(p, noise.residual)
    return Emission(token, None, margin)


def typical(p: Law, drafted: int, noise: Uniforms, epsilon: float, delta: float) -> Emission:
    """A drafted token stands if the target finds it typical; otherwise a plain draw (Medusa 2401.10774). Lossy."""
    share = float(p[drafted]) if drafted < len(p) else 0.0
    gap = share - threshold(p, epsilon, delta)
    if gap > 0:
        return Emission(drafted, drafted, gap)
    token, margin = draw(p, noise.residual)
    return Emission(token, None, min(-gap, margin))


def threshold(p: Law, epsilon: float, delta: float) -> float:
    """The share from which a token is typical of p."""
    return min(epsilon, delta * math.exp(-entropy(p)))


def entropy(law: Law) -> float:
    """In nats."""
    shares = law[law > 0]
    return float(-(shares * np.log(shares)).sum())


def emitted_law(rule: Accept, p: Law, drawn: Law, known: Law | None) -> Law:
    """The law of the token that a rule emits at one drafted position, by sums instead of draws.

    `drawn` is the law of the draft's token, `known` the one that the verifier takes for it.
    """
    if rule.rule in ("greedy", "gumbel", "sample_match"):
        return p
    if rule.rule == "typical":
        kept = drawn * (p > threshold(p, rule.epsilon, rule.delta))
        redrawn: Law = (1 - kept.sum()) * p
        return kept + redrawn
    assert known is not None, "this rule needs a law to test against"
    tested = known * rule.lenience if rule.rule == "lenient" else known
    accepted = np.ones(len(p))
    np.divide(p, tested, out=accepted, where=tested > p)
    accepted[p == 0] = 0.0
    stands = drawn * accepted
    residual = np.maximum(p - tested, 0.0)
    total = residual.sum()
    replaced: Law = (1 - stands.sum()) * (residual / total if total > 0 else p)
    return stands + replaced


def total_variation(a: Law, b: Law) -> float:
    """Half the sum of differences: the largest error in the probability of anything."""
    return float(np.abs(a - b).sum() / 2)
