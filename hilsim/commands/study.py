"""`python -m hilsim study`: a grid of scenarios, or a search in it, on all cores or a cluster; kept as it goes."""

from __future__ import annotations

import os
import platform
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from hilsim.commands.outputs import require_place, require_plot
from hilsim.compiler.compile_check import load_compiled
from hilsim.describe.load import load_setup
from hilsim.describe.outside import outside_car
from hilsim.describe.study import Objective, Search, Study
from hilsim.describe.study_load import Described, load_study, override
from hilsim.describe.write import typed
from hilsim.errors import Fault, HilsimError, InputError
from hilsim.extras import require_package
from hilsim.files import folder_faults, read_text, written
from hilsim.measure.measures import HEADLINE, MEASURES
from hilsim.progress import progressing, saying
from hilsim.show.numbers import clean, counted, duration, percent, three_digits
from hilsim.show.results import (
    Row,
    best_of,
    cells_of,
    points_table,
    print_reasons,
    print_table,
    types_of,
)
from hilsim.show.sentences import outside_words
from hilsim.study.campaign import Campaign, bytes_digest
from hilsim.study.cluster import Cluster
from hilsim.study.points import Grid, Point, grid_of
from hilsim.study.search import Found, Goal, Places, Values, search
from hilsim.study.spread import spread
from hilsim.study.store import Store
from hilsim.study.sweeps import LATENCY
from hilsim.study.worker import digest_of, facts_of, worked
from hilsim.study.workers import Here, Processes, Workers

SPEEDUP = "speedup"
SAME = 1e-3
PLACING = ("target", "draft")  # blocks of a scenario that say where a role runs
MANY = 2000  # points that run without being asked for twice
WIDE = 140  # columns of a table that no terminal limits
PROBES = 2  # points that tell how long all of them take; the first also loads what all of them need
Goals = Sequence[tuple[str, Goal]]


@dataclass(frozen=True)
class StudyOptions:
    """What the user asked `study` for."""

    file: Path
    overrides: list[str]
    out: Path | None = None
    workers: int | None = None
    cluster: str | None = None
    yes: bool = False
    search: bool = False
    grid: bool = False
    retry_failed: bool = False
    csv: Path | None = None
    parquet: Path | None = None
    plot: Path | None = None


def study_command(options: StudyOptions) -> int:
    """Run what is left of a study and show all of it. Returns 1 where a point failed that should not have."""
    require_outputs(options)
    described = load_study(options.file, options.overrides, list(MEASURES))
    study = described.study
    how = search_of(study, options)
    goals = [] if how is None else goals_of(how, study, options.file)
    facts = facts_of(described.scenario, described.base)
    grid = grid_of(described, ground=digest_of(facts))
    if how is None and len(grid) > study.most_points:
        found = f"{len(grid)} points ({grid.cells} combinations, each with {counted(grid.repeats, 'seed')})"
        remedy = "Raise most_points, take fewer values, or --search."
        raise InputError([Fault(str(options.file), "axes", found, f"at most {study.most_points}", remedy)])
    out = options.out or Path("out") / study.name
    if faults := folder_faults(out, "--out"):
        raise InputError(faults)
    with Store(out / "study.sqlite", facts, read_text(options.file), machine()) as store:
        if options.retry_failed:
            store.forget_failed()
        scenario = described.scenario.resolve()
        campaign = Campaign(grid, store, scenario, described.base, bytes_digest(scenario), facts)
        try:
            searched = None if how is None else run_search(campaign, how, goals, options)
            if how is None:
                run_grid(campaign, options)
        except KeyboardInterrupt:
            kept = f"interrupted; {counted(len(store), 'point')} kept in {store.file}"
            raise KeyboardInterrupt(f"{kept}. The same command goes on from there.") from None
        rows = rows_of(campaign, searched)
    metrics = list(dict.fromkeys([*(name for name, _ in goals), *(study.metrics or HEADLINE)]))
    if outside := outside_roles(described, grid):
        print(outside_words(outside))
    show(study, rows, grid, metrics, searched, (described.scenario, described.base))
    export(study, rows, grid, metrics, options)
    return 1 if any(row.outcome.state == "failed" for row in rows) else 0


def outside_roles(described: Described, grid: Grid) -> list[str]:
    """Roles that a study puts outside the car: by its scenario, or by a choice on an axis that places one."""
    placing = [column for column in grid.columns if any(key.split(".")[0] in PLACING for key in column.keys)]
    choices = [zip(column.keys, row, strict=True) for column in placing for row in column.rows]
    found: dict[str, None] = {}
    for choice in ((), *choices):
        with suppress(InputError):  # what cannot run puts no one anywhere
            given = [*described.base, *(override(key, value) for key, value in choice)]
            found |= dict.fromkeys(outside_car(load_setup(described.scenario.resolve(), given)))
    return list(found)


