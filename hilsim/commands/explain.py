"""`explain`: What a key of a scenario, chip, link, model, profile or study means, takes and defaults to."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import Commands


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser("explain", help="what a key of a described file means, takes and defaults to")
    parser.add_argument(
        "key", metavar="KEY",
        help="a key, such as draft_tokens or target.widths; a kind of file, such as chip; or both, such as chip:memory",
    )  # fmt: skip
    parser.add_argument("--schema", action="store_true", help="of a kind of file: print its JSON Schema")


def run(options: argparse.Namespace) -> int:
    """Print the keys."""
    import json

    from rich.console import Console

    from hilsim.describe.explained import explained, kind_of, nested
    from hilsim.describe.schema import schema_of
    from hilsim.show.keys import print_keys

    if options.schema:
        print(json.dumps(schema_of(kind_of(options.key)), indent=2))
    else:
        keys, listed = explained(options.key)
        print_keys(Console(), keys, listed, nested(options.key, keys))
    return 0
