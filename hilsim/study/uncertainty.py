"""Error bars: what chips, the sample of requests and the acceptance of other pairs can do to an answer.

Three intervals, each of more causes than the one before, each the middle 90 % over the draws:

- chips: step times are drawn from the residuals of their class (`step_classes.py`), and what no class holds from the
  ranges of single figures: below its value as often as above it, evenly on either side, so the value stays the median;
  a figure without a range stays. Figures are drawn independently: where one cause moves two of them (a driving stack
  that takes memory and GPU alike), the true interval is wider.
- with sampling: each draw's requests are drawn anew, with replacement, from those of the run (a bootstrap over
  conversations): how much acceptance, and all that goes with it, would differ over another sample of the same workload.
- with other pairs: each draw's acceptance is that of the run or, as likely each, that of a published pair, run through
  the scenario's own policy over the same answers. Stand-ins are small models over one corpus; it is unknown which pair
  the deployed one will resemble, so this is a range of suppositions and no probability.

Causes can move a quantile inwards, by chance of the draws or because they work against each other. An interval of more
causes is therefore widened to contain every interval of fewer: the hull of both, with at least 90 % of the draws.

Whether it fits is drawn apart, from the ranges of sizes and reserves alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from hilsim.cost.fit import sizes_in_use
from hilsim.cost.memory import AS_GIVEN, NEEDS_MOST, FigureReading, ledgers
from hilsim.cost.start_up import START
from hilsim.describe.acceptance_profile import AcceptanceProfile
from hilsim.describe.chip import Chip
from hilsim.describe.figure import FACTORS, Figure, Record
from hilsim.describe.figures import figures, with_figures
from hilsim.describe.scenario import MeasuredAcceptance
from hilsim.describe.setup import Placed, PlacedNetwork, Setup
from hilsim.measure.metrics import Headline, deliveries, headline_numbers
from hilsim.measure.resampled import Requests, requests_of
from hilsim.progress import progressing
from hilsim.runs.run import Sources, run_both
from hilsim.sim.run import simulate
from hilsim.sources.luck import luck_by
from hilsim.sources.supposed import Supposed
from hilsim.study.acceptance import published_pairs
from hilsim.study.step_classes import StepClass, StepClasses, generator_of_scores, scores_for, step_classes

R = TypeVar("R", bound=Record)
P = TypeVar("P", Placed, PlacedNetwork)
LINK = "link"
FIT_DRAWS = 1000
RESAMPLES = 1000  # of the run's own requests, which costs no replay


@dataclass(frozen=True)
class FigureEffect:
    """One figure, or a unit's kind of steps, alone at the ends of its range, and the headline number there."""

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
    movers: tuple[FigureEffect, ...]


Ends = tuple[float, float]


@dataclass(frozen=True)
class Acceptance:
    """What acceptance adds to the intervals, by headline number; `pairs` are published ones with theirs.

    `alone` is the sampling error by itself, chip figures as they stand. `with_sampling` contains it and the interval of
    the chip figures, `with_pairs` contains `with_sampling`.
    """

    clusters: int
    unit: str
    tokens_a_round: float | None
    alone: dict[str, Ends]
    with_sampling: dict[str, Ends]
    with_pairs: dict[str, Ends]
    pairs: tuple[tuple[AcceptanceProfile, float | None, Headline], ...]


@dataclass(frozen=True)
class FitChance:
    """The share of draws of sizes and reserves in which everything fits, and in which each chip's part does."""

    draws: int
    figures: tuple[str, ...]
    share: float
    by_chip: dict[str, float]


@dataclass(frozen=True)
class Uncertainty:
    """All headline numbers over `draws` sets; `ranged` of `in_use` figures have a range, `classes` factors."""

    draws: int
    in_use: int
    ranged: tuple[str, ...]
    classes: tuple[StepClass, ...]
    intervals: dict[str, Interval]
    acceptance: Acceptance | None = None


