"""The commands: each strings the rooms together - describe, cost, logits, sim, show - and returns an exit status."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilsim.compiler.gate import load_compiled, plans_of, require, with_plans
from hilsim.compiler.plan import Plan
from hilsim.compiler.ways_out import ways_out
from hilsim.cost.verdict import Verdict, check
from hilsim.describe.catalogue import located
from hilsim.describe.load import Setup, load_setup
from hilsim.describe.policy import TargetOnly
from hilsim.describe.scenario import Lengths
from hilsim.errors import InputError
from hilsim.files import folder_faults, place_faults, written
from hilsim.logits.remembered import Memory, Remembered
from hilsim.logits.source import LogitsSource
from hilsim.logits.tokenizer import load_tokenizer
from hilsim.logits.transcript import TranscriptSource, require_same
from hilsim.logits.transcript import load as load_transcript
from hilsim.show.progress import saying
from hilsim.show.several import Several
from hilsim.sim.policies.registry import policy_function
from hilsim.sim.run import simulate
from hilsim.sim.trace import Observer, Trace

if TYPE_CHECKING:
    from hilsim.show.dashboard import Dashboard


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
    uncertainty: int = 0


@dataclass(frozen=True)
class Outcome:
    """Both runs of a scenario; `speculative` is None where the target is alone."""

    baseline: Trace
    speculative: Trace | None
    forward_seconds: float
    run_seconds: float


class Sources:
    """Makes fresh sources for the runs of one scenario; networks are loaded once."""

    def __init__(self, setup: Setup, *, remember: bool = False):
        self.setup = setup
        self.made: list[LogitsSource] = []
        # One a run, so that what the target says alone is never taken for what it says while verifying.
        self.memories: dict[str, Memory] | None = {} if remember else None
        scenario = setup.scenario
        if scenario.logits.source == "live":
            from hilsim.logits.live import load_stand_ins

            self.stand_ins = load_stand_ins(setup)
        elif scenario.logits.source == "transcript":
            file = located(scenario.logits.file, Path(setup.file))
            self.transcript = load_transcript(file)
            require_same(self.transcript, setup, file)
            assert setup.target.stand_in is not None
            self.tokenizer = load_tokenizer(setup.target.stand_in)

    def fresh(self, run: str = "") -> LogitsSource:
        """A source with empty caches; with a memory it shares what earlier ones of the same `run` said."""
        scenario = self.setup.scenario
        source: LogitsSource
        if scenario.logits.source == "live":
            from hilsim.logits.live import LiveSource

            source = LiveSource(
                self.stand_ins,
                scenario.sampling,
                scenario.context_tokens,
                scenario.seed,
                scenario.accept,
                scenario.payload,
                scenario.verify_at,
            )
        elif scenario.logits.source == "transcript":
            source = TranscriptSource(self.transcript, self.tokenizer)
        else:
            from hilsim.logits.synthetic import SyntheticSource

            assert isinstance(scenario.workload, Lengths)
            source = SyntheticSource(scenario.logits, scenario.workload, scenario.seed)
        self.made.append(source)
        if self.memories is None:
            return source
        by_position = scenario.logits.source != "synthetic" and self.setup.claim.level == "text"
        return Remembered(source, self.memories.setdefault(run, Memory()), by_position=by_position)

    def replaying(self, changed: Setup) -> Sources:
        """Sources for a changed scenario: these very ones, memory and all, where the same is said by the same rules."""
        return self if spoken_by(changed) == spoken_by(self.setup) else Sources(changed, remember=True)

    @property
    def forward_seconds(self) -> float:
        """Wall time of bare forward passes so far."""
        return sum(source.forward_seconds for source in self.made)


def spoken_by(setup: Setup) -> tuple[object, ...]:
    """Everything that what is said depends on."""
    said, speakers = (
        setup.scenario,
        [None if placed is None else placed.stand_in for placed in (setup.target, setup.draft)],
    )
    rules = (said.accept, said.payload, said.sampling, said.verify_at)
    return (said.seed, said.logits, said.workload, said.context_tokens, *rules, *speakers)


def run_both(
    setup: Setup, sources: Sources, observer: Observer | None = None, realtime: float | None = None
) -> Outcome:
    """The target alone, then the scenario's policy, over the same requests."""
    began = time.perf_counter()
    baseline = simulate(
        setup, sources.fresh("baseline"), TargetOnly(name="target_only"), observer=observer, realtime=realtime
    )
    speculative = None
    if setup.scenario.policy.name != "target_only":
        speculative = simulate(setup, sources.fresh("policy"), observer=observer, realtime=realtime)
    return Outcome(baseline, speculative, sources.forward_seconds, time.perf_counter() - began)


def replayer(file: Path, overrides: Sequence[str]) -> tuple[Setup, Callable[[Setup], tuple[Trace, Trace]]]:
    """A scenario, and a function that runs versions of it: the target alone, and their policy.

    What a version says is asked once for each set of rules and speakers and remembered for the next version.
    """
    with saying("compiling") as say:
        setup = load_compiled(file, overrides, say)
    check(setup, list(overrides), load_compiled).require()
    known: dict[object, Sources] = {}

    def run(changed: Setup) -> tuple[Trace, Trace]:
        said = spoken_by(changed)
        if said not in known:
            known[said] = Sources(changed, remember=True)
        outcome = run_both(changed, known[said])
        return outcome.baseline, outcome.speculative or outcome.baseline

    return setup, run


def through_the_gate(file: Path, overrides: Sequence[str]) -> tuple[Setup, dict[int, Plan]]:
    """A scenario whose models compile, and how. Raises `CompileError` with the cheapest ways out where they do not."""
    setup = load_setup(file, overrides)
    with saying("compiling") as say:
        plans = plans_of(setup, say)
    if any(plan.outcome == "refused" for plan in plans.values()):
        with saying("looking for a way out"):
            ways = ways_out(setup, overrides, plans)
        require(setup, plans, ways)
    return with_plans(setup, plans), plans


