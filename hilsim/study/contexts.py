"""What a longer context costs: memory, step times, first token and speed-up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hilsim.cost.memory import ledgers
from hilsim.describe.setup import Setup
from hilsim.runs.evaluate import Refused, load_variant
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import SweepPoint, best_length, point, with_acceptance, with_length
from hilsim.units import GIB

MEASURED_AT = 5  # drafted tokens at which the stand-ins' acceptance is read off
COSTS = ("target_gib", "draft_gib", "target_ms", "verify_ms", "draft_ms")


def measured_acceptance(setup: Setup) -> float:
    """The acceptance by chance that brings the `mean_acceptance_length` of the scenario's own draft."""
    return point({"draft_tokens": MEASURED_AT}, with_length(setup, MEASURED_AT)).acceptance


def context_at(
    context: int, file: Path, overrides: Sequence[str], acceptance: float, lengths: Sequence[int]
) -> SweepPoint:
    """One context at its best draft length, with its `COSTS`; those too of one that compiles and does not fit."""
    place = {"context_tokens": context}
    changed = [*overrides, f"context_tokens={context}"]
    variant = load_variant(file, changed)
    if isinstance(variant, Setup):
        found = best_length(place, with_acceptance(variant, acceptance), lengths)
        return with_costs(found, variant, found.length)
    compiled = load_variant(file, changed, fitting=False)
    refused = SweepPoint(place, {}, variant.reason)
    return refused if isinstance(compiled, Refused) else with_costs(refused, compiled, 1)


def with_costs(found: SweepPoint, setup: Setup, length: int) -> SweepPoint:
    """The point with memory in use (GiB) and step times (ms) at a draft length."""
    assert setup.draft is not None
    held, steps = ledgers(setup), steps_of(setup, length)
    return found.adding(
        target_gib=held[setup.target.chip.name].used_bytes / GIB,
        draft_gib=held[setup.draft.chip.name].used_bytes / GIB,
        target_ms=steps.target_ms,
        verify_ms=steps.verify_ms,
        draft_ms=steps.draft_ms,
    )
