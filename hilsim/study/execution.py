"""Running a study: all points of its grid, or a search in it, in this process, in some beside it, or on a cluster."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from hilsim.compiler.compile_check import load_compiled
from hilsim.describe.load import load_setup
from hilsim.describe.outside import outside_car
from hilsim.describe.study import FAST, Objective, Search, Study
from hilsim.describe.study_load import Described, override
from hilsim.errors import Fault, HilsimError, InputError
from hilsim.measure.measures import HEADLINE, MEASURES
from hilsim.progress import progressing, status_line
from hilsim.study.cluster import Cluster
from hilsim.study.point_result import PointResult
from hilsim.study.points import Grid, Label, Point
from hilsim.study.search import Goal, Places, SearchResult, Values, search
from hilsim.study.spread import spread
from hilsim.study.study_run import StudyRun
from hilsim.study.sweeps import LATENCY
from hilsim.study.usage import Usage
from hilsim.study.worker import facts_of
from hilsim.study.workers import Task, ThisProcess, Workers, failed
from hilsim.study.workers import workers_for as workers_here
from hilsim.versions import require_package

SPEEDUP = "speedup"
PLACING = ("target", "draft")  # blocks of a scenario that say where a role runs
MANY = 2000  # points that run without --yes
PROBES = 2  # points that show how long all of them take; the first also loads what all of them need
Goals = Sequence[tuple[str, Goal]]
Report = Callable[[Usage], None]


@dataclass(frozen=True)
class Row:
    """One point and what became of it."""

    point: Point
    labels: list[Label]
    outcome: PointResult


def search_of(study: Study, *, requested: bool, grid: bool) -> Search | None:
    """How to search, where the file or the command line requests it; None where all points of the grid run."""
    if grid or (study.search is None and not requested):
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
            missing = f"no goal for {wanted.metric}, of which neither more nor less is better"
            raise InputError([Fault(str(file), where, missing, "goal: min or goal: max")])
        found.append((wanted.metric, wanted.goal or ("max" if better == "higher" else "min")))
    return found


def require_timed(study: Study, goals: Goals, file: Path) -> None:
    """Raises `InputError` where the points of a study are timed without events and a metric of it needs them."""
    names = dict.fromkeys([*study.metrics, *(name for name, _ in goals)])
    if study.timing == FAST and (missing := [name for name in names if not MEASURES[name].screened]):
        found = f"{', '.join(missing)} with `timing: {FAST}`"
        raise InputError([Fault(str(file), "timing", found, "measures that fast timing has", "Leave `timing` out.")])


def first_goal(study: Study) -> str:
    """What a search looks for where none is named: the first metric, or the request time in place of a speed-up.

    Both have the same best point where the target alone is the same in all, and the time has the right one elsewhere.
    """
    name = (study.metrics or HEADLINE)[0]
    return LATENCY if name == SPEEDUP else name


def outside_roles(described: Described, grid: Grid) -> list[str]:
    """Roles that a study puts outside the car: by its scenario, or by a choice on an axis that places one."""
    placing = [column for column in grid.columns if any(key.split(".")[0] in PLACING for key in column.keys)]
    choices = [zip(column.keys, row, strict=True) for column in placing for row in column.rows]
    found: dict[str, None] = {}
    for choice in ((), *choices):
        with suppress(InputError):  # what cannot run places no role
            given = [*described.base, *(override(key, value) for key, value in choice)]
            found |= dict.fromkeys(outside_car(load_setup(described.scenario.resolve(), given)))
    return list(found)


def machine() -> dict[str, str]:
    """Where a study ran last; results do not depend on it."""
    return {"system": platform.platform(), "processor": platform.machine(), "cores": str(cores())}


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unreported(usage: Usage) -> None:
    """For those who do not want to know."""


def run_study(
    study_run: StudyRun,
    how: Search | None,
    goals: Goals,
    *,
    workers: int | None,
    cluster: str | None,
    report: Report = unreported,
) -> SearchResult | None:
    """Run every point that is left, or search: what was found then. `workers` are processes (default: one a core).

    `report` gets what was used, where points have run.
    """
    open_workers = partial(workers_for, study_run, workers, cluster, report)
    if how is not None:
        return run_search(study_run, how, goals, open_workers)
    if left := study_run.left(study_run.grid.points()):
        compile_first(study_run)
        with open_workers(len(left)) as opened, progressing(len(left), "points") as count:
            for outcome in study_run.run(left, opened):
                count.ended(outcome.state)
    return None


def run_search(
    study_run: StudyRun,
    how: Search,
    goals: Goals,
    open_workers: Callable[[int], AbstractContextManager[Workers[Task, PointResult]]],
) -> SearchResult:
    """Search the grid; points that are known are looked up."""
    grid = study_run.grid
    names = [name for name, _ in goals]
    compile_first(study_run)
    with open_workers(how.batch * grid.repeats) as workers, progressing(how.trials, "trials") as count:

        def batch(cells: list[Places]) -> list[Values | None]:
            for outcome in study_run.run([point for cell in cells for point in grid.points_of(cell)], workers):
                count.ended(outcome.state, steps=0)
            return [objectives_at(study_run, cell, names) for cell in cells]

        return search(grid, how, [goal for _, goal in goals], batch, count.reached)


@contextmanager
def workers_for(
    study_run: StudyRun, processes: int | None, cluster: str | None, report: Report, most: int
) -> Iterator[Workers[Task, PointResult]]:
    """What runs the points: this process, up to `most` beside it, or a cluster; `report` gets what it used at the end.

    The seconds of processes are known when they have ended.
    """
    workers: Workers[Task, PointResult]
    began, own_s, before = time.perf_counter(), time.process_time(), len(study_run.store)
    if cluster is not None:
        workers = Cluster(study_run.work, cluster, study_run.facts, partial(facts_of, study_run.file, study_run.base))
    else:
        workers = workers_here(study_run.work, min(processes or cores(), most), failed)
    try:
        yield workers
        used = workers.count if cluster is not None else min(workers.count, cores())
        points, wall_s = len(study_run.store) - before, time.perf_counter() - began
    finally:
        others_s = workers.close()
    if points:
        cpu_s = None if others_s is None else time.process_time() - own_s + others_s
        report(Usage(points, wall_s, used, workers.useful_s, cpu_s))


def compile_first(study_run: StudyRun) -> None:
    """Make the plans of the scenario itself once, so that no two workers make them side by side."""
    with status_line("compiling") as notify, suppress(HilsimError):  # its points report what is refused here
        load_compiled(study_run.file, study_run.base, notify)


def objectives_at(study_run: StudyRun, cell: Places, names: Sequence[str]) -> Values | None:
    """The means of some metrics over the seeds of a cell; None where a seed was refused, failed or lacks one."""
    outcomes = [study_run.store[point] for point in study_run.grid.points_of(cell)]
    found = [[outcome.metrics.get(name) for outcome in outcomes] for name in names]
    means = [spread([number for number in numbers if number is not None]) for numbers in found]
    if any(outcome.state != "done" for outcome in outcomes) or any(None in numbers for numbers in found):
        return None
    return tuple(mean.mean for mean in means if mean is not None)


def require_few(
    study_run: StudyRun, how: Search | None, file: Path, *, workers: int | None, cluster: str | None
) -> None:
    """Raise `InputError` for very many points, with how long they would take; the first of them run to measure it."""
    grid = study_run.grid
    left: Sequence[Point] = study_run.left(grid.points() if how is None else islice(grid.points(), PROBES))
    number = len(left) if how is None else min(how.trials * grid.repeats, len(grid))
    if number <= MANY:
        return
    probed = list(study_run.run(left[:PROBES], ThisProcess(study_run.work)))
    if not probed:
        return
    count = 1 if cluster is not None else workers or cores()
    where = "on one worker of the cluster" if cluster else f"on {count} of this machine's cores"
    took = about(probed[-1].seconds * number / count)
    found = f"{number} points to run, going by the first ones {took} {where}"
    remedy = "Add --yes to run them all, or take fewer values or repeats, or --search."
    raise InputError([Fault(str(file), "", found, f"at most {MANY} without --yes", remedy)])


def about(seconds: float) -> str:
    """A rough duration."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {max(1, seconds):.0f} s"


def rows_of(study_run: StudyRun, searched: SearchResult | None) -> list[Row]:
    """What is stored of the points of a study, in their order; of a search, the points of its trials."""
    grid, store = study_run.grid, study_run.store
    if searched is None:
        points = grid.points()
    else:
        points = iter(sorted((p for c in searched.tried for p in grid.points_of(c)), key=lambda point: point.index))
    return [Row(point, grid.labels(point.places), store[point]) for point in points if point in store]
