"""How far steps may be off as a whole: factors of their times, drawn from the residuals of the class of each step.

A class is a kind of steps on a kind of unit, and whether device and model were measured (`fidelity/confidence.py`): of
measured over predicted among its rows there is a distribution, of which the middle 80 % is the interval that is shown.
One factor is drawn for each unit and kind of step, and holds for the whole run: a unit is off, not each of its steps.

- decode, prompt: the factor of the class. Of a draft's steps too; two models on one unit share their draws.
- verify: the factor of decode times that of the class of rounds in plain steps. Where rounds were not measured often
  enough (NPUs), that of decode alone.
- networks: the factor of the class of networks.

The errors of a kind go with those of decode steps as they do among the rows: normal scores with the correlation of the
class. Given those of decode steps, the errors of other kinds are taken as independent of each other, and units too.

A factor contains what single figures leave open, so these must not move the same times again. Under drawn figures the
reference step of each kind takes as long as predicted, times the factor: the figures decide what other rows and fills
of the cache take in proportion to it, and all that has no class, as a verify in decode steps on an NPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt
from statistics import NormalDist

import numpy as np

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import Roofline, network_ns, timer_for
from hilsim.describe.setup import Placed, PlacedNetwork, Setup, StepFactors
from hilsim.fidelity.confidence import Interval, Residuals, correlation, interval_on, residuals

PROMPT = 128  # tokens, as llama-bench is often run
VERIFY_ROWS = 8  # where a policy does not fix how many it drafts
ROWS_OF = {"decode": "decode", "prompt": "prefill", "verify": "speculation", "network": "network"}
Factors = Mapping[tuple[str, str], float]  # by part and kind of step


@dataclass(frozen=True)
class StepClass:
    """A kind of steps of a role, or a network's passes, and the interval of their class."""

    part: str
    track: str
    kind: str
    interval: Interval

    @property
    def key(self) -> str:
        """What is drawn once for all parts on a unit."""
        return f"{self.track} {self.kind}"

    @cached_property
    def residuals(self) -> Residuals:
        """What its factor is drawn from."""
        found = residuals(self.interval.unit, self.interval.kind, self.interval.level)
        assert found is not None, "it has an interval"
        return found

    @cached_property
    def correlation(self) -> float:
        """With the decode steps of the same unit."""
        of = self.interval
        return 1.0 if self.kind == "decode" else correlation(of.unit, of.kind, of.level)

    def share(self, scores: Mapping[str, float]) -> float:
        """The share of the class's rows that lie below, at normal scores by key."""
        with_decode = scores.get(f"{self.track} decode", 0.0)
        return NormalDist().cdf(self.correlation * with_decode + sqrt(1 - self.correlation**2) * scores[self.key])

    def factor(self, scores: Mapping[str, float]) -> float:
        """The factor at normal scores by key."""
        return self.residuals.at([self.share(scores)])[0]


@dataclass(frozen=True)
class StepClasses:
    """The classes of a setup's steps; `setup` is as predicted."""

    setup: Setup
    found: tuple[StepClass, ...]

    @property
    def keys(self) -> list[str]:
        """What is drawn: units with kinds of steps."""
        return sorted({one.key for one in self.found})

    def drawn(self, changed: Setup, scores: Mapping[str, float]) -> Setup:
        """The setup under other figures, with the factors at normal scores by key."""
        return self.held(changed, {(one.part, one.kind): one.factor(scores) for one in self.found})

    def held(self, changed: Setup, factors: Factors) -> Setup:
        """The setup under other figures, where the reference step of every kind is as predicted times its factor."""
        if not self.found:
            return changed
        draft = None if changed.draft is None else self.held_role(changed, "draft", factors)
        networks = tuple(
            self.held_network(before, after, factors)
            for before, after in zip(self.setup.networks, changed.networks, strict=True)
        )
        return replace(changed, target=self.held_role(changed, "target", factors), draft=draft, networks=networks)

    def held_role(self, changed: Setup, role: str, factors: Factors) -> Placed:
        """A role with the factors of its kinds of steps."""
        before, after = self.setup.roles[role], changed.roles[role]
        kinds = {one.kind for one in self.found if one.part == role}
        if not kinds:
            return after
        steps, context = reference_steps(self.setup, role), self.setup.scenario.context_tokens
        predicted, under = timer_for(before, context), timer_for(replace(after, factors=StepFactors()), context)

        def factor(kind: str) -> float:
            if kind not in kinds:
                return 1.0
            return factors.get((role, kind), 1.0) * predicted.duration_ns(steps[kind]) / under.duration_ns(steps[kind])

        decode = factor("decode")
        # A verify's class is of decode steps: both times are held, and both factors apply.
        verify = factor("verify") * factors.get((role, "decode"), 1.0) if "verify" in kinds else decode
        return replace(after, factors=StepFactors(decode, factor("prompt"), verify))

    def held_network(self, before: PlacedNetwork, after: PlacedNetwork, factors: Factors) -> PlacedNetwork:
        """A network with the factor of its passes."""
        name = before.placement.name
        if not any(one.part == name and one.kind == "network" for one in self.found):
            return after
        return replace(after, factor=factors.get((name, "network"), 1.0) * network_ns(before) / network_ns(after))


def step_classes(setup: Setup) -> StepClasses:
    """The classes of all steps that the chip model times; none of units with typed times, or that few rows are of."""
    return StepClasses(setup, (*classes_of_roles(setup), *classes_of_networks(setup)))


def classes_of_roles(setup: Setup) -> Iterator[StepClass]:
    """Of target and draft."""
    for role, placed in setup.roles.items():
        if not isinstance(timer_for(placed, setup.scenario.context_tokens), Roofline):
            continue
        kinds = set()
        for kind in reference_steps(setup, role):
            of = interval_on(placed.chip, placed.unit, placed.precision, ROWS_OF[kind], placed.model.name)
            if of is not None and (kind != "verify" or "decode" in kinds):
                kinds.add(kind)
                yield StepClass(role, placed.track, kind, of)


def classes_of_networks(setup: Setup) -> Iterator[StepClass]:
    """Of networks beside the language model whose pass has a time."""
    for network in setup.networks:
        own = network.placement
        of = interval_on(network.chip, network.unit, network.precision, ROWS_OF["network"], own.module)
        if of is not None and network_ns(network):
            yield StepClass(own.name, network.track, "network", of)


def reference_steps(setup: Setup, role: str) -> dict[str, Step]:
    """One step of every kind that a role runs: at half a full context, prompts with an empty cache."""
    policy, context, is_target = setup.scenario.policy, setup.scenario.context_tokens, role == "target"
    steps = {
        "decode": Step(Phase.DECODE if is_target else Phase.DRAFT, 1, context // 2),
        "prompt": Step(Phase.PREFILL if is_target else Phase.DRAFT_PREFILL, min(PROMPT, context - 1), 0),
    }
    if is_target and policy.name != "target_only":
        rows = int(getattr(policy, "draft_tokens", VERIFY_ROWS - 1)) + 1
        steps["verify"] = Step(Phase.VERIFY, rows, context // 2)
    return steps


def scores_for(keys: list[str], chance: np.random.Generator) -> dict[str, float]:
    """Normal scores by key."""
    return dict(zip(keys, map(float, chance.standard_normal(len(keys))), strict=True))


def generator_of_scores(seed: int) -> np.random.Generator:
    """A generator of its own: with or without classes the figures are drawn alike."""
    return np.random.Generator(np.random.Philox(key=[seed, 3]))
