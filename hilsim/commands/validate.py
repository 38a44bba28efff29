"""`validate`: How well do the chips predict? Predicted against measured figures, or a log of a two-device run."""

from __future__ import annotations

import argparse
import json
import sys

from hilsim.commands.arguments import Commands, place, source
from hilsim.commands.outputs import add_html, require_html, require_place, require_plot
from hilsim.errors import Fault, InputError


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser("validate", help="how well do the chips predict? predicted against measured figures")
    parser.add_argument(
        "--csv", metavar="FILE", type=source,
        help="a team's own figures instead of the shipped ones, or a tool's log (columns, formats: docs/logs.md)",
    )  # fmt: skip
    parser.add_argument("--chip", metavar="NAME", help="the chip of rows that name none, as in llama-bench's output")
    parser.add_argument("--mode", metavar="MODE", help="the power mode of rows that name none, such as 30W")
    parser.add_argument(
        "--leave-out", action="store_true",
        help="fit again without each row's model, and without its device, and predict it so (minutes)",
    )  # fmt: skip
    parser.add_argument("--summary", action="store_true", help="print the summary alone")
    parser.add_argument("--errors", metavar="FILE", type=place, help="also every row's errors as CSV, with --leave-out")
    parser.add_argument(
        "--speculation", action="store_true",
        help="only rows of speculation: round cost, speed-up and sign, and what is missing to predict a row",
    )  # fmt: skip
    parser.add_argument("--table", metavar="FILE", type=place, help="also the table as CSV, with --speculation")
    parser.add_argument(
        "--trace", metavar="FILE", type=source,
        help="instead: your log of a real two-device run (JSON; its format: docs/logs.md), replayed and predicted",
    )  # fmt: skip
    parser.add_argument("--plot", metavar="FILE", type=place, help="also a scatter plot (PNG, SVG or PDF)")
    add_html(parser, "every row as a dot, misses first, errors by class, what they rest on")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--skip-bad", action="store_true", help="skip rows of unknown devices or precisions")


def run(options: argparse.Namespace) -> int:
    """Compare. Returns 1 where a row or a time is doubtful."""
    if options.trace is not None:
        return validate_log(options)
    if options.table is not None and not options.speculation:
        raise InputError([Fault("--table", "", "no --speculation beside it", "both", "Add --speculation.")])
    return validate_speculation(options) if options.speculation else validate_rows(options)


def validate_speculation(options: argparse.Namespace) -> int:
    """Rows of speculation alone."""
    from hilsim.fidelity.speculation_table import speculation_table
    from hilsim.files import written
    from hilsim.show.speculation import as_json, print_speculation, write_csv
    from hilsim.show.table import terminal

    beside = {
        "--plot": options.plot, "--html": options.html, "--errors": options.errors, "--leave-out": options.leave_out,
    }  # fmt: skip
    if others := [name for name, value in beside.items() if value]:
        names = f"{', '.join(others)} beside it"
        raise InputError([Fault("--speculation", "", names, "none of them", "Run validate twice.")])
    require_fitting(options)
    if options.table is not None:
        require_place(options.table, "--table")
    found = speculation_table(
        options.csv, chip=options.chip, mode=options.mode, skipped=print_skipped if options.skip_bad else None
    )
    if options.table is not None:
        with written(options.table) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            write_csv(file, found)
    if options.json:
        write_json(as_json(found))
    else:
        print_speculation(terminal(), found, summary_alone=options.summary)
    return 0


def require_fitting(options: argparse.Namespace) -> None:
    """Raise `InputError` for options of rows that contradict each other."""
    if options.csv is None and options.chip is not None:
        raise InputError([Fault("--chip", "", "no file whose rows it names", "--csv FILE beside it")])
    if options.summary and options.json:
        raise InputError([Fault("--summary", "", "--json beside it", "one of them")])


def validate_rows(options: argparse.Namespace) -> int:
    """Predicted against measured, three ways."""
    from rich.console import Console

    from hilsim.fidelity.from_file import validate
    from hilsim.fidelity.measurements import SHIPPED
    from hilsim.fidelity.validate import as_csv
    from hilsim.files import written
    from hilsim.places import DATA
    from hilsim.show.fidelity import as_json, print_validation

    if options.plot is not None:
        require_plot(options.plot)
    require_html(options)
    require_fitting(options)
    if options.errors is not None and not options.leave_out:
        raise InputError([Fault("--errors", "", "no --leave-out beside it", "both", "Add --leave-out.")])
    found = validate(
        options.csv, chip=options.chip, mode=options.mode, leave_out=options.leave_out,
        skipped=print_skipped if options.skip_bad else None,
    )  # fmt: skip
    if options.errors is not None:
        with written(options.errors) as temporary:
            temporary.write_text(as_csv([*found.rows, *found.rounds]), encoding="utf-8")
    if options.plot is not None:
        from hilsim.show.plots.scatter import draw

        if not found.rows:
            raise InputError(
                [Fault(str(options.plot), "--plot", "no row that is compared by its time", "at least one")]
            )
        with written(options.plot) as temporary:
            draw(found.rows, temporary, options.plot.suffix[1:])
    doubts = [str(doubt) for doubt in found.doubts]
    name = str(options.csv or SHIPPED.relative_to(DATA))
    if options.html is not None:
        from hilsim.show.page.frame import write_page
        from hilsim.show.page.validate import page_of

        write_page(options.html, page_of(found, name, options.typed))
    if options.json:
        write_json(as_json(found) | {"doubts": doubts, "notes": found.notes})
    else:
        print_validation(Console(), found, name, summary_alone=options.summary)
    return 1 if doubts else 0


def validate_log(options: argparse.Namespace) -> int:
    """The step log of a real two-device run, replayed and predicted."""
    from rich.console import Console

    from hilsim.fidelity.doubts import doubtful_steps
    from hilsim.fidelity.step_log import read_log
    from hilsim.fidelity.two_device import replay
    from hilsim.show.two_device import as_json, print_log

    of_rows = {
        "--csv": options.csv, "--chip": options.chip, "--plot": options.plot, "--skip-bad": options.skip_bad,
        "--mode": options.mode, "--html": options.html, "--leave-out": options.leave_out, "--summary": options.summary,
        "--errors": options.errors, "--speculation": options.speculation, "--table": options.table,
    }  # fmt: skip
    if beside := [name for name, value in of_rows.items() if value]:
        found = f"{', '.join(beside)} beside it"
        raise InputError([Fault("--trace", "", found, "--trace FILE alone or with --json", "Run validate twice.")])
    prompts = read_log(options.trace)
    replays = [replay(runs, options.trace) for runs in prompts if runs.sync is not None]
    doubts = [str(doubt) for doubt in doubtful_steps(prompts, options.trace)]
    if options.json:
        write_json(as_json(prompts, replays, str(options.trace)) | {"doubts": doubts})
    else:
        print_log(Console(), prompts, replays, str(options.trace), doubts)
    return 1 if doubts else 0


def print_skipped(fault: object) -> None:
    """Name a row that --skip-bad skips."""
    print(f"skipped: {fault}", file=sys.stderr)


def write_json(document: dict[str, object]) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
