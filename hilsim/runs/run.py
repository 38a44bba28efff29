"""Runs one scenario: its token sources, then the target alone and the policy over the same requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hilsim.cost.timer import StepTimer, timer_for
from hilsim.describe.catalogue import located
from hilsim.describe.policy import Ssd, TargetOnly
from hilsim.describe.scenario import Lengths
from hilsim.describe.setup import Placed, Setup
from hilsim.sim.board import Timers
from hilsim.sim.run import of_workload, simulate
from hilsim.sim.trace import Observer, Trace
from hilsim.sources.cached import CachedSource, ResultCache
from hilsim.sources.luck import luck_of
from hilsim.sources.recorded_with import require_same
from hilsim.sources.source import LogitsSource
from hilsim.sources.supposed import Supposed
from hilsim.sources.synthetic import SyntheticSource
from hilsim.sources.transcript import TranscriptSource
from hilsim.sources.transcript import load as load_transcript
from hilsim.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from hilsim.hardware.measured.rig import Rig
    from hilsim.sources.live import Compute


@dataclass(frozen=True)
class RunPair:
    """Both runs of a scenario; `speculative` is None where the target is alone.

    With injected faults `undisturbed` is the scenario's run without them, and so is a baseline beside another policy.
    """

    baseline: Trace
    speculative: Trace | None
    forward_seconds: float
    run_seconds: float
    undisturbed: Trace | None = None


class Sources:
    """Makes fresh sources for the runs of one scenario; networks are loaded once."""

    def __init__(self, setup: Setup, *, remember: bool = False, rig: Rig | None = None):
        self.setup, self.rig = setup, rig
        self.made: list[LogitsSource] = []
        self.made_timers: dict[tuple[int, int], tuple[Placed, StepTimer]] = {}
        # One per run, so that the target's tokens without a draft are never taken for those of a verify pass.
        self.memories: dict[str, ResultCache] | None = {} if remember else None
        scenario = setup.scenario
        if scenario.logits.source == "live":
            from hilsim.sources.live import load_stand_ins

            self.stand_ins = load_stand_ins(setup, {} if rig is None else rig.elsewhere)
        elif scenario.logits.source == "transcript":
            file = located(scenario.logits.file, Path(setup.file))
            self.transcript = load_transcript(file)
            require_same(self.transcript, setup, file)
            assert setup.target.stand_in is not None
            self.looked_up = TranscriptSource(self.transcript, load_tokenizer(setup.target.stand_in, recorded=True))
        elif isinstance(scenario.workload, Lengths):
            self.luck = luck_of(setup)
        else:
            from hilsim.runs.transcripts import text_of  # which may have to record it

            self.alone = text_of(setup)
            self.texts = of_workload(setup, self.alone.answers)
            self.luck = luck_of(setup, self.texts)

    def fresh(self, run: str = "") -> LogitsSource:
        """A source with empty caches for a run that begins; boards, if any, receive its tokens."""
        source = self.bare(run)
        return source if self.rig is None else self.rig.begin(source, run)

    def bare(self, run: str = "") -> LogitsSource:
        """A source with empty caches; with a memory it reuses the results of earlier sources of the same `run`."""
        scenario = self.setup.scenario
        source: LogitsSource
        if scenario.logits.source == "live":
            from hilsim.sources.live import LiveSource

            source = LiveSource(
                self.stand_ins,
                scenario.sampling,
                scenario.context_tokens,
                scenario.seed,
                scenario.accept,
                scenario.payload,
                scenario.verify_at,
                self.computes,
            )
        elif scenario.logits.source == "transcript":
            source = self.looked_up  # nothing in it changes by a run
        elif isinstance(scenario.workload, Lengths):
            source = SyntheticSource(self.luck, scenario.workload)
        else:
            source = Supposed(self.alone, self.texts, self.luck)
        self.made.append(source)
        if self.memories is not None:
            headed = scenario.logits.source == "live" and self.stand_ins.head is not None
            by_position = not scenario.logits.by_chance and self.setup.guarantee.level == "text" and not headed
            source = CachedSource(source, self.memories.setdefault(run, ResultCache()), by_position=by_position)
        return source

    @property
    def computes(self) -> Mapping[str, Compute]:
        """What computes the logits of roles whose tokens come from boards."""
        return {} if self.rig is None else self.rig.generators

    @property
    def timers(self) -> Timers:
        """The timers of steps: boards where there are some, else the chip model."""
        return self.timer if self.rig is None else self.rig.timers

    def timer(self, placed: Placed, context: int) -> StepTimer:
        """A role's timer of the chip model, one for all runs from these sources: it remembers what it has timed."""
        key = (id(placed), context)
        if key not in self.made_timers:
            self.made_timers[key] = placed, timer_for(placed, context)
        return self.made_timers[key][1]

    @property
    def notes(self) -> list[str]:
        """Remarks on the stand-ins' folders, for the report."""
        return list(self.stand_ins.notes) if self.setup.scenario.logits.source == "live" else []

    def replaying(self, changed: Setup) -> Sources:
        """Sources for a changed scenario: these, with their memory, where its tokens are the same."""
        return self if content_key(changed) == content_key(self.setup) else Sources(changed, remember=True)

    @property
    def forward_seconds(self) -> float:
        """Wall time of bare forward passes so far."""
        return sum(source.forward_seconds for source in self.made)


def content_key(setup: Setup) -> tuple[object, ...]:
    """Everything that the tokens of a setup depend on."""
    scenario = setup.scenario
    stand_ins = [None if placed is None else placed.stand_in for placed in (setup.target, setup.draft)]
    rules = (scenario.accept, scenario.payload, scenario.sampling, scenario.verify_at)
    forecasts = scenario.policy.forecasts if isinstance(scenario.policy, Ssd) else None
    return (
        scenario.seed,
        scenario.logits,
        setup.profile,
        scenario.workload,
        scenario.context_tokens,
        *rules,
        *stand_ins,
        forecasts,
    )


def run_both(
    setup: Setup, sources: Sources, observer: Observer | None = None, realtime: float | None = None
) -> RunPair:
    """The target alone, then the scenario's policy, over the same requests, also without faults."""
    began = time.perf_counter()
    timed = partial(simulate, observer=observer, realtime=realtime, timers=sources.timers)
    alone, calm, undisturbed = TargetOnly(name="target_only"), setup.without_faults, None
    speculates = setup.scenario.policy.name != "target_only"
    baseline = timed(calm if speculates else setup, sources.fresh("baseline"), alone)
    if setup.fails:
        undisturbed = simulate(calm, sources.fresh("undisturbed"))
    speculative = None
    if speculates and baseline.lost is None:
        speculative = timed(setup, sources.fresh("policy"))
    return RunPair(baseline, speculative, sources.forward_seconds, time.perf_counter() - began, undisturbed)
