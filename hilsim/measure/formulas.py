"""Formulas of measures over arrays: of one run from its trace (`metrics.py`), of many by fast timing (`screened.py`).

Arrays are (requests,) or (runs, requests); a total of a run is a number or (runs,).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from hilsim.describe.chip import Chip
from hilsim.describe.link import Link
from hilsim.units import NS_PER_MS, NS_PER_S

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Count = TypeVar("Count", int, Ints)
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99}
STATISTICS = ("mean", *PERCENTILES)


class Instants(NamedTuple):
    """Nanoseconds of requests that have an answer, and `tokens` (requests,) of it."""

    arrived: Ints
    first: Ints  # first token delivered
    clause: Ints  # token delivered that completes the first clause
    last: Ints  # last token delivered
    finished: Ints
    tokens: Ints


def times_ms(at: Instants) -> dict[str, Floats]:
    """The times of each request; the time per output token of those with more than one."""
    many = at.tokens > 1
    return {
        "time_to_first_token_ms": (at.first - at.arrived) / NS_PER_MS,
        "time_to_first_clause_ms": (at.clause - at.arrived) / NS_PER_MS,
        "request_latency_ms": (at.finished - at.arrived) / NS_PER_MS,
        "time_per_output_token_ms": (at.last - at.first)[..., many] / NS_PER_MS / (at.tokens[many] - 1),
    }


def statistics(values: Floats) -> dict[str, Floats]:
    """Mean and percentiles (linear between ranks) over the last axis."""
    values = np.ascontiguousarray(values)  # a row is added up in the same order whatever else is measured
    mean = values.mean(axis=-1)
    if not np.isfinite(mean).all():  # what is not finite sorts otherwise than NumPy's partitions
        quantiles = np.percentile(values, list(PERCENTILES.values()), axis=-1)
        return {"mean": mean, **dict(zip(PERCENTILES, quantiles, strict=True))}
    ordered = np.sort(values, axis=-1)  # of short rows eight times as fast as `np.percentile`, and the same bits
    return {"mean": mean, **{name: between_ranks(ordered, per_cent / 100) for name, per_cent in PERCENTILES.items()}}


def between_ranks(ordered: Floats, below: float) -> Floats:
    """Where so large a share is below, over the last axis of sorted rows, as `np.quantile` interpolates linearly.

    It has the same bits, without NumPy's masked arrays, which take long to import.
    """
    at = below * (ordered.shape[-1] - 1)
    rank = int(at)
    share = at - rank
    low, high = ordered[..., rank], ordered[..., min(rank + 1, ordered.shape[-1] - 1)]
    found: Floats = low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)
    return found


def ratio(part: int | Ints, whole: int | Ints, empty: float) -> Floats:
    """A share, or `empty` where there is nothing to have a share of."""
    return np.where(np.asarray(whole) > 0, part / np.maximum(whole, 1), empty)


def tokens_a_round(emitted: int | Ints, rounds: int | Ints) -> Floats:
    """The one definition of tokens per round: tokens of the rounds after the first over their number; 1 if none.

    `mean_acceptance_length` is another number: it counts drafts alone, and a last round as if the answer continued.
    """
    return ratio(emitted, rounds, 1.0)


def acceptance(drafts: int | Ints, drafted: int | Ints, accepted: int | Ints) -> dict[str, Floats]:
    """Acceptance of drafted tokens: the share accepted, 0 to 1, and the mean tokens per verify."""
    return {
        "draft_acceptance_rate": ratio(accepted, drafted, 0.0),
        "mean_acceptance_length": 1 + ratio(accepted, drafts, 0.0),
    }


def throughput(tokens: int, active: int | Ints) -> Floats:
    """Tokens a second of the time in which at least one request is being answered."""
    return ratio(tokens * NS_PER_S, active, 0.0)


def energy_j(
    chips: Mapping[str, Chip], link: Link | None, busy: Mapping[str, Count], wires: Sequence[Count], active: Count
) -> Floats:
    """Joules while answering: idle power of every chip in use, active power of its units and of the link.

    `busy` nanoseconds of every unit in use, by track; `wires` of both ways of the link.
    """
    energy = np.zeros(np.shape(active))
    for name in dict.fromkeys(track.split(".", 1)[0] for track in busy):
        energy = energy + chips[name].idle_power.si * active / NS_PER_S
    for track, held in busy.items():
        chip, unit = track.split(".", 1)
        energy = energy + chips[chip].units[unit].active_power.si * held / NS_PER_S
    if link is not None and link.active_power is not None and wires:
        energy = energy + sum(link.active_power.si * held / NS_PER_S for held in wires)
    return energy
