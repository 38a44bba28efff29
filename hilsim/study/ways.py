"""Ways to a speed-up: targets, compiled widths and links, each with the least acceptance that reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from hilsim.describe.setup import Setup
from hilsim.runs.evaluate import Refused, load_variant
from hilsim.study.links import COLD
from hilsim.study.sweeps import Place, Rows, SweepPoint, best, crossing

ROWS = ("accept=ratio", "sampling={temperature: 1.0}")  # what payloads other than token ids need


def ways(
    file: Path, overrides: Sequence[str], targets: Sequence[str], widths: Sequence[Sequence[int]], links: Sequence[str]
) -> list[tuple[Place, Setup | Refused]]:
    """Every target compiled for every set of widths, over every link, which may have a payload: LINK:PAYLOAD."""
    found: list[tuple[Place, Setup | Refused]] = []
    for target, some, link in product(targets, widths, links):
        name, _, payload = link.partition(":")
        changes = [f"target.model={target}", f"target.widths={list(some)}", f"link={name}"]
        if payload:
            changes += COLD if payload == "token_ids" else (f"payload={payload}", *ROWS)
        place = {"target": target, "widths": " ".join(map(str, some)), "link": link}
        found.append((place, load_variant(file, [*overrides, *changes])))
    return found


def needed(rows: Rows, level: float) -> tuple[float, int] | None:
    """The least acceptance that reaches a speed-up at the best length, and that length; None where none does."""
    acceptances = [float(row[0].place["acceptance"]) for row in rows]
    found = crossing(acceptances, [best(row).speedup for row in rows], level)
    if found is None:
        return None
    first = next(row for row, acceptance in zip(rows, acceptances, strict=True) if acceptance >= found - 1e-12)
    return found, best(first).length


def easiest(maps: Sequence[Rows], level: float) -> dict[str, tuple[Place, float, int] | None]:
    """By target the way that reaches a speed-up at the least acceptance (to two digits), with that and its length."""
    found: dict[str, tuple[Place, float, int] | None] = {}
    for rows in maps:
        place = rows[0][0].place
        target, reached = str(place["target"]), needed(rows, level)
        known = found.setdefault(target, None)
        if reached is not None and (known is None or round(reached[0], 2) < round(known[1], 2)):
            found[target] = (place, *reached)
    return found


def losing(maps: Sequence[Rows]) -> SweepPoint | None:
    """Of the ways that are slower than the target alone at their best length, the point of the highest acceptance."""
    tops = [best(row) for rows in maps for row in rows]
    return max((top for top in tops if top.speedup < 1), key=lambda top: float(top.place["acceptance"]), default=None)
