"""`modes`: Which way of speculation pays on this target? All that its unit and runtime can run, side by side."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from hilsim.commands.arguments import Commands, add_scenario, overrides_of, wholes
from hilsim.commands.outputs import add_html, add_outputs, require_html, require_outputs, write_outputs

EXAMPLES = """examples:
  %(prog)s orin_8295
  %(prog)s eagle_8775 --acceptance eagle-llama-3.1-8b/sharegpt --batch 1,2,4,8 --plot batches.svg
"""


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "modes", help="which way of speculation pays: all that the target's unit and runtime can run, side by side",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_scenario(parser)
    parser.add_argument(
        "--batch", metavar="N,N", type=wholes(1, 64), default=(),
        help="also the speed-up of so many sequences computed together; the picture of several is over their number",
    )  # fmt: skip
    add_outputs(parser)
    add_html(parser, "which way pays, what each brings and costs, why others do not run")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(options: argparse.Namespace) -> int:
    """Run every mode and print them. Raises `InputError`, `CompileError` or `PlacementError`, all of them status 2."""
    from hilsim.describe.cross_checks import require_simulated
    from hilsim.progress import counting
    from hilsim.runs.evaluate import load_fitting
    from hilsim.show.comparison import draw_policies
    from hilsim.show.modes import acceptance_of, as_records, draw_batches, render, speedup_of, verdict
    from hilsim.show.table import Table, terminal
    from hilsim.study.modes import compare_modes, modes_of

    require_outputs(options)
    require_html(options)
    setup = load_fitting(options.scenario, overrides_of(options))
    require_simulated(setup, "modes")
    count = len(list(modes_of(setup)))
    results = list(counting("modes", compare_modes(setup, options.batch), count))
    records = as_records(results)
    if options.json:
        document = {
            "scenario": setup.scenario.name,
            "acceptance": acceptance_of(setup),
            "verdict": verdict(results, setup),
            "modes": records,
        }
        sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
    else:
        render(results, setup, terminal())
    ran = sorted((one for one in results if one.record), key=lambda one: -speedup_of(one))
    title = f"{setup.scenario.name}: {setup.target}"

    def draw(path: Path, kind: str) -> None:
        if len(options.batch) > 1:
            draw_batches(ran, title, path, kind)
        else:
            draw_policies([one.record for one in ran if one.record], title, path, kind)

    write_outputs(
        options,
        draw,
        lambda file: Table.of(records).write_csv(file, 6),
    )
    if options.html is not None:
        from hilsim.show.page.frame import write_page
        from hilsim.show.page.modes import page_of

        write_page(options.html, page_of(results, setup, options.typed))
    return 0
