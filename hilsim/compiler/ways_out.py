"""What would make a refused placement possible: single changes, each tried, the cheapest for the passenger first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hilsim.compiler.gate import plans_of, with_plans
from hilsim.compiler.plan import Plan
from hilsim.cost.memory import ledgers
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import network_ns, timer_for
from hilsim.cost.verdict import moved
from hilsim.describe.load import Placed, PlacedNetwork, Setup, load_setup
from hilsim.errors import InputError
from hilsim.units import ms

MOST = 4


@dataclass(frozen=True)
class WayOut:
    """A change that makes everything compile and fit; `step_ms` is the target's decode step and its networks' passes."""

    change: str
    why: str
    step_ms: float

    def __str__(self) -> str:
        return f"--set {self.change}  ({self.why}: {self.step_ms:.1f} ms a target step)"


def ways_out(setup: Setup, overrides: Sequence[str], plans: dict[int, Plan]) -> list[WayOut]:
    """The cheapest changes; none where no single one helps."""
    found = []
    tried: set[str] = set()
    for index, plan in plans.items():
        if plan.outcome != "refused":
            continue
        for changes, why in candidates(setup, setup.parts[index], index):
            if (change := " --set ".join(changes)) in tried:
                continue
            tried.add(change)
            if way := way_out(setup, [*overrides, *changes], change, why):
                found.append(way)
    return sorted(found, key=lambda way: way.step_ms)[:MOST]


def way_out(setup: Setup, overrides: Sequence[str], change: str, why: str) -> WayOut | None:
    """The change, if it leads anywhere."""
    try:
        changed = load_setup(Path(setup.file), overrides)
        plans = plans_of(changed)
    except InputError:
        return None  # it breaks another rule
    if any(plan.outcome == "refused" for plan in plans.values()):
        return None
    changed = with_plans(changed, plans)
    if not all(ledger.fits for ledger in ledgers(changed).values()):
        return None
    step = timer_for(changed.target, changed.scenario.context_tokens).duration_ns(Step(Phase.DECODE, 1, 1))
    return WayOut(change, why, ms(step + sum(map(network_ns, changed.networks))))


def candidates(setup: Setup, part: Placed | PlacedNetwork, index: int) -> Iterator[tuple[list[str], str]]:
    """Changes worth trying for one refused part."""
    chosen = setup.scenario.compile
    if chosen.rewrites != "auto" or chosen.avoid:
        yield ["compile.rewrites=auto", "compile.avoid=[]"], "every rewrite that is proven"
    if chosen.fallback == "forbid":
        yield ["compile.fallback=allow"], "what the compiler refuses runs elsewhere"
    for profile in part.unit.profiles:
        if profile != chosen.profile:
            yield [f"compile.profile={profile}"], "another release of the tools"
    if isinstance(part, Placed):
        if part.placement.head.name != "logits":
            yield [f"{part.role}.head=logits"], "the host samples"
        for precision in part.unit.precisions:
            if precision != part.placement.precision:
                yield [f"{part.role}.precision={precision}"], "other number formats"
        for chip in setup.chips.values():
            for unit, record in chip.units.items():
                if (chip.name, unit) != (part.chip.name, part.placement.unit) and setup.draft is not None:
                    yield from moved(setup, part.role, chip.name, unit, record)
        return
    place = f"networks.{index - len(setup.parts) + len(setup.networks)}"
    for unit, record in part.chip.units.items():
        for precision in record.precisions:
            if (unit, precision) != (part.placement.unit, part.placement.precision):
                yield [f"{place}.unit={unit}", f"{place}.precision={precision}"], "another unit of the chip"
