"""The sampling rules on one dense row (vocabulary,), in plain numbers: a batch of one, without the supports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from hilsim.describe.decoding import Payload, Sampling, VerifyAt
from hilsim.sampling import accept, distribution, payload
from hilsim.sampling.distribution import Distribution, Probabilities
from hilsim.sampling.logits import Logits, penalised
from hilsim.sampling.noise import Uniforms

whole = Distribution.over_all


class Emitted(NamedTuple):
    """A token, whether it is an accepted draft, and its margin."""

    token: int
    accepted: bool
    margin: float


class Drafted(NamedTuple):
    """What is drawn from, and what that is taken for."""

    drawn: Probabilities
    known: Probabilities | None


def distribution_of(logits: Logits, sampling: Sampling, tokens: Sequence[int] = ()) -> Probabilities:
    return distribution.distribution_of(penalised(logits, sampling, tokens), sampling).dense()


def draw(p: Probabilities, uniform: float) -> tuple[int, float]:
    token, margin = whole(p).draw(uniform)
    return int(token), float(margin)


def emitted(found: accept.Emission, accepted: Any = False) -> Emitted:
    return Emitted(int(found.tokens), bool(accepted), float(found.margins))


def greedy(logits: Logits) -> Emitted:
    return emitted(accept.greedy(logits))


def ratio(
    p: Probabilities, q: Probabilities, noise: Uniforms[float], known: Probabilities | None = None
) -> tuple[int, Emitted]:
    tested = accept.ratio(whole(p), whole(q), noise, None if known is None else whole(known))
    return int(tested.drafted), emitted(tested.emission, tested.accepted)


def plain(p: Probabilities, noise: Uniforms[float]) -> Emitted:
    return emitted(accept.plain(whole(p), noise))


def gumbel(p: Probabilities, noise: Probabilities) -> Emitted:
    return emitted(accept.gumbel(whole(p), noise))


def draft_distribution(q: Probabilities, sent: Payload, verify_at: VerifyAt = "target") -> Drafted:
    drawn, known = payload.draft_distribution(whole(q), sent, verify_at)
    return Drafted(drawn.dense(), None if known is None else known.dense())


def target_distribution(p: Probabilities, sent: Payload, verify_at: VerifyAt = "target") -> Probabilities:
    return payload.target_distribution(whole(p), sent, verify_at).dense()


def truncated(p: Probabilities, count: int, *, renormalised: bool = True) -> Probabilities:
    return payload.truncated(whole(p), count, renormalised=renormalised).dense()


def as_sent(p: Probabilities) -> Probabilities:
    """As float16 carries it."""
    return payload.quantised(whole(p), "fp16").dense()
