"""Points of a grid as tables; points that cannot run stay in their place, with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from hilsim.describe.outside import outside_car
from hilsim.show.kinds import BAD
from hilsim.show.numbers import duration
from hilsim.show.sentences import outside_sentence
from hilsim.show.table import Table
from hilsim.study.sweeps import LENGTH, SweepPoint

MEASURES = (
    "speedup", "tokens_per_round", "mean_acceptance_length", "draft_acceptance_rate", "time_to_first_token_ms.mean",
    "request_latency_ms.mean", "target_alone_ms.mean", "energy_j", "link_bytes", "memory_bytes",
)  # fmt: skip
ALONE = "target_alone_ms.mean"  # of a request, at the same place over the same link
SAME = 1e-3


def points_table(points: Sequence[SweepPoint], *more: str, usual: Sequence[str] = MEASURES) -> Table:
    """One row a point: its place, its `usual` measures and `more` of them, and why there are none."""
    axes = list(dict.fromkeys(axis for point in points for axis in point.place))
    names = [*usual, *more]
    points = [point if point.why else point.adding(**{ALONE: point.alone_ms}) for point in points]
    rows = [
        [*map(point.place.get, axes), *(in_whole_bytes(name, point.number(name)) for name in names), point.why]
        for point in points
    ]
    return Table([*axes, *names, "why_not"], rows)


def in_whole_bytes(name: str, value: float) -> float:
    """A measure; of one in bytes every digit counts, so that no table rounds it."""
    return round(value) if name.endswith("bytes") and not math.isnan(value) else value


def length_of(point: SweepPoint) -> Any:
    """Its number of drafted tokens, where it has run."""
    return None if point.why else point.place.get(LENGTH)


def times(speedup: float) -> str:
    """A speed-up, or a dash."""
    return "-" if math.isnan(speedup) else f"{speedup:.2f}"


def marked(speedup: float, best: float) -> Text:
    """A speed-up, the best of its row set off and losses dimmed."""
    return Text(times(speedup), "bold" if speedup == best else "dim" if speedup < 1 else "")


def print_outside(console: Console, roles: Iterable[str]) -> None:
    """Warns of roles outside the car."""
    if outside := list(roles):
        console.print(outside_sentence(outside), style=f"bold {BAD}")


def print_refused(console: Console, points: Iterable[SweepPoint], axes: Sequence[str]) -> None:
    """Every reason once, with the places that it rules out."""
    by_reason: dict[str, dict[str, None]] = {}
    for point in points:
        if point.why:
            where = ", ".join(str(point.place[axis]) for axis in axes)
            by_reason.setdefault(point.why, {})[where] = None
    for why, places in by_reason.items():
        console.print(f"not here, {'; '.join(places)}: {why}", style="dim")


def print_cautions(console: Console, points: Sequence[SweepPoint]) -> None:
    """Warnings: roles outside the car, and speed-ups that are not over the same target alone, so cannot be compared."""
    setups = [point.setup for point in points if point.setup is not None]
    print_outside(console, dict.fromkeys(role for setup in setups for role in outside_car(setup)))
    alone = [point.alone_ms for point in points if not math.isnan(point.alone_ms)]
    if alone and max(alone) > (1 + SAME) * min(alone):
        takes = f"{duration(min(alone))} to {duration(max(alone))} a request"
        console.print(
            f"Each speed-up is over the target alone at its own place, model, link and text, which takes {takes}: "
            "a larger one is not a quicker answer (--csv has the times).",
            style="dim",
        )
