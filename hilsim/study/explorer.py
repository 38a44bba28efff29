"""The placement explorer: every configuration of a scenario screened and ranked, the best confirmed by events."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.memory import ledgers
from hilsim.cost.verdict import check
from hilsim.describe.catalogue import described, load_chip, load_named
from hilsim.describe.chip import Chip
from hilsim.describe.cross_checks import alone_faults, require_simulated
from hilsim.describe.link import Link
from hilsim.describe.names import key_hint
from hilsim.describe.scenario import Conversations
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, InputError
from hilsim.measure.measures import MEASURED, measured
from hilsim.progress import Notify, silent, status_line
from hilsim.runs.replay import forget_costs, numbers_of, run_of
from hilsim.runs.transcripts import transcript_for
from hilsim.study import ranking
from hilsim.study.answer import Answer
from hilsim.study.placements import Ready, TimedConfigurations, load_space
from hilsim.study.ranking import Constraint, RankingObjective
from hilsim.study.sensitivity import Sensitivity, rests_on
from hilsim.study.space import Space, drafts_for, space_of
from hilsim.study.timed_space import MOST, time_space

T = TypeVar("T")
MOST_UNCONFIRMED = 1_000_000  # configurations beyond which `yes` is required
UNTRIED = "before all configurations were tried; the answer is that of the others"
UNCONFIRMED = "before all finalists were run by events; the answer is that of the screening"
CONVERSATIONS = 24  # at least, so that a difference in the objective means something


@dataclass(frozen=True)
class Question:
    """The question of an exploration: the scenario, the space, objectives and constraints."""

    file: Path
    overrides: tuple[str, ...]
    base: Setup
    space: Space
    objective: RankingObjective
    against: tuple[RankingObjective, ...]
    constraints: tuple[Constraint, ...]
    cloud: bool

    def rank(self, found: TimedConfigurations) -> Answer:
        """What was found, ranked."""
        return Answer.of(self.space, found, self.objective, self.against, self.constraints)


@dataclass(frozen=True)
class Finalist:
    """One of the best: its place in the answer, its set-up and values of `--set`, the objective by events and as
    screened, and the assumed figures that move it most.
    """

    place: int
    setup: Setup
    overrides: tuple[str, ...]
    by_events: float
    screened: float
    rests: Sensitivity

    @property
    def agrees(self) -> bool:
        """Whether the event simulation gives the very same number."""
        return self.by_events == self.screened


@dataclass(frozen=True)
class Exploration:
    """A question with its answer; seconds of wall time. `own` is the scenario's own value of the objective.

    `interrupted` says what Ctrl-C kept from being done, and is "" where nothing was.
    """

    question: Question
    answer: Answer
    finalists: tuple[Finalist, ...]
    preparing_s: float
    screening_s: float
    own: float | None
    interrupted: str = ""

    @property
    def better(self) -> int:
        """How many configurations that meet the constraints are better than the unchanged scenario."""
        if self.own is None:
            return 0
        one = self.answer.objective
        costs = one.of(self.answer.found.measures)[self.answer.ranked]
        return int((costs < float(one.cost(np.array(self.own)))).sum())


def question_of(
    file: Path,
    overrides: Sequence[str] = (),
    *,
    objective: str = "request_latency",
    against: Sequence[str] = ("memory", "energy"),
    limits: Sequence[str] = (),
    latency_target_ms: float | None = None,
    memory_free_mib: float | None = None,
    cloud: bool = False,
    chips: Sequence[str] = (),
    links: Sequence[str] = (),
    drafts: Sequence[str] = (),
    only: Sequence[str] = (),
    conversations: int | None = None,
    fine: bool = False,
    yes: bool = False,
) -> Question:
    """Look up everything that is named. Raises `InputError` with every fault; `yes` allows a very large space.

    `fine` is of `space.space_of`.
    """
    overrides = with_enough_conversations(file, overrides, conversations)
    base = load_compiled(file, overrides)
    require_simulated(base, "explore")
    if faults := list(alone_faults(base, "`explore`", "its screening times one conversation after another")):
        raise InputError(faults)
    check(base, overrides, load_compiled).require()
    if (unlike := not_explorable(base)) is not None:
        raise InputError([Fault(str(file), "", *unlike)])

    def attempt(look_up: Callable[[], T]) -> T | None:
        try:
            return look_up()
        except InputError as error:
            faults.extend(error.faults)
            return None

    chosen = attempt(partial(ranking.objective, objective))
    others = [attempt(partial(ranking.objective, name)) for name in against]
    constraints = [attempt(partial(ranking.constraint, text, MEASURED)) for text in limits]
    all_chips = attempt(partial(chips_of, base, file, chips))
    all_links = attempt(partial(links_of, file, links))
    all_drafts = attempt(partial(drafts_of, base, drafts))
    space = None
    if all_chips is not None and all_links is not None and all_drafts is not None:
        whole = space_of(base, all_chips, all_links, all_drafts, fine=fine)
        space = attempt(partial(narrowed, whole, only))
    if space is not None and space.size > MOST_UNCONFIRMED and not yes:
        found, remedy = f"{space.size:,} configurations", "Narrow it with --only, or add --yes."
        faults.append(Fault(str(file), "", found, f"at most {MOST_UNCONFIRMED:,} without --yes", remedy))
    if faults or space is None or chosen is None:
        raise InputError(faults)
    if latency_target_ms is not None:
        constraints.append(Constraint("time_to_first_clause_ms.p90", True, latency_target_ms))
    if memory_free_mib is not None:
        constraints.append(Constraint("memory_left_bytes", False, memory_free_mib * 2**20))
    return Question(
        file, tuple(overrides), base, space, chosen,
        tuple(dict.fromkeys(one for one in others if one is not None)),
        tuple(one for one in constraints if one is not None), cloud,
    )  # fmt: skip


def not_explorable(base: Setup) -> tuple[str, str, str] | None:
    """What keeps a scenario from being explored, what is expected and a remedy; None where it can be.

    An exploration tries drafts and rules that the scenario does not have, so it needs the tokens of each.
    """
    expected = "a draft model and live or recorded logits"
    modes = "Compare ways of drafting: python -m hilsim modes; placements one by one: python -m hilsim study."
    if base.draft is None:
        return "no draft", expected, "Give one; or study the target's placements: python -m hilsim study."
    if base.draft.head_kind is not None:
        found = (
            f"a draft head ({base.draft.head_kind}), whose tokens depend on where rounds end: no transcript holds them"
        )
        return found, expected, modes
    if base.profile is not None:
        found = f"the acceptance of {base.profile.title}, which holds for that pair under its own rule alone"
        return found, expected, f"Every draft would be accepted like that pair's. {modes}"
    if base.scenario.logits.by_chance:
        found = f"{base.scenario.logits.source} logits, with one acceptance for every draft"
        return found, expected, f"The smallest draft would always win. {modes}"
    return None


def with_enough_conversations(file: Path, overrides: Sequence[str], count: int | None) -> list[str]:
    """The overrides with `count` conversations, or with 24 where the scenario has fewer."""
    if count is None:
        workload = load_compiled(file, overrides).scenario.workload
        if not isinstance(workload, Conversations) or workload.count is None or workload.count >= CONVERSATIONS:
            return [*overrides]
    return [*overrides, f"workload.count={count or CONVERSATIONS}"]


def chips_of(base: Setup, file: Path, names: Sequence[str]) -> tuple[Chip, ...]:
    """The scenario's chips, those added, and those outside the car, which are counted even where not allowed."""
    named = [load_chip(name, file) for name in names]
    outside = [load_chip(chip.name, file) for chip in described("chip", Chip) if chip.place == "cloud"]
    return tuple({chip.name: chip for chip in (*base.chips.values(), *named, *outside)}.values())


