"""Measures of screened runs, many at once: the same numbers that `metrics.py` computes from a trace.

Runs are of one placement and one workload: (runs, requests, fields of `screen/request.py`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hilsim.cost.memory import Ledger
from hilsim.cost.timer import network_ns
from hilsim.describe.setup import Setup
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
from hilsim.screen.tokens import Words
from hilsim.units import NS_PER_MS, NS_PER_S

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
TIMES = ("time_to_first_token_ms", "time_to_first_clause_ms", "request_latency_ms", "time_per_output_token_ms")
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99}
MEASURED = (
    "speedup", *(f"{name}.{part}" for name in TIMES for part in ("mean", *PERCENTILES)), "output_token_throughput",
    "energy_j", "bytes_up", "bytes_down", "link_bytes", "link_busy", "draft_acceptance_rate", "mean_acceptance_length",
    "tokens_per_round", "memory_left_bytes", "memory_bytes",
)  # fmt: skip


def screened_measures(
    setup: Setup, ledgers: dict[str, Ledger], words: Words, baseline: Ints, runs: Ints, *, drafting: bool, linked: bool
) -> dict[str, Floats]:
    """Every measure of every run, (runs,); `baseline` (requests, fields) is the target alone at the same place.

    `drafting` and `linked` say whether the runs use the draft and the link; what they do not have is not a number.
    """
    arrived, total = runs[:, :, ARRIVED], runs.sum(axis=1)
    latency = runs[:, :, FINISHED] - arrived
    active = latency.sum(axis=1)
    tokens = int(words.length.sum())
    none = np.full(len(runs), np.nan)
    found = {"speedup": int((baseline[:, FINISHED] - baseline[:, ARRIVED]).sum()) / active}
    later = words.length > 1
    after = (runs[:, later, FINISHED] - runs[:, later, FIRST]) / NS_PER_MS / (words.length[later] - 1)
    for name, values in (
        ("time_to_first_token_ms", (runs[:, :, FIRST] - arrived) / NS_PER_MS),
        ("time_to_first_clause_ms", (runs[:, :, CLAUSE] - arrived) / NS_PER_MS),
        ("request_latency_ms", latency / NS_PER_MS),
        ("time_per_output_token_ms", after),
    ):
        found |= statistics(name, values)
    found["output_token_throughput"] = tokens * NS_PER_S / active
    found["energy_j"] = energy_j(setup, active, total, len(words.asked), drafting=drafting, linked=linked)
    found["bytes_up"] = total[:, UP_BYTES].astype(float) if linked else none
    found["bytes_down"] = total[:, DOWN_BYTES].astype(float) if linked else none
    found["link_bytes"] = (total[:, UP_BYTES] + total[:, DOWN_BYTES]).astype(float)
    found["link_busy"] = (total[:, UP_BUSY] / active + total[:, DOWN_BUSY] / active) / 2 if linked else none
    drafted, accepted, drafts = total[:, DRAFTED], total[:, ACCEPTED], total[:, DRAFTS]
    alone = (drafts == 0) & (not drafting)  # nothing is drafted, so nothing is accepted or not
    found["draft_acceptance_rate"] = np.where(alone, np.nan, accepted / np.maximum(drafted, 1))
    found["mean_acceptance_length"] = np.where(alone, np.nan, 1 + accepted / np.maximum(drafts, 1))
    later_rounds, later_tokens = total[:, ROUNDS] - len(words.length), tokens - int((words.length > 0).sum())
    each = np.where(later_rounds > 0, later_tokens / np.maximum(later_rounds, 1), 1.0)
    found["tokens_per_round"] = np.where(alone, np.nan, each)
    left = min(ledger.cap_bytes - ledger.used_bytes for ledger in ledgers.values())
    used = sum(ledger.used_bytes for ledger in ledgers.values())
    found["memory_left_bytes"], found["memory_bytes"] = np.full(len(runs), float(left)), np.full(len(runs), float(used))
    return found


def statistics(name: str, values: Floats) -> dict[str, Floats]:
    """Mean and percentiles over requests, as `metrics.statistics`."""
    values = np.ascontiguousarray(values)  # a row is added up in the same order whatever else is measured
    quantiles = np.percentile(values, list(PERCENTILES.values()), axis=1)
    found = {f"{name}.{part}": row for part, row in zip(PERCENTILES, quantiles, strict=True)}
    return {f"{name}.mean": values.mean(axis=1), **found}


def energy_j(setup: Setup, active: Ints, total: Ints, requests: int, *, drafting: bool, linked: bool) -> Floats:
    """Joules while answering, added up in the order of `metrics.energy_j`."""
    busy: dict[str, Ints] = {}
    for network in setup.networks:
        busy[network.track] = busy.get(network.track, 0 * active) + requests * network_ns(network)
    busy[setup.target.track] = busy.get(setup.target.track, 0 * active) + total[:, TARGET_BUSY]
    if drafting and setup.draft is not None:
        busy[setup.draft.track] = busy.get(setup.draft.track, 0 * active) + total[:, DRAFT_BUSY]
    chips = setup.chips
    energy = np.zeros(len(active))
    for name in dict.fromkeys(track.split(".", 1)[0] for track in busy):
        energy += chips[name].idle_power.si * active / NS_PER_S
    for track, held in busy.items():
        chip, unit = track.split(".", 1)
        energy += chips[chip].units[unit].active_power.si * held / NS_PER_S
    if linked and setup.link is not None and setup.link.active_power is not None:
        energy += setup.link.active_power.si * total[:, UP_BUSY] / NS_PER_S
        energy += setup.link.active_power.si * total[:, DOWN_BUSY] / NS_PER_S
    return energy
