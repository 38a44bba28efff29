"""Instants of questions from a file: seconds since the start in the first column of a CSV, in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from hilsim.describe.conversation import MOST_FAULTS
from hilsim.errors import Fault, ScenarioError
from hilsim.files import read_text

EXPECTED = "seconds since the start of the trip, in order"


def read_instants(path: Path) -> tuple[float, ...]:
    """The instants of an arrival file. Raises `InputError` with the line of every fault.

    A first line that is no number is a heading; empty lines and those that begin with # are left out.
    """
    found: list[float] = []
    faults: list[Fault] = []
    first = True
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        text = line.partition(",")[0].strip().strip('"')
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        instant = as_seconds(text)
        if instant is None and first and any(letter.isalpha() for letter in text) and text.lower() not in ODD:
            first = False
            continue
        first = False
        if why := misplaced(text, instant, found):
            faults.append(Fault(str(path), f"line {number}", why, EXPECTED))
        elif instant is not None:
            found.append(instant)
    if not found and not faults:
        faults.append(Fault(str(path), "", "no instants", EXPECTED, "Write one a line."))
    if faults:
        raise ScenarioError(faults[:MOST_FAULTS])
    return tuple(found)


ODD = ("nan", "inf", "-inf", "infinity", "-infinity")  # words that Python reads as numbers


def as_seconds(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def misplaced(text: str, instant: float | None, before: Sequence[float]) -> str:
    """What is wrong with an instant after those before it, or ""."""
    if instant is None:
        return repr(text)
    if instant < 0:
        return f"{text}, before the start"
    return f"{text} after {before[-1]:g}" if before and instant < before[-1] else ""
