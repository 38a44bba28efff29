"""Measures of runs by fast timing, many at once, by the same formulas as `metrics.py` uses for a trace.

Runs are of one placement and one workload: (runs, requests, fields of `screen/request.py`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.cost.memory import Ledger
from hilsim.cost.timer import network_ns
from hilsim.describe.setup import Setup
from hilsim.measure.formulas import (
    Instants,
    acceptance,
    energy_j,
    ratio,
    statistics,
    throughput,
    times_ms,
    tokens_a_round,
)
from hilsim.screen.request import (
    ACCEPTED,
    ARRIVED,
    CLAUSE,
    DOWN_BUSY,
    DOWN_BYTES,
    DRAFT_BUSY,
    DRAFTED,
    DRAFTS,
    FINISHED,
    FIRST,
    ROUNDS,
    TARGET_BUSY,
    UP_BUSY,
    UP_BYTES,
)
from hilsim.screen.tokens import Answers

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def screened_measures(
    setup: Setup,
    ledgers: dict[str, Ledger],
    answers: Answers,
    baseline: Ints,
    runs: Ints,
    *,
    drafting: bool,
    linked: bool,
) -> dict[str, Floats]:
    """Every measure of every run, (runs,); `baseline` (requests, fields) is the target alone at the same place.

    `drafting` and `linked` say whether the runs use the draft and the link; measures of what they do not use are NaN.
    """
    total, finished = runs.sum(axis=1), runs[:, :, FINISHED]
    at = Instants(runs[:, :, ARRIVED], runs[:, :, FIRST], runs[:, :, CLAUSE], finished, finished, answers.length)
    active = (finished - at.arrived).sum(axis=1)
    tokens, requests = int(answers.length.sum()), len(answers.asked)
    wires = [total[:, UP_BUSY], total[:, DOWN_BUSY]] if linked else []
    up, down = total[:, UP_BYTES].astype(float), total[:, DOWN_BYTES].astype(float)
    none = np.full(len(runs), np.nan)
    found = {"speedup": int((baseline[:, FINISHED] - baseline[:, ARRIVED]).sum()) / active}
    for name, values in times_ms(at).items():
        found |= {f"{name}.{part}": value for part, value in statistics(values).items()}
    found["output_token_throughput"] = throughput(tokens, active)
    busy = busy_ns(setup, total, requests, drafting=drafting)
    found["energy_j"] = energy_j(setup.chips, setup.link, busy, wires, active)
    found["bytes_up"], found["bytes_down"] = (up, down) if linked else (none, none)
    found["link_bytes"] = up + down
    found["link_busy"] = sum((ratio(held, active, 0.0) for held in wires), 0 * active) / 2 if linked else none
    drafts = total[:, DRAFTS]
    speculation = acceptance(drafts, total[:, DRAFTED], total[:, ACCEPTED])
    later = tokens - int((answers.length > 0).sum())
    speculation["tokens_per_round"] = tokens_a_round(later, total[:, ROUNDS] - requests)
    alone = (drafts == 0) & (not drafting)  # nothing is drafted, so nothing is accepted or not
    found |= {name: np.where(alone, np.nan, values) for name, values in speculation.items()}
    left = min(ledger.cap_bytes - ledger.used_bytes for ledger in ledgers.values())
    used = sum(ledger.used_bytes for ledger in ledgers.values())
    found["memory_left_bytes"], found["memory_bytes"] = np.full(len(runs), float(left)), np.full(len(runs), float(used))
    return found


def busy_ns(setup: Setup, total: Ints, requests: int, *, drafting: bool) -> dict[str, Ints]:
    """Occupied nanoseconds of every unit in use, by track, (runs,)."""
    busy: dict[str, Ints] = {}
    for network in setup.networks:
        busy[network.track] = busy.get(network.track, 0 * total[:, 0]) + requests * network_ns(network)
    busy[setup.target.track] = busy.get(setup.target.track, 0 * total[:, 0]) + total[:, TARGET_BUSY]
    if drafting and setup.draft is not None:
        busy[setup.draft.track] = busy.get(setup.draft.track, 0 * total[:, 0]) + total[:, DRAFT_BUSY]
    return busy
