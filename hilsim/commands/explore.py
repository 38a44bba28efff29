"""`python -m hilsim explore`: which placement of all? Every configuration screened, the best confirmed by events."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from hilsim.commands.outputs import require_plot
from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.memory import ledgers
from hilsim.cost.verdict import check
from hilsim.describe.catalogue import described, load_chip, load_named
from hilsim.describe.chip import Chip
from hilsim.describe.cross_checks import require_simulated
from hilsim.describe.link import Link
from hilsim.describe.outside import outside_car
from hilsim.describe.scenario import Conversations
from hilsim.describe.setup import Setup
from hilsim.describe.write import scenario_text
from hilsim.errors import Fault, InputError
from hilsim.files import folder_faults, place_faults, written
from hilsim.measure.measures import measured
from hilsim.measure.screened import MEASURED, screened_measures
from hilsim.progress import progressing, saying
from hilsim.runs.replay import forget_prices, numbers_of, run_of
from hilsim.runs.transcripts import transcript_for
from hilsim.show.document import assumptions
from hilsim.show.explore import Exploration, Finalist, as_json, draw, render, write_csv
from hilsim.study.answer import Answer
from hilsim.study.placements import Found, Ready, Screen, got_ready
from hilsim.study.ranking import Constraint, Objective, constraint, objective
from hilsim.study.sensitivity import rests_on
from hilsim.study.space import Space, drafts_for, space_of

T = TypeVar("T")
MOST_UNASKED = 500_000  # configurations beyond which --yes is asked for
TALKS = 24  # conversations, where the scenario has fewer
TOLERANCE = 0.01  # of a live run in float32, whose last bits may tell another text


@dataclass(frozen=True)
class ExploreOptions:
    """What the user asked for."""

    file: Path
    overrides: list[str]
    objective: str = "request_latency"
    against: Sequence[str] = ("memory", "energy")
    limits: Sequence[str] = ()
    latency_target_ms: float | None = None
    memory_free_mib: float | None = None
    cloud: bool = False
    chips: Sequence[str] = ()
    links: Sequence[str] = ()
    drafts: Sequence[str] = ()
    only: Sequence[str] = ()
    conversations: int | None = None
    finalists: int = 3
    workers: int | None = None
    yes: bool = False
    out: Path | None = None
    csv: Path | None = None
    plot: Path | None = None


@dataclass(frozen=True)
class Asked:
    """Options that make sense."""

    base: Setup
    overrides: list[str]
    space: Space
    links: tuple[Link, ...]
    objective: Objective
    against: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]


def explore(options: ExploreOptions) -> int:
    """Enumerate, prune, screen, rank, confirm, write. Returns 1 where nothing keeps the constraints."""
    asked = understood(options)
    began = time.perf_counter()
    with saying("getting ready:") as say:
        ready = got_ready(
            options.file, asked.overrides, asked.space, asked.links, asked.base,
            lambda setup: transcript_for(setup, say), say, cloud=options.cloud,
        )  # fmt: skip
    prepared = time.perf_counter()
    found = all_screened(ready, options.workers)
    screened = time.perf_counter()
    answer = Answer.of(asked.space, found, asked.objective, asked.against, asked.constraints)
    chosen = answer.finalists(options.finalists)
    with saying("confirming finalists:") as say:
        finalists = tuple(
            confirmed(options, asked, ready, answer, rank, place, say) for rank, place in enumerate(chosen, 1)
        )
    own = numbers_of(asked.base)[asked.objective.measure]
    requests = sum(len(talk.turns) for talk in asked.base.conversations)
    exploration = Exploration(
        asked.base, answer, finalists, len(asked.base.conversations), requests, prepared - began, screened - prepared,
        own, ranking_command(options, asked, finalists),
    )  # fmt: skip
    if options.out is not None:
        with written(options.out / "explore.json") as path:
            path.write_text(json.dumps(as_json(exploration), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if options.csv is not None:
        with written(options.csv) as path, path.open("w", encoding="utf-8", newline="") as stream:
            write_csv(stream, answer)
    if options.plot is not None:
        with written(options.plot) as path:
            draw(path, exploration, options.plot.suffix[1:])
    render(exploration, Console())
    return 0 if len(answer.ranked) and all(finalist.agrees for finalist in finalists) else 1


def understood(options: ExploreOptions) -> Asked:
    """The options looked up. Raises `InputError` with every fault."""
    overrides = with_more_talks(options)
    base = load_compiled(options.file, overrides)
    require_simulated(base, "explore")
    check(base, overrides, load_compiled).require()
    if base.scenario.logits.source == "synthetic" or base.draft is None:
        found = "synthetic logits" if base.draft is not None else "no draft"
        remedy = "Studies of such scenarios: python -m hilsim study."
        raise InputError([Fault(str(options.file), "", found, "a draft and live or recorded logits", remedy)])
    faults: list[Fault] = []

    def tried(ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except InputError as error:
            faults.extend(error.faults)
            return None

    chosen = tried(lambda: objective(options.objective))
    against = [tried(partial(objective, name)) for name in options.against]
    limits = [tried(partial(constraint, text, MEASURED)) for text in options.limits]
    chips = tried(lambda: chips_of(base, options))
    links = tried(lambda: links_of(options))
    drafts = tried(lambda: drafts_of(base, options))
    faults += [] if options.out is None else folder_faults(options.out, "--out")
    faults += [] if options.csv is None else place_faults(options.csv, "--csv")
    if options.plot is not None:
        tried(partial(require_plot, options.plot))
    space = None
    if chips is not None and links is not None and drafts is not None:
        whole = space_of(base, chips, links, drafts)
        space = tried(lambda: narrowed(whole, options.only))
    if space is not None and space.size > MOST_UNASKED and not options.yes:
        remedy = "Narrow it with --only, or say --yes."
        expected = f"at most {MOST_UNASKED:,} without --yes"
        faults.append(Fault(str(options.file), "", f"{space.size:,} configurations", expected, remedy))
    if faults or space is None or links is None or chosen is None:
        raise InputError(faults)
    constraints = [limit for limit in limits if limit is not None]
    if options.latency_target_ms is not None:
        constraints.append(Constraint("time_to_first_clause_ms.p90", True, options.latency_target_ms))
    if options.memory_free_mib is not None:
        constraints.append(Constraint("memory_left_bytes", False, options.memory_free_mib * 2**20))
    others = tuple(dict.fromkeys(one for one in against if one is not None))
    # Places of links are those of the space, which --only may have narrowed.
    kept = {choice.name for choice in space.links}
    links = tuple(link for link in links if link.name in kept)
    return Asked(base, overrides, space, links, chosen, others, tuple(constraints))


def with_more_talks(options: ExploreOptions) -> list[str]:
    """The overrides, with enough conversations that a difference is one."""
    if options.conversations is not None:
        return [*options.overrides, f"workload.count={options.conversations}"]
    base = load_compiled(options.file, options.overrides)
    workload = base.scenario.workload
    if not isinstance(workload, Conversations) or workload.count is None or workload.count >= TALKS:
        return options.overrides
    return [*options.overrides, f"workload.count={TALKS}"]


def chips_of(base: Setup, options: ExploreOptions) -> tuple[Chip, ...]:
    """The scenario's chips, those added, and those outside the car, which are counted even where they may not be."""
    named = [load_chip(name, options.file) for name in options.chips]
    outside = [load_chip(chip.name, options.file) for chip in described("chip", Chip) if chip.place == "cloud"]
    found = {chip.name: chip for chip in (*base.chips.values(), *named, *outside)}
    return tuple(found.values())


