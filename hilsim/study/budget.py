"""When a trip breaks its budget: the cheapest changes of the scenario that keep it, found by running it with them.

Changes are tried in the order of what they cost, cheapest kind first, each on top of those before that helped; a change
that keeps the budget ends the search. Of several found so, those that the budget holds without are taken away again,
dearest first.

The budget is that of `speech.budget`, and that each background task misses at most `MISSES` of its deadlines. Of a long
trip the first `SEARCHED_MINUTES` are searched, where the budget is broken in them, and what is found is held against
the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from hilsim.describe.cockpit import PLACED_STAGES
from hilsim.describe.setup import Setup
from hilsim.describe.write import typed
from hilsim.errors import HilsimError
from hilsim.measure.turns import held_against
from hilsim.progress import status_line
from hilsim.runs.evaluate import Refused, load_variant
from hilsim.runs.run import Sources
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.study.remedies import Change, links, settings

MISSES = 0.01  # of a task's deadlines: one in a hundred
HELPS = 0.98  # a change is kept where it lowers what is over the limits to this share
MOST_OVER = 10.0  # what one limit adds to what is over: a wait without end has to count for something
SEARCHED_MINUTES = 10.0
COOLER = (10.0, 20.0)  # degrees


@dataclass(frozen=True)
class BudgetRemedy:
    """Changes with which the budget holds; or, where it does not hold, those that come nearest.

    `over` is what is over all limits, as shares of them: before any change, and with these.
    """

    changes: tuple[Change, ...]
    over_before: float
    over: float
    tried: int

    @property
    def holds(self) -> bool:
        return self.over == 0


def over_limits(setup: Setup, trace: Trace) -> float:
    """How far a run is over its limits, as shares of them, added up: 0 where the budget holds."""
    budget = None if setup.scenario.speech is None else setup.scenario.speech.budget
    limits = [] if budget is None else held_against(budget, trace.turns)
    shares = [
        MOST_OVER if one.value_ms is None else one.value_ms / max(one.limit_ms, 1e-6) for one in limits if one.broken
    ]
    shares += [task.missed / task.released / MISSES for task in trace.tasks.values() if task.released]
    return sum(min(max(0.0, share - 1), MOST_OVER) for share in shares)


def keep_budget(setup: Setup, trace: Trace, sources: Sources) -> BudgetRemedy | None:
    """What keeps the budget that a run broke; None where it holds."""
    before = over_limits(setup, trace)
    if before == 0:
        return None
    with status_line("running with") as notify:
        whole = Search(setup, sources, notify, before=before)
        if setup.scenario.trip is not None and setup.scenario.trip.minutes > SEARCHED_MINUTES:
            part = Search(setup, sources, notify, (f"trip.minutes={SEARCHED_MINUTES:g}",))
            if part.over(()):
                found = part.run()
                over = whole.over(found.changes)
                if over is not None and (over == 0 or not found.holds):
                    return BudgetRemedy(found.changes, before, over, part.runs + whole.runs)
        return whole.run()


class Search:
    """Runs of changed scenarios; `sources` have the tokens of `setup`, `shortened` are overrides of all runs."""

    def __init__(
        self,
        setup: Setup,
        sources: Sources,
        notify: Callable[[str], None],
        shortened: tuple[str, ...] = (),
        before: float | None = None,
    ):
        self.setup, self.sources, self.notify, self.shortened = setup, sources, notify, shortened
        self.known: dict[tuple[Change, ...], float | None] = {} if before is None else {(): before}
        self.runs = 0

    def run(self) -> BudgetRemedy:
        """Change by change, each on top of those that helped."""
        chosen: tuple[Change, ...] = ()
        for change in chain.from_iterable(kinds(self.setup)):
            # Of two changes of one thing the later is tried in place of the earlier.
            tried = (*(one for one in chosen if keys(one) != keys(change)), change)
            found, least = self.over(tried), self.over(chosen)
            if found == 0:
                return self.remedy(self.needed(tried))
            if found is not None and least is not None and found <= HELPS * least:
                chosen = tried
        return self.remedy(chosen)

    def over(self, changes: tuple[Change, ...]) -> float | None:
        """How far a run with these changes is over the limits; None where it cannot run."""
        if changes not in self.known:
            self.notify(changes[-1].what if changes else "nothing changed")
            self.runs += 1
            self.known[changes] = self.simulated(changes)
        return self.known[changes]

    def simulated(self, changes: Sequence[Change]) -> float | None:
        overrides = [*self.setup.overrides, *self.shortened, *(text for change in changes for text in change.overrides)]
        variant = load_variant(Path(self.setup.file), overrides)
        if isinstance(variant, Refused):
            return None
        try:
            # A transcript has no tokens of other models or rules, and drafts to its depth alone.
            trace = simulate(variant, self.sources.replaying(variant).fresh("policy"), keep=False)
        except HilsimError:
            return None
        return over_limits(variant, trace)

    def needed(self, changes: tuple[Change, ...]) -> tuple[Change, ...]:
        """The changes without those that the budget holds without."""
        for change in reversed(changes[:-1]):
            fewer = tuple(one for one in changes if one is not change)
            if self.over(fewer) == 0:
                changes = fewer
        return changes

    def remedy(self, changes: tuple[Change, ...]) -> BudgetRemedy:
        before, over = self.over(()), self.over(changes)
        assert before is not None, "without changes it has run"
        assert over is not None, "only changes that ran are chosen"
        return BudgetRemedy(changes, before, over, self.runs)


def keys(change: Change) -> list[str]:
    """What a change sets."""
    return [override.partition("=")[0] for override in change.overrides]


def kinds(setup: Setup) -> Iterator[list[Change]]:
    """Changes by what they cost an engineer, cheapest first."""
    yield list(caches(setup))
    yield list(priorities(setup))
    yield [change for change in settings(setup) if setup.draft is not None and keys(change) == ["policy.draft_tokens"]]
    yield list(shorter_prompts(setup))
    yield list(moves(setup))
    yield list(cooler(setup))
    yield list(links(setup))


def caches(setup: Setup) -> Iterator[Change]:
    """Keep in the cache what is read again: the system prompt, the conversation after an interruption."""
    speech, cost = setup.scenario.speech, "a setting, and memory for the cache"
    if speech is None:
        return
    if not speech.prompt.kept and speech.prompt.system_tokens + speech.prompt.tool_tokens:
        yield Change("system prompt and tools kept in the cache", cost, ("speech.prompt.kept=true",))
    if speech.barge_in is not None and speech.barge_in.cache == "lost":
        yield Change("caches rewound after an interruption", cost, ("speech.barge_in.cache=rewound",))


def priorities(setup: Setup) -> Iterator[Change]:
    """Background tasks after all that speaks, or before it."""
    least = max((passenger.priority for passenger in setup.scenario.passengers), default=1)
    first = min((passenger.priority for passenger in setup.scenario.passengers), default=1)
    for index, task in enumerate(setup.scenario.background):
        if task.unit is None:
            continue
        if task.priority <= least:
            what, value = f"{task.name} after the passengers", least + 1
        elif task.priority >= first > 0:
            what, value = f"{task.name} before the passengers", first - 1
        else:
            continue
        yield Change(what, "a priority", (f"background[{index}].priority={value}",))


def shorter_prompts(setup: Setup) -> Iterator[Change]:
    """Fewer retrieved tokens, fewer tools."""
    speech, cost = setup.scenario.speech, "a shorter prompt, and what stood in it"
    if speech is None:
        return
    prompt = speech.prompt
    for share, words in ((2, "half the"), (4, "a quarter of the")):
        if prompt.retrieved_tokens >= share:
            kept = prompt.retrieved_tokens // share
            yield Change(f"{words} retrieved tokens ({kept})", cost, (f"speech.prompt.retrieved_tokens={kept}",))
    if prompt.tool_tokens > 1:
        kept = prompt.tool_tokens // 2
        yield Change(f"half the descriptions of tools ({kept})", cost, (f"speech.prompt.tool_tokens={kept}",))


def moves(setup: Setup) -> Iterator[Change]:
    """Stages and background networks on other units.

    Times of stages are taken as given, whatever the unit; a task's time in ms is that of its own unit, so it stays.
    """
    cost = "porting to another unit"
    for name in PLACED_STAGES if setup.scenario.speech is not None else ():
        stage = getattr(setup.scenario.speech, name)
        for unit in setup.chips[stage.chip].units if stage.unit is not None else ():
            if unit not in (stage.unit, setup.target.unit_name):
                what = f"{name} on {stage.chip}.{unit}, in the time that is given"
                yield Change(what, cost, (f"speech.{name}.unit={unit}",))
    for index, task in enumerate(setup.scenario.background):
        if task.work is None or task.work.shape is None:
            continue
        for chip in setup.chips.values():
            for unit in chip.units:
                if (chip.name, unit) != (task.chip, task.unit):
                    place = f"background[{index}]"
                    overrides = (f"{place}.chip={chip.name}", f"{place}.unit={unit}")
                    yield Change(f"{task.name} on {chip.name}.{unit}", cost, overrides)


def cooler(setup: Setup) -> Iterator[Change]:
    """Cooler air around the chips."""
    climate = setup.scenario.climate
    for less in COOLER if climate is not None else ():
        assert climate is not None, "no steps without a climate"
        overrides = [f"climate.ambient_c={climate.ambient_c - less:g}"]
        if climate.start_c is not None:
            overrides.append(f"climate.start_c={climate.start_c - less:g}")
        yield Change(f"air of {climate.ambient_c - less:g} °C around the chips", "cooling", tuple(overrides))


def as_json(found: BudgetRemedy) -> dict[str, Any]:
    """As the report and `--json` show it."""
    return {
        "holds": found.holds,
        "tried": found.tried,
        "over_before": found.over_before,
        "over": found.over,
        "changes": [
            {
                "change": change.what,
                "cost": change.cost,
                "set": [typed([override]) for override in change.overrides],
            }
            for change in found.changes
        ],
    }
