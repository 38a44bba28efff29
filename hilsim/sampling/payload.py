"""Distributions as the payload sends them: what the draft draws from, what the verifier tests against, the target's.

A rule is exact where the verifier tests against the very distribution that was drawn from, by the very same numbers. So
distributions are cut and quantised first and drawn from afterwards (QSV, arXiv 2507.00605); `top_k_after` does it the
other way round, and is lossy for that. One row or many, as in `distribution.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hilsim.describe.decoding import Payload, RowFormat, VerifyAt
from hilsim.sampling.distribution import Distribution, descending, put


class Drafted(NamedTuple):
    """What the draft draws from, and what the verifier tests against; None where no distribution is sent."""

    drawn: Distribution
    known: Distribution | None


def draft_distribution(q: Distribution, payload: Payload, verify_at: VerifyAt = "target") -> Drafted:
    """Both distributions of a drafted token, from the draft's own."""
    if verify_at == "draft":
        return Drafted(q, q)  # both uses on one chip: nothing is rounded
    match payload.scheme:
        case "token_ids":
            return Drafted(q, None)
        case "one_hot":
            sent = one_hot(q)
        case "full_rows" | "scalar":
            sent = quantised(q, payload.format)
        case "top_k":
            sent = quantised(truncated(q, payload.k), payload.format)
        case "top_k_after":
            return Drafted(q, truncated(q, payload.k, renormalised=payload.renormalised))
    return Drafted(sent, sent)


def target_distribution(p: Distribution, payload: Payload, verify_at: VerifyAt = "target") -> Distribution:
    """The target's distribution as every chip that uses it has it, also where the target decodes without a draft.

    Never cut: what comes down as entries has few already, by sampling.top_k, and ties with its last are entries too.
    """
    if verify_at == "target":
        return quantised(p, payload.format) if payload.scheme == "scalar" else p
    return quantised(p, payload.format) if payload.scheme in ("full_rows", "top_k") else p


def quantised(distribution: Distribution, number: RowFormat) -> Distribution:
    """Probabilities rounded to what crosses the link, normalised again in float64 by both chips alike.

    Counts give the likeliest token 255; counts and float16 values sum exactly, the sum of float32 values is sent.
    float16 holds nothing under 6e-8: a distribution that is flat over millions of tokens is left as it is.
    """
    probabilities = distribution.probabilities
    match number:
        case "fp16":
            values = probabilities.astype(np.float16).astype(np.float64)
        case "fp32":
            values = probabilities.astype(np.float32).astype(np.float64)
        case "counts8":
            values = np.floor(probabilities / probabilities.max(axis=-1, keepdims=True) * 255 + 0.5)
    return distribution.normalised(values)


def one_hot(distribution: Distribution) -> Distribution:
    """Probability 1 for the first of the likeliest tokens."""
    certain = np.zeros_like(distribution.probabilities)
    put(certain, distribution.probabilities.argmax(axis=-1)[..., None], 1.0)
    return Distribution(distribution.tokens, certain, distribution.vocabulary)


def truncated(distribution: Distribution, count: int, *, renormalised: bool = True) -> Distribution:
    """The `count` likeliest tokens alone; of equals, those that come first."""
    if count >= distribution.vocabulary:
        return distribution
    cut = distribution.probabilities.copy()
    put(cut, descending(cut)[..., count:], 0.0)
    return (
        distribution.normalised(cut)
        if renormalised
        else Distribution(distribution.tokens, cut, distribution.vocabulary)
    )