def links_of(options: ExploreOptions) -> tuple[Link, ...]:
    """The links named, or all that can be built."""
    if options.links:
        return tuple(load_named("link", Link, name, options.file) for name in options.links)
    return tuple(link for link in described("link", Link) if not link.on_chip and link.reaches != "anywhere")


def drafts_of(base: Setup, options: ExploreOptions) -> tuple[tuple[str, str], ...]:
    """Deployed drafts with the stand-ins that speak for them."""
    if not options.drafts:
        return drafts_for(base)
    found = []
    for text in options.drafts:
        model, colon, stand_in = text.partition(":")
        if not colon or not model or not stand_in:
            expected = "MODEL:STAND_IN, such as draft-68m-llama3:models/draft-0.8m"
            raise InputError([Fault("--draft", "", repr(text), expected)])
        found.append((model, stand_in))
    return tuple(found)


def narrowed(space: Space, only: Sequence[str]) -> Space:
    """The part of a space that --only asks for. Raises `InputError` for keys and values that there are not."""
    known, faults = space.values(), []
    wanted: dict[str, list[str]] = {}
    for text in only:
        key, equals, values = text.partition("=")
        if not equals or key not in known:
            faults.append(Fault("--only", "", repr(text), f"KEY=VALUE,... with a key of {', '.join(known)}"))
            continue
        mine = [value.strip() for value in values.split(",")] if key != "rules" else [values]
        strange = [value for value in mine if value not in known[key]]
        faults += [Fault("--only", key, repr(value), f"one of {', '.join(known[key])}") for value in strange]
        wanted[key] = mine
    if faults:
        raise InputError(faults)
    found = space.only(wanted)
    if not found.size:
        raise InputError([Fault("--only", "", "a space of no configurations", "choices that go together")])
    return found


