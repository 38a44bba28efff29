"""What a wanted speed-up takes, and what the one at hand becomes over a faster export of the target; by replays.

Replays find the least chance, the same at every place of a draft, with which the scenario's own answers come so much
sooner under its own policy, chips and link. The acceptance of a run is that of `measure/round_cost.py`, at hand and in
the replay that reaches what is wanted. Where tokens a round do not follow from an acceptance, because drafts overlap
with the verify, it is the replay's own chance: at hand the one that brings the run's speed-up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

from hilsim.describe.chip import FasterExport
from hilsim.describe.derive import at_speed
from hilsim.describe.figure import Kind
from hilsim.describe.policy import Adaptive, Own, TargetOnly
from hilsim.describe.setup import Setup
from hilsim.measure.metrics import deliveries, speculation, speedup
from hilsim.measure.round_cost import acceptance_at_hand
from hilsim.runs.run import RunPair, Sources
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.luck import ByChance
from hilsim.sources.supposed import Supposed
from hilsim.study.reaching import reaching

CLOSE = 1e-3  # of a speed-up: an acceptance is then known to about 0.001


@dataclass(frozen=True)
class Wanted:
    """A wanted speed-up: the acceptance that brings it and the tokens a round of that run, None where none does.

    `acceptance` is the one at hand; None where drafts overlap with the verify and no even one brings the speed-up.
    """

    speedup: float
    reached: bool
    acceptance: float | None
    tokens_per_round: float
    acceptance_needed: float | None
    tokens_per_round_needed: float | None


@dataclass(frozen=True)
class OverFasterExport:
    """A speed-up held against the target in a faster export, so many `times` as fast by a figure of this kind and
    source: with drafts for the target as it is, and for that one.
    """

    precision: str
    times: float
    range: tuple[float, float]
    kind: Kind
    source: str
    speedup_over_it: float
    speedup_with_it: float


def wanted(setup: Setup, outcome: RunPair, sources: Sources) -> Wanted | None:
    """What `wanted_speedup` takes; None where none is wanted, or acceptance by place is not what decides."""
    aim, trace = setup.scenario.wanted_speedup, outcome.speculative
    if aim is None or trace is None or setup.scenario.policy.trees:
        return None
    texts = {
        number: [token for closed in rounds for token in closed.tokens]
        for number, rounds in deliveries(outcome.baseline).items()
    }

    by_confidence = isinstance(setup.scenario.policy, Adaptive | Own)
    known: list[tuple[ByChance, Trace]] = []

    @cache
    def supposing(acceptance: float) -> Trace:
        # Drafts that are as right and wrong make the same run, unless a policy looks at the chance itself.
        for luck, trace in () if by_confidence else known:
            if luck.decides_alike(acceptance):
                return trace
        luck = ByChance(acceptance, setup.scenario.seed)
        source = Supposed(sources.fresh("baseline"), texts, luck)
        known.append((luck, simulate(setup, source, timers=sources.timers)))
        return known[-1][1]

    def brings(acceptance: float) -> float:
        return speedup(outcome.baseline, supposing(acceptance))

    def least(level: float) -> float | None:
        """The least acceptance that brings so much; None where none does."""
        if brings(1.0) < level:
            return None
        return 0.0 if brings(0.0) >= level else reaching(brings, level, 0.0, 1.0, CLOSE * level)

    reached = speedup(outcome.baseline, trace)
    needed, at_hand = least(aim), acceptance_at_hand(trace)
    there = None if needed is None else supposing(needed)
    return Wanted(
        aim,
        reached >= aim,
        least(reached) if at_hand is None else at_hand,
        speculation(trace)["tokens_per_round"],
        None if there is None else needed if at_hand is None else acceptance_at_hand(there),
        None if there is None else speculation(there)["tokens_per_round"],
    )


def over_faster_exports(setup: Setup, outcome: RunPair, sources: Sources) -> list[OverFasterExport]:
    """The speed-up over each faster export that the target's unit lists for its precision."""
    if outcome.speculative is None:
        return []
    return [over(export, setup, outcome.speculative, sources) for export in setup.target.faster_exports]


def over(export: FasterExport, setup: Setup, ours: Trace, sources: Sources) -> OverFasterExport:
    """Replays the target alone, and with its draft, where each of the target's passes is so many times as fast."""
    target = replace(setup.target, unit=at_speed(setup.target.unit, export.speed))
    quick = replace(setup, target=target)
    alone = simulate(quick, sources.fresh("baseline"), TargetOnly(name="target_only"), timers=sources.timers)
    return OverFasterExport(
        export.precision,
        export.speed.si,
        export.speed.ends,
        export.speed.kind,
        export.speed.source,
        speedup(alone, ours),
        speedup(alone, simulate(quick, sources.fresh("policy"), timers=sources.timers)),
    )
