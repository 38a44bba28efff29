"""What a script is asked: a scenario, `--set`, lists of numbers; refused with what was found and what was expected."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from hilsim.commands.arguments import source
from hilsim.commands.outputs import add_outputs
from hilsim.places import DATA

MOST = 200  # values in a list


def question(text: str | None, scenario: str) -> argparse.ArgumentParser:
    """A parser with what every question has: SCENARIO, --set, --plot, --csv."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = DATA / "scenarios" / f"{scenario}.yaml"
    parser.add_argument("scenario", nargs="?", type=source, default=default, help=f"default: scenarios/{scenario}.yaml")
    parser.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], help="change one value; repeatable")
    add_outputs(parser)
    return parser


def numbers(low: float, high: float) -> Callable[[str], tuple[float, ...]]:
    """Rising numbers between two bounds: a list `0.3,0.5`, or `FROM:TO:STEP`."""

    def read(text: str) -> tuple[float, ...]:
        try:
            found = stepped(text) if ":" in text else tuple(float(part) for part in text.split(","))
        except ValueError:
            found = ()
        if not 0 < len(found) <= MOST or list(found) != sorted(set(found)) or not low <= found[0] <= found[-1] <= high:
            expected = f"rising numbers from {low:g} to {high:g} as 0.5,1 or FROM:TO:STEP, {MOST} at most"
            raise argparse.ArgumentTypeError(f"found {text!r}; expected {expected}")
        return found

    return read


def stepped(text: str) -> tuple[float, ...]:
    """FROM:TO:STEP, its end included; raises `ValueError`."""
    begin, end, step = (float(part) for part in text.split(":"))
    if not step > 0 or not (end - begin) / step <= MOST:
        raise ValueError(text)
    return tuple(round(begin + place * step, 10) for place in range(int((end - begin) / step + 1e-9) + 1))


def whole(low: int, high: int) -> Callable[[str], tuple[int, ...]]:
    """Rising whole numbers between two bounds: `1,2,5`, or `1:10:1`."""
    within = numbers(low, high)

    def read(text: str) -> tuple[int, ...]:
        found = within(text)
        if any(value != int(value) for value in found):
            raise argparse.ArgumentTypeError(f"found {text!r}; expected whole numbers from {low} to {high}")
        return tuple(map(int, found))

    return read


def one(low: int, high: int) -> Callable[[str], int]:
    """A single whole number."""

    def read(text: str) -> int:
        if not text.isascii() or not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number from {low} to {high}")
        return int(text)

    return read


def names(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    found = tuple(part.strip() for part in text.split(","))
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"found {text!r}; expected names, each once, with commas between them")
    return found


def width_sets(text: str) -> tuple[tuple[int, ...], ...]:
    """Sets of compiled widths: `1-8-128,1-128`."""
    rising = whole(1, 4096)
    return tuple(rising(part.replace("-", ",")) for part in names(text))
