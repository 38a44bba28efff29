"""Sets of compiled widths for a target: the bytes that their graphs take, and every policy at its best setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hilsim.cost.extra import extra_at
from hilsim.cost.memory import ledgers
from hilsim.describe.chip import Ability
from hilsim.describe.load import load_setup
from hilsim.describe.policy import Policy
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError
from hilsim.runs.evaluate import Refused, load_variant
from hilsim.runs.replay import with_policy
from hilsim.study.grids import chain_policies
from hilsim.study.sweeps import SweepPoint, best, point
from hilsim.units import GIB, ms

CLOSE = 0.02  # of the fastest, where fewer bytes are the better choice
SHARED = Ability(value=True, kind="assumed", source="what-if: graphs share their weights")
Settings = dict[str, list[tuple[str, Policy]]]


def settings_of(file: Path, overrides: Sequence[str], policies: Sequence[str]) -> Settings:
    """The settings of every requested policy, by policy. Raises `InputError` for one that there is not."""
    found: Settings = {}
    for choice in chain_policies():
        if choice.group in policies:
            policy = load_setup(file, [*overrides, *choice.overrides]).scenario.policy
            found.setdefault(choice.group, []).append((choice.name, policy))
    if strange := [name for name in policies if name not in found]:
        there = ", ".join(dict.fromkeys(choice.group for choice in chain_policies()))
        raise InputError([Fault("--policies", "", ", ".join(map(repr, strange)), f"among {there}")])
    return found


def widths_at(widths: Sequence[int], file: Path, overrides: Sequence[str], policies: Settings) -> list[SweepPoint]:
    """A set of widths under every policy at its best, with `own_gib`, `shared_gib` and `gate_ms.WIDTH`."""
    place = {"widths": " ".join(map(str, widths))}
    setup = load_variant(file, [*overrides, f"target.widths={list(widths)}"], fitting=False)
    if isinstance(setup, Refused):
        return [SweepPoint({**place, "policy": name}, {}, setup.reason) for name in policies]
    own, shared = held_gib(setup, None), held_gib(setup, SHARED)
    cap = setup.target.chip.memory.si / GIB
    if own > cap:
        why = f"{own:.1f} GiB with weights in every graph, of {cap:.1f} GiB"
        why += f"; with shared ones {shared:.1f}" + ("" if shared <= cap else ", too much as well")
        return [SweepPoint({**place, "policy": name}, {"own_gib": own, "shared_gib": shared}, why) for name in policies]
    extras = {f"gate_ms.{width}": extra_ms(setup, width) for width in widths if width > 1}
    found = []
    for name, settings in policies.items():
        points = [
            point({**place, "policy": name, "setting": label}, with_policy(setup, policy)) for label, policy in settings
        ]
        found.append(best(points).adding(own_gib=own, shared_gib=shared, **extras))
    return found


def held_gib(setup: Setup, shared: Ability | None) -> float:
    """What lies on the target's chip: as its unit states, or as if graphs shared weights."""
    target = setup.target
    if shared is not None:
        setup = replace(setup, target=replace(target, unit=target.unit.model_copy(update={"shared_weights": shared})))
    return ledgers(setup)[target.chip.name].used_bytes / GIB


def extra_ms(setup: Setup, width: int) -> float:
    """Milliseconds that the compile check's rewrites add to a pass of one width."""
    target = setup.target
    if target.compiled is None:
        return 0.0
    return ms(1e9 * extra_at(target.compiled.extras, width, target.unit, target.unit.precisions[target.precision]))


def choose(tops: Sequence[SweepPoint]) -> SweepPoint:
    """Of the best points of several sets the one of the fewest bytes among those next to the fastest."""
    top = best(tops)
    close = [other for other in tops if (1 - CLOSE) * other.latency_ms <= top.latency_ms]
    return min(close, key=lambda other: (other.number("own_gib"), other.latency_ms), default=top)
