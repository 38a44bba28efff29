"""What commands share: the types of their options, used as `type=` of argparse, and the options that several have.

A path may begin with ~ and hold $NAME, as in a scenario. Whether a file to be read exists is checked before a command
begins, so that a mistyped name is reported before anything heavy is imported.
"""

from __future__ import annotations

import json
import os
import re
from argparse import SUPPRESS, Action, ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import Any, NoReturn, Protocol

from hilsim.errors import Fault, InputError, Misfit
from hilsim.files import expanded, unreadable

MOST_SEED = 2**63 - 1  # as in a scenario


class Commands(Protocol):
    """What a command adds its parser to: the subparsers of argparse."""

    def add_parser(self, name: str, **given: Any) -> ArgumentParser: ...


def add_scenario(parser: ArgumentParser, *, optional: bool = False) -> None:
    """The arguments of every command on a scenario."""
    nargs = "?" if optional else None
    parser.add_argument(
        "scenario", metavar="SCENARIO", nargs=nargs, type=scenario,
        help="a scenario, e.g. scenarios/orin_8295.yaml or orin_8295",
    )  # fmt: skip
    add_set(parser)
    parser.add_argument("--seed", metavar="N", help="another seed (same as --set seed=N)")
    add_allow_code(parser)


class Parser(ArgumentParser):
    """A parser of a command line, or of a command in it, that repeats no secret: what looks like one is refused."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.add_argument("--token", "--toke", "--tok", "--to", nargs="?", action=RefuseToken, help=SUPPRESS)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and what may have been meant where one word of several was to be given."""
        if choice := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            from hilsim.describe.names import key_hint

            message = f"{message} {key_hint(choice[1], re.findall(r'[^ ,]+', choice[2].replace(chr(39), '')))}".rstrip()
        super().error(message)


class RefuseToken(Action):
    """A secret on the command line, where every user of the machine can read it."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        shown = "a secret on the command line, which every user of this machine can read"
        expected = "--token-file FILE (agent, link-end, profile) or units.NAME.token_file of a scenario"
        parser.error(f"--token: found {shown}; expected {expected}. Put a new secret into that file.")


def add_allow_code(parser: ArgumentParser) -> None:
    """`--allow-code`, of every command that can reach a policy, a module, an engine or a saved program."""
    parser.add_argument(
        "--allow-code", action="store_true",
        help="run code that is named even where it, or the file that names it, lies outside hilsim's folder and yours",
    )  # fmt: skip


def add_set(parser: ArgumentParser) -> None:
    """`--set`, and `--acceptance`, which is short for one."""
    parser.add_argument(
        "--set", metavar="PATH=VALUE", action="append", default=[], help="change one value of the scenario; repeatable"
    )
    parser.add_argument(
        "--acceptance", metavar="NAME|FILE", dest="set", action="append", type=acceptance, default=[],
        help="accept drafts as of a real pair: one of `hilsim acceptance show`, or a file of a runtime",
    )  # fmt: skip


def acceptance(text: str) -> str:
    """The override by which drafts are accepted as of a profile, or a file relative to where the command runs."""
    named = str(place(text).resolve()) if os.path.isfile(place(text)) else text
    return f"logits={{kind: acceptance, file: {json.dumps(named)}}}"


def overrides_of(options: Namespace) -> list[str]:
    """All --set arguments, --seed among them."""
    return [*options.set, *([] if options.seed is None else [f"seed={options.seed}"])]


def place(text: str) -> Path:
    """A path to write to or to look into."""
    try:
        path = Path(expanded(text))
    except Misfit as error:
        raise ArgumentTypeError(f"found {error.found}; expected {error.expected}") from None
    if not text or "\0" in text:
        raise ArgumentTypeError(f"found {text!r}; expected a path")
    return path


class Source(PosixPath):
    """A file that a command reads; `require_sources` checks it once all arguments are parsed."""


class ScenarioArgument(Source):
    """A scenario that a command reads, by its path or name; `require_sources` looks the name up."""

    kind = "scenario"

    @property
    def is_name(self) -> bool:
        """Whether it has to be looked up, which takes heavier imports."""
        return len(self.parts) == 1 and self.suffix not in (".yaml", ".yml") and not os.path.isfile(self)


class StudyArgument(ScenarioArgument):
    """A study that a command reads, by its path or name."""

    kind = "study"


class CampaignArgument(ScenarioArgument):
    """A campaign that a command reads, by its path or name."""

    kind = "campaign"


class Folder(PosixPath):
    """A folder that a command reads."""


def source(text: str) -> Path:
    """A file to read."""
    return Source(place(text))


def scenario(text: str) -> Path:
    """A scenario by its path or name."""
    return ScenarioArgument(place(text))


def study(text: str) -> Path:
    """A study by its path or name."""
    return StudyArgument(place(text))


def campaign(text: str) -> Path:
    """A campaign by its path or name."""
    return CampaignArgument(place(text))


def folder(text: str) -> Path:
    """A folder to read from."""
    return Folder(place(text))


def require_sources(options: Namespace) -> None:
    """Raise `InputError` with every file and folder among the arguments that cannot be read."""
    faults: list[Fault] = []
    for name, path in list(vars(options).items()):
        if isinstance(path, ScenarioArgument):
            if path.is_name:
                from hilsim.describe.catalogue import find_scenario

                try:
                    path = Source(find_scenario(path, path.kind))
                except InputError as error:
                    faults += error.faults
                    continue
            setattr(options, name, Path(path))
        if isinstance(path, Source) and (fault := unreadable(path)):
            faults.append(fault)
        elif isinstance(path, Folder) and not os.path.isdir(path):
            faults.append(Fault(str(path), "", "no such folder", "a folder", "Check the path."))
    if faults:
        raise InputError(faults)


def whole(least: int, most: int, such: str = "") -> Callable[[str], int]:
    """A whole number between two bounds."""

    def read(text: str) -> int:
        digits = text.removeprefix("-")
        plain = digits.isascii() and digits.isdecimal() and len(digits) <= 20
        if not plain or not least <= int(text) <= most:
            raise ArgumentTypeError(f"found {text!r}; expected a whole number from {least} to {most}{such}")
        return int(text)

    return read


def number(least: float, most: float, such: str = "") -> Callable[[str], float]:
    """A number between two bounds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise ArgumentTypeError(f"found {text!r}; expected a number from {least:g} to {most:g}{such}")
        return value

    return read


def wholes(least: int, most: int) -> Callable[[str], tuple[int, ...]]:
    """Whole numbers, each once, with commas between them."""
    read_one = whole(least, most)

    def read(text: str) -> tuple[int, ...]:
        try:
            found = tuple(map(read_one, text.split(",")))
        except ArgumentTypeError:
            found = ()
        if not found or len(set(found)) < len(found):
            expected = f"whole numbers from {least} to {most}, each once, with commas between them"
            raise ArgumentTypeError(f"found {text!r}; expected {expected}")
        return found

    return read


def names(text: str) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",") if name.strip()]