def links_of(file: Path, names: Sequence[str]) -> tuple[Link, ...]:
    """The links named, or all that can be built."""
    if names:
        return tuple(load_named("link", Link, name, file) for name in names)
    return tuple(link for link in described("link", Link) if not link.on_chip and link.reaches != "anywhere")


def drafts_of(base: Setup, pairs: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Deployed drafts with the stand-ins that generate text for them, from MODEL:STAND_IN or all of the vocabulary."""
    if not pairs:
        return drafts_for(base)
    found = []
    for text in pairs:
        model, colon, stand_in = text.partition(":")
        if not colon or not model or not stand_in:
            expected = "MODEL:STAND_IN, such as draft-68m-llama3:models/draft-0.8m"
            raise InputError([Fault("--drafts", "", repr(text), expected)])
        found.append((model, stand_in))
    return tuple(found)


TYPED = {"policy.name": "policy.kind", "rules.name": "rules.kind"}  # axes that users type as scenarios have them
KEPT = {typed: kept for kept, typed in TYPED.items()}


def narrowed(space: Space, only: Sequence[str]) -> Space:
    """The part of a space with KEY=VALUE,... alone.

    Raises `InputError` for keys and values that do not exist, and for a key that comes twice.
    """
    known, faults = {TYPED.get(key, key): values for key, values in space.values().items()}, []
    wanted: dict[str, list[str]] = {}
    for text in only:
        key, equals, values = text.partition("=")
        key = TYPED.get(key, key)  # the earlier word for it is read too
        if not equals or key not in known:
            expected = f"KEY=VALUE,... with a key of {', '.join(known)}"
            faults.append(Fault("--only", "", repr(text), expected, key_hint(key, known)))
            continue
        if KEPT.get(key, key) in wanted:
            faults.append(
                Fault("--only", key, f"{text!r} beside another of this key", "one --only with all its values")
            )
            continue
        mine = [value.strip() for value in values.split(",")] if key != "rules" else [values]
        strange = [value for value in mine if value not in known[key]]
        faults += [
            Fault("--only", key, repr(value), f"one of {', '.join(known[key])}", key_hint(value, known[key]))
            for value in strange
        ]
        wanted[KEPT.get(key, key)] = mine
    if faults:
        raise InputError(faults)
    found = space.only(wanted)
    if not found.size:
        raise InputError([Fault("--only", "", "a space of no configurations", "choices that go together")])
    return found


def explore(
    question: Question, *, finalists: int = 3, workers: int | None = None, by_events: int = MOST,
    keep_partial: bool = False,
) -> Exploration:  # fmt: skip
    """Load, screen, rank, and run the best event by event; `workers` processes (default: one a core).

    Policies that need events are run at so many placements (`by_events`). With `keep_partial` an interruption ends this
    early, with what there is by then: see `time_space`; of finalists those that were confirmed.
    """
    began = time.perf_counter()
    with status_line("preparing:") as notify:
        ready = prepare(question, notify)
    prepared = time.perf_counter()
    answer = time_space(ready, question.rank, workers, by_events, keep_partial=keep_partial)
    screened = time.perf_counter()
    best: list[Finalist] = []
    own, interrupted = None, UNTRIED if answer.found.interrupted else ""
    try:
        own = numbers_of(question.base)[question.objective.measure]
        with status_line("confirming finalists:") as notify:
            for rank, place in enumerate(answer.finalists(finalists), 1):
                best.append(confirm(question, ready, answer, rank, place, notify))
    except KeyboardInterrupt:
        if not keep_partial:
            raise
        interrupted = interrupted or UNCONFIRMED
    return Exploration(question, answer, tuple(best), prepared - began, screened - prepared, own, interrupted)


def prepare(question: Question, notify: Notify = silent) -> Ready:
    """Everything that screening needs, loaded and compiled."""
    return load_space(
        question.file, question.overrides, question.space, question.base,
        lambda setup: transcript_for(setup, notify), notify, cloud=question.cloud,
    )  # fmt: skip


def confirm(question: Question, ready: Ready, answer: Answer, rank: int, place: int, notify: Notify) -> Finalist:
    """One of the best, loaded as a user would load it and run event by event, with the figures that it rests on."""
    overrides = tuple(answer.overrides(place, ready.application))
    setup = load_compiled(question.file, [*question.overrides, *overrides])
    name = question.objective.measure
    by_events = measured(setup, ledgers(setup), *run_of(setup))[name]
    notify(f"the figures that finalist {rank} rests on")
    rests = rests_on(setup, name)
    forget_costs()
    return Finalist(place, setup, overrides, float(by_events or 0.0), answer.numbers(place)[name], rests)
