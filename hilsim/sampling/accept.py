"""The accept rules as pure functions: distributions and uniforms in, tokens out.

`p` is the target's distribution, `q` the draft's (Leviathan's letters; Chen et al. swap them): of one row, or of many.
These rules emit the target's distribution exactly, whatever the draft is:

- greedy: the target's largest logit; a drafted token is accepted if it is that one.
- ratio (Leviathan et al. 2211.17192, Chen et al. 2302.01318): a token drafted from q is accepted with probability
  min(1, p/q); otherwise the token is drawn from the normalised positive part of p - q.
- gumbel (Daliri et al. 2408.07978): the largest of log p plus noise that the draft has used as well.
- plain, under the name of sample_match: the target's own draw, on a match and on a mismatch alike.
- block (Sun et al. 2403.10444) is in `block.py`.

These do not: lenient, typical, and ratio where `known` is not the distribution that was drawn from.

Decisions on the edges: a drafted token that q gives no probability (underflow) is accepted only if p gives it some; a
residual that sums to zero means p = q up to rounding, so p itself is drawn from; an empty draft is a plain draw.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hilsim.sampling.distribution import Distribution, Ints, Probabilities, at, entropy, lead, taken
from hilsim.sampling.logits import Logits
from hilsim.sampling.noise import Uniforms

Noise = Uniforms[Any]  # of a position, or of the position of every row


class Emission(NamedTuple):
    """Emitted tokens (...,). Margins are the smallest change that alters them: a logit gap or a probability."""

    tokens: Ints
    margins: npt.NDArray[np.floating]


class Tested(NamedTuple):
    """Tokens (...,) drawn by the draft, which of them were accepted, and what is emitted.

    A residual may draw the rejected token again where floats round; that is no acceptance.
    """

    drafted: Ints
    accepted: npt.NDArray[np.bool_]
    emission: Emission


def greedy(target_logits: Logits) -> Emission:
    """The first largest logit; the margin is its lead over the second."""
    return Emission(target_logits.argmax(axis=-1), lead(target_logits))


def ratio(p: Distribution, q: Distribution, noise: Noise, known: Distribution | None = None) -> Tested:
    """Draft from q, accept or replace (Leviathan et al., algorithm 1; Chen et al., algorithm 2).

    `known` is the distribution that the verifier takes for q; unless it is q itself the rule is lossy.
    """
    tested = q if known is None else known
    width = max(p.vocabulary, q.vocabulary)
    p_shares, tested_shares = p.lookup(width), tested.lookup(width)
    places, margins = q.draw(noise.draft)
    drafted, _ = q.at(places)
    # uniform < p / q without the division, which would overflow where q is next to nothing.
    gaps = at(p_shares, drafted) - noise.accept * at(tested_shares, drafted)
    accepted, tokens, margins = gaps > 0, drafted, np.minimum(margins, np.abs(gaps))
    if np.count_nonzero(accepted) < accepted.size:
        # The positive part of p - q, and p itself where there is none.
        rest = np.maximum(p.probabilities - taken(tested_shares, p.tokens), 0.0)
        rest = np.where(rest.any(axis=-1, keepdims=True), rest, p.probabilities)
        places, distances = Distribution(p.tokens, rest, p.vocabulary).draw(noise.residual)
        tokens = np.where(accepted, drafted, at(p.tokens, places))
        margins = np.where(accepted, margins, np.minimum(margins, distances))
    return Tested(drafted, accepted, Emission(tokens, margins))


def lenient(p: Distribution, q: Distribution, noise: Noise, known: Distribution, lenience: float) -> Tested:
    """The ratio rule against `lenience` times the draft's distribution: no token gets more than p / lenience. Lossy.

    Leviathan et al., appendix A.5.
    """
    return ratio(p, q, noise, Distribution(known.tokens, lenience * known.probabilities, known.vocabulary))


def gumbel(p: Distribution, noise: Probabilities) -> Emission:
    """The largest of log p plus its tokens' noise (..., support); the draft adds the same noise to log q."""
    scores = noisy(p, noise)
    return Emission(p.at(scores.argmax(axis=-1))[0], lead(scores))


def noisy(distribution: Distribution, noise: Probabilities) -> Probabilities:
    """Log probabilities plus noise, (..., support)."""
    with np.errstate(divide="ignore"):
        found: Probabilities = np.log(distribution.probabilities) + noise
    return found


def plain(p: Distribution, noise: Noise) -> Emission:
    """A draw from the target's own distribution: the sample-match rule, and where there is no draft at all."""
    places, margins = p.draw(noise.residual)
    return Emission(p.at(places)[0], margins)


def typical(p: Distribution, drafted: int, noise: Noise, epsilon: float, delta: float) -> Emission:
    """A drafted token of one row is accepted if the target finds it typical; otherwise a plain draw. Lossy.

    Medusa, arXiv 2401.10774, section 2.3.1.
    """
    gap = p.dense(max(p.vocabulary, drafted + 1))[drafted] - threshold(p.probabilities, epsilon, delta)
    if gap > 0:
        return Emission(np.asarray(drafted), gap)
    tokens, margins = plain(p, noise)
    return Emission(tokens, np.minimum(-gap, margins))


def threshold(p: Probabilities, epsilon: float, delta: float) -> float:
    """The probability from which a token is typical of p (support,)."""
    return min(epsilon, delta * math.exp(-entropy(p)))
