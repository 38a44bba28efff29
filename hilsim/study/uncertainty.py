"""Error bars: the run's timing replayed with figures drawn from their ranges, and with each figure alone at its ends.

A figure with a range is drawn below its value as often as above it, evenly on either side, so its value stays the
median; a figure without one stays. Draws are independent of each other: where one cause moves two figures (a driving
stack that takes memory and GPU alike), the true interval is wider.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from hilsim.describe.figure import Figure, Record
from hilsim.describe.figures import figures, with_figures
from hilsim.describe.load import Placed, PlacedNetwork, Setup

R = TypeVar("R", bound=Record)
P = TypeVar("P", Placed, PlacedNetwork)
Headline = dict[str, float]
Replay = Callable[[Setup], Headline]
LINK = "link"


@dataclass(frozen=True)
class Mover:
    """One figure alone at the ends of its range, and the headline number there."""

    figure: str
    at_low: float
    at_high: float

    @property
    def swing(self) -> float:
        return abs(self.at_high - self.at_low)


@dataclass(frozen=True)
class Interval:
    """A headline number: as run, its middle 90 % over the draws, and what moves it, the strongest first."""

    nominal: float
    low: float
    median: float
    high: float
    movers: tuple[Mover, ...]


@dataclass(frozen=True)
class Uncertainty:
    """All headline numbers over `draws` sets of figures; `ranged` of `in_use` figures have a range."""

    draws: int
    in_use: int
    ranged: tuple[str, ...]
    intervals: dict[str, Interval]


def uncertainty(
    setup: Setup, replay: Replay, draws: int, seed: int, progress: Callable[[int, int], None] = lambda done, of: None
) -> Uncertainty:
    """Replay `draws` sets of figures, then each ranged figure at its two ends."""
    used = in_use(setup)
    ranged = {path: figure for path, figure in used.items() if figure.range is not None}
    chance = np.random.Generator(np.random.Philox(seed))
    total, done = draws + 2 * len(ranged), 0
    nominal = replay(setup)

    def replayed(values: Mapping[str, float]) -> Headline:
        nonlocal done
        found = replay(with_values(setup, {path: (ranged[path], value) for path, value in values.items()}))
        done += 1
        progress(done, total)
        return found

    drawn = [replayed({path: draw(figure, chance) for path, figure in ranged.items()}) for _ in range(draws)]
    alone = {path: [replayed({path: end}) for end in ends(figure)] for path, figure in ranged.items()}
    intervals = {}
    for name, value in nominal.items():
        movers = [Mover(path, at_low[name], at_high[name]) for path, (at_low, at_high) in alone.items()]
        movers.sort(key=lambda mover: -mover.swing)
        low, median, high = np.quantile([one[name] for one in drawn], (0.05, 0.5, 0.95))
        intervals[name] = Interval(value, float(low), float(median), float(high), tuple(m for m in movers if m.swing))
    return Uncertainty(draws, len(used), tuple(ranged), intervals)


def as_json(found: Uncertainty, movers: int = 3) -> dict[str, Any]:
    """As the document of a run has it: the interval of each headline number and what moves it."""
    return {
        "draws": found.draws,
        "figures_in_use": found.in_use,
        "figures_drawn": list(found.ranged),
        "interval": "5 % to 95 % of the draws",
        "headline": {
            name: {
                "nominal": interval.nominal,
                "low": interval.low,
                "median": interval.median,
                "high": interval.high,
                "moved_most_by": [
                    {"figure": mover.figure, "at_low": mover.at_low, "at_high": mover.at_high}
                    for mover in interval.movers[:movers]
                ],
            }
            for name, interval in found.intervals.items()
        },
    }


def ends(figure: Figure) -> tuple[float, float]:
    """The ends of a figure's range, or its value twice."""
    return figure.range if figure.range is not None else (figure.value, figure.value)


def draw(figure: Figure, chance: np.random.Generator) -> float:
    """A value inside the range: below and above the figure's value equally often."""
    low, high = ends(figure)
    return float(chance.uniform(low, figure.value) if chance.random() < 0.5 else chance.uniform(figure.value, high))


def in_use(setup: Setup) -> dict[str, Figure]:
    """Figures that a run's times and energy rest on: `CHIP.path` and `link.path`.

    Of a unit only those in use, of its precisions only the placed ones; none where a role has a table of times.
    """
    found: dict[str, Figure] = {}
    placed = [role for role in (setup.target, setup.draft) if role is not None]
    for role in placed:
        wanted = [f"units.{role.placement.unit}.", "idle_power"]
        other = f"units.{role.placement.unit}.precisions."
        mine = f"{other}{role.placement.precision}."
        for path, figure in figures(role.chip).items():
            outside = path.startswith(other) and not path.startswith(mine)
            # Sizes decide whether it fits, not how long it takes; a peak only what a family derives from it.
            outside |= path.endswith(("reserve", "limit", "peak_operation_rate", "clock", "operator_overhead"))
            outside |= ".fallback." in path
            timed = role.placement.timer is None or path.endswith("power")
            if isinstance(figure, Figure) and timed and path.startswith(tuple(wanted)) and not outside:
                found[f"{role.chip.name}/{path}"] = figure
    if setup.link is not None:
        found |= {
            f"{LINK}/{path}": figure for path, figure in figures(setup.link).items() if isinstance(figure, Figure)
        }
    return found


def with_values(setup: Setup, values: Mapping[str, tuple[Figure, float]]) -> Setup:
    """The setup with some figures at other values; both roles see the same chip."""
    changed: dict[str, dict[str, Figure]] = {}
    for path, (figure, value) in values.items():
        owner, _, inside = path.partition("/")
        changed.setdefault(owner, {})[inside] = figure.model_copy(update={"value": value, "range": None})
    chips = {name: moved(chip, changed.get(name, {})) for name, chip in setup.chips.items()}

    def again(part: P) -> P:
        chip = chips[part.chip.name]
        return replace(part, chip=chip, unit=chip.units[part.unit_name])

    return replace(
        setup,
        target=again(setup.target),
        draft=None if setup.draft is None else again(setup.draft),
        networks=tuple(map(again, setup.networks)),
        link=None if setup.link is None else moved(setup.link, changed.get(LINK, {})),
    )


def moved(record: R, changed: Mapping[str, Figure]) -> R:
    """A record with some figures changed; itself where there are none."""
    return with_figures(record, changed) if changed else record
