"""`python -m hilsim check`: does it compile, does it fit - for a scenario, or for a module of somebody's own."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hilsim.compiler.compile_check import load_compiled, plans_of, require, with_plans
from hilsim.compiler.fallback_options import WayOut, ways_out
from hilsim.compiler.plan import UNCHECKED, Plan
from hilsim.cost.fit import whole
from hilsim.cost.memory import Largest, largest_context
from hilsim.cost.verdict import PlacementVerdict, check
from hilsim.describe.catalogue import load_chip
from hilsim.describe.chip import Unit
from hilsim.describe.complaints import validated
from hilsim.describe.deployed_pair import folder_notes
from hilsim.describe.load import EIGHT_BITS, load_setup, with_override
from hilsim.describe.outside import outside_car
from hilsim.describe.profile import Profile, load_profile
from hilsim.describe.scenario import Compile
from hilsim.describe.setup import Setup
from hilsim.describe.strict_yaml import parse
from hilsim.describe.write import typed
from hilsim.errors import CompileError, Fault, InputError
from hilsim.files import all_or_nothing, folder_faults
from hilsim.progress import saying
from hilsim.show.memory import memory_in_full, notes_of
from hilsim.show.sentences import outside_words

HERE = Path("command line")


@dataclass(frozen=True)
class CheckOptions:
    """What the user asked `check` for; with `module` the scenario is None and the chip's fields count."""

    scenario: Path | None
    overrides: list[str]
    largest: bool = False
    json: bool = False
    write: Path | None = None
    module: str | None = None
    chip: str | None = None
    unit: str | None = None
    precision: str | None = None
    profile: str | None = None


def check_command(options: CheckOptions) -> int:
    """Print a plan or a refusal. Raises `InputError`, `CompileError` or `PlacementError`, all of them status 2."""
    if options.write is not None and (faults := folder_faults(options.write, "--write")):
        raise InputError(faults)
    if options.scenario is None:
        return check_module(options)
    return check_scenario(options, options.scenario)


def check_scenario(options: CheckOptions, file: Path) -> int:
    """Plans and ledgers of a scenario, and what would help where it does not compile or fit."""
    setup = load_setup(file, options.overrides)
    with saying("compiling") as say:
        plans = plans_of(setup, say)
    refused = any(plan.outcome == "refused" for plan in plans.values())
    ways: list[WayOut] = []
    if refused:
        with saying("looking for a way out"):
            ways = ways_out(setup, options.overrides, plans)
    compiled = with_plans(setup, plans)
    verdict = check(compiled, options.overrides, load_compiled)
    longest = largest_context(compiled) if options.largest else None
    if outside_car(setup) and not options.json:
        print(outside_words(outside_car(setup)))
    show(list(plans.values()), unchecked(setup, plans), options, verdict, str(file), ways, longest)
    if longest is not None and not options.json:
        print(longest_words(longest))
    if not options.json and (refused or verdict.fits):
        print(verdict)
    if not options.json:
        for note in folder_notes(setup):
            print(f"Note: {note}")
        show_caveats(verdict)
    require(setup, plans, ways, reasons=False)
    verdict.require()
    if options.write is not None:
        from hilsim.compiler.written import write_scenario

        with saying("writing") as say, all_or_nothing(options.write) as folder:
            lines = write_scenario(compiled, plans, folder, say)
        told(lines, options, options.write)
    return 0


def longest_words(longest: Largest) -> str:
    """The longest context, what stops it, and how far it moves over all that the memory's figures leave open."""
    found = f"{longest.tokens:,} tokens" if longest.tokens else "none fits"
    over = "" if longest.least == longest.most else (
        " Over the ranges of the memory's figures, and an assumed yes or no either way,"
        f" it is {longest.least:,} to {longest.most:,}."
    )  # fmt: skip
    return f"Largest context: {found} (stopped by {longest.stopped_by}).{over}"


def show_caveats(verdict: PlacementVerdict) -> None:
    """What has to be said against the placement, and the notes of its chips."""
    from rich.console import Console

    from hilsim.show.report import caveats, chip_notes
    from hilsim.show.terminal.page import Page

    page = Page(Console())
    caveats(page, [vars(caveat) for caveat in verdict.caveats if caveat.kind != "memory"])
    chip_notes(page, notes_of(verdict.setup))


def unchecked(setup: Setup, plans: dict[int, Plan]) -> list[str]:
    """Units without a profile, where nothing could be checked."""
    open_ended = [
        part.track for index, part in enumerate(setup.parts) if index not in plans or plans[index].profile == UNCHECKED
    ]
    return [f"{track}: no rule profile, so nothing was checked there" for track in dict.fromkeys(open_ended)]


