"""Rank stability on the terminal: contenders by name, and how often each of them has which rank."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from string import ascii_uppercase

from hilsim.show.explore import number
from hilsim.show.numbers import percent
from hilsim.show.table import Table
from hilsim.study.rank_stability import RankStability
from hilsim.study.ranking import RankingObjective
from hilsim.study.sweeps import SweepPoint

LONGEST = 40  # characters of a name in the table
SURE = 0.9  # of the draws: then the ranking is said to hold


def name_of(sets: Sequence[str], contenders: Sequence[Sequence[str]]) -> str:
    """A contender by what it changes and not every other does, all of it where that is nothing.

    A policy is named without its key and braces, anything else as it was given.
    """
    parts = []
    for text in [text for text in sets if not all(text in other for other in contenders)] or sets:
        key, _, value = text.partition("=")
        inside = value.strip("{} ").removeprefix("name: ").replace("draft_tokens: ", "").replace(": ", " ")
        parts.append(inside.replace(",", "") if key == "policy" and value.startswith("{") else text)
    return " ".join(parts)


def short_names(ran: Sequence[SweepPoint]) -> list[str]:
    """Contenders by their names, or by letters where a name is longer than a column."""
    names = [str(each.place["contender"]) for each in ran]
    letters = (f"{letter}{number or ''}" for number in count() for letter in ascii_uppercase)
    return [name if len(name) <= LONGEST else next(letters) for name in names]


def stability_table(
    ran: Sequence[SweepPoint], names: Sequence[str], found: RankStability, wanted: RankingObjective
) -> Table:
    """A row a contender, in the order of the figures as they stand."""
    lows, _, highs = found.intervals(wanted)
    rows = []
    for place, each in enumerate(ran):
        beats = None if place == len(ran) - 1 else percent(float(found.beats[place, place + 1]))
        interval = f"{number(wanted, float(lows[place]))} to {number(wanted, float(highs[place]))}"
        first, mean = percent(float(found.ranks[place, 0])), f"{found.mean_rank(place):.1f}"
        own = number(wanted, each.number(wanted.measure))
        rows.append([names[place], place + 1, own, interval, first, mean, beats, each.speedup])
    head = f"{wanted.name}, {wanted.unit}"
    return Table(["contender", "rank", head, "interval", "first", "mean rank", "beats next", "x own"], rows)


def verdict(names: Sequence[str], found: RankStability) -> str:
    """A sentence: whether the first stays first, and how many neighbours stay in order."""
    first = float(found.ranks[0, 0])
    sure = sum(float(found.beats[place, place + 1]) >= SURE for place in range(len(names) - 1))
    held = f"{sure} of {len(names) - 1} neighbours stay in order in {SURE:.0%} of the draws"
    if first >= SURE:
        return f"The first place is stable: {names[0]} is first in {first:.0%} of the draws; {held}."
    other = max(range(1, len(names)), key=lambda place: float(found.ranks[place, 0]))
    rival = f"{names[other]} in {float(found.ranks[other, 0]):.0%}"
    return f"The first place is not stable: {names[0]} is first in {first:.0%} of the draws, {rival}; {held}."
