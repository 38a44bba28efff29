"""Grids over one scenario: every point a setup with its numbers, or the reason why it cannot run.

Loading a scenario validates, compiles and places it; what needs none of that again (a policy, a chance of acceptance; a
link's figures and an artificial draft by `what_ifs.py`) is changed in the setup that was loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hilsim.describe.acceptance import acceptance_of
from hilsim.describe.policy import Sync
from hilsim.describe.scenario import Synthetic
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, ScenarioError
from hilsim.progress import counting
from hilsim.runs.evaluate import Numbers, Refused, evaluate, load_fitting
from hilsim.runs.replay import with_policy

Value = str | int | float
Place = Mapping[str, Value]
LENGTH = "draft_tokens"
LATENCY = "request_latency_ms.mean"


@dataclass(frozen=True)
class SweepPoint:
    """A point of a grid: its value on every axis, its setup and its numbers, or `why` there are none."""

    place: Place
    numbers: Numbers
    why: str = ""
    setup: Setup | None = None

    @property
    def speedup(self) -> float:
        """Speed-up over the target alone; NaN where it cannot run."""
        return self.number("speedup")

    @property
    def latency_ms(self) -> float:
        """Mean time of a request in milliseconds, the explorer's first objective; NaN where it cannot run."""
        return self.number(LATENCY)

    @property
    def alone_ms(self) -> float:
        """Mean time of a request of the target alone in milliseconds, at the same place over the same link."""
        return self.speedup * self.latency_ms

    @property
    def length(self) -> int:
        """Its number of drafted tokens."""
        return int(self.place[LENGTH])

    @property
    def acceptance(self) -> float:
        """The chance per drafted token that gives the same `mean_acceptance_length`."""
        return acceptance_of(self.number("mean_acceptance_length"), self.length)

    def number(self, name: str) -> float:
        """A measure by name; NaN where the point has none."""
        value = self.numbers.get(name)
        return math.nan if value is None else float(value)  # in event simulation some are integers

    def adding(self, **more: float | None) -> SweepPoint:
        """The point with further numbers."""
        return replace(self, numbers={**self.numbers, **more})


Rows = list[list[SweepPoint]]


def load_drafting(file: Path, overrides: Sequence[str]) -> Setup:
    """A scenario that compiles and fits, and has a draft. Raises `HilsimError`."""
    setup = load_fitting(file, overrides)
    if setup.draft is None:
        raise ScenarioError([Fault(str(file), "draft", "none", "a draft, whose use is in question")])
    return setup


def point(place: Place, variant: Setup | Refused) -> SweepPoint:
    """One point with its numbers."""
    found = evaluate(variant)
    if isinstance(found, Refused):
        return SweepPoint(place, {}, found.reason)
    assert isinstance(variant, Setup)
    return SweepPoint(place, found, setup=variant)


def over_lengths(
    place: Place, variant: Setup | Refused, lengths: Iterable[int], *, own_policy: bool = False
) -> list[SweepPoint]:
    """A point for every number of drafted tokens, under `sync`, or under the scenario's `own_policy`."""
    with_tokens = with_own_length if own_policy else with_length
    return [
        point({**place, LENGTH: n}, variant if isinstance(variant, Refused) else with_tokens(variant, n))
        for n in lengths
    ]


def over_acceptances(
    variants: Sequence[tuple[Place, Setup | Refused]], acceptances: Sequence[float], lengths: Sequence[int]
) -> list[Rows]:
    """For every variant by chance a row an acceptance, with a point a number of drafted tokens.

    Acceptance is the outer loop, as it alone decides what is accepted, which is drawn once for all variants.
    """
    maps: list[Rows] = [[] for _ in variants]
    for acceptance in counting("acceptances", acceptances, len(acceptances)):
        for (place, variant), rows in zip(variants, maps, strict=True):
            changed = with_acceptance(variant, acceptance)
            rows.append(over_lengths({**place, "acceptance": acceptance}, changed, lengths))
    return maps


def flat(rows: Rows) -> list[SweepPoint]:
    """The points of all rows."""
    return [point for row in rows for point in row]


def best_length(place: Place, variant: Setup | Refused, lengths: Iterable[int]) -> SweepPoint:
    """The best point over these numbers of drafted tokens under `sync`."""
    return best(over_lengths(place, variant, lengths))


def best(points: Iterable[SweepPoint]) -> SweepPoint:
    """The point whose requests take the least time; one that cannot run where none can.

    Not the one with the largest speed-up: points may differ in the target alone that theirs is over.
    """
    return min(points, key=lambda found: math.inf if math.isnan(found.latency_ms) else found.latency_ms)


def over_one_baseline(points: Iterable[SweepPoint], alone_ms: float) -> list[SweepPoint]:
    """The points with their speed-up over one request time of a target alone, `speedup_over_own` as it was."""
    return [
        each if each.why else each.adding(speedup=alone_ms / each.latency_ms, speedup_over_own=each.speedup)
        for each in points
    ]


def crossing(across: Sequence[float], values: Sequence[float], level: float, *, log: bool = False) -> float | None:
    """Where values that rise along `across` first reach a level, straight between the points; None where never."""
    place = (math.log, math.exp) if log else (float, float)
    for index, value in enumerate(values):
        if not value >= level:
            continue
        if index == 0 or math.isnan(values[index - 1]):
            return across[index]
        low, high = place[0](across[index - 1]), place[0](across[index])
        share = (level - values[index - 1]) / (value - values[index - 1])
        return place[1](low + share * (high - low))
    return None


def with_length(setup: Setup, draft_tokens: int) -> Setup:
    """The setup under `sync` with so many drafted tokens."""
    return with_policy(setup, Sync(name="sync", draft_tokens=draft_tokens))


def with_own_length(setup: Setup, draft_tokens: int) -> Setup:
    """The setup under its own policy with so many drafted tokens; under `sync` where that does not count them."""
    policy = setup.scenario.policy
    if not hasattr(policy, LENGTH):
        return with_length(setup, draft_tokens)
    return with_policy(setup, policy.model_copy(update={LENGTH: draft_tokens}))


def with_acceptance(variant: Setup | Refused, acceptance: float) -> Setup | Refused:
    """A synthetic setup with another chance that a drafted token is accepted; refused ones stay refused."""
    if isinstance(variant, Refused):
        return variant
    logits = Synthetic(source="synthetic", acceptance=acceptance)
    return replace(variant, scenario=variant.scenario.model_copy(update={"logits": logits}))
