"""The acceptance at which speculation neither wins nor loses, for drafts of any speed and over several links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from hilsim.describe.acceptance import least
from hilsim.describe.setup import Setup
from hilsim.runs.evaluate import Refused, load_variant
from hilsim.study.grids import draft_places, drafts_for
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import LENGTH, Place, SweepPoint, crossing, over_acceptances
from hilsim.study.what_ifs import with_draft_step


def break_even(
    links: Mapping[str, Setup | Refused], ratios: Sequence[float], acceptances: Sequence[float], lengths: Sequence[int]
) -> list[SweepPoint]:
    """A point a link, ratio of a draft step to a target step, and number of drafted tokens.

    Its numbers are `break_even`, simulated, and `closed_form`; None where even a draft that is always right loses.
    """
    variants = [(link, ratio, slowed(links[link], ratio)) for link, ratio in product(links, ratios)]
    maps = over_acceptances([({}, variant) for _, _, variant in variants], acceptances, lengths)
    points = []
    for ((link, ratio, variant), rows), (column, length) in product(
        zip(variants, maps, strict=True), enumerate(lengths)
    ):
        place: Place = {"link": link, "ratio": ratio, LENGTH: length}
        if isinstance(variant, Refused):
            points.append(SweepPoint(place, {}, variant.reason))
            continue
        simulated = crossing(acceptances, [row[column].speedup for row in rows], 1.0)
        closed = least(steps_of(variant, length).speedup, 1.0)
        points.append(SweepPoint(place, {"break_even": simulated, "closed_form": closed}, setup=variant))
    return points


def slowed(variant: Setup | Refused, ratio: float) -> Setup | Refused:
    """The setup with a draft whose step is so much of a target step."""
    if isinstance(variant, Refused):
        return variant
    return with_draft_step(variant, ratio * steps_of(variant, 1).target_ms)


def shipped_ratios(setup: Setup, file: Path, overrides: Sequence[str]) -> dict[str, float]:
    """Draft step over target step of the shipped drafts, in w4 on the scenario's units, by name and unit."""
    found = {}
    for choice in draft_places(setup, drafts_for(setup), ("w4",)):
        variant = load_variant(file, [*overrides, *choice.overrides])
        if not isinstance(variant, Refused):
            found[choice.name] = steps_of(variant, 1).ratio
    return found