def uncertainty(setup: Setup, sources: Sources, draws: int, seed: int, *, resample: bool = True) -> Uncertainty:
    """Replay `draws` sets of factors and figures, then each at its two ends; with `resample` other requests too."""
    setup = roomy(setup)
    used, classes = in_use(setup), step_classes(setup)
    ranged = {path: figure for path, figure in used.items() if figure.range is not None}
    chance, off = np.random.Generator(np.random.Philox(seed)), generator_of_scores(seed)
    nominal = headline(setup, sources)
    samples = sampled(setup, sources, seed) if resample else None
    drawn, alone = [], {}
    with progressing(draws + 2 * (len(ranged) + len(classes.keys)), "replays with other figures") as count:
        for _ in range(draws):
            values = {path: (figure, draw(figure, chance)) for path, figure in ranged.items()}
            changed = classes.drawn(with_values(setup, values), scores_for(classes.keys, off))
            drawn.append(headline(changed, sources) if samples is None else samples.added(changed))
            count.ended("done")
        for name, both in at_ends(classes, ranged):
            alone[name] = [headline(changed, sources) for changed in both]
            count.ended("done", 2)
    intervals = {}
    for name, value in nominal.items():
        movers = [FigureEffect(path, at_low[name], at_high[name]) for path, (at_low, at_high) in alone.items()]
        movers.sort(key=lambda mover: -mover.swing)
        low, median, high = np.quantile([one[name] for one in drawn], (0.05, 0.5, 0.95))
        intervals[name] = Interval(value, float(low), float(median), float(high), tuple(m for m in movers if m.swing))
    acceptance = None if samples is None else samples.acceptance(intervals)
    return Uncertainty(draws, len(used), tuple(ranged), classes.found, intervals, acceptance)


def at_ends(classes: StepClasses, ranged: Mapping[str, Figure]) -> Iterator[tuple[str, list[Setup]]]:
    """The setup with each class of steps at the ends of its interval, then with each figure at those of its range."""
    for key in classes.keys:
        mine = [one for one in classes.found if one.key == key]
        sides = [{(one.part, one.kind): (one.interval.low, one.interval.high)[end] for one in mine} for end in (0, 1)]
        yield f"{key} steps", [classes.held(classes.setup, factors) for factors in sides]
    for path, figure in ranged.items():
        yield path, [classes.held(with_values(classes.setup, {path: (figure, end)}), {}) for end in ends(figure)]


def headline(setup: Setup, sources: Sources) -> Headline:
    """The headline numbers of both runs of a setup."""
    outcome = run_both(setup, sources)
    return headline_numbers(outcome.baseline, outcome.speculative, setup.chips, setup.link)


class AcceptanceReplay:
    """Runs of one setup over the same run of the target alone, with the run's own acceptance or a published pair's."""

    def __init__(self, setup: Setup, sources: Sources):
        self.setup, self.sources, self.outcome = setup, sources, run_both(setup, sources)
        rounds = deliveries(self.outcome.baseline)
        self.texts = {number: [token for one in found for token in one.tokens] for number, found in rounds.items()}

    def requests(self, pair: AcceptanceProfile | None = None) -> Requests | None:
        """The requests under a pair's acceptance; None where one of them has no answer."""
        setup, ours = self.setup, self.outcome.speculative
        if pair is not None:
            logits = MeasuredAcceptance(source="acceptance", file=pair.name)
            as_of = replace(setup, scenario=setup.scenario.model_copy(update={"logits": logits}), profile=pair)
            luck = luck_by(pair.acceptance, setup.scenario.seed)
            ours = simulate(as_of, Supposed(self.sources.fresh("baseline"), self.texts, luck))
        return requests_of(self.outcome.baseline, ours, setup.chips, setup.link)


def sampled(setup: Setup, sources: Sources, seed: int) -> Samples | None:
    """What draws requests anew; None where there is but one cluster of them, or a request without an answer.

    None with company as well: requests that wait for each other are no independent sample.
    """
    if setup.scenario.company:
        return None
    replay = AcceptanceReplay(setup, sources)
    own = replay.requests()
    if own is None or len(own.clusters) < 2:
        return None
    others = [(pair, found) for pair in published_pairs(setup) if (found := replay.requests(pair)) is not None]
    # A generator of its own: with or without it the figures are drawn alike.
    return Samples(sources, own, others, np.random.Generator(np.random.Philox(key=[seed, 1])))


