"""`simulate`: Run one scenario, live on the terminal, and report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from hilsim.commands.arguments import Commands, add_scenario, number, overrides_of, place, whole
from hilsim.commands.outputs import add_html

if TYPE_CHECKING:
    from hilsim.cost.verdict import PlacementVerdict
    from hilsim.describe.setup import Setup
    from hilsim.errors import Fault
    from hilsim.show.run import Run
    from hilsim.show.terminal.dashboard import Dashboard
    from hilsim.sim.trace import Observer

EXAMPLES = """examples:
  %(prog)s scenarios/orin_8295.yaml
  %(prog)s scenarios/orin_8295.yaml --set link=1000base-t1 --set policy.draft_tokens=3
  %(prog)s scenarios/orin_8295.yaml --json > report.json
  %(prog)s scenarios/orin_8295.yaml --realtime 1      (as slow as the car would be)
"""


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "simulate",
        help="run one scenario, live on the terminal, and report",
        description="Simulate speculative decoding over two chips: stand-ins give the text, chip models the times.",
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
    add_html(parser, "answer, conversation, interactive timeline, memory, compile findings, assumptions")
    parser.add_argument(
        "--realtime", metavar="FACTOR", type=number(1e-6, 1e6, ", such as 1 or 0.1"),
        help="wall seconds per simulated second: 1 is real time",
    )  # fmt: skip
    parser.add_argument(
        "--uncertainty", metavar="N", type=whole(10, 100_000, ", such as 200"), default=0,
        help="error bars: replay with N random draws of the chips' uncertain figures",
    )  # fmt: skip
    parser.add_argument(
        "--metrics-port", metavar="PORT", type=whole(0, 65535),
        help="while it runs, serve metrics for Prometheus at this port of this machine; 0: any that is free",
    )  # fmt: skip
    parser.add_argument(
        "--metrics-host", metavar="ADDRESS", help="where to serve metrics, if not for this machine alone"
    )
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
    from hilsim.describe.load import load_setup
    from hilsim.errors import Fault, InputError
    from hilsim.show.check import checked
    from hilsim.show.document import as_json
    from hilsim.show.run import RECORDINGS, RunOptions, run_checked, wanted_faults
    from hilsim.versions import require_package

    dashboards: list[Dashboard] = []
    quiet = options.json and options.out is None
    wanted = RunOptions(
        options.realtime, options.uncertainty, options.shadow, options.link_ends, options.out or RECORDINGS,
        None if quiet and options.metrics_port is None else partial(watching, options, dashboards),
    )  # fmt: skip
    if options.html is not None:
        require_package("bokeh", "--html")
    if options.metrics_port is not None:
        require_package("prometheus_client", "--metrics-port")
    elif options.metrics_host is not None:
        raise InputError([Fault("--metrics-host", "", "no --metrics-port", "both, or neither")])
    setup = load_setup(options.scenario, overrides_of(options))
    # Before compiling, which may take a minute.
    if faults := [*output_faults(options, make=False), *wanted_faults(setup, wanted)]:
        raise InputError(faults)
    found = checked(setup)
    found.require()
    if faults := output_faults(options, make=True):
        raise InputError(faults)
    ran = run_checked(found, wanted)
    left_out = save(options, ran, dashboards)
    if options.json:
        sys.stdout.write(as_json(ran.report))
    else:
        from rich.console import Console

        ran.render(Console())
    if left_out:
        print(left_out, file=sys.stderr)
    differs = not ran.lost and ran.report["lossless"] and ran.report["lossless"]["mismatches"]
    return 1 if ran.lost or "lost" in ran.report.get("distributed", {}) or differs else 0


def output_faults(options: argparse.Namespace, *, make: bool) -> list[Fault]:
    """Faults of the output paths; folders are made for a scenario that runs, not for one refused."""
    from hilsim.files import folder_faults, place_faults

    faults = [] if options.out is None else folder_faults(options.out, "--out", make=make)
    for option, file in (("--trace", options.trace), ("--html", options.html)):
        faults += [] if file is None else place_faults(file, option, make=make)
    return faults


@contextmanager
def watching(
    options: argparse.Namespace, dashboards: list[Dashboard], setup: Setup, verdict: PlacementVerdict,
    text_of: Callable[[Sequence[int]], str],
) -> Iterator[Observer | None]:  # fmt: skip
    """The observer of the run; a dashboard that takes part is added to `dashboards`, for its picture."""
    from hilsim.show.terminal.several import ObserverGroup
    from hilsim.show.terminal.views import views

    picture = options.out is not None
    with (
        counting(options, setup, verdict) as exporter,
        views(setup, verdict, text_of, quiet=options.json, plain=options.plain, picture=picture) as (shown, dashboard),
    ):
        dashboards += [] if dashboard is None else [dashboard]
        watched = [observer for observer in (shown, exporter) if observer is not None]
        yield ObserverGroup(watched) if len(watched) > 1 else next(iter(watched), None)


@contextmanager
def counting(options: argparse.Namespace, setup: Setup, verdict: PlacementVerdict) -> Iterator[Observer | None]:
    """The observer that counts for --metrics-port, whose address it prints; None without that option."""
    if options.metrics_port is None:
        yield None
        return
    from hilsim.show.exporter import exporting

    with exporting(setup, verdict.ledgers, options.metrics_host or "127.0.0.1", options.metrics_port) as found:
        exporter, address = found
        print(f"metrics at {address}", file=sys.stderr, flush=True)
        yield exporter


def save(options: argparse.Namespace, ran: Run, dashboards: list[Dashboard]) -> str:
    """Write the files of --trace and --out; returns what was left out and why."""
    from hilsim.show.saved import save_pictures, save_report

    if options.trace is not None:
        ran.trace(options.trace)
    if options.html is not None and not ran.lost:
        ran.html(options.html, options.typed)
    if options.out is None:
        return ""
    save_report(options.out, ran.setup, ran.outcome, ran.report)
    return "" if ran.lost else save_pictures(options.out, ran.setup, ran.outcome, dashboards[0] if dashboards else None)
