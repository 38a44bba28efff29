"""Contenders under common draws of what chips and links leave open: who is first how often."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hilsim.describe.figure import Figure
from hilsim.describe.setup import Setup
from hilsim.progress import counting
from hilsim.runs.evaluate import Numbers
from hilsim.runs.replay import forget_costs, numbers_of
from hilsim.study.ranking import RankingObjective
from hilsim.study.step_classes import generator_of_scores, scores_for, step_classes
from hilsim.study.uncertainty import LINK, draw, in_use, with_values

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """`draws` sets of all ranged figures that any contender uses, and of how far its steps are off by class.

    A link's figures are its own, by its name.
    """

    contenders: tuple[Setup, ...]
    ranged: Mapping[str, Figure]
    draws: int
    seed: int

    def setups(self) -> Iterator[list[Setup]]:
        """The contenders under one draw after another."""
        chance, off = np.random.Generator(np.random.Philox(self.seed)), generator_of_scores(self.seed)
        classes = [step_classes(setup) for setup in self.contenders]
        keys = sorted({key for known in classes for key in known.keys})
        for _ in range(self.draws):
            values = {path: draw(figure, chance) for path, figure in self.ranged.items()}
            scores = scores_for(keys, off)
            yield [
                known.drawn(
                    with_values(
                        known.setup,
                        {path: (figure, values[own]) for own, (path, figure) in ranged_of(known.setup).items()},
                    ),
                    scores,
                )
                for known in classes
            ]


def drawn_for(contenders: Sequence[Setup], draws: int, seed: int) -> Drawn:
    """Draws that hold for all contenders."""
    found: dict[str, Figure] = {}
    for setup in contenders:
        found |= {own: figure for own, (_, figure) in ranged_of(setup).items()}
    return Drawn(tuple(contenders), dict(sorted(found.items())), draws, seed)


def ranged_of(setup: Setup) -> dict[str, tuple[str, Figure]]:
    """A set-up's ranged figures: by names that are the same for all contenders, their paths in this one."""
    link = "" if setup.link is None else setup.link.name
    return {
        f"{LINK} {link}{path.removeprefix(LINK)}" if path.startswith(f"{LINK}/") else path: (path, figure)
        for path, figure in in_use(setup).items()
        if figure.range is not None
    }


@dataclass(frozen=True)
class RankStability:
    """Shares of the draws: `ranks` (contender, rank), `beats` (contender, other); quantiles of each one's cost."""

    ranks: Floats
    beats: Floats
    low: Floats
    median: Floats
    high: Floats

    def mean_rank(self, contender: int) -> float:
        """From 1 on."""
        return float((self.ranks[contender] * (1 + np.arange(len(self.ranks)))).sum())

    def intervals(self, wanted: RankingObjective) -> tuple[Floats, Floats, Floats]:
        """Low end, median and high end by contender as values of the objective, the smaller number first."""
        low, median, high = (wanted.cost(costs) for costs in (self.low, self.median, self.high))
        return np.minimum(low, high), median, np.maximum(low, high)


def rank_stability(costs: Floats) -> RankStability:
    """From what each contender costs (draws, contenders), less being better; of equals the earlier is ahead.

    Costs are those of one objective, in its unit: speed-ups over different baselines are none.
    """
    order = np.argsort(costs, axis=1, kind="stable")
    places = np.argsort(order, axis=1, kind="stable")
    count = costs.shape[1]
    ranks = np.array([[(places[:, one] == rank).mean() for rank in range(count)] for one in range(count)])
    beats = np.array([[(costs[:, one] < costs[:, other]).mean() for other in range(count)] for one in range(count)])
    low, median, high = np.quantile(costs, (0.05, 0.5, 0.95), axis=0)
    return RankStability(ranks, beats, low, median, high)


def cost_of(wanted: RankingObjective, numbers: Numbers) -> float:
    """An objective's value, signed so that less is better; infinite where there is none."""
    value = numbers.get(wanted.measure)
    return math.inf if value is None else float(wanted.cost(np.array(value)))


def costs_of(drawn: Drawn, wanted: RankingObjective) -> Floats:
    """What each contender costs under each draw (draws, contenders)."""
    costs = []
    for setups in counting("draws", drawn.setups(), drawn.draws):
        costs.append([cost_of(wanted, numbers_of(setup)) for setup in setups])
        forget_costs()
    return np.array(costs)