def require_outputs(options: StudyOptions) -> None:
    """Refuse what could not be written before the work, not after it."""
    if options.plot is not None:
        require_plot(options.plot)
    if options.parquet is not None:
        require_package("pyarrow", "--parquet", ", or use --csv")
    for place, option in ((options.csv, "--csv"), (options.parquet, "--parquet")):
        if place is not None:
            require_place(place, option)


def search_of(study: Study, options: StudyOptions) -> Search | None:
    """How to search, where the file or the command line asks for it."""
    if options.grid or (study.search is None and not options.search):
        return None
    require_package("optuna", "search")
    return study.search or Search()


def goals_of(how: Search, study: Study, file: Path) -> list[tuple[str, Goal]]:
    """The objectives of a search and which way each goes: the first metric of the study where none is named."""
    found: list[tuple[str, Goal]] = []
    for place, wanted in enumerate(how.objectives or (Objective(metric=first_goal(study)),)):
        better = MEASURES[wanted.metric].better
        if wanted.goal is None and not better:
            where = f"search.objectives[{place}]"
            told = f"no goal for {wanted.metric}, of which neither more nor less is better"
            raise InputError([Fault(str(file), where, told, "goal: min or goal: max")])
        found.append((wanted.metric, wanted.goal or ("max" if better == "higher" else "min")))
    return found


def first_goal(study: Study) -> str:
    """What a search looks for where none is named: the first metric, or the request time in place of a speed-up.

    Both have the same best point where the target alone is the same in all, and the time has the right one elsewhere.
    """
    name = (study.metrics or HEADLINE)[0]
    return LATENCY if name == SPEEDUP else name


def machine() -> dict[str, str]:
    """Where a study ran last; results do not depend on it."""
    return {"system": platform.platform(), "processor": platform.machine(), "cores": str(cores())}


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def workers_for(campaign: Campaign, options: StudyOptions, most: int) -> Iterator[Workers]:
    """Who runs the points: this process, some beside it, or a cluster."""
    workers: Workers
    count = min(options.workers or cores(), most)
    if options.cluster is not None:
        report = partial(facts_of, campaign.file, campaign.base)
        workers = Cluster(worked, options.cluster, campaign.facts, report)
    else:
        workers = Here(worked) if count <= 1 else Processes(worked, count)
    try:
        yield workers
    finally:
        workers.close()


def compile_first(campaign: Campaign) -> None:
    """Make the plans of the scenario itself once, so that no two workers make them side by side."""
    with saying("compiling") as say, suppress(HilsimError):  # what is refused here, its points will tell
        load_compiled(campaign.file, campaign.base, say)


def run_grid(campaign: Campaign, options: StudyOptions) -> None:
    """Run every point that is left."""
    left = campaign.left(campaign.grid.points())
    require_few(campaign, left, len(left), options)
    if not left:
        return
    compile_first(campaign)
    with workers_for(campaign, options, len(left)) as workers, progressing(len(left), "points") as count:
        for outcome in campaign.run(left, workers):
            count.ended(outcome.state)


def run_search(campaign: Campaign, how: Search, goals: Goals, options: StudyOptions) -> Found:
    """Search the grid; points that are known are looked up."""
    grid = campaign.grid
    probes = campaign.left(islice(grid.points(), PROBES))
    require_few(campaign, probes, min(how.trials * grid.repeats, len(grid)), options)
    names = [name for name, _ in goals]
    compile_first(campaign)
    with (
        workers_for(campaign, options, how.batch * grid.repeats) as workers,
        progressing(how.trials, "trials") as count,
    ):

        def batch(cells: list[Places]) -> list[Values | None]:
            for outcome in campaign.run([point for cell in cells for point in grid.points_of(cell)], workers):
                count.ended(outcome.state, steps=0)
            return [objectives_at(campaign, cell, names) for cell in cells]

        return search(grid, how, [goal for _, goal in goals], batch, count.reached)


def objectives_at(campaign: Campaign, cell: Places, names: Sequence[str]) -> Values | None:
    """The means of some metrics over the seeds of a cell; None where a seed was refused, failed or lacks one."""
    outcomes = [campaign.store[point] for point in campaign.grid.points_of(cell)]
    found = [[outcome.metrics.get(name) for outcome in outcomes] for name in names]
    means = [spread([number for number in numbers if number is not None]) for numbers in found]
    if any(outcome.state != "done" for outcome in outcomes) or any(None in numbers for numbers in found):
        return None
    return tuple(mean.mean for mean in means if mean is not None)


def require_few(campaign: Campaign, left: Sequence[Point], number: int, options: StudyOptions) -> None:
    """Raises `InputError` for very many points, with how long they would take; the first of them run to tell it."""
    if number <= MANY or options.yes:
        return
    probed = list(campaign.run(left[:PROBES], Here(worked)))
    if not probed:
        return
    count = 1 if options.cluster is not None else options.workers or cores()
    where = "on one worker of the cluster" if options.cluster else f"on {count} of this machine's cores"
    took = about(probed[-1].seconds * number / count)
    told = f"{number} points to run, going by the first ones {took} {where}"
    remedy = "Say --yes to run them all, or take fewer values or repeats, or --search."
    raise InputError([Fault(str(options.file), "", told, f"at most {MANY} without --yes", remedy)])


