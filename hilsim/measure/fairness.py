"""Several passengers on one set of chips: how long each one's questions wait, how fair that is, how busy units are.

| measure      | definition                                                                                        |
| wait         | of an answer: time from its arrival to its last token in which nothing was done for it (`parts`)  |
| served_share | of a passenger: time in which something was done for its answers, over the time these took in all |
| fairness     | Jain's index of the served shares, (sum x)^2 / (n sum x^2): 1 where all wait alike, 1/n at worst  |
| utilisation  | of a unit: share of the run in which it was held, by what held it                                 |

A served share is the inverse of how much longer an answer took for the others' sake, so passengers with long and with
short questions compare. Those without an answer are counted, and are in no mean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hilsim.describe.cockpit import OUTCOMES
from hilsim.measure.parts import Parts, added, requests_in_parts
from hilsim.sim.trace import Trace
from hilsim.units import ms


class Waiting(NamedTuple):
    """Milliseconds that the answers of a passenger waited for units and wires."""

    mean: float
    p90: float
    p99: float
    most: float


class Share(NamedTuple):
    """What a passenger got: its turns by outcome, and of its answers the waiting and the share of time served."""

    passenger: str
    turns: int
    answered: int
    interrupted: int
    refused: int
    given_up: int
    wait_ms: Waiting | None
    served_share: float | None


def spent_by_request(trace: Trace) -> dict[int, Parts]:
    """Of each request that is over, what its time was spent on; together that is all of it."""
    return {record.number: added(parts for _, parts in rounds) for record, rounds in requests_in_parts(trace)}


def shares(trace: Trace) -> list[Share]:
    """What each passenger got, in the order in which they first spoke."""
    spent = spent_by_request(trace)
    by_name = defaultdict(list)
    for turn in sorted(trace.turns, key=lambda turn: turn.spoke_ns):
        by_name[turn.passenger].append(turn)
    found = []
    for name, turns in by_name.items():
        outcomes = [turn.outcome for turn in turns]
        parts = [spent[turn.request] for turn in turns if turn.request in spent and spent[turn.request].total]
        answered, interrupted, refused, given_up = map(outcomes.count, OUTCOMES)
        counts = (len(turns), answered, interrupted, refused, given_up)
        found.append(Share(name, *counts, waiting(parts), served_share(parts)))
    return found


def waiting(parts: Sequence[Parts]) -> Waiting | None:
    """Waiting of some answers; None without any."""
    if not parts:
        return None
    waits = np.array([ms(one.wait) for one in parts])
    p90, p99 = np.quantile(waits, (0.9, 0.99))
    return Waiting(float(waits.mean()), float(p90), float(p99), float(waits.max()))


def served_share(parts: Sequence[Parts]) -> float | None:
    """The share of the time of some answers in which something was done for them; None without any."""
    whole = sum(one.total for one in parts)
    return 1 - sum(one.wait for one in parts) / whole if whole else None


def fairness(found: Iterable[Share]) -> float | None:
    """Jain's index of what passengers with an answer got; None without any."""
    return jain([share.served_share for share in found if share.served_share is not None])


def jain(values: Sequence[float]) -> float | None:
    """(sum x)^2 / (n sum x^2) of n values, Jain, Chiu and Hawe 1984; None where there are none, or all are 0."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else None


def utilisation(trace: Trace) -> dict[str, Mapping[str, float]]:
    """By unit, the share of the run in which it was held, by kind of what held it: a phase, a stage, a task."""
    held: dict[str, dict[str, int]] = {track: defaultdict(int) for track in trace.units}
    for span in trace.spans:
        if span.track in held:
            held[span.track][span.kind] += span.end_ns - span.start_ns
    whole = trace.end_ns or 1
    return {track: {kind: spent / whole for kind, spent in kinds.items()} for track, kinds in held.items()}
