"""Drafts of a target's vocabulary on every unit: step time, acceptance and size; and under memory caps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hilsim.cost.memory import ledgers, role_items
from hilsim.runs.evaluate import load_variant
from hilsim.study.grids import Choice
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import SweepPoint, best, best_length
from hilsim.study.uncertainty import with_values
from hilsim.units import GIB


def draft_at(
    choice: Choice, file: Path, overrides: Sequence[str], lengths: Sequence[int], *, fitting: bool = True
) -> SweepPoint:
    """A draft at its best draft length; without `fitting` it may exceed the memory, as time does not depend on that.

    Adds `draft_ms` a token, `acceptance`, `draft_gib` of the draft alone, `needs_gib` of all on its chip.
    """
    variant = load_variant(file, [*overrides, *choice.overrides], fitting=fitting)
    found = best_length(choice.parts, variant, lengths)
    if found.setup is None or found.setup.draft is None:
        return found
    setup, draft, scenario = found.setup, found.setup.draft, found.setup.scenario
    held = role_items(draft, scenario.context_tokens, scenario.sessions)
    return found.adding(
        draft_ms=steps_of(setup, found.length).draft_ms,
        acceptance=found.acceptance,
        draft_gib=sum(item.bytes for item in held) / GIB,
        needs_gib=ledgers(setup)[draft.chip.name].used_bytes / GIB,
    )


def under_cap(cap_gib: float, draft: SweepPoint, chip: str) -> SweepPoint:
    """A draft under one cap of its chip's memory, with a reason instead of numbers where it does not fit."""
    place = {"cap_gib": cap_gib, **draft.place}
    if draft.setup is None:
        return SweepPoint(place, {}, draft.why)
    memory = draft.setup.chips[chip].memory.model_copy(update={"unit": "GiB"})
    ledger = ledgers(with_values(draft.setup, {f"{chip}/memory": (memory, cap_gib)}))[chip]
    if ledger.fits:
        return replace(draft, place=place)
    return SweepPoint(place, {}, f"needs {ledger.used_bytes / GIB:.2f} GiB, {ledger.ratio:.2f}x of the cap")


def speeds_under(caps: Sequence[float], points: Sequence[SweepPoint]) -> list[float]:
    """The best speed-up under each cap, 1 where nothing fits or gains."""
    tops = [best(point for point in points if point.place["cap_gib"] == cap) for cap in caps]
    return [1.0 if top.why else max(1.0, top.speedup) for top in tops]
