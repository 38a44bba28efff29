"""`explore`: Which placement is best? Screens every configuration, confirms the best by event simulation."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import Commands, add_allow_code, add_set, names, number, place, scenario, whole
from hilsim.commands.outputs import add_html, require_html, require_outputs, write_outputs


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "explore", help="which placement is best? every role, unit, precision, width, draft, link, rule and policy"
    )
    parser.add_argument(
        "scenario", metavar="SCENARIO", type=scenario, help="a scenario with live logits, by file or name"
    )
    add_set(parser)
    add_allow_code(parser)
    parser.add_argument(
        "--objective", metavar="NAME", default="request_latency",
        help="request_latency (default), first_clause, throughput, energy, link_bytes or memory",
    )  # fmt: skip
    parser.add_argument(
        "--against", metavar="NAMES", type=names, default=["memory", "energy"],
        help="the other objectives of the Pareto set (memory,energy)",
    )  # fmt: skip
    parser.add_argument(
        "--latency-target", metavar="MS", type=number(1e-6, 1e12),
        help="bound on the 90th percentile of the time to the first clause, in ms",
    )  # fmt: skip
    parser.add_argument(
        "--memory-free", metavar="MIB", type=number(1e-6, 1e12), help="memory to be left free on every chip"
    )
    parser.add_argument(
        "--limit",
        metavar="MEASURE<=X",
        action="append",
        default=[],
        help="a bound on any other measure, or MEASURE>=X; repeatable",
    )
    parser.add_argument(
        "--cloud", action="store_true", help="allow target and draft outside the car; conversations leave it then"
    )
    parser.add_argument("--chips", metavar="NAMES", type=names, default=[], help="further chips to place models on")
    parser.add_argument("--links", metavar="NAMES", type=names, default=[], help="links (default: all in chips/links)")
    parser.add_argument(
        "--drafts", metavar="PAIRS", type=names, default=[],
        help="MODEL:STAND_IN,... (default: every draft with the target's vocabulary)",
    )  # fmt: skip
    parser.add_argument(
        "--only", metavar="KEY=VALUES", action="append", default=[],
        help="narrow an axis, such as target.unit=npu or policy.kind=sync,pearl; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--fine", action="store_true",
        help="every set of widths, draft length, threshold and payload: millions instead of tens of thousands",
    )  # fmt: skip
    parser.add_argument(
        "--conversations",
        metavar="N",
        type=whole(1, 1024),
        help="number of conversations (default: the scenario's, 24 at least)",
    )
    parser.add_argument(
        "--finalists",
        metavar="N",
        type=whole(0, 100),
        default=3,
        help="how many of the best to confirm by event simulation and write (3)",
    )
    parser.add_argument(
        "--by-events", metavar="N", type=whole(0, 10_000), default=16,
        help="at how many of the best placements to run the policies that cannot be screened, event by event (16)",
    )  # fmt: skip
    parser.add_argument("--workers", metavar="N", type=whole(1, 1024), help="processes (default: one per core)")
    parser.add_argument("--yes", action="store_true", help="screen more than a million configurations without asking")
    parser.add_argument("--out", metavar="DIR", type=place, help="write explore.json, and a scenario for each finalist")
    parser.add_argument("--csv", metavar="FILE", type=place, help="all screened configurations as a CSV")
    parser.add_argument("--plot", metavar="FILE", type=place, help="a picture of all configurations (PNG, SVG or PDF)")
    add_html(parser, "every configuration, the best of them, what they rest on, what to measure first")


def run(options: argparse.Namespace) -> int:
    """Enumerate, prune, screen, rank, confirm, write. Returns 1 where nothing meets the constraints."""
    from rich.console import Console

    from hilsim.errors import InputError
    from hilsim.files import folder_faults
    from hilsim.show.explore import draw, render, write_csv, write_finalists
    from hilsim.study.explorer import explore, question_of

    question = question_of(
        options.scenario, options.set, objective=options.objective, against=options.against, limits=options.limit,
        latency_target_ms=options.latency_target, memory_free_mib=options.memory_free, cloud=options.cloud,
        chips=options.chips, links=options.links, drafts=options.drafts, only=options.only,
        conversations=options.conversations, fine=options.fine, yes=options.yes,
    )  # fmt: skip
    require_outputs(options)
    require_html(options)
    if options.out is not None and (faults := folder_faults(options.out, "--out")):
        raise InputError(faults)
    found = explore(
        question, finalists=options.finalists, workers=options.workers, by_events=options.by_events, keep_partial=True
    )
    if options.out is not None:
        write_finalists(found, options.out)
    write_outputs(options, lambda path, kind: draw(path, found, kind), lambda stream: write_csv(stream, found.answer))
    if options.html is not None:
        from hilsim.show.page.explore import page_of
        from hilsim.show.page.frame import write_page

        write_page(options.html, page_of(found, options.typed))
    render(found, Console(), options.out)
    if found.interrupted:
        raise KeyboardInterrupt(f"interrupted {found.interrupted}")
    return 0 if len(found.answer.ranked) and all(finalist.agrees for finalist in found.finalists) else 1
