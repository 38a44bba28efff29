"""The commands: each strings the rooms together - describe, cost, logits, sim, show - and returns an exit status."""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hilsim.cost.verdict import check
from hilsim.describe.load import Setup, load_setup
from hilsim.describe.scenario import Lengths, TargetOnly
from hilsim.errors import Fault, InputError
from hilsim.files import written
from hilsim.logits.source import LogitsSource
from hilsim.sim.run import simulate
from hilsim.sim.trace import Observer, Trace


@dataclass(frozen=True)
class RunOptions:
    """What the user asked `simulate.py` for."""

    file: Path
    overrides: list[str]
    json: bool = False
    plain: bool = False
    trace: Path | None = None
    out: Path | None = None
    realtime: float | None = None


@dataclass(frozen=True)
class Outcome:
    """Both runs of a scenario; `speculative` is None where the target is alone."""

    baseline: Trace
    speculative: Trace | None
    forward_seconds: float
    run_seconds: float


class Sources:
    """Makes fresh sources for the runs of one scenario; networks are loaded once."""

    def __init__(self, setup: Setup):
        self.setup = setup
        self.made: list[LogitsSource] = []
        scenario = setup.scenario
        if scenario.logits.source == "live":
            from hilsim.logits.live import load_stand_ins

            self.stand_ins = load_stand_ins(setup)

    def fresh(self) -> LogitsSource:
        """A source with empty caches."""
        scenario = self.setup.scenario
        source: LogitsSource
        if scenario.logits.source == "live":
            from hilsim.logits.live import LiveSource

            source = LiveSource(self.stand_ins, scenario.sampling, scenario.context_tokens, scenario.seed)
        else:
            from hilsim.logits.synthetic import SyntheticSource

            assert isinstance(scenario.workload, Lengths)
            source = SyntheticSource(scenario.logits, scenario.workload, scenario.seed)
        self.made.append(source)
        return source

    @property
    def forward_seconds(self) -> float:
        """Wall time of bare forward passes so far."""
        return sum(clock.seconds for source in self.made if (clock := getattr(source, "clock", None)) is not None)


def run_both(setup: Setup, observer: Observer | None = None, realtime: float | None = None) -> Outcome:
    """The target alone, then the scenario's policy, over the same requests."""
    sources = Sources(setup)
    began = time.perf_counter()
    baseline = simulate(setup, sources.fresh(), TargetOnly(name="target_only"), observer=observer, realtime=realtime)
    speculative = None
    if setup.scenario.policy.name != "target_only":
        speculative = simulate(setup, sources.fresh(), observer=observer, realtime=realtime)
    return Outcome(baseline, speculative, sources.forward_seconds, time.perf_counter() - began)


def run_scenario(options: RunOptions) -> int:
    """`simulate.py`: check, run, show. Returns 1 where the speculative text is not the target's."""
    setup = load_setup(options.file, options.overrides)
    verdict = check(setup, options.overrides)
    verdict.require()
    prepare(options)
    from hilsim.show.document import document

    with ExitStack() as stack:
        observer = None if options.json else stack.enter_context(view(options, setup))
        outcome = run_both(setup, observer, options.realtime)
    found = document(setup, verdict.ledgers, outcome.baseline, outcome.speculative)
    found["wall"] = {"run_s": outcome.run_seconds, "forward_s": outcome.forward_seconds}
    save(options, setup, outcome, found)
    if options.json:
        json.dump(found, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        from hilsim.show.report import render
        from rich.console import Console

        render(found, Console())
    return 1 if found["lossless"] and found["lossless"]["mismatches"] else 0
