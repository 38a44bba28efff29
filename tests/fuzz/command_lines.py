"""Command lines of every command that the parser knows, with some of their words lost, added or strange.

Options and values are taken from the parser itself, so that a new command is included by itself. One that is not known
here as quick is given an option that no command has besides: its words are read and refused, and no long work begins.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hilsim.commands.main import COMMANDS, parser_of
from hilsim.places import CODE as PROJECT
from tests.fuzz import commands
from tests.fuzz.descriptions import CAMPAIGN, SCENARIO, STUDY
from tests.fuzz.kind import Input, Kind
from tests.fuzz.mutate import changed_words

QUICK = {
    "check",
    "chip",
    "acceptance",
    "modes",
    "simulate",
    "study",
    "campaign",
    "import",
    "calibrate",
    "explain",
    "new",
}
REFUSED = "--no-such-option"
STRANGE = (
    "", "~", "$HOME", "$NOT_SET_ANYWHERE", "\0", "x" * 300, "a/" * 3000, "**", "/dev/zero", "/dev/random", "/dev/stdin",
    "/proc/self/mem", "..", ".", "-1", "0", "1e-320", "1e999", "nan", "9" * 5000, "18446744073709551616", "\ud800",
    "tcp://", "tcp://[::1", "a=b", "=", "[", "policy={", "target=5", "policy.draft_tokens=1e400", "link=1000BASE-T1",
    "SA8295P", "agx-orin-64gb@MAXN", "8295@", "@", "nope", "npu", "--", "-", "--json", "--seed", "--set",
)  # fmt: skip
# What a value may be, by how the help names it; anything else is one of VALUES.
BY_NAME: dict[str, tuple[str, ...]] = {
    "SCENARIO": ("SCENARIO", "paper_table"), "STUDY": ("STUDY",), "CAMPAIGN": ("CAMPAIGN",),
    "KEY": ("draft_tokens", "scenario", "chip:memory"),
    "KIND": ("scenario", "chip", "link"), "FILE": ("FIGURES", "OUT/x.csv", "OUT/x.png"),
    "DIR": ("OUT", "."), "N": ("1", "2", "3"), "PATH=VALUE": ("seed=2", "policy.draft_tokens=3"),
    "NAME": ("sa8295p", "llama-3.2-1b", "npu", "w4"), "NAME|FILE": ("eagle-llama-3.1-8b/sharegpt", "FIGURES"),
    "NAME=N": ("batch=1",), "NAMES": ("memory,energy", "sa8295p"), "MS": ("10",), "MIB": ("100",), "N,N": ("1,2",),
    "MEASURE<=X": ("energy_j<=5",), "HOST:PORT": ("127.0.0.1:0", "127.0.0.1:x"), "ADDRESS": ("tcp://127.0.0.1:9",),
    "tcp://HOST:PORT": ("tcp://127.0.0.1:9",), "KEY=VALUE": ("a=b",), "[NAME=]PATH": ("toy=FIGURES",),
    "GMACS,PARAMS_M,OPERATORS": ("1,2,3",), "TARGET,DRAFT": ("tcp://127.0.0.1:9,tcp://127.0.0.1:9",),
}  # fmt: skip
VALUES = ("1", "x", "FIGURES", "SCENARIO")
FIGURES = PROJECT / "chips/measurements/example.csv"


@cache
def parsers() -> dict[tuple[str, ...], argparse.ArgumentParser]:
    """Every command, by its words; those that have commands of their own are left to these."""
    return dict(leaves((), parser_of(COMMANDS, "hilsim")))


def leaves(
    words: tuple[str, ...], parser: argparse.ArgumentParser
) -> Iterator[tuple[tuple[str, ...], argparse.ArgumentParser]]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in inner:
        for name, below in action.choices.items():
            yield from leaves((*words, name), below)
    if not inner:
        yield words, parser


def value_of(action: argparse.Action, chance: random.Random) -> str:
    """A value that an option or argument may have."""
    if action.choices is not None:
        return str(chance.choice(list(action.choices)))
    return chance.choice(BY_NAME.get(str(action.metavar), VALUES))


def words_of(command: tuple[str, ...], chance: random.Random, share: float = 0.2) -> list[str]:
    """A command with what it requires, and a share of its options."""
    parser = parsers()[command]
    words = list(command)
    for action in parser._actions:
        if action.option_strings:
            if not action.required and (
                action.help == argparse.SUPPRESS or action.dest == "help" or chance.random() >= share
            ):
                continue
            words.append(action.option_strings[0])
        if action.nargs != 0:
            words.append(value_of(action, chance))
    return words


def command_line(chance: random.Random) -> Input:
    command = chance.choice(sorted(parsers()))
    words = words_of(command, chance)
    if chance.random() < 0.8:
        words = changed_words(words, STRANGE, chance)
    return "words.json", json.dumps(words).encode()


def run_words(path: Path) -> None:
    """A command line, given as JSON, with its placeholders filled in by files that it may overwrite."""
    with tempfile.TemporaryDirectory(prefix="hilsim-fuzz-") as folder:
        files = {
            "SCENARIO": "scenario.yaml",
            "STUDY": "study.yaml",
            "CAMPAIGN": "campaign.yaml",
            "FIGURES": "figures.csv",
        }
        places = {name: Path(folder) / file for name, file in files.items()}
        places["SCENARIO"].write_text(SCENARIO)
        places["STUDY"].write_text(STUDY.replace("scenarios/paper_table.yaml", "scenario.yaml"))
        places["CAMPAIGN"].write_text(CAMPAIGN.replace("scenarios/paper_table.yaml", "scenario.yaml"))
        places["FIGURES"].write_bytes(FIGURES.read_bytes())
        words = []
        for word in json.loads(path.read_bytes()):
            for name, place in places.items():
                word = word.replace(name, str(place))
            words.append(word)
        if not words or words[0] not in QUICK:
            words.append(REFUSED)
        elif words[0] in ("study", "campaign"):
            words += ["--workers", "1"]  # in this process, which has the limits
        commands.run(words, path)


KINDS = [Kind("command line", command_line, run_words, 400, (0.0, 0.6))]
