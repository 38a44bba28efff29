"""The commands: each strings the rooms together - describe, cost, logits, sim, show - and returns an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilsim.compiler.compile_check import load_compiled, plans_of, require, with_plans
from hilsim.compiler.fallback_options import ways_out
from hilsim.compiler.plan import Plan
from hilsim.cost.verdict import Verdict, check
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError
from hilsim.extras import how_to_install
from hilsim.files import folder_faults, place_faults, written
from hilsim.progress import saying
from hilsim.runs.run import Outcome, Sources, run_both
from hilsim.show.terminal.several import Several
from hilsim.sim.policies.registry import policy_function
from hilsim.sim.trace import Observer, Trace

if TYPE_CHECKING:
    from hilsim.hardware.distributed.link_wires import End
    from hilsim.hardware.measured.rig import Rig
    from hilsim.show.terminal.dashboard import Dashboard

# Where what boards say is written down, unless a scenario or --out says otherwise.
RECORDINGS = Path("recordings")


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
    shadow: bool = False
    link_ends: dict[str, str] | None = None  # addresses by role


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
    prepare(options, load_setup(options.file, options.overrides))  # compiling may take a minute
    setup, plans = through_the_gate(options.file, options.overrides)
    verdict = check(setup, options.overrides, load_compiled)
    verdict.require()
    if faults := output_faults(options, make=True):
        raise InputError(faults)
    with opened_bench(setup, options) as rig, link_of(setup, options) as ends:
        try:
            return run_with(options, setup, verdict, plans, rig, ends)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("" if rig is None else rig.kept()) from None


def opened_bench(setup: Setup, options: RunOptions) -> AbstractContextManager[Rig | None]:
    """The boards and recordings of a scenario; nothing where all units are simulated."""
    if not setup.backends:
        return nullcontext()
    from hilsim.hardware.measured.rig import Rig

    with saying("connecting to") as say:
        return Rig.open(setup, options.out or RECORDINGS, say)


def link_of(setup: Setup, options: RunOptions) -> AbstractContextManager[Mapping[str, End]]:
    """The ends of a link that is really there, by role; nothing where none were given."""
    if options.link_ends is None:
        return nullcontext({})
    from hilsim.commands.distributed import opened_ends

    return opened_ends(setup, options.link_ends)


def run_with(
    options: RunOptions,
    setup: Setup,
    verdict: Verdict,
    plans: dict[int, Plan],
    rig: Rig | None,
    ends: Mapping[str, End],
) -> int:
    """Run and show a scenario that was found in order."""
    # A board is asked again what it said before, as its time is another each time; but a run that really happens has
    # no time to ask.
    live = setup.scenario.logits.source == "live" or options.uncertainty > 0
    remember = options.link_ends is not None or (rig is None and live)
    sources = Sources(setup, remember=remember, rig=rig)
    policy_function(setup.scenario.policy, setup.file)  # a faulty policy of one's own is refused before the first run
    from hilsim.show.document import as_json, document

    with views(options, setup, verdict, sources.fresh().text) as (observer, dashboard):
        outcome = run_both(setup, sources, observer, options.realtime)
    broken = next((run for run in (outcome.baseline, outcome.speculative) if run is not None and run.lost), None)
    if broken is not None:
        assert rig is not None, "only boards are lost"
        return told_lost(options, setup, outcome, broken, rig)
    found = document(setup, verdict.ledgers, outcome.baseline, outcome.speculative, tuple(plans.values()))
    found["notes"] += sources.notes
    if rig is not None:
        from hilsim.show.hardware import hardware, shadow

        found["hardware"] = hardware(rig)
        if options.shadow:
            found["shadow"] = shadow(rig)
        if options.link_ends is not None:
            from hilsim.commands.distributed import really_run

            found["distributed"] = really_run(setup, rig, ends, lambda: sources.bare("policy"))
    elif outcome.speculative is not None and found["speedup"] < 1:
        from hilsim.study.remedies import as_json as remedy_as_json
        from hilsim.study.remedies import cheapest_remedy

        found["remedy"] = remedy_as_json(cheapest_remedy(setup, options.overrides, sources))
    if options.uncertainty:
        from hilsim.show.uncertainty import as_json as uncertainty_as_json
        from hilsim.study.error_bars import error_bars

        found["uncertainty"] = uncertainty_as_json(*error_bars(setup, sources, options.uncertainty))
    found["wall"] = {"run_s": outcome.run_seconds, "forward_s": outcome.forward_seconds}
    left_out = save(options, setup, outcome, found, dashboard)
    if options.json:
        sys.stdout.write(as_json(found))
    else:
        from rich.console import Console

        from hilsim.show.report import render

        render(found, Console())
    if left_out:
        print(left_out, file=sys.stderr)
    bad = "lost" in found.get("distributed", {}) or (found["lossless"] and found["lossless"]["mismatches"])
    return 1 if bad else 0


def told_lost(options: RunOptions, setup: Setup, outcome: Outcome, broken: Trace, rig: Rig) -> int:
    """The report of a run that a board did not live through; its trace and tables as far as it came."""
    from hilsim.show import hardware
    from hilsim.show.document import as_json

    told: dict[str, Any] = {
        "scenario": setup.scenario.name,
        "digest": setup.digest,
        "seed": setup.scenario.seed,
        "lost": hardware.lost(broken),
        "hardware": hardware.hardware(rig),
    }
    if options.shadow:
        told["shadow"] = hardware.shadow(rig)
    save_traces(options, setup, outcome)
    if options.out is not None:
        save_report(options.out, told)
        save_tables(options.out, outcome)
    if options.json:
        sys.stdout.write(as_json(told))
    else:
        from rich.console import Console

        from hilsim.show.terminal.page import Page

        page = Page(Console())
        hardware.render_lost(page, told["lost"])
        hardware.render_hardware(page, told["hardware"])
        if options.shadow:
            hardware.render_shadow(page, told["shadow"])
    return 1


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

    from hilsim.show.terminal.dashboard import Dashboard, suits
    from hilsim.show.terminal.plain import PlainLines

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


def output_faults(options: RunOptions, *, make: bool) -> list[Fault]:
    """What would keep results from being written; folders are made for a scenario that runs, not for one refused."""
    faults = [] if options.out is None else folder_faults(options.out, "--out", make=make)
    if options.trace is not None:
        faults += place_faults(options.trace, "--trace", make=make)
    return faults


def prepare(options: RunOptions, setup: Setup) -> None:
    """Refuse places that cannot be written to, and options that say nothing here, before a long run, not after it."""
    faults = output_faults(options, make=False)
    if options.shadow and not setup.backends:
        expected = "a unit with a board or a recording behind it"
        faults.append(Fault(setup.file, "--shadow", "simulated units alone", expected, "Set units.NAME.backend."))
    if options.link_ends is not None:
        from hilsim.commands.distributed import link_end_faults

        faults += link_end_faults(setup, options.realtime)
    if options.uncertainty and setup.backends:
        found, expected = f"units that are measured: {', '.join(setup.backends)}", "simulated units"
        faults.append(
            Fault(setup.file, "--uncertainty", found, expected, "What a board took has no range to draw from.")
        )
    if faults:
        raise InputError(faults)


def save(
    options: RunOptions, setup: Setup, outcome: Outcome, document: dict[str, Any], dashboard: Dashboard | None
) -> str:
    """Write what --trace and --out ask for, each file whole or not at all; returns what was left out and why."""
    save_traces(options, setup, outcome)
    if options.out is None:
        return ""
    from hilsim.show.terminal.dashboard import snapshot

    save_report(options.out, document)
    save_tables(options.out, outcome)
    if dashboard is not None:
        with written(options.out / "dashboard.svg") as path:
            snapshot(dashboard, path)
    try:
        from hilsim.show.plots.timeline import draw

        with written(options.out / "timeline.png") as path:
            draw(path, outcome.baseline, outcome.speculative, setup)
    except ModuleNotFoundError as error:
        return f"timeline.png: left out, {error.name} is not installed ({how_to_install('matplotlib')})."
    return ""


def save_traces(options: RunOptions, setup: Setup, outcome: Outcome) -> None:
    """Write the trace wherever it is asked for."""
    traces = {run.policy: run for run in (outcome.baseline, outcome.speculative) if run is not None}
    targets = [options.trace] if options.trace is not None else []
    if options.out is not None:
        targets.append(options.out / "trace.json")
    if targets:
        from hilsim.show.perfetto import write_trace

        for target in targets:
            with written(target) as path:
                write_trace(path, setup, traces)


def save_tables(folder: Path, outcome: Outcome) -> None:
    """Write the tables of rounds and requests."""
    from hilsim.show.tables import requests_table, rounds_table

    for name, table_of in (("rounds.csv", rounds_table), ("requests.csv", requests_table)):
        with written(folder / name) as path, path.open("w", encoding="utf-8", newline="") as file:
            table_of(outcome.baseline, outcome.speculative).write_csv(file)


def save_report(folder: Path, document: dict[str, Any]) -> None:
    """Write the document."""
    from hilsim.show.document import as_json

    with written(folder / "report.json") as path:
        path.write_text(as_json(document), encoding="utf-8")


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
