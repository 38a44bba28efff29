"""`card`: Measure the stand-in models and write models/README.md."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import Commands, folder, whole


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "card", help="measure the stand-in models' losses and acceptance and write the model card"
    )
    parser.add_argument(
        "--models", metavar="DIR", type=folder, default="models", help="their checkpoint folders (models)"
    )
    parser.add_argument(
        "--dialogues",
        metavar="N",
        type=whole(1, 10_000),
        default=40,
        help="conversations measured per part of the corpus and setting (40)",
    )


def run(options: argparse.Namespace) -> int:
    """Write the card."""
    from hilsim.training.card import write_card

    write_card(options.models, options.dialogues, notify=print)
    return 0