class Samples:
    """Collects headline numbers over requests drawn anew, with the run's own acceptance and with others'."""

    def __init__(
        self,
        sources: Sources,
        own: Requests,
        others: Sequence[tuple[AcceptanceProfile, Requests]],
        chance: np.random.Generator,
    ):
        self.sources, self.own, self.others, self.chance = sources, own, others, chance
        self.sampled: list[Headline] = []
        self.supposed: list[Headline] = []

    def picks(self) -> list[int]:
        """As many clusters as there are, with replacement."""
        count = len(self.own.clusters)
        return [int(place) for place in self.chance.integers(0, count, count)]

    def added(self, changed: Setup) -> Headline:
        """The headline under drawn figures; and requests drawn anew, with the run's acceptance and with one of all."""
        replay, picks = AcceptanceReplay(changed, self.sources), self.picks()
        choice = int(self.chance.integers(0, len(self.others) + 1))
        own = replay.requests()
        assert own is not None, "answers are the same under all figures"
        self.sampled.append(own.resampled(picks))
        other = own if choice == 0 else replay.requests(self.others[choice - 1][0])
        assert other is not None, "answers are the same under all figures"
        self.supposed.append(other.resampled(picks))
        return own.headline

    def acceptance(self, by_figures: Mapping[str, Interval]) -> Acceptance:
        """All of it as intervals, nested: beginning with those of the chip figures alone."""
        narrow = {name: (interval.low, interval.high) for name, interval in by_figures.items()}
        alone = middle([self.own.resampled(self.picks()) for _ in range(RESAMPLES)], narrow)
        with_sampling = hull(middle(self.sampled, narrow), alone, narrow)
        return Acceptance(
            len(self.own.clusters),
            self.own.unit,
            self.own.tokens_a_round,
            alone,
            with_sampling,
            hull(middle(self.supposed, narrow), with_sampling),
            tuple((pair, sample.tokens_a_round, sample.headline) for pair, sample in self.others),
        )


def middle(found: Sequence[Headline], names: Iterable[str]) -> dict[str, Ends]:
    """The middle 90 % of each headline number."""
    return {
        name: (float(low), float(high))
        for name in names
        for low, high in [np.quantile([one[name] for one in found], (0.05, 0.95))]
    }


def hull(*found: Mapping[str, Ends]) -> dict[str, Ends]:
    """Of each headline number the smallest interval that contains all of these."""
    return {name: (min(one[name][0] for one in found), max(one[name][1] for one in found)) for name in found[0]}


def chance_of_fitting(setup: Setup, seed: int, draws: int = FIT_DRAWS) -> FitChance:
    """Ledgers over sizes and reserves drawn from their ranges, as `draw` does; yes-or-no figures stay as they are.

    It says how much of the assumed ranges fits, under independent draws, and nothing about how many cars do.
    """
    sizes = sizes_in_use(setup)
    chance = np.random.Generator(np.random.Philox(key=[seed, 2]))
    fitted: list[dict[str, bool]] = []
    for _ in range(draws):
        values = {
            place: draw(size.figure, chance) * FACTORS[size.figure.unit]
            for size in sizes.values()
            for place in [size.objects]
        }
        by_object = {one: value for objects, value in values.items() for one in objects}

        def read(figure: Figure, by_object: dict[int, float] = by_object) -> float:
            return by_object.get(id(figure), figure.si)

        found = ledgers(setup, FigureReading(read, read, AS_GIVEN.holds))
        fitted.append({chip: ledger.fits for chip, ledger in found.items()})
    by_chip = {chip: sum(one[chip] for one in fitted) / draws for chip in setup.chips}
    return FitChance(draws, tuple(sizes), sum(all(one.values()) for one in fitted) / draws, by_chip)


def roomy(setup: Setup) -> Setup:
    """The setup with memory for everything: the length of a run does not depend on it, and a draw must not end one."""
    held = ledgers(setup, NEEDS_MOST)

    def larger(chip: Chip) -> Chip:
        size = max(chip.memory.si, held[chip.name].needed_bytes)
        return chip.model_copy(
            update={"memory": Figure.model_construct(**{**vars(chip.memory), "value": size, "unit": "B"})}
        )

    target = replace(setup.target, chip=larger(setup.target.chip))
    draft = None if setup.draft is None else replace(setup.draft, chip=larger(setup.draft.chip))
    return replace(setup, target=target, draft=draft)


def ends(figure: Figure) -> tuple[float, float]:
    """The ends of a figure's range, or its value twice."""
    return figure.range if figure.range is not None else (figure.value, figure.value)


