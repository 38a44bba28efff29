"""`campaign`: Meet every fault at every instant under every policy: what is survived, and what it costs."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import Commands, campaign
from hilsim.commands.stored import add_running, require_files, require_points, run_stored

EXAMPLES = """examples:
  %(prog)s faults_orin_8295
  %(prog)s scenarios/campaigns/faults_orin_8295.yaml --plot faults.png --csv runs.csv --details
"""


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "campaign", help="what faults at all instants cost under each policy, and what is not survived",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "campaign", metavar="CAMPAIGN", type=campaign,
        help="a campaign, e.g. scenarios/campaigns/faults_orin_8295.yaml, or its name",
    )  # fmt: skip
    add_running(parser, "campaign")
    parser.add_argument("--details", action="store_true", help="also a row for each fault under each policy")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def run(options: argparse.Namespace) -> int:
    """Run what is left of a campaign and show all of it. Returns 1 where a point failed that should not have.

    What is not survived is a result, status 0. Raises `InputError` where every point is refused.
    """
    import json
    import sys

    from hilsim.describe.campaign_load import load_campaign
    from hilsim.files import read_text
    from hilsim.show.campaign import document, render
    from hilsim.show.campaigned import export
    from hilsim.show.table import terminal
    from hilsim.study.campaign import CampaignResult, require_runs, tolerance_ms
    from hilsim.study.stored import StoredGrid
    from hilsim.study.worker import worked_with_fault

    require_files(options)
    loaded = load_campaign(options.campaign, options.set)
    stored = StoredGrid.of(loaded.described, read_text(options.campaign), worked_with_fault)
    require_points(stored, options.campaign, "faults", "Raise most_points, or take fewer faults, instants or policies.")
    rows, _ = run_stored(options, stored, options.campaign)
    found, tolerance = CampaignResult(stored.grid, rows), tolerance_ms(loaded.described)
    require_runs(found, options.campaign)
    if options.json:
        sys.stdout.write(json.dumps(document(loaded.campaign, found, tolerance), indent=2, allow_nan=False) + "\n")
    else:
        render(loaded.campaign, found, tolerance, terminal(), details=options.details)
    export(loaded.campaign, found, csv=options.csv, parquet=options.parquet, plot=options.plot)
    return 1 if any(row.outcome.state == "failed" for row in rows) else 0
