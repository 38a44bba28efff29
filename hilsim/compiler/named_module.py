"""A module, ONNX file or saved program against the compiler of a chip: which unit, which rules, which number format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hilsim.compiler.plan import Plan
from hilsim.compiler.planner import Prepared, plan_module
from hilsim.compiler.program import Subject, subject_of
from hilsim.compiler.saved_programs import program_subject
from hilsim.compiler.site import CompileSite
from hilsim.describe.catalogue import load_chip
from hilsim.describe.chip import Precision, Unit
from hilsim.describe.complaints import validated
from hilsim.describe.load import with_override
from hilsim.describe.profile import Profile, load_profile
from hilsim.describe.scenario import Compile
from hilsim.describe.strict_yaml import parse
from hilsim.errors import Fault, InputError
from hilsim.progress import Notify

HERE = Path("command line")


@dataclass(frozen=True)
class Source:
    """Where a module comes from: a factory, an ONNX file with sizes of its named dimensions, or a saved program."""

    module: str | None = None
    onnx: Path | None = None
    program: Path | None = None
    sizes: tuple[str, ...] = ()  # NAME=N

    @property
    def name(self) -> str:
        return str(self.module or self.onnx or self.program)

    def subject(self, name: str, precision: Precision) -> tuple[Subject, tuple[str, ...]]:
        """The module, and notes about how it was read, for a unit's precision. Raises `InputError`."""
        if self.onnx is not None:
            from hilsim.compiler.onnx_files import onnx_subject
            from hilsim.compiler.onnx_quantised import mismatch, summary

            subject, note, formats = onnx_subject(self.onnx, dict(map(size_of, self.sizes)))
            return subject, (note, *filter(None, (summary(formats), mismatch(formats, name, precision))))
        if self.program is not None:
            return program_subject(self.program), ()
        assert self.module is not None
        return subject_of(self.module), ()


def size_of(text: str) -> tuple[str, int]:
    """A dimension's name and its size. Raises `InputError` for anything but NAME=N."""
    name, equals, number = text.partition("=")
    if not name or not equals or not number.isdecimal() or not 0 < int(number) < 2**31:
        raise InputError([Fault("--size", "", repr(text), "NAME=N, with a whole number above 0, such as length=128")])
    return name, int(number)


def plan_named_module(
    source: Source, overrides: Sequence[str], notify: Notify, *, chip: str | None, unit: str | None = None,
    precision: str | None = None, profile: str | None = None,
) -> tuple[Plan, dict[str, Prepared]]:  # fmt: skip
    """The plan of a module from a factory or a file on a chip, and its graphs' programs.

    `overrides` are `compile.KEY=VALUE`. Raises `InputError` where a name or a combination does not exist.
    """
    chip_name, unit_name, found, rules = placed(chip, unit, profile)
    precision = precision or found.of_networks
    if precision not in found.precisions:
        raise InputError([Fault("--precision", "", repr(precision), f"one of {', '.join(found.precisions)}")])
    allowed = compile_options(overrides)
    site = CompileSite(found, found.precisions[precision], rules, allowed)
    subject, notes = source.subject(precision, found.precisions[precision])
    plan, prepared = plan_module(subject, site, notify, unit=f"{chip_name}.{unit_name}", precision=precision)
    return replace(plan, notes=(*notes, *plan.notes)), prepared


def placed(chip_name: str | None, unit_name: str | None, profile_name: str | None) -> tuple[str, str, Unit, Profile]:
    """Chip, unit and profile by name; without names the first unit that has or suits a profile, and its first one."""
    if chip_name is None:
        raise InputError([Fault("--chip", "", "none", "the name of a chip, such as sa8295p", "See chips/.")])
    chip = load_chip(chip_name, HERE)
    profile = None if profile_name is None else load_profile(profile_name, HERE)
    if unit_name is not None and unit_name not in chip.units:
        raise InputError([Fault("--unit", "", repr(unit_name), f"a unit of {chip.name}: {', '.join(chip.units)}")])
    fitting = {
        name: unit
        for name, unit in chip.units.items()
        if unit_name in (None, name) and (unit.profiles if profile is None else profile.suits(unit))
    }
    if not fitting:
        of = f"{chip.name}{'' if unit_name is None else f'.{unit_name}'}"
        expected = "a unit with profiles" if profile is None else f"a unit of kind {' or '.join(profile.units)}"
        raise InputError(
            [Fault("--chip", "", f"{of}, which has none that fits", expected, "Name --profile or --unit.")]
        )
    name, unit = next(iter(fitting.items()))
    return chip.name, name, unit, profile or load_profile(unit.profiles[0], HERE)


def compile_options(overrides: Sequence[str]) -> Compile:
    """The `compile` part of a scenario from `--set` arguments alone. Raises `InputError` for any other key."""
    document = parse("{}", "--set")
    for override in overrides:
        document = with_override(document, override)
    data = document.data if isinstance(document.data, dict) else {}
    if strange := [key for key in data if key != "compile"]:
        raise InputError([Fault("--set", ", ".join(strange), "a key of a scenario", "compile.fallback and its like")])
    return validated(Compile, parse(json.dumps(data.get("compile") or {}), "--set compile"), "--set compile")
