"""What would make a refused placement possible: single changes, each tried, the cheapest for the passenger first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hilsim.compiler.compile_check import plans_of, with_plans
from hilsim.compiler.plan import Plan
from hilsim.cost.memory import ledgers
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import network_ns, timer_for
from hilsim.cost.verdict import moved
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Placed, PlacedNetwork, Setup
from hilsim.describe.write import typed
from hilsim.errors import InputError
from hilsim.units import ms

MOST = 4


@dataclass(frozen=True)
class FallbackOption:
    """A change that makes everything compile and fit.

    `step_ms` is the time of one decode step of the target and of the networks' passes.
    """

    changes: tuple[str, ...]
    why: str
    step_ms: float

    def __str__(self) -> str:
        return f"{typed(self.changes)}  ({self.why}: {self.step_ms:.1f} ms a target step and its networks)"


def find_fallback_options(setup: Setup, overrides: Sequence[str], plans: dict[int, Plan]) -> list[FallbackOption]:
    """The cheapest changes: of compile settings, else of number formats, else of placements; none where none helps."""
    refused = [index for index, plan in plans.items() if plan.outcome == "refused"]
    for kind in (permissions, formats, places):
        found: dict[tuple[str, ...], FallbackOption] = {}
        for index in refused:
            for changes, why in kind(setup, setup.parts[index], index):
                change = tuple(changes)
                if change not in found and (way := fallback_option(setup, overrides, change, why)):
                    found[change] = way
        if found:
            ranked = sorted(found.values(), key=lambda way: way.step_ms)
            # Of the number formats of one unit the quickest is enough.
            return list({way.changes[0]: way for way in reversed(ranked)}.values())[::-1][:MOST]
    return []


def fallback_option(
    setup: Setup, overrides: Sequence[str], changes: tuple[str, ...], why: str
) -> FallbackOption | None:
    """The change, if it leads anywhere."""
    try:
        changed = load_setup(Path(setup.file), [*overrides, *changes])
        plans = plans_of(changed)
    except InputError:
        return None  # it breaks another rule
    if any(plan.outcome == "refused" for plan in plans.values()):
        return None
    changed = with_plans(changed, plans)
    if not all(ledger.fits for ledger in ledgers(changed).values()):
        return None
    step = timer_for(changed.target, changed.scenario.context_tokens).duration_ns(Step(Phase.DECODE, 1, 1))
    return FallbackOption(changes, why, ms(step + sum(map(network_ns, changed.networks))))


Part = Placed | PlacedNetwork
Changes = Iterator[tuple[list[str], str]]


def permissions(setup: Setup, part: Part, index: int) -> Changes:
    """What the scenario could allow, another release of the tools, a host that samples."""
    chosen = setup.scenario.compile
    if chosen.rewrites != "auto" or chosen.avoid:
        yield ["compile.rewrites=auto", "compile.avoid=[]"], "every rewrite that is proven"
    if chosen.fallback == "forbid":
        yield ["compile.fallback=allow"], "what the compiler refuses runs elsewhere"
    for profile in part.unit.profiles:
        if profile != chosen.profile:
            yield [f"compile.profile={profile}"], "another release of the tools"
    if isinstance(part, Placed) and part.head.name != "logits":
        yield [f"{part.role}.head=logits"], "the host samples"


def formats(setup: Setup, part: Part, index: int) -> Changes:
    """Other number formats of the same unit."""
    place = path_of(setup, part, index)
    for precision in part.unit.precisions:
        if precision != part.precision:
            yield [f"{place}.precision={precision}"], "another number format"


def places(setup: Setup, part: Part, index: int) -> Changes:
    """Other units: of any chip in use for a language model, of the same chip for a network beside it."""
    for chip in setup.chips.values():
        for unit, record in chip.units.items():
            if (chip.name, unit) == (part.chip.name, part.unit_name):
                continue
            if chip.place == "cloud" and chip.name != part.chip.name:
                continue  # nothing moves outside the car unasked
            if isinstance(part, Placed) and setup.draft is not None:
                yield from moved(setup, part.role, chip.name, unit, record)
            elif chip.name == part.chip.name:
                place = path_of(setup, part, index)
                for precision in record.precisions:
                    yield [f"{place}.unit={unit}", f"{place}.precision={precision}"], "another unit of the chip"


def path_of(setup: Setup, part: Part, index: int) -> str:
    """The path of a part in the scenario."""
    return part.role if isinstance(part, Placed) else f"networks[{index - len(setup.parts) + len(setup.networks)}]"
