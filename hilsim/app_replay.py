"""Both runs of a set-up for those who ask for many: what was said is remembered, the target alone runs once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from typing import TypeVar

from hilsim.app import Sources, spoken_by
from hilsim.describe.digest import digest
from hilsim.describe.load import Setup
from hilsim.describe.policy import TargetOnly
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace

T = TypeVar("T")
MOST_KEPT = 4
ALONE = TargetOnly(name="target_only")


class Recent(OrderedDict[Hashable, T]):
    """The few things that were last asked for."""

    def put(self, key: Hashable, thing: T) -> T:
        """Keep one more, and let go of the one that was not asked for longest."""
        self[key] = thing
        while len(self) > MOST_KEPT:
            self.popitem(last=False)
        return thing

    def take(self, key: Hashable) -> T | None:
        """What is kept under a key."""
        if key in self:
            self.move_to_end(key)
        return super().get(key)


SAID: Recent[Sources] = Recent()
BASELINES: Recent[Trace] = Recent()


def run_of(setup: Setup) -> tuple[Trace, Trace]:
    """The target alone and the policy's run; the target's twice where the policy is to leave it alone."""
    said = spoken_by(setup)
    sources = SAID.take(said) or SAID.put(said, Sources(setup, remember=True))
    key = but_its_policy(setup)
    baseline = BASELINES.take(key) or BASELINES.put(key, simulate(setup, sources.fresh("baseline"), ALONE))
    ours = baseline if setup.scenario.policy.name == "target_only" else simulate(setup, sources.fresh("policy"))
    sources.made.clear()  # they would pile up over thousands of runs
    return baseline, ours


def but_its_policy(setup: Setup) -> str:
    """Digest of all that the target's run alone depends on."""
    return digest(replace(setup, scenario=setup.scenario.model_copy(update={"policy": ALONE})))
