"""How far a lossy rule changes the target's distribution at one drafted position, computed exactly, without draws."""

from __future__ import annotations

import numpy as np

from hilsim.describe.decoding import Accept
from hilsim.sampling.accept import threshold
from hilsim.sampling.distribution import Probabilities


def emitted_distribution(
    rule: Accept, p: Probabilities, drawn: Probabilities, known: Probabilities | None
) -> Probabilities:
    """The distribution of the emitted token; all are dense, (vocabulary,).

    `drawn` is the distribution of the draft's token, `known` the one that the verifier takes for it.
    """
    if rule.rule in ("greedy", "gumbel", "sample_match"):
        return p
    if rule.rule == "typical":
        standing = drawn * (p > threshold(p, rule.epsilon, rule.delta))
        redrawn: Probabilities = (1 - standing.sum()) * p
        return standing + redrawn
    assert known is not None, "this rule needs a distribution to test against"
    tested = known * rule.lenience if rule.rule == "lenient" else known
    accepted = np.ones(len(p))
    np.divide(p, tested, out=accepted, where=tested > p)
    accepted[p == 0] = 0.0
    standing = drawn * accepted
    rest = np.maximum(p - tested, 0.0)
    total = rest.sum()
    replaced: Probabilities = (1 - standing.sum()) * (rest / total if total > 0 else p)
    return standing + replaced


def total_variation(a: Probabilities, b: Probabilities) -> float:
    """Half the sum of differences: the largest error in the probability of anything."""
    return float(np.abs(a - b).sum() / 2)