def all_screened(ready: Ready, workers: int | None) -> Found:
    """Every configuration, target by target, on this many processes."""
    jobs = [(rule, target) for rule in range(len(ready.scenarios)) for target in range(len(ready.sites[rule]))]
    count = min(workers or os.cpu_count() or 1, len(jobs))
    parts: dict[tuple[int, int], Found] = {}
    with progressing(len(jobs), "targets screened") as count_of:
        if count == 1:
            screen = Screen(ready, screened_measures)
            for job in jobs:
                parts[job] = screen.of_target(*job)
                count_of.ended("done")
        else:
            context = get_context("spawn")
            with ProcessPoolExecutor(count, context, initializer=begin, initargs=(ready,)) as pool:
                running: dict[Future[Found], tuple[int, int]] = {pool.submit(screen_target, *job): job for job in jobs}
                try:
                    left = set(running)
                    while left:
                        done, left = wait(left, return_when=FIRST_COMPLETED)
                        for future in done:
                            parts[running[future]] = future.result()
                            count_of.ended("done")
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    return Found.joined([parts[job] for job in jobs])


SCREEN: list[Screen] = []


def begin(ready: Ready) -> None:
    """A worker process gets the space."""
    SCREEN[:] = [Screen(ready, screened_measures)]


def screen_target(rule: int, target: int) -> Found:
    """A worker's share of it."""
    return SCREEN[0].of_target(rule, target)


def confirmed(
    options: ExploreOptions, asked: Asked, ready: Ready, answer: Answer, rank: int, place: int,
    say: Callable[[str], None],
) -> Finalist:  # fmt: skip
    """One of the best, loaded as a user would load it and run event by event, with what it rests on; its scenario file,
    where asked for.
    """
    chosen = answer.overrides(place, ready.application)
    overrides = [*asked.overrides, *chosen]
    setup = load_compiled(options.file, overrides)
    by_events = measured(setup, ledgers(setup), *run_of(setup))
    name = asked.objective.measure
    say(f"what finalist {rank} rests on")
    rests = rests_on(setup, name)
    forget_prices()
    events, screened = by_events[name], answer.numbers(place)[name]
    file = None
    if options.out is not None:
        file = options.out / f"{options.file.stem}-{rank}.yaml"
        ours, theirs = shlex.quote(str(file)), shlex.quote(str(options.file))
        told = [
            f"Finalist {rank} of `python -m hilsim explore {theirs}` by {asked.objective.name}:",
            f"{name} {screened:.6g}, speed-up {answer.numbers(place)['speedup']:.3f} over its own target alone.",
            f"python simulate.py {ours} runs it live, and should say the same within {TOLERANCE:.0%}.",
        ]
        with written(file) as path:
            path.write_text(scenario_text(options.file, overrides, told), encoding="utf-8")
    assumed = tuple(figure for figure in assumptions(setup) if figure["kind"] == "assumed")
    return Finalist(place, float(events or 0.0), screened, file, tuple(chosen), assumed, rests, outside_car(setup))


def ranking_command(options: ExploreOptions, asked: Asked, finalists: Sequence[Finalist]) -> str:
    """The command that ranks the finalists under draws of their figures; "" where there is nothing to rank."""
    if len(finalists) < 2:
        return ""
    words = ["python", "scripts/ranking.py", str(options.file), "--objective", asked.objective.name]
    words += [word for one in asked.overrides for word in ("--set", one)]
    return shlex.join([*words, *(w for each in finalists for w in ("--contender", shlex.join(each.overrides)))])
