"""`record`: Run the stand-in models once and write their answers as a transcript to replay."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import Commands, add_scenario, overrides_of, place, whole


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "record", help="run the stand-in models once and write their answers as a transcript to replay"
    )
    add_scenario(parser)
    parser.add_argument(
        "--out", metavar="FILE", type=place, required=True, help="the transcript to write, e.g. transcript.npz"
    )
    parser.add_argument(
        "--depth", metavar="N", type=whole(1, 1000, ", such as 16"), default=16,
        help="tokens that the draft generates from every position (16)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Write the transcript."""
    from hilsim.runs.record import record

    return record(options.scenario, overrides_of(options), options.out, options.depth)
