"""`acceptance`: How often drafts of real pairs are accepted; shows, compares, converts and exports profiles."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import Commands, add_scenario, overrides_of, place, whole
from hilsim.commands.outputs import require_place

DRAFTS = (1, 2, 3, 4, 5, 6, 8)
EXAMPLES = """examples:
  %(prog)s show                                              (the library)
  %(prog)s show eagle-llama-3.1-8b/sharegpt
  %(prog)s compare eagle-llama-3.1-8b/sharegpt my-server.log --drafted 5 --scenario orin_8295
  %(prog)s convert metrics.txt --out my-pair.yaml
  %(prog)s export orin_8295 --out speculation_profile.json
then:
  python simulate.py orin_8295 --acceptance my-pair.yaml
"""


def add_arguments(commands: Commands) -> None:
    """The command with its own commands."""
    parser = commands.add_parser(
        "acceptance", help="how often drafts of real pairs are accepted: show, compare, convert, export",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    inside = parser.add_subparsers(dest="question", required=True, metavar="QUESTION")
    show = inside.add_parser("show", help="one profile by place and by drafts; without a name, the library")
    show.add_argument("profile", metavar="NAME|FILE", nargs="?", help="PAIR/WORKLOAD of the library, or a file")
    compare = inside.add_parser("compare", help="tokens a round of several profiles, by drafts")
    compare.add_argument("profiles", metavar="NAME|FILE", nargs="*", help="which (default: the library)")
    compare.add_argument("--scenario", metavar="SCENARIO", help="also those of a scenario's own models or stand-ins")
    convert = inside.add_parser("convert", help="a file of a runtime as a profile (YAML, or JSON as with checkpoints)")
    convert.add_argument("profile", metavar="NAME|FILE", help="what to convert")
    convert.add_argument("--title", metavar="TEXT", help="target and drafter, where the file does not name them")
    convert.add_argument("--text", metavar="TEXT", help="over which text, where the file does not name it")
    convert.add_argument("--drafter", choices=("model", "head", "lookup"), help="what drafted")
    convert.add_argument("--temperature", metavar="T", type=float, help="of the target")
    for one in (show, compare, convert):
        one.add_argument(
            "--drafted", metavar="N", type=whole(1, 1000), help="drafts a round, of files that do not have them"
        )
        one.add_argument("--workload", metavar="NAME", help="which kind of text, of a YAML file with several")
    export = inside.add_parser("export", help="the acceptance of a scenario's own models, live or recorded")
    add_scenario(export)
    carries = inside.add_parser("transfer", help="how far acceptance carries from one kind of text to another")
    add_scenario(carries)
    carries.add_argument("--drafts", metavar="N", type=whole(1, 64), default=5, help="drafts a round (5)")
    carries.add_argument("--csv", metavar="FILE", type=place, help="also a CSV")
    for one in (show, compare):
        one.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    for one, what in ((convert, "NAME.yaml or NAME.json"), (export, ".json a profile, .jsonl the rounds of requests")):
        one.add_argument("--out", metavar="FILE", type=place, required=True, help=f"the file to write: {what}")


def run(options: argparse.Namespace) -> int:
    """Answer one of its questions."""
    from hilsim.show import acceptance as shown

    if options.question in ("convert", "export"):
        require_place(options.out, "--out")
    if options.question == "show":
        shown.show(options.profile, given_of(options), as_json=options.json)
    elif options.question == "compare":
        shown.compare(options.profiles, given_of(options), options.scenario, DRAFTS, as_json=options.json)
    elif options.question == "convert":
        stated = {name: getattr(options, name) for name in ("title", "drafter", "text", "temperature")}
        shown.convert(options.profile, given_of(options), options.out, stated)
    elif options.question == "transfer":
        if options.csv is not None:
            require_place(options.csv, "--csv")
        shown.transfer(options.scenario, overrides_of(options), options.drafts, options.csv)
    else:
        shown.export(options.scenario, overrides_of(options), options.out)
    return 0


def given_of(options: argparse.Namespace) -> dict[str, object]:
    """What the user states of a file."""
    return {"drafted": options.drafted, "workload": options.workload}
