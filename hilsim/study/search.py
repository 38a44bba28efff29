"""The best points of a grid without running all of it: Optuna chooses cells, a batch at a time.

Trials are chosen from what the trials before them brought, in a fixed order, by seeded samplers. So the same trials
come up however many workers run them, and after a kill they come up again and find their points in the store: nothing
of Optuna's own is stored. An axis of rising numbers is searched by its places, in order; another one has no order. A
cell with a refused or failed point counts as one that breaks a constraint, so that the sampler avoids similar ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hilsim.describe.study import Search
from hilsim.study.points import Column, Grid

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

Places = tuple[int, ...]
Values = tuple[float, ...]
Evaluate = Callable[[list[Places]], Sequence[Values | None]]
Goal = Literal["min", "max"]
FIRST_RANDOM = 10  # trials before TPE has something to go by
UNFIT = "refused or failed"


@dataclass(frozen=True)
class SearchResult:
    """What a search tried: every cell once, with its objectives, or None where it has none."""

    tried: dict[Places, Values | None]
    trials: int
    goals: tuple[Goal, ...]

    @property
    def front(self) -> list[Places]:
        """Cells that no other is better than in one objective and as good in all; with one objective, the best."""
        scored = {places: self.losses(values) for places, values in self.tried.items() if values is not None}
        best = [
            places
            for places, mine in scored.items()
            if not any(theirs != mine and all(map(_no_more, theirs, mine)) for theirs in scored.values())
        ]
        return sorted(best, key=lambda places: (scored[places], places))

    def losses(self, values: Values) -> Values:
        """Objectives as numbers of which less is better."""
        return tuple(value if goal == "min" else -value for value, goal in zip(values, self.goals, strict=True))


def _no_more(mine: float, other: float) -> bool:
    return mine <= other


def search(
    grid: Grid, how: Search, goals: Sequence[Goal], evaluate: Evaluate, reached: Callable[[int], None]
) -> SearchResult:
    """Run a search. `evaluate` gets the new cells of a batch, each once, and returns their objectives in that order.

    `reached` is called with the number of trials so far.
    """
    import optuna
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [StudyDirection.MINIMIZE if goal == "min" else StudyDirection.MAXIMIZE for goal in goals]
    study = optuna.create_study(directions=directions, sampler=sampler_of(how))
    heads = [f"{place:03}" for place in range(len(grid.columns))]  # names of one's own could be alike
    space = {head: distribution(column) for head, column in zip(heads, grid.columns, strict=True)}
    tried: dict[Places, Values | None] = {}
    for begin in range(0, how.trials, how.batch):
        trials = [study.ask(space) for _ in range(min(how.batch, how.trials - begin))]
        cells = [tuple(int(trial.params[head]) for head in heads) for trial in trials]
        fresh = [cell for cell in dict.fromkeys(cells) if cell not in tried]
        tried |= zip(fresh, evaluate(fresh), strict=True)
        for trial, cell in zip(trials, cells, strict=True):
            values = tried[cell]
            trial.set_constraint(UNFIT, 1.0 if values is None else 0.0)
            # What breaks a constraint is not compared by its values; some there must be.
            study.tell(trial, [0.0] * len(goals) if values is None else list(values), TrialState.COMPLETE)
        reached(begin + len(trials))
    return SearchResult(tried, how.trials, tuple(goals))


def sampler_of(how: Search) -> BaseSampler:
    """The seeded sampler that a study names."""
    from optuna.samplers import NSGAIISampler, TPESampler

    if how.sampler == "nsga2":
        # Generations small enough that a short search has several of them.
        return NSGAIISampler(population_size=max(4, min(50, how.trials // 6)), seed=how.seed)
    return TPESampler(seed=how.seed, n_startup_trials=FIRST_RANDOM, multivariate=True)


def distribution(column: Column) -> BaseDistribution:
    """How an axis is searched: by the places of its choices."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    last = len(column.rows) - 1
    return IntDistribution(0, last) if column.rising else CategoricalDistribution(list(range(last + 1)))
