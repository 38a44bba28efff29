"""Points of a grid as a table and as a CSV; those that cannot run keep their place and say why."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hilsim.describe.outside import outside_car
from hilsim.show.kinds import BAD
from hilsim.show.numbers import duration
from hilsim.show.sentences import outside_words
from hilsim.study.sweeps import Numbers, Point

WIDTH = 100  # where nobody's terminal says how wide it is
MEASURES = (
    "speedup", "tokens_per_round", "mean_acceptance_length", "draft_acceptance_rate", "time_to_first_token_ms.mean",
    "request_latency_ms.mean", "target_alone_ms.mean", "energy_j", "link_bytes", "memory_bytes",
)  # fmt: skip
ALONE = "target_alone_ms.mean"  # of a request, at the same place over the same link
SAME = 1e-3


def terminal() -> Console:
    """Standard output, wide enough for a table."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=WIDTH)


def plain_table(*heads: str, left: int = 1) -> Table:
    """A table without lines: the first `left` columns are words, the others numbers."""
    table = Table(box=None, pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(head, justify="left" if place < left else "right", no_wrap=place >= left)
    return table


def times(speedup: float, digits: int = 2) -> str:
    """A speed-up, or a dash."""
    return "-" if math.isnan(speedup) else f"{speedup:.{digits}f}"


def marked(speedup: float, best: float) -> Text:
    """A speed-up, the best of its row set off and losses dimmed."""
    return Text(times(speedup), "bold" if speedup == best else "dim" if speedup < 1 else "")


def print_refused(console: Console, points: Iterable[Point], axes: Sequence[str]) -> None:
    """Every reason once, with the places that it keeps from running."""
    by_reason: dict[str, dict[str, None]] = {}
    for point in points:
        if point.why:
            where = ", ".join(str(point.place[axis]) for axis in axes)
            by_reason.setdefault(point.why, {})[where] = None
    for why, places in by_reason.items():
        console.print(f"not here, {'; '.join(places)}: {why}", style="dim")


def print_cautions(console: Console, points: Sequence[Point]) -> None:
    """Warnings: roles outside the car, and speed-ups that are not over the same target alone, so cannot be compared."""
    places = dict.fromkeys(role for point in points if point.setup is not None for role in outside_car(point.setup))
    if places:
        console.print(outside_words(list(places)), style=f"bold {BAD}")
    alone = [point.alone_ms for point in points if not math.isnan(point.alone_ms)]
    if alone and max(alone) > (1 + SAME) * min(alone):
        told = f"{duration(min(alone))} to {duration(max(alone))} a request"
        console.print(
            f"Each speed-up is over the target alone at its own place, model, link and text, which takes {told}: "
            "a larger one is not a quicker answer (--csv has the times).",
            style="dim",
        )


def write_csv(points: Sequence[Point], file: TextIO, *more: str) -> None:
    """One row a point: its place, its measures and `more` of them, and why there are none."""
    axes = list(dict.fromkeys(axis for point in points for axis in point.place))
    names = [*MEASURES, *more]
    points = [point if point.why else point.adding(**{ALONE: point.alone_ms}) for point in points]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*axes, *names, "why_not"])
    for point in points:
        cells = [*(point.place.get(axis, "") for axis in axes), *(point.numbers.get(name) for name in names), point.why]
        writer.writerow([spelled(cell) for cell in cells])


def spelled(cell: str | float | None) -> str | float:
    """A cell of the CSV; what is no number is left empty."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return f"{cell:.6g}" if isinstance(cell, float) else cell


def telling(words: str) -> Callable[[str], None]:
    """Says once, on standard error, what takes long; for functions that tell how far they are."""
    told: list[str] = []

    def say(_: str) -> None:
        if not told:
            told.append(words)
            print(f"{words} ...", file=sys.stderr, flush=True)

    return say


def crossing(across: Sequence[float], values: Sequence[float], level: float, *, log: bool = False) -> float | None:
    """Where values that rise along `across` first reach a level, straight between the points; None where never."""
    place = (math.log, math.exp) if log else (float, float)
    for index, value in enumerate(values):
        if not value >= level:
            continue
        if index == 0 or math.isnan(values[index - 1]):
            return across[index]
        low, high = place[0](across[index - 1]), place[0](across[index])
        share = (level - values[index - 1]) / (value - values[index - 1])
        return place[1](low + share * (high - low))
    return None


def shown(numbers: Numbers, name: str, how: str) -> str:
    """A measure, or a dash."""
    value = numbers.get(name)
    return "-" if value is None else format(value, how)
