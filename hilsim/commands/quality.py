"""`quality`: What does a precision cost in text? Perplexity, acceptance and exact match of stand-ins, rounded."""

from __future__ import annotations

import argparse
import json
import sys

from hilsim.commands.arguments import Commands, add_scenario, overrides_of, whole
from hilsim.commands.outputs import add_outputs, require_outputs, write_outputs

EXAMPLES = """examples:
  %(prog)s orin_8295
  %(prog)s orin_8295 --conversations 8 --dialogues 4 --plot quality.svg
"""


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "quality", help="what a precision costs in text: perplexity, acceptance, exact match of the stand-ins, rounded",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add_scenario(parser)
    parser.add_argument(
        "--conversations", metavar="N", type=whole(2, 1000), default=24,
        help="how many of the scenario's file the target answers (24)",
    )  # fmt: skip
    parser.add_argument(
        "--dialogues", metavar="N", type=whole(1, 300), default=12,
        help="test dialogues of either part of the corpus, for perplexity (12)",
    )  # fmt: skip
    add_outputs(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(options: argparse.Namespace) -> int:
    """Measure every precision and print them. Raises `InputError`, status 2."""
    from hilsim.progress import counting, status_line
    from hilsim.show.quality import as_document, as_records, draw, render
    from hilsim.show.table import Table, terminal
    from hilsim.study.quality import load_measurable

    require_outputs(options)
    with status_line("answering"):
        measurement = load_measurable(options.scenario, overrides_of(options), options.conversations, options.dialogues)
    found = list(counting("precisions", measurement.measured(), len(measurement)))
    if options.json:
        sys.stdout.write(json.dumps(as_document(measurement, found), indent=2, allow_nan=False) + "\n")
    else:
        render(measurement, found, terminal(150))
    write_outputs(
        options,
        lambda path, kind: draw(measurement, found, path, kind),
        lambda file: Table.of(as_records(found)).write_csv(file, 6),
    )
    return 0
