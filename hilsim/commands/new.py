"""`new`: A commented file of a kind (a scenario, a chip ...) to begin with, from a skeleton or like a described one."""

from __future__ import annotations

import argparse

from hilsim.commands.arguments import Commands, place


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "new",
        help="write a commented file to begin with",
        description="Write a commented file to begin with. Its first line names the JSON Schema of its kind for an "
        "editor: relative to it inside the project, elsewhere by the whole path of this installation.",
    )
    parser.add_argument("kind", metavar="KIND", help="scenario, chip, link, model, study or campaign")
    parser.add_argument("name", metavar="NAME", help="what it is to be called")
    parser.add_argument("--like", metavar="NAME", help="begin with a described one of this kind in place of a skeleton")
    parser.add_argument(
        "--out", metavar="FILE", type=place, help="where to write it (default: NAME.yaml in its usual folder)"
    )


def run(options: argparse.Namespace) -> int:
    """Write the file, and say what to do with it."""
    from hilsim.describe.skeleton import new_file, usual_place
    from hilsim.errors import Fault, InputError
    from hilsim.files import place_faults, written

    text = new_file(
        options.kind, options.name, options.like, file := options.out or usual_place(options.kind, options.name)
    )
    faults = place_faults(file, "--out")
    if file.exists():
        faults = [Fault(str(file), "--out", "a file", "a place for a new one", "Remove it, or choose another name.")]
    if faults:
        raise InputError(faults)
    with written(file) as path:
        path.write_text(text, encoding="utf-8")
    print(f"{file}: {options.kind} {options.name}. `hilsim explain {options.kind}` lists what else it may hold.")
    return 0
