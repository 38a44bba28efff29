"""Grids over one scenario: every point a set-up with its numbers, or the reason why it cannot run.

Loading a scenario validates, compiles and places it; what needs none of that again (a policy, a chance to be accepted,
a link's figures, an artificial draft) is changed in the set-up that was loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.memory import ledgers
from hilsim.cost.verdict import PlacementVerdict
from hilsim.describe.figure import Figure
from hilsim.describe.policy import Policy, Sync
from hilsim.describe.scenario import Synthetic, TableTimer
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, HilsimError, InputError, ScenarioError

Value = str | int | float
Place = Mapping[str, Value]
Numbers = Mapping[str, float | None]
Ask = Callable[[Setup], Numbers]
LENGTH = "draft_tokens"
LATENCY = "request_latency_ms.mean"


@dataclass(frozen=True)
class Point:
    """Where a point lies, by axis; its set-up and its numbers, or `why` there are none."""

    place: Place
    numbers: Numbers
    why: str = ""
    setup: Setup | None = None

    @property
    def speedup(self) -> float:
        """Over the target alone; not a number where it cannot run."""
        return self.number("speedup")

    @property
    def latency_ms(self) -> float:
        """Mean time of a request, the explorer's first objective."""
        return self.number(LATENCY)

    @property
    def alone_ms(self) -> float:
        """Mean time of a request of the target alone, at the same place over the same link."""
        return self.speedup * self.latency_ms

    def number(self, name: str) -> float:
        """A measure, or not a number."""
        value = self.numbers.get(name)
        return math.nan if value is None else value

    def adding(self, **more: float | None) -> Point:
        """The point with further numbers."""
        return replace(self, numbers={**self.numbers, **more})


def loaded(file: Path, overrides: Sequence[str]) -> Setup | str:
    """A scenario that compiles and fits, or why it does not."""
    try:
        return placed(file, overrides)
    except HilsimError as error:
        return reason(error, file)


def placed(file: Path, overrides: Sequence[str]) -> Setup:
    """A scenario that compiles and fits. Raises `HilsimError`."""
    setup = load_compiled(file, overrides)
    PlacementVerdict(
        setup, ledgers(setup), ()
    ).require()  # without remedies, which take longer to find than a point to run
    return setup


def drafting(file: Path, overrides: Sequence[str]) -> Setup:
    """A scenario that compiles and fits, and has a draft to ask about. Raises `HilsimError`."""
    setup = placed(file, overrides)
    if setup.draft is None:
        raise ScenarioError([Fault(str(file), "draft", "none", "a draft, whose use is in question")])
    return setup


def reason(error: HilsimError, file: Path) -> str:
    """Why a point cannot run, in one line without the name of the scenario, which all points share."""
    if isinstance(error, InputError):
        told = [f"{fault.place}: {fault.found}; expected {fault.expected}" for fault in error.faults]
        return "; ".join(text.removeprefix(": ") for text in told)
    lines = [line.strip().removeprefix(f"{file}: ") for line in str(error).splitlines()]
    overfull = [line for line in lines if "too large" in line]
    return overfull[0] if overfull else " ".join(lines[:2])


def point(place: Place, setup: Setup | str, ask: Ask) -> Point:
    """One point asked for its numbers."""
    if isinstance(setup, str):
        return Point(place, {}, setup)
    try:
        return Point(place, ask(setup), setup=setup)
    except HilsimError as error:
        return Point(place, {}, reason(error, Path(setup.file)))


def over_lengths(
    place: Place,
    setup: Setup | str,
    lengths: Iterable[int],
    ask: Ask,
    change: Callable[[Setup, int], Setup] | None = None,
) -> list[Point]:
    """A point for every number of drafted tokens, under `sync` where `change` does not say otherwise."""
    change = change or with_length
    return [point({**place, LENGTH: n}, setup if isinstance(setup, str) else change(setup, n), ask) for n in lengths]


def best(points: Iterable[Point]) -> Point:
    """The point whose requests take the least time; one that cannot run where none can.

    Not the one with the largest speed-up: points may differ in the target alone that theirs is over.
    """
    return min(points, key=lambda found: math.inf if math.isnan(found.latency_ms) else found.latency_ms)


