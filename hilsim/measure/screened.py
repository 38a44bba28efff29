"""Measures of runs by fast timing, many at once, by the same formulas as `metrics.py` uses for a trace.

Runs are of one placement and one workload.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hilsim.cost.memory import Ledger
from hilsim.cost.timer import network_ns
from hilsim.describe.link import Link
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
from hilsim.screen.many import ManyRuns
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
AT_ONCE = 256  # runs, so that what is computed on the way stays in a core's cache


def many_of(runs: Ints) -> ManyRuns:
    """Runs as their loops record them, (runs, requests, fields of `screen/request.py`)."""
    first, clause, finished = (runs[:, :, field] - runs[:, :, ARRIVED] for field in (FIRST, CLAUSE, FINISHED))
    return ManyRuns(first, clause, finished, runs.sum(axis=1))


def screened_measures(
    setup: Setup,
    ledgers: dict[str, Ledger],
    answers: Answers,
    baseline_ns: Ints,
    runs: ManyRuns,
    links: Sequence[Link | None],
    over: Ints,
    *,
    drafting: bool,
) -> dict[str, Floats]:
    """Every measure of every run, (runs,); `baseline_ns` (runs,) is the time of all requests with the target alone.

    Runs are of one placement; `over` (runs,) says which of `links` joins it, either all None or none. `drafting` says
    whether they use the draft; measures of a draft or a link that they do not use are NaN.
    """
    total, linked = runs.totals, links[0] is not None
    active = runs.finished.sum(axis=1)
    tokens, requests = int(answers.length.sum()), len(answers.asked)
    wires = [total[:, UP_BUSY], total[:, DOWN_BUSY]] if linked else []
    up, down = total[:, UP_BYTES].astype(float), total[:, DOWN_BYTES].astype(float)
    none = np.full(len(active), np.nan)
    found = {"speedup": baseline_ns / active}
    found |= times_of(runs, answers.length)
    found["output_token_throughput"] = throughput(tokens, active)
    busy = busy_ns(setup, total, requests, drafting=drafting)
    found["energy_j"] = np.empty(len(active))
    for place, link in enumerate(links):
        mine = over == place
        held = {track: some[mine] for track, some in busy.items()}
        found["energy_j"][mine] = energy_j(setup.chips, link, held, [some[mine] for some in wires], active[mine])
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
    found["memory_left_bytes"], found["memory_bytes"] = (np.full(len(active), float(size)) for size in (left, used))
    return found


def times_of(runs: ManyRuns, tokens: Ints) -> dict[str, Floats]:
    """Statistics of the times of requests, (runs,); `tokens` (requests,) of their answers."""
    parts: list[dict[str, Floats]] = []
    for start in range(0, len(runs.first), AT_ONCE):
        first, clause, finished = (part[start : start + AT_ONCE] for part in runs[:3])
        at = Instants(0 * first[:, :1], first, clause, finished, finished, tokens)
        parts.append(
            {
                f"{name}.{part}": value
                for name, values in times_ms(at).items()
                for part, value in statistics(values).items()
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def busy_ns(setup: Setup, total: Ints, requests: int, *, drafting: bool) -> dict[str, Ints]:
    """Occupied nanoseconds of every unit in use, by track, (runs,)."""
    busy: dict[str, Ints] = {}
    for network in setup.networks:
        busy[network.track] = busy.get(network.track, 0 * total[:, 0]) + requests * network_ns(network)
    busy[setup.target.track] = busy.get(setup.target.track, 0 * total[:, 0]) + total[:, TARGET_BUSY]
    if drafting and setup.draft is not None:
        busy[setup.draft.track] = busy.get(setup.draft.track, 0 * total[:, 0]) + total[:, DRAFT_BUSY]
    return busy