def about(seconds: float) -> str:
    """A rough duration."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {max(1, seconds):.0f} s"


def rows_of(campaign: Campaign, searched: Found | None) -> list[Row]:
    """What is stored of the points of a study, in their order; of a search, the points of its trials."""
    grid, store = campaign.grid, campaign.store
    if searched is None:
        points = grid.points()
    else:
        points = iter(sorted((p for c in searched.tried for p in grid.points_of(c)), key=lambda point: point.index))
    return [Row(point, grid.labels(point.places), store[point]) for point in points if point in store]


def show(
    study: Study,
    rows: Sequence[Row],
    grid: Grid,
    metrics: Sequence[str],
    searched: Found | None,
    ran: tuple[Path, tuple[str, ...]],
) -> None:
    """The table, what was refused and why, and the best points as commands; `ran` is the scenario and its --set."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    if study.question:
        console.print(clean(study.question), style="bold", highlight=False, markup=False)
    cells = cells_of(rows, metrics)
    front = [] if searched is None else [cell for places in searched.front for cell in cells if cell.places == places]
    print_table(front if searched is not None and len(searched.goals) > 1 else cells, grid, metrics, console)
    print_reasons(rows, console)
    if searched is not None:
        told = f"{searched.trials} trials of {counted(len(searched.tried), 'combination')}"
        share = percent(len(searched.tried) / grid.cells)
        console.print(f"Search: {told}, {share} of the grid's {grid.cells:,}.", highlight=False)
    if searched is not None and len(searched.goals) > 1:
        console.print(
            f"No other point is better in one and as good in all of {', '.join(metrics[: len(searched.goals)])}."
        )
        return
    name = metrics[0]
    if name == SPEEDUP and (alone := baselines(rows)) is not None:
        told = f"{duration(alone[0])} to {duration(alone[1])} a request"
        text = f"Each speedup is over its own target alone, which takes {told}: "
        if searched is None:
            name = LATENCY
            cells = cells_of(rows, [*metrics, name])
            text += f"the best point is by {name}."
        else:
            text += f"for the quickest point search for {LATENCY}."
        console.print(text, highlight=False)
    best = front[0] if front else None if searched is not None else best_of(cells, name)
    if best is not None and (mean := best.metrics[name]) is not None:
        # Of several seeds the first is the scenario's own.
        chosen = [
            given for given in best.rows[0].point.overrides if grid.varies("seed") or not given.startswith("seed=")
        ]
        command = f"python simulate.py {shlex.quote(str(short_path(ran[0])))} {typed([*ran[1], *chosen])}"
        text = f"Best {name}, {three_digits(mean.mean)}: {command}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if failed := [row for row in rows if row.outcome.state == "failed"]:
        text = f"{counted(len(failed), 'point')} failed, which none should; --retry-failed runs them again."
        console.print(text, style="bold red", highlight=False)


def baselines(rows: Sequence[Row]) -> tuple[float, float] | None:
    """The least and the longest request of the target alone, where points of one seed differ in it.

    None where they do not, and where answers are of different lengths, so that times say less than speed-ups.
    """
    alone: dict[int, list[float]] = defaultdict(list)
    tokens: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        found = [row.outcome.metrics.get(name) for name in (SPEEDUP, LATENCY, "output_token_throughput")]
        if row.outcome.state == "done" and None not in found:
            gain, latency, rate = (float(number or 0.0) for number in found)
            alone[row.point.seed].append(gain * latency)
            tokens[row.point.seed].append(rate * latency)
    apart = [seed for seed, times in alone.items() if max(times) > (1 + SAME) * min(times)]
    if not apart or any(max(tokens[seed]) > (1 + SAME) * min(tokens[seed]) for seed in apart):
        return None
    return min(map(min, alone.values())), max(map(max, alone.values()))


def short_path(file: Path) -> Path:
    """A path as it is typed here."""
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file


def export(study: Study, rows: Sequence[Row], grid: Grid, metrics: Sequence[str], options: StudyOptions) -> None:
    """Write the files that were asked for, each whole or not at all."""
    table = points_table(rows, grid, metrics)
    if options.csv is not None:
        with written(options.csv) as path, path.open("w", encoding="utf-8", newline="") as file:
            table.write_csv(file)
    if options.parquet is not None:
        with written(options.parquet) as path:
            table.write_parquet(path, types_of(grid, metrics))
    if options.plot is not None:
        from hilsim.show.study import draw

        with written(options.plot) as path:
            draw(cells_of(rows, metrics), grid, metrics, study.question or study.name, path, options.plot.suffix[1:])