def draw(figure: Figure, chance: np.random.Generator) -> float:
    """A value inside the range: below and above the figure's value equally often."""
    low, high = ends(figure)
    return float(chance.uniform(low, figure.value) if chance.random() < 0.5 else chance.uniform(figure.value, high))


SIZES_AND_PEAKS = (  # and what is paid before a run begins
    "reserve", "limit", "staged", "workspace", "taken_in_advance", "peak_operation_rate", "clock", "operator_overhead",
    *START,
)  # fmt: skip


STEP_EFFECTS = (".speed", ".clock", ".memory_rate", ".critical")  # of a governor
BESIDE_A_RUN = (".fallback.", ".published_limits[", ".faster_exports[")


def in_use(setup: Setup) -> dict[str, Figure]:
    """Figures that a run's times and energy rest on: `CHIP.path` and `link.path`.

    Of a unit only those in use, of its precisions only the placed ones; none where a role has a table of times. With a
    climate what heats the chips and carries the heat off, and when the governor acts; what its steps do stays.
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
            outside |= path.endswith(SIZES_AND_PEAKS) or any(part in path for part in BESIDE_A_RUN)
            timed = role.placement.timer is None or path.endswith("power")
            if isinstance(figure, Figure) and timed and path.startswith(tuple(wanted)) and not outside:
                found[f"{role.chip.name}/{path}"] = figure
    if setup.scenario.climate is not None:
        for name, chip in setup.chips.items():
            for path, figure in figures(chip).items():
                heats = (path.startswith("thermal.") and not path.endswith(STEP_EFFECTS)) or path.endswith("_power")
                if isinstance(figure, Figure) and heats:
                    found[f"{name}/{path}"] = figure
    if setup.link is not None:
        found |= {
            f"{LINK}/{path}": figure for path, figure in figures(setup.link).items() if isinstance(figure, Figure)
        }
    return found


def with_values(setup: Setup, values: Mapping[str, tuple[Figure, float]]) -> Setup:
    """The setup with some figures at other values; both roles see the same chip.

    At the steps of a chip's governor they change by the same factor.
    """
    changed: dict[str, dict[str, Figure]] = {}
    for path, (figure, value) in values.items():
        owner, _, inside = path.partition("/")
        changed.setdefault(owner, {})[inside] = figure.model_copy(update={"value": value, "range": None})
    chips = {name: moved(chip, changed.get(name, {})) for name, chip in setup.chips.items()}

    def again(part: P) -> P:
        # The part's own unit: a runtime or the compile check may have changed it.
        inside = f"units.{part.unit_name}."
        own = {
            path[len(inside) :]: figure
            for path, figure in changed.get(part.chip.name, {}).items()
            if path.startswith(inside)
        }
        return replace(part, chip=chips[part.chip.name], unit=moved(part.unit, own))

    factors: dict[str, dict[str, float]] = {}
    for path, (figure, value) in values.items():
        owner, _, inside = path.partition("/")
        if figure.value:
            factors.setdefault(owner, {})[inside] = value / figure.value
    levels = {
        name: (chips[name], *(scaled(chip, factors.get(name, {})) for chip in slower))
        for name, (_, *slower) in setup.levels.items()
    }
    return replace(
        setup,
        levels=levels,
        target=again(setup.target),
        draft=None if setup.draft is None else again(setup.draft),
        networks=tuple(map(again, setup.networks)),
        link=None if setup.link is None else moved(setup.link, changed.get(LINK, {})),
        further_chips=tuple(chips[chip.name] for chip in setup.further_chips),
    )


def scaled(chip: Chip, factors: Mapping[str, float]) -> Chip:
    """A chip at a step of its governor with figures of its units times factors, by path."""
    known = figures(chip) if factors else {}
    changed: dict[str, Figure] = {}
    for path, factor in factors.items():
        figure = known.get(path)
        if isinstance(figure, Figure) and path.startswith("units."):
            changed[path] = figure.model_copy(update={"value": figure.value * factor, "range": None})
    return moved(chip, changed)


def moved(record: R, changed: Mapping[str, Figure]) -> R:
    """A record with some figures changed; itself where there are none."""
    return with_figures(record, changed) if changed else record
