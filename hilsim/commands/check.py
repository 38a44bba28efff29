"""`check`: Does it compile, does it fit - for a scenario, or for a module, ONNX file or program of your own."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hilsim.commands.arguments import Commands, add_scenario, overrides_of, place

if TYPE_CHECKING:
    from hilsim.show.check import Checked


def add_arguments(commands: Commands) -> None:
    """The command and its options."""
    parser = commands.add_parser("check", help="does it compile, does it fit? findings, rewrites, the memory ledger")
    add_scenario(parser, optional=True)
    parser.add_argument("--largest-context", action="store_true", help="also the longest context that still fits")
    parser.add_argument(
        "--profile", metavar="NAME", help="check units against the rules of this compiler (chips/profiles)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument(
        "--write", metavar="DIR", type=place, help="save the rewritten programs after comparing them with the originals"
    )
    parser.add_argument(
        "--module", metavar="SPEC", help="instead of a scenario: PACKAGE.MODULE:FACTORY or FILE.py:FACTORY"
    )
    parser.add_argument("--onnx", metavar="FILE", type=place, help="instead of a scenario: an ONNX file")
    parser.add_argument(
        "--size", metavar="NAME=N", action="append", default=[], help="the size of a dimension that an ONNX file names"
    )
    parser.add_argument(
        "--program", metavar="FILE", type=place, help="instead of a scenario: a program saved by torch.export.save"
    )
    parser.add_argument("--chip", metavar="NAME", help="the chip that the module is to run on")
    parser.add_argument("--unit", metavar="NAME", help="which unit of the chip (default: the first that fits)")
    parser.add_argument("--precision", metavar="NAME", help="number format there (default: the first that runs)")


def run(options: argparse.Namespace) -> int:
    """Print a plan or a refusal. Raises `InputError`, `CompileError` or `PlacementError`, all of them status 2."""
    from hilsim.errors import InputError
    from hilsim.files import folder_faults

    require_one_subject(options)
    if options.write is not None and (faults := folder_faults(options.write, "--write")):
        raise InputError(faults)
    return check_scenario(options) if options.scenario is not None else check_module(options)


def require_one_subject(options: argparse.Namespace) -> None:
    """Raise `InputError` unless there is a scenario or one module, with options that belong to it."""
    from hilsim.errors import Fault, InputError

    modules = {"--module": options.module, "--onnx": options.onnx, "--program": options.program}
    given = [name for name, value in modules.items() if value is not None]
    named = ["a scenario"] * (options.scenario is not None) + given
    if len(named) != 1:
        found = " and ".join(named) if named else "neither a scenario nor --module, --onnx or --program"
        raise InputError([Fault("check", "", found, "one of them")])
    only_module = {"--chip": options.chip, "--unit": options.unit, "--precision": options.precision}
    if not given and (stray := [name for name, value in only_module.items() if value is not None]):
        raise InputError([Fault("check", ", ".join(stray), "a scenario, whose file states it", "--set, or --module")])
    if given and options.largest_context:
        raise InputError([Fault("check", "--largest-context", "a module, which has no context", "a scenario")])
    if options.size and options.onnx is None:
        raise InputError([Fault("check", "--size", f"{named[0]}, whose sizes are known", "--onnx")])


def check_scenario(options: argparse.Namespace) -> int:
    """Plans and ledgers of a scenario, and what would help where it does not compile or fit."""
    from hilsim.describe.load import load_setup
    from hilsim.show.check import checked

    overrides = overrides_of(options)
    overrides += [] if options.profile is None else [f"compile.profile={options.profile}"]
    found = checked(load_setup(options.scenario, overrides), longest=options.largest_context)
    show(options, found)
    found.require(reasons=False)
    if options.write is not None:
        from hilsim.compiler.written import write_scenario

        write(options, lambda folder, notify: write_scenario(found.setup, dict(found.plans), folder, notify))
    return 0


def check_module(options: argparse.Namespace) -> int:
    """The plan of a module that the user names, from a factory or a file, on a chip that the user names."""
    from hilsim.compiler.named_module import Source, plan_named_module
    from hilsim.errors import CompileError
    from hilsim.progress import status_line
    from hilsim.show.check import Checked

    source = Source(options.module, options.onnx, options.program, tuple(options.size))
    with status_line("compiling") as notify:
        plan, prepared = plan_named_module(
            source, overrides_of(options), notify, chip=options.chip, unit=options.unit,
            precision=options.precision, profile=options.profile,
        )  # fmt: skip
    show(options, Checked(source.name, {0: plan}))
    if plan.outcome == "refused":
        raise CompileError([f"{source.name}: does not compile for {plan.unit} under {plan.profile}:", *plan.refusals])
    if options.write is not None:
        from hilsim.compiler.written import write_module

        write(options, lambda folder, notify: write_module(plan, prepared, folder, notify))
    return 0


def show(options: argparse.Namespace, found: Checked) -> None:
    """Print what was found, with --json as a document."""
    if options.json:
        sys.stdout.write(json.dumps(found.report, indent=2, allow_nan=False) + "\n")
    else:
        from rich.console import Console

        from hilsim.show.check_report import render

        render(found, Console())


def write(options: argparse.Namespace, save: Callable[[Path, Callable[[str], None]], list[str]]) -> None:
    """Save programs into --write, all or none, and name them, on standard error beside a document."""
    from hilsim.files import all_or_nothing
    from hilsim.progress import status_line

    with status_line("writing") as notify, all_or_nothing(options.write) as folder:
        lines = save(folder, notify)
    for line in lines:
        print(options.write / line, file=sys.stderr if options.json else sys.stdout)
