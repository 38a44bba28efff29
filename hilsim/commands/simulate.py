"""`simulate`: run one scenario, live on the terminal, and report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hilsim.commands.arguments import Commands, add_scenario, number, overrides_of, place, whole

if TYPE_CHECKING:
    from hilsim.compiler.plan import Plan
    from hilsim.cost.verdict import Verdict
    from hilsim.describe.setup import Setup
    from hilsim.errors import Fault
    from hilsim.hardware.distributed.link_wires import End
    from hilsim.hardware.measured.rig import Rig
    from hilsim.runs.run import Sources

RECORDINGS = Path("recordings")  # where steps of boards are recorded, unless a scenario or --out names another folder
EXAMPLES = """examples:
  %(prog)s scenarios/orin_8295.yaml
  %(prog)s scenarios/orin_8295.yaml --set link=1000base-t1 --set policy.draft_tokens=3
  %(prog)s scenarios/orin_8295.yaml --json > report.json
  %(prog)s scenarios/orin_8295.yaml --realtime 1      (at the passenger's pace)
"""


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "simulate",
        help="run one scenario, live on the terminal, and report",
        description="Simulate a language model split over two chips of a car, with real small models and timed chips.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_scenario(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--plain", action="store_true", help="plain lines instead of the live dashboard")
    parser.add_argument("--trace", metavar="FILE", type=place, help="write a trace that Perfetto opens")
    parser.add_argument(
        "--out", metavar="DIR", type=place, help="write report.json, trace.json, tables (CSV) and pictures"
    )
    parser.add_argument(
        "--realtime", metavar="FACTOR", type=number(1e-6, 1e6, ", such as 1 or 0.1"),
        help="wall seconds per simulated second: 1 is the passenger's pace",
    )  # fmt: skip
    parser.add_argument(
        "--uncertainty", metavar="N", type=whole(10, 100_000, ", such as 200"), default=0,
        help="error bars: replay with N random draws of the chips' uncertain figures",
    )  # fmt: skip
    parser.add_argument(
        "--shadow", action="store_true",
        help="where boards execute the steps: compare the chip model's times with theirs, by kind of step",
    )  # fmt: skip
    parser.add_argument(
        "--link-ends", metavar="TARGET,DRAFT", type=link_ends,
        help="also execute the run on the boards, over the link between these two link-end processes "
        "(with --realtime 1 and an agent behind both units)",
    )  # fmt: skip


def link_ends(text: str) -> dict[str, str]:
    """The addresses of both ends of a link, by role."""
    from hilsim.describe.address import Address

    ends = text.split(",")
    try:
        for end in ends:
            Address.parse(end)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"found {error}") from None
    if len(ends) != 2:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected two addresses, the target's and the draft's")
    return dict(zip(("target", "draft"), ends, strict=True))


def run(options: argparse.Namespace) -> int:
    """Check, run, show. Returns 1 where a board was lost or the speculative text is not the target's."""
    from hilsim.compiler.compile_check import load_compiled, require, with_plans
    from hilsim.cost.verdict import check
    from hilsim.describe.load import load_setup
    from hilsim.errors import InputError
    from hilsim.progress import saying
    from hilsim.runs.plans import plan

    overrides = overrides_of(options)
    setup = load_setup(options.scenario, overrides)
    if faults := option_faults(options, setup):  # before compiling, which may take a minute
        raise InputError(faults)
    plans, fallback_options = plan(setup, overrides)
    require(setup, plans, fallback_options)
    setup = with_plans(setup, plans)
    verdict = check(setup, overrides, load_compiled)
    verdict.require()
    if faults := output_faults(options, make=True):
        raise InputError(faults)
    with ExitStack() as stack:
        rig, ends = None, {}
        if setup.backends:
            from hilsim.hardware.distributed.link_ends import opened_ends
            from hilsim.hardware.measured.rig import Rig

            with saying("connecting to") as say:
                rig = stack.enter_context(Rig.open(setup, options.out or RECORDINGS, say))
            ends = stack.enter_context(opened_ends(setup, options.link_ends))
        try:
            return simulate(options, setup, verdict, plans, rig, ends)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("" if rig is None else rig.kept()) from None


def output_faults(options: argparse.Namespace, *, make: bool) -> list[Fault]:
    """What would keep results from being written; folders are made for a scenario that runs, not for one refused."""
    from hilsim.files import folder_faults, place_faults

    faults = [] if options.out is None else folder_faults(options.out, "--out", make=make)
    return faults + ([] if options.trace is None else place_faults(options.trace, "--trace", make=make))


def option_faults(options: argparse.Namespace, setup: Setup) -> list[Fault]:
    """Places that cannot be written to, and options that do not apply to this scenario."""
    from hilsim.errors import Fault

    faults = output_faults(options, make=False)
    if options.shadow and not setup.backends:
        sentence = "compares the chip model with a board, but every unit here is simulated."
        faults.append(Fault("--shadow", "", sentence, "", "Set units.NAME.backend."))
    if options.link_ends is not None:
        from hilsim.hardware.distributed.link_ends import link_end_faults

        faults += link_end_faults(setup, options.realtime)
    if options.uncertainty and setup.backends:
        sentence = f"draws the figures of simulated units, but these are measured: {', '.join(setup.backends)}."
        faults.append(Fault("--uncertainty", "", sentence, "", "A board's times have no range to draw from."))
    return faults


def simulate(
    options: argparse.Namespace, setup: Setup, verdict: Verdict, plans: dict[int, Plan], rig: Rig | None,
    ends: Mapping[str, End],
) -> int:  # fmt: skip
    """Run and show a scenario that was found in order."""
    from hilsim.runs.run import Sources, run_both
    from hilsim.show.document import as_json, document
    from hilsim.show.saved import save_pictures, save_report, save_traces
    from hilsim.sim.policies.registry import policy_function

    # A board executes a step again even where its tokens are known, as its time differs each time; but a run executed
    # over a real link has no time to compute tokens.
    live = setup.scenario.logits.source == "live" or options.uncertainty > 0
    sources = Sources(setup, remember=options.link_ends is not None or (rig is None and live), rig=rig)
    policy_function(setup.scenario.policy, setup.file)  # a faulty policy file is refused before the first run
    with ExitStack() as stack:
        observer = dashboard = None
        if not options.json or options.out is not None:
            from hilsim.show.terminal.views import views

            observer, dashboard = stack.enter_context(
                views(setup, verdict, sources.fresh().text, quiet=options.json, plain=options.plain,
                      picture=options.out is not None)
            )  # fmt: skip
        outcome = run_both(setup, sources, observer, options.realtime)
    lost = next((one for one in (outcome.baseline, outcome.speculative) if one is not None and one.lost), None)
    if lost is not None:
        from hilsim.show import hardware

        assert rig is not None, "only boards are lost"
        found: dict[str, Any] = {
            "scenario": setup.scenario.name, "digest": setup.digest, "seed": setup.scenario.seed,
            "lost": hardware.lost(lost),
        }  # fmt: skip
    else:
        found = document(setup, verdict.ledgers, outcome.baseline, outcome.speculative, tuple(plans.values()))
        found["notes"] += sources.notes
    if rig is not None:
        from hilsim.show import hardware

        found["hardware"] = hardware.hardware(rig)
        if options.shadow:
            found["shadow"] = hardware.shadow(rig)
        if lost is None and options.link_ends is not None:
            found["distributed"] = executed(setup, rig, ends, sources)
    elif outcome.speculative is not None and found["speedup"] < 1:
        found["remedy"] = remedy(setup, overrides_of(options), sources)
    if lost is None and options.uncertainty:
        from hilsim.show.uncertainty import as_json as bars_as_json
        from hilsim.study.error_bars import error_bars

        found["uncertainty"] = bars_as_json(*error_bars(setup, sources, options.uncertainty))
    if lost is None:
        found["wall"] = {"run_s": outcome.run_seconds, "forward_s": outcome.forward_seconds}
    save_traces([] if options.trace is None else [options.trace], setup, outcome)
    left_out = ""
    if options.out is not None:
        save_report(options.out, setup, outcome, found)
        left_out = "" if lost is not None else save_pictures(options.out, setup, outcome, dashboard)
    if options.json:
        sys.stdout.write(as_json(found))
    else:
        from rich.console import Console

        from hilsim.show.report import render

        (render if lost is None else hardware.render_lost_run)(found, Console())
    if left_out:
        print(left_out, file=sys.stderr)
    differs = lost is None and found["lossless"] and found["lossless"]["mismatches"]
    return 1 if lost is not None or "lost" in found.get("distributed", {}) or differs else 0


def executed(setup: Setup, rig: Rig, ends: Mapping[str, End], sources: Sources) -> dict[str, Any]:
    """The same run executed on the boards over the real link, for the document; or the board that was lost."""
    from hilsim.errors import ChipLost
    from hilsim.hardware.distributed.link_wires import LinkEnds
    from hilsim.hardware.distributed.measured_run import tried
    from hilsim.show.distributed import distributed

    try:
        return distributed(setup, [tried(setup, rig, LinkEnds(ends), lambda: sources.bare("policy"))], "")
    except ChipLost as lost:
        return {"lost": str(lost)}


def remedy(setup: Setup, overrides: list[str], sources: Sources) -> dict[str, Any]:
    """The cheapest change with which a losing speculation wins, found by replays."""
    from hilsim.measure.metrics import speedup
    from hilsim.progress import saying
    from hilsim.runs.run import run_both
    from hilsim.study.remedies import as_json, cheapest_remedy

    def replay(changed: Setup) -> float:
        outcome = run_both(changed, sources.replaying(changed))
        return 1.0 if outcome.speculative is None else speedup(outcome.baseline, outcome.speculative)

    with saying("replaying with") as say:
        return as_json(cheapest_remedy(setup, overrides, replay, say))
