"""One file of acceptance while it is read: its text, what the user states of it, and what its tool's format found."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from hilsim.describe.acceptance import Acceptance, Typed
from hilsim.describe.complaints import validated
from hilsim.describe.figure import Record
from hilsim.describe.json_text import CUT, TextFile
from hilsim.describe.strict_yaml import Document
from hilsim.errors import Fault, ScenarioError

MOST = 1e15  # of any count
AGREE = 0.005  # two statements of one share in a file differ by rounding; by more is a contradiction
DRAFTED = "Add logits.drafted (or --drafted), the number of tokens drafted a round."


class Holder(Record):
    """What a file was found to state, checked by the rules of a scenario's own acceptance."""

    acceptance: Acceptance


@dataclass(frozen=True)
class Found:
    """What a format found: acceptance, its text and rounds where the file names them, and a remark on what was read."""

    acceptance: float | Typed
    rounds: int | None = None
    title: str = ""
    text: str = ""
    temperature: float | None = None
    notes: str = ""


@dataclass(frozen=True)
class LoggedFile(TextFile):
    """A file's name and text; `drafted` is what the user states, None where nothing is stated."""

    drafted: int | None = None

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def refuse(self, place: str, found: str, expected: str, remedy: str = "") -> NoReturn:
        """Raise what is wrong with the file."""
        raise ScenarioError([Fault(self.file, place, found, expected, remedy)])

    def number(self, data: Mapping[str, Any], key: str, place: str, *, least: float = 0, most: float = MOST) -> float:
        """A number of an object. Raises `ScenarioError` where it is none or cannot be."""
        where = f"{place}.{key}" if place else key
        if key not in data:
            self.refuse(place, f"no key {key!r}", f"the number {key}", CUT)
        value = data[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            self.refuse(where, json.dumps(value)[:40], "a number")
        if not least <= value <= most:
            percent = f" ({value / 100:g} if it is in percent)" if most == 1 and 1 < value <= 100 else ""
            self.refuse(where, json.dumps(value)[:40], f"{least:g} to {most:g}{percent}")
        return float(value)

    def figure(self, text: str, place: str) -> float:
        """A number of a log. Raises `ScenarioError` where it is none, or below 0."""
        try:
            found = float(text)
        except ValueError:
            found = -1.0
        if not 0 <= found <= MOST:
            self.refuse(place, repr(text.strip()[:20]), "a number", CUT)
        return found

    def shares(self, data: Mapping[str, Any], key: str, place: str = "") -> tuple[float, ...]:
        """A list of shares by position."""
        found = data[key]
        if not isinstance(found, list) or not found:
            self.refuse(f"{place}.{key}".lstrip("."), json.dumps(found)[:40], "a list of shares, one a position")
        return tuple(
            self.number({f"[{number}]": value}, f"[{number}]", f"{place}.{key}".lstrip("."), most=1)
            for number, value in enumerate(found)
        )

    def block(self, data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        """An object inside another; an empty one where there is none."""
        found = data.get(key)
        return found if isinstance(found, dict) else {}

    def accept(self, place: str, acceptance: object) -> float | Typed:
        """An acceptance as a scenario would take it. Raises `ScenarioError` with the place in this file."""
        try:
            return validated(Holder, Document({"acceptance": acceptance}, {}), self.file).acceptance
        except ScenarioError as error:
            raise ScenarioError([fault.at(place or fault.place) for fault in error.faults]) from None

    def tokens(self, place: str, tokens: float, drafted: float | None = None) -> float | Typed:
        """Tokens a round of so many drafts: as the file has them, else as the user states."""
        count = self.drafts(place, drafted)
        return self.accept(place, {"tokens_a_round": tokens, "drafted": count})

    def drafts(self, place: str, drafted: float | None) -> int:
        """Drafts a round: as the file has them, else as the user states. Raises `ScenarioError` where neither does."""
        if drafted is not None and abs(drafted - round(drafted)) < AGREE * drafted and round(drafted) >= 1:
            if self.drafted not in (None, round(drafted)):
                self.refuse("logits.drafted", str(self.drafted), f"{round(drafted)}, as the file has it, or nothing")
            return round(drafted)
        if self.drafted is None:
            found = "no number of drafts a round" if drafted is None else f"{drafted:.4g} drafts a round on average"
            self.refuse(place, found, "rounds that all draft as many tokens", DRAFTED)
        return self.drafted


def mean_by(weights: Sequence[float], rows: Iterable[Sequence[float]]) -> list[float]:
    """The mean of rows of shares with a weight each; rows that are shorter have 0 beyond their end."""
    table = [list(row) for row in rows]
    width = max(map(len, table))
    padded = [row + [0.0] * (width - len(row)) for row in table]
    total = sum(weights)
    return [
        sum(weight * row[place] for weight, row in zip(weights, padded, strict=True)) / total for place in range(width)
    ]
