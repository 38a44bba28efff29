"""Variants of one scenario side by side, run event by event: each one's figures as a record, or why it was refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hilsim.describe.setup import Setup
from hilsim.describe.write import typed
from hilsim.measure.metrics import speculation, speedup, timing
from hilsim.measure.parts import LOSSES
from hilsim.runs.evaluate import Refused, load_variant, run_variant
from hilsim.sim.trace import Trace
from hilsim.study.grids import Choice

Record = dict[str, Any]


def run_choices(
    file: Path, overrides: Sequence[str], choices: Iterable[Choice]
) -> Iterator[tuple[Choice, Record | Refused]]:
    """Each choice with its record."""
    for choice in choices:
        variant = load_variant(file, [*overrides, *choice.overrides])
        traces = run_variant(variant)
        if isinstance(traces, Refused):
            yield choice, traces
        else:
            assert isinstance(variant, Setup)
            yield choice, record_of(choice, variant, *traces)


def record_of(choice: Choice, setup: Setup, baseline: Trace, ours: Trace) -> Record:
    """The figures of a variant by column of the CSV: times as means a request, bytes a round."""
    found, counts = timing(ours, setup.chips, setup.link), speculation(ours)
    requests, rounds = max(1, len(ours.requests)), max(1, counts["num_drafts"])
    link = next(iter(found["links"].values()), {"bytes_up": 0, "bytes_down": 0})
    distances = [distance for closed in ours.rounds for distance in closed.distances]
    clause = found["time_to_first_clause_ms"]
    return {
        "link": setup.scenario.link or "",
        "variant": choice.name,
        "group": choice.group,
        "claim": setup.guarantee.level,
        "speedup": speedup(baseline, ours),
        "first_clause_p50_ms": None if clause is None else clause["p50"],
        "request_mean_ms": sum(found["lost_ms"].values()) / requests,
        "tokens_per_round": counts["tokens_per_round"],
        "draft_acceptance_rate": counts["draft_acceptance_rate"],
        "bytes_up_per_round": link["bytes_up"] / rounds,
        "bytes_down_per_round": link["bytes_down"] / rounds,
        "energy_j": found["energy_j"],
        **{f"{name}_ms": found["lost_ms"][name] / requests for name in LOSSES},
        "total_variation_mean": sum(distances) / len(distances) if distances else None,
        "set": typed(choice.overrides),
    }


def best_of_each(records: Iterable[Record]) -> list[Record]:
    """The fastest of every group, fastest first."""
    best: dict[str, Record] = {}
    for record in records:
        if record["group"] not in best or record["speedup"] > best[record["group"]]["speedup"]:
            best[record["group"]] = record
    return sorted(best.values(), key=lambda record: -record["speedup"])
