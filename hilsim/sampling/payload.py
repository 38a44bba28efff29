"""What laws the two chips know of: what the draft draws from, what the verifier tests against, the target's own.

A rule is exact where the verifier knows the very law that was drawn from, by the very same numbers. So laws are cut and
rounded first and drawn from afterwards; `top_k_after` does it the other way round, and is lossy for that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hilsim.describe.decoding import Payload, RowFormat, VerifyAt
from hilsim.sampling.distribution import Law, as_sent


class Drafted(NamedTuple):
    """The law that the draft draws from, and the one that the verifier takes it for; None where it is told nothing."""

    drawn: Law
    known: Law | None


def drafted_law(q: Law, payload: Payload, verify_at: VerifyAt = "target") -> Drafted:
    """Both laws of a drafted token, from the draft's own law."""
    if verify_at == "draft":
        return Drafted(q, q)  # both uses on one chip: nothing is rounded
    match payload.scheme:
        case "token_ids":
            return Drafted(q, None)
        case "one_hot":
            sent = likeliest(q)
        case "full_rows" | "scalar":
            sent = spelled(q, payload.format)
        case "top_k":
            sent = spelled(truncated(q, payload.k), payload.format)
        case "top_k_after":
            return Drafted(q, truncated(q, payload.k, renormalised=payload.renormalised))
    return Drafted(sent, sent)


def target_law(p: Law, payload: Payload, verify_at: VerifyAt = "target") -> Law:
    """The target's law as every chip that uses it knows it. It is used wherever the target speaks, alone as well.

    Never cut: what comes down as entries has few already, by sampling.top_k, and ties with its last are entries too.
    """
    if verify_at == "target":
        return spelled(p, payload.format) if payload.scheme == "scalar" else p
    return spelled(p, payload.format) if payload.scheme in ("full_rows", "top_k") else p


def spelled(law: Law, number: RowFormat) -> Law:
    """The law that rounded numbers spell.

    Counts give the likeliest token 255; counts and float16 values sum exactly, the sum of float32 values is sent.
    """
    match number:
        case "fp16":
            return as_sent(law)
        case "fp32":
            values = law.astype(np.float32).astype(np.float64)
        case "counts8":
            values = np.floor(law / law.max() * 255 + 0.5)
    rounded: Law = values / values.sum()
    return rounded


def likeliest(law: Law) -> Law:
    """All mass on the first of the likeliest tokens."""
    certain = np.zeros(len(law))
    certain[int(law.argmax())] = 1.0
    return certain


def truncated(law: Law, count: int, *, renormalised: bool = True) -> Law:
    """The `count` likeliest tokens alone; of equals, those that come first."""
    if count >= len(law):
        return law
    kept = np.argsort(-law, kind="stable")[:count]
    cut = np.zeros(len(law))
    cut[kept] = law[kept]
    return cut / cut.sum() if renormalised else cut
