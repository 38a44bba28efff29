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


def prepare(options: RunOptions) -> None:
    """Refuse places that cannot be written to before a long run, not after it."""
    faults = []
    if options.out is not None:
        try:
            options.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            faults.append(Fault(str(options.out), "--out", reason, "a folder that can be made", "Choose another."))
    for folder in (options.out, options.trace.parent if options.trace is not None else None):
        if folder is not None and not faults:
            try:
                with written(folder / ".hilsim") as path:
                    path.touch()
                (folder / ".hilsim").unlink()
            except InputError as error:
                faults += [replace(fault, file=str(folder)) for fault in error.faults]
    if options.trace is not None and options.trace.is_dir():
        faults.append(Fault(str(options.trace), "--trace", "a folder", "the name of a file to write"))
    if faults:
        raise InputError(faults)


def save(options: RunOptions, setup: Setup, outcome: Outcome, document: dict[str, Any], observer: Observer | None) -> None:
    """Write what --trace and --out ask for, each file whole or not at all."""
    from hilsim.show.perfetto import trace_events

    traces = {run.policy: run for run in (outcome.baseline, outcome.speculative) if run is not None}
    targets = [options.trace] if options.trace is not None else []
    if options.out is not None:
        targets.append(options.out / "trace.json")
    if targets:
        events = json.dumps(trace_events(setup, traces), allow_nan=False)
        for target in targets:
            with written(target) as path:
                path.write_text(events, encoding="utf-8")
    if options.out is None:
        return
    from hilsim.show.rounds import write_rounds

    with written(options.out / "report.json") as path:
        path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    with written(options.out / "rounds.csv") as path, path.open("w", encoding="utf-8", newline="") as file:
        write_rounds(file, outcome.baseline, outcome.speculative)
    try:
        from hilsim.show.timeline import draw
    except ImportError:
        complain_about_plots()
    else:
        with written(options.out / "timeline.png") as path:
            draw(path, outcome.baseline, outcome.speculative, setup)


def check_scenario(file: Path, overrides: list[str]) -> int:
    """`python -m hilsim check`: the ledger of every chip, and remedies where one overflows."""
    verdict = check(load_setup(file, overrides), overrides)
    verdict.require()
    print(verdict)
    return 0


def train(corpus: Path, out: Path, work: Path, *, seed: int, quick: bool, float32: bool) -> int:
    """`python -m hilsim train`: tokenizer, target, drafts; stops at Ctrl-C and goes on from there."""
    from hilsim.training import recipe

    chosen = recipe.QUICK if quick else recipe.FULL
    if float32:
        chosen = replace(chosen, bfloat16=False)
    recipe.train(corpus, out, work, seed=seed, recipe=chosen, say=print)
    return 0


def write_card(models: Path, dialogues: int) -> int:
    """`python -m hilsim card`: measure the stand-ins and write models/README.md."""
    from hilsim.training.card import write_card

    write_card(models, dialogues, say=print)
    return 0