def check_module(options: CheckOptions) -> int:
    """The plan of a module that the user names, on a chip that the user names."""
    from hilsim.compiler.choose import CompileSite
    from hilsim.compiler.planner import plan_module
    from hilsim.compiler.program import subject_of

    assert options.module is not None
    chip_name, unit_name, unit, profile = asked_for(options)
    precision = options.precision or next(
        known for known in (*EIGHT_BITS, *unit.precisions) if known in unit.precisions
    )
    if precision not in unit.precisions:
        raise InputError([Fault("--precision", "", repr(precision), f"one of {', '.join(unit.precisions)}")])
    allowed = compile_options(options.overrides)
    with saying("compiling") as say:
        subject = subject_of(options.module)
        site = CompileSite(unit, unit.precisions[precision], profile, allowed)
        plan, prepared = plan_module(subject, site, say, unit=f"{chip_name}.{unit_name}", precision=precision)
    show([plan], [], options, file=options.module)
    if plan.outcome == "refused":
        raise CompileError(
            [f"{options.module}: does not compile for {plan.unit} under {plan.profile}:", *plan.refusals]
        )
    if options.write is not None:
        from hilsim.compiler.written import write_module

        with saying("writing") as say, all_or_nothing(options.write) as folder:
            lines = write_module(plan, prepared, folder, say)
        told(lines, options, options.write)
    return 0


def asked_for(options: CheckOptions) -> tuple[str, str, Unit, Profile]:
    """Chip, unit and profile from the command line: the chip's first unit with profiles, the profile's first chip."""
    if options.chip is None:
        raise InputError([Fault("--chip", "", "none", "the name of a chip, such as sa8295p", "See chips/.")])
    chip = load_chip(options.chip, HERE)
    profile = None if options.profile is None else load_profile(options.profile, HERE)
    if options.unit is not None and options.unit not in chip.units:
        raise InputError([Fault("--unit", "", repr(options.unit), f"a unit of {chip.name}: {', '.join(chip.units)}")])
    fitting = {
        name: unit
        for name, unit in chip.units.items()
        if options.unit in (None, name) and (unit.profiles if profile is None else profile.suits(unit))
    }
    if not fitting:
        of = f"{chip.name}{'' if options.unit is None else f'.{options.unit}'}"
        expected = "a unit with profiles" if profile is None else f"a unit of kind {' or '.join(profile.units)}"
        raise InputError(
            [Fault("--chip", "", f"{of}, which has none that fits", expected, "Name --profile or --unit.")]
        )
    name, unit = next(iter(fitting.items()))
    return chip.name, name, unit, profile or load_profile(unit.profiles[0], HERE)


def compile_options(overrides: Sequence[str]) -> Compile:
    """The `compile` part of a scenario out of --set arguments alone. Raises `InputError` for any other key."""
    document = parse("{}", "--set")
    for override in overrides:
        document = with_override(document, override)
    data = document.data if isinstance(document.data, dict) else {}
    if strange := [key for key in data if key != "compile"]:
        raise InputError([Fault("--set", ", ".join(strange), "a key of a scenario", "compile.fallback and its like")])
    return validated(Compile, parse(json.dumps(data.get("compile") or {}), "--set compile"), "--set compile")


def show(
    plans: Sequence[Plan],
    remarks: Sequence[str],
    options: CheckOptions,
    verdict: PlacementVerdict | None = None,
    file: str = "",
    ways: Sequence[WayOut] = (),
    longest: Largest | None = None,
) -> None:
    """Print the plans, as a document with --json."""
    if options.json:
        found: dict[str, Any] = {
            "checked": file,
            "compiles": all(plan.outcome != "refused" for plan in plans),
            "fits": None if verdict is None else verdict.fits,
            "fit": None if verdict is None else whole(verdict.by_chip),
            "plans": [plan.as_json() for plan in plans],
            "unchecked": list(remarks),
            "ways_out": [
                {"set": typed(way.changes).removeprefix("--set "), "why": way.why, "step_ms": way.step_ms}
                for way in ways
            ],
            "memory": {} if verdict is None else memory_in_full(verdict.ledgers, verdict.by_chip),
            "caveats": [] if verdict is None else [vars(caveat) for caveat in verdict.caveats],
            "chip_notes": {} if verdict is None else notes_of(verdict.setup),
            "talk_leaves_car": [] if verdict is None else list(outside_car(verdict.setup)),
        }
        if longest is not None:
            found["largest_context"] = vars(longest)
        json.dump(found, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
        return
    from rich.console import Console

    from hilsim.show.compile import render_plans

    console = Console()
    render_plans(plans, console)
    for remark in remarks:
        console.print(remark, style="dim", highlight=False, markup=False)
    console.print()


def told(lines: Sequence[str], options: CheckOptions, folder: Path) -> None:
    """Say what was written where, out of the way of a document."""
    for line in lines:
        print(folder / line, file=sys.stderr if options.json else sys.stdout)