def over_one_baseline(points: Iterable[Point], alone_ms: float) -> list[Point]:
    """The points with their speed-up over one request time of a target alone, `speedup_over_own` as it was."""
    return [
        each if each.why else each.adding(speedup=alone_ms / each.latency_ms, speedup_over_own=each.speedup)
        for each in points
    ]


def with_policy(setup: Setup, policy: Policy) -> Setup:
    """The set-up under another policy of its draft."""
    return replace(setup, scenario=setup.scenario.model_copy(update={"policy": policy}))


def with_length(setup: Setup, draft_tokens: int) -> Setup:
    """The set-up under `sync` with so many drafted tokens."""
    return with_policy(setup, Sync(name="sync", draft_tokens=draft_tokens))


def with_own_length(setup: Setup, draft_tokens: int) -> Setup:
    """The set-up under its own policy with so many drafted tokens; under `sync` where that does not count them."""
    policy = setup.scenario.policy
    if not hasattr(policy, LENGTH):
        return with_length(setup, draft_tokens)
    return with_policy(setup, policy.model_copy(update={LENGTH: draft_tokens}))


def with_acceptance(setup: Setup, acceptance: float) -> Setup:
    """A synthetic set-up with another chance for drafted tokens to stand."""
    logits = Synthetic(source="synthetic", acceptance=acceptance)
    return replace(setup, scenario=setup.scenario.model_copy(update={"logits": logits}))


def with_link(setup: Setup, bytes_s: float, latency_s: float) -> Setup:
    """The set-up over a link of such a rate and one-way delay, and with no other cost of a message."""
    assert setup.link is not None
    figures = {"rate": (bytes_s, "B/s"), "message_overhead": (0.0, "s"), "propagation": (latency_s, "s")}
    made = {
        name: Figure(value=value, unit=unit, kind="assumed", source="what-if")
        for name, (value, unit) in figures.items()
    }
    return replace(setup, link=setup.link.model_copy(update={**made, "jitter": None}))


def with_draft_step(setup: Setup, step_ms: float) -> Setup:
    """The set-up with a draft that takes so long for a token, whatever it is, and no time to read."""
    assert setup.draft is not None
    table = TableTimer(prefill={"1000000": 0.0}, decode=step_ms, verify={"2": step_ms}, source="what-if")
    placement = setup.draft.placement.model_copy(update={"timer": table})
    return replace(setup, draft=replace(setup.draft, placement=placement))


@dataclass(frozen=True)
class DraftPlace:
    """A draft with the stand-in that speaks for it on one unit in one precision, as values of `--set`."""

    model: str
    stand_in: str
    unit: str
    precision: str
    overrides: tuple[str, ...]

    @property
    def place(self) -> dict[str, Value]:
        """Where a point of it lies."""
        return {"draft": self.model, "stand_in": self.stand_in, "unit": self.unit, "precision": self.precision}


def draft_places(setup: Setup, pairs: Iterable[tuple[str, str]], precisions: Sequence[str]) -> list[DraftPlace]:
    """Every pair of model and stand-in on every unit of the scenario's chips that knows one of the precisions."""
    return [
        DraftPlace(model, said, f"{chip.name}.{name}", precision, moved(setup, model, said, chip.name, name, precision))
        for model, said in pairs
        for chip in setup.chips.values()
        for name, unit in chip.units.items()
        for precision in unit.precisions
        if precision in precisions
    ]


def moved(setup: Setup, model: str, stand_in: str, chip: str, unit: str, precision: str) -> tuple[str, ...]:
    """The overrides that put a draft there, on shared memory where that is the target's chip."""
    target = setup.target.chip.name
    found = [f"draft.chip={chip}", f"draft.unit={unit}", f"draft.precision={precision}", f"draft.model={model}"]
    found += [f"draft.stand_in={stand_in}", "draft.timer=null"]
    widths = setup.chips[chip].units[unit].widths
    found.append(f"draft.widths={[1, widths.value[-1]] if widths is not None else 'null'}")
    if chip == target:
        found += ["link=on-chip"] + (["application=null"] if setup.application != target else [])
    return tuple(found)