def run_scenario(options: RunOptions) -> int:
    """`simulate.py`: check, run, show. Returns 1 where the speculative text is not the target's."""
    setup, plans = through_the_gate(options.file, options.overrides)
    verdict = check(setup, options.overrides, load_compiled)
    verdict.require()
    sources = Sources(setup, remember=setup.scenario.logits.source == "live" or options.uncertainty > 0)
    prepare(options)
    policy_function(setup.scenario.policy, setup.file)  # a faulty policy of one's own is refused before the first run
    from hilsim.show.document import document

    with views(options, setup, verdict, sources.fresh().text) as (observer, dashboard):
        outcome = run_both(setup, sources, observer, options.realtime)
    found = document(setup, verdict.ledgers, outcome.baseline, outcome.speculative, tuple(plans.values()))
    if outcome.speculative is not None and found["speedup"] < 1:
        found["remedy"] = remedy(setup, options.overrides, sources)
    if options.uncertainty:
        found["uncertainty"] = error_bars(setup, sources, options.uncertainty)
    found["wall"] = {"run_s": outcome.run_seconds, "forward_s": outcome.forward_seconds}
    left_out = save(options, setup, outcome, found, dashboard)
    if options.json:
        json.dump(found, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        from rich.console import Console

        from hilsim.show.report import render

        render(found, Console())
    if left_out:
        print(left_out, file=sys.stderr)
    return 1 if found["lossless"] and found["lossless"]["mismatches"] else 0


def remedy(setup: Setup, overrides: Sequence[str], sources: Sources) -> dict[str, Any]:
    """The cheapest change that makes a losing speculation win, by replays."""
    from hilsim.show.metrics import speedup
    from hilsim.study.remedies import as_json, cheapest_remedy

    def replay(changed: Setup) -> float:
        outcome = run_both(changed, sources.replaying(changed))
        return 1.0 if outcome.speculative is None else speedup(outcome.baseline, outcome.speculative)

    with saying("replaying with") as say:
        return as_json(cheapest_remedy(setup, overrides, replay, say))


def error_bars(setup: Setup, sources: Sources, draws: int) -> dict[str, Any]:
    """The run's timing replayed with figures drawn from their ranges; what was said is remembered, not computed."""
    from rich.console import Console
    from rich.progress import Progress

    from hilsim.show.metrics import headline_numbers
    from hilsim.study.uncertainty import as_json, uncertainty

    def replay(drawn: Setup) -> dict[str, float]:
        outcome = run_both(drawn, sources)
        return headline_numbers(outcome.baseline, outcome.speculative, drawn.chips, drawn.link)

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying with other figures")
        found = uncertainty(
            setup, replay, draws, setup.scenario.seed, lambda done, of: bar.update(task, completed=done, total=of)
        )
    return as_json(found)


@contextmanager
def views(
    options: RunOptions, setup: Setup, verdict: Verdict, words: Callable[[Sequence[int]], str]
) -> Iterator[tuple[Observer | None, Dashboard | None]]:
    """What watches the run: the live dashboard on a terminal, plain lines elsewhere, nobody for --json.

    With --out a dashboard keeps count in any case, for its picture.
    """
    if options.json and options.out is None:
        yield None, None
        return
    from rich.console import Console

    from hilsim.show.dashboard import Dashboard, suits
    from hilsim.show.plain import PlainLines

    console = Console()
    dashboard = Dashboard(setup, verdict.ledgers, console, words)
    plain = options.plain or not suits(console)
    if options.json:
        yield dashboard, dashboard
    elif plain and options.out is None:
        with PlainLines() as lines:
            yield lines, None
    elif plain:
        with PlainLines() as lines:
            yield Several([lines, dashboard]), dashboard
    else:
        with dashboard:
            yield dashboard, dashboard


def prepare(options: RunOptions) -> None:
    """Refuse places that cannot be written to before a long run, not after it."""
    faults = [] if options.out is None else folder_faults(options.out, "--out")
    if options.trace is not None:
        faults += place_faults(options.trace, "--trace")
    if faults:
        raise InputError(faults)


def save(
    options: RunOptions, setup: Setup, outcome: Outcome, document: dict[str, Any], dashboard: Dashboard | None
) -> str:
    """Write what --trace and --out ask for, each file whole or not at all; returns what was left out and why."""
    traces = {run.policy: run for run in (outcome.baseline, outcome.speculative) if run is not None}
    targets = [options.trace] if options.trace is not None else []
    if options.out is not None:
        targets.append(options.out / "trace.json")
    if targets:
        from hilsim.show.perfetto import write_trace

        for target in targets:
            with written(target) as path:
                write_trace(path, setup, traces)
    if options.out is None:
        return ""
    from hilsim.show.dashboard import snapshot
    from hilsim.show.tables import write_requests, write_rounds

    with written(options.out / "report.json") as path:
        path.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    for name, write in (("rounds.csv", write_rounds), ("requests.csv", write_requests)):
        with written(options.out / name) as path, path.open("w", encoding="utf-8", newline="") as file:
            write(file, outcome.baseline, outcome.speculative)
    if dashboard is not None:
        with written(options.out / "dashboard.svg") as path:
            snapshot(dashboard, path)
    try:
        from hilsim.show.timeline import draw

        with written(options.out / "timeline.png") as path:
            draw(path, outcome.baseline, outcome.speculative, setup)
    except ModuleNotFoundError as error:
        return f"timeline.png: left out, {error.name} is not installed. Install hilsim[plot]."
    return ""


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
