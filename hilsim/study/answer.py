"""The result of an exploration: what meets the constraints, ranked; the Pareto set; and the best for each choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hilsim.study.placements import AXES, TimedConfigurations
from hilsim.study.ranking import Constraint, RankingObjective, front
from hilsim.study.space import NOWHERE, Choice, Space

Ints = npt.NDArray[np.int64]
ON_CHIP = Choice("on-chip", ("link=on-chip",))
NO_DRAFT = Choice("none", ("draft=null", "link=null"), {"model": "none", "place": "", "precision": ""})


@dataclass(frozen=True)
class Best:
    """The best configuration with one value of a choice."""

    value: str
    place: int
    cost: float


@dataclass(frozen=True)
class Answer:
    """An exploration. `ranked` are places of those that meet the constraints, best first; `pareto` the set of them."""

    space: Space
    found: TimedConfigurations
    objective: RankingObjective
    against: tuple[RankingObjective, ...]
    constraints: tuple[Constraint, ...]
    ranked: Ints
    pareto: Ints
    broken: Counter[str]

    @staticmethod
    def of(
        space: Space,
        found: TimedConfigurations,
        objective: RankingObjective,
        against: Sequence[RankingObjective],
        constraints: Sequence[Constraint],
    ) -> Answer:
        """Rank what was found."""
        good = np.ones(len(found), dtype=bool)
        broken: Counter[str] = Counter()
        for one in constraints if len(found) else ():
            met = one.met(found.measures)
            broken[f"does not meet {one}"] = int((good & ~met).sum())
            good &= met
        places = np.flatnonzero(good)
        objectives = [objective, *(other for other in against if other != objective)]
        if not len(places):
            return Answer(space, found, objective, tuple(objectives[1:]), tuple(constraints), places, places, broken)
        costs = np.stack([np.nan_to_num(one.of(found.measures)[places]) for one in objectives], axis=1)
        # Of equals the one that takes less of everything else that is wanted, then the first.
        ranked = places[np.lexsort(costs.T[::-1])]
        pareto = places[front(costs)]
        return Answer(space, found, objective, tuple(objectives[1:]), tuple(constraints), ranked, pareto, broken)

    @property
    def objectives(self) -> tuple[RankingObjective, ...]:
        """All that were requested, in that order."""
        return (self.objective, *self.against)

    def choices(self, place: int) -> dict[str, Choice]:
        """The choices of a configuration by axis."""
        target, draft, link, rule, policy = (int(number) for number in self.found.places[place])
        space = self.space
        return {
            "target": space.targets[target],
            "draft": NO_DRAFT if draft == NOWHERE else space.drafts[draft],
            "link": NO_DRAFT if draft == NOWHERE else ON_CHIP if link == NOWHERE else space.links[link],
            "rules": space.rules[rule],
            "policy": (*space.policies, *space.alone)[policy],
        }

    def named(self, place: int) -> dict[str, str]:
        """A configuration by the names of its choices, finer axes among them."""
        found: dict[str, str] = {}
        for kind, choice in self.choices(place).items():
            if kind in ("target", "draft"):
                parts = choice.parts
                found |= {"draft": parts["model"]} if kind == "draft" else {}
                found |= {f"{kind} on": f"{parts['place']} {parts['precision']}".strip()}
                found |= {"widths": parts["widths"]} if kind == "target" else {}
            else:
                found[kind] = choice.name
        return found

    def finalists(self, most: int) -> list[int]:
        """The best configurations that put the models on different places, so that they are worth a second look."""
        places = self.found.places[self.ranked]
        pairs = places[:, 0] * (len(self.space.drafts) + 1) + places[:, 1] - NOWHERE
        return [int(place) for place in self.ranked[first_of_each(pairs)[:most]]]

    def numbers(self, place: int) -> dict[str, float]:
        """The measures of a configuration."""
        return {name: float(values[place]) for name, values in self.found.measures.items()}

    def best_by(self, kind: str, part: str) -> list[Best]:
        """For every value of a choice the best configuration with it, the best first."""
        costs = self.objective.of(self.found.measures)
        places = self.found.places[self.ranked]
        drafted = places[:, AXES.index("draft")] != NOWHERE
        # With a draft no link is that on the chip; without one it is none.
        numbers = np.where(drafted | (kind != "link"), places[:, AXES.index(kind)] - NOWHERE + 1, 0)
        firsts = first_of_each(numbers)
        seen: dict[str, Best] = {}
        for place in self.ranked[firsts[drafted[firsts]] if kind == "draft" else firsts]:
            choice = self.choices(int(place))[kind]
            value = choice.parts.get(part, "") if part else choice.name
            if value not in seen:
                seen[value] = Best(value, int(place), float(costs[place]))
        return list(seen.values())

    def distinguishing(self, places: Sequence[int]) -> list[str]:
        """The columns of `named` that are not the same in all of these."""
        rows = [self.named(place) for place in places]
        return [column for column in rows[0] if len({row[column] for row in rows}) > 1] if rows else []

    def overrides(self, place: int, application: str) -> list[str]:
        """The values of `--set` that make the scenario this configuration."""
        choices = self.choices(place)
        kinds = ("rules", "target", "draft", "link", "policy")
        return [*(one for kind in kinds for one in unlike(choices[kind].overrides)), f"application={application}"]


def first_of_each(values: Ints) -> Ints:
    """Where each of the values, small and not negative, stands first; in that order."""
    stands = np.full(int(values.max(initial=-1)) + 1, len(values), np.int64)
    stands[values[::-1]] = np.arange(len(values))[::-1]  # of one place that is written to often, the last counts
    return np.sort(stands[stands < len(values)])


def unlike(overrides: Sequence[str]) -> Iterator[str]:
    """Overrides, each once."""
    yield from dict.fromkeys(overrides)
