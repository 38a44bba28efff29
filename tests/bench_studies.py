"""How much of a study's processor time goes into its points? `python -m tests.bench_studies`; the last line is JSON.

A study of synthetic logits: acceptance by drafted tokens by seeds. Its points run by events and by fast timing, on
local processes and on a Dask cluster on loopback. Of every way the first points are not counted: they start processes
and load what all of them need. `of_processes` is the processor time within the function that evaluates a point over
that of all processes of the study, so that other work on the machine does not lower it; `of_cores` is it over the time
of the cores. `--points 100000` runs so many by fast timing, with `--by events` by events. The model of many workers
(`study/scaling.py`) takes what the cluster's processes used a point and a task.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import tempfile
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hilsim.describe.study_load import load_study
from hilsim.measure.measures import MEASURES
from hilsim.places import CODE as PROJECT
from hilsim.study.cluster import Cluster, points_for
from hilsim.study.point_result import PointResult
from hilsim.study.points import Column, Grid, Point
from hilsim.study.scaling import Cost, Overheads, scaling
from hilsim.study.store import Store
from hilsim.study.stored import StoredGrid
from hilsim.study.study_run import StudyRun, bytes_digest
from hilsim.study.threads import single_threaded
from hilsim.study.usage import Usage
from hilsim.study.worker import facts_of, work_of
from hilsim.study.workers import Processes, Task, Workers, failed
from tests.clusters import METRICS, nothing, scheduler_in, workers_in
from tests.studies import until

WARM = 24  # points before the clock starts
IDLE_S = 1.0  # in which it is seen what the processes use by themselves
NOTHING = "nothing"  # work that takes no time: what is left are overheads
BY_EVENTS, FAST = 250, 500  # points of a short run
CLUSTERED = {"events": 200, NOTHING: 4000}
STORED = 100_000
CORES = 2
Open = Callable[[StudyRun], Workers[Task, PointResult]]
LINK_BYTES_PER_S = 125e6  # of the model's client: gigabit Ethernet
MANY, POINTS_S = 1000, (0.025, 0.1, 1.0)
SEEDS, DRAFTS = 40, 10


def study_file(folder: Path, points: int, timing: str) -> Path:
    """A study of at least so many points: short answers by synthetic logits."""
    steps = max(2, -(-points // (SEEDS * DRAFTS)))
    study = {
        "name": "bench", "scenario": str(PROJECT / "scenarios" / "paper_table.yaml"), "timing": timing,
        "set": {
            "workload": {"requests": 4, "prompt_tokens": 60, "output_tokens": 64, "pause_ms": 0},
            "target.timer": {"prefill": {"1024": 14.1}, "decode": 14.1, "verify": {"5": 14.1, "11": 16.0},
                             "source": "as paper_table, longer verifies made up"},
        },
        "axes": [
            {"key": "logits.acceptance", "from": 0.3, "to": 0.95, "steps": steps, "name": "acceptance"},
            {"key": "policy.draft_tokens", "from": 1, "to": DRAFTS, "name": "draft_tokens"},
        ],
        "repeats": SEEDS, "most_points": 10**7,
    }  # fmt: skip
    file = folder / f"{timing}.yaml"
    file.write_text(json.dumps(study))  # JSON is YAML
    return file


def studied(folder: Path, points: int, timing: str) -> StoredGrid:
    """The points of such a study, and what runs one."""
    described = load_study(study_file(folder, points, "events" if timing == NOTHING else timing), (), list(MEASURES))
    return StoredGrid.of(described, "", nothing if timing == NOTHING else work_of(described.study))


@dataclass(frozen=True)
class Run:
    """A study that runs: what it used after its first points, by part of it too, and each part's share when idle."""

    usage: Usage
    parts: dict[str, float]
    idle: dict[str, float]  # processor seconds a second in which nothing runs
    tasks: int

    def busy_s(self, part: str) -> float:
        """Processor seconds of a part for points, as if it had the rest of its processor for them."""
        idle = self.idle.get(part, 0.0)
        return max(0.0, self.parts[part] - idle * self.usage.wall_s) / (1 - idle)


def run(
    stored: StoredGrid,
    store: Path,
    points: int,
    cores: int,
    open_workers: Callable[[StudyRun], Workers[Task, PointResult]],
) -> Run:
    """Run so many points after the first ones."""
    file = stored.described.scenario.resolve()
    with Store(store, stored.facts, "", {}) as opened:
        digest = bytes_digest(file)
        study_run = StudyRun(stored.grid, opened, file, stored.described.base, digest, stored.facts, stored.work)
        left = spread_out(study_run.left(stored.grid.points()), WARM + points)
        workers = open_workers(study_run)
        try:
            for _ in study_run.run(left[:WARM], workers):
                pass
            before = parts_s(workers)
            time.sleep(IDLE_S)
            idle = {name: seconds / IDLE_S for name, seconds in since(before, parts_s(workers)).items()}
            before, useful_s, tasks, began = parts_s(workers), workers.useful_s, tasks_of(workers), time.perf_counter()
            for _ in study_run.run(left[WARM:], workers):
                pass
            wall_s = time.perf_counter() - began
            parts = since(before, parts_s(workers))
            used = Usage(len(left) - WARM, wall_s, cores, workers.useful_s - useful_s, sum(parts.values()))
            return Run(used, parts, idle, tasks_of(workers) - tasks)
        finally:
            workers.close()


def since(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """What has been added, by part."""
    return {name: seconds - before.get(name, 0.0) for name, seconds in now.items()}


def spread_out(points: list[Point], count: int) -> list[Point]:
    """So many of the points, from all over the grid; all of them where there are not more."""
    step = max(1, len(points) // count)
    return points[::step][:count]


def parts_s(workers: Workers[Task, PointResult]) -> dict[str, float]:
    """Processor seconds so far of this process, of each worker and of a scheduler."""
    own = {"client": time.process_time()}
    if isinstance(workers, Cluster):
        return own | workers.cpu_s()
    if isinstance(workers, Processes):
        return own | {str(worker.process.pid): cpu_s(worker.process.pid) for worker in workers.workers}
    return own


def tasks_of(workers: Workers[Task, PointResult]) -> int:
    """Tasks that a cluster's scheduler has had so far."""
    return workers.tasks if isinstance(workers, Cluster) else 0


def cpu_s(pid: int | None) -> float:
    """Processor seconds of a process so far, as Linux counts them."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def local(folder: Path, points: int, timing: str) -> Run:
    """On processes of this machine, one a core."""
    stored = studied(folder, WARM + points, timing)
    return run(stored, folder / f"{timing}.sqlite", points, CORES, lambda of: Processes(of.work, CORES, failed))


def clustered(folder: Path, count: int, points: dict[str, int]) -> dict[str, Run]:
    """On a Dask scheduler and so many workers on loopback: by what times the points, so many of them."""

    def cluster(address: str, of: StudyRun) -> Cluster:
        found = Cluster(of.work, address, of.facts, partial(facts_of, of.file, of.base))
        until(lambda: found.count == count)
        return found

    with scheduler_in(folder / "dask") as (address, _), workers_in(folder / "dask", address, count):
        return {
            timing: run(studied(folder, WARM + number, timing), folder / f"dask-{count}-{timing}.sqlite", number, CORES,
                        partial(cluster, address))
            for timing, number in points.items()
        }  # fmt: skip


def overheads(runs: Sequence[Run], stored: StoredGrid) -> Overheads:
    """What two runs on a cluster, with points of different length, used a task and a point."""
    first, second = runs

    def cost(seconds: Callable[[Run], float]) -> Cost:
        of_each = [(seconds(one), one.tasks, one.usage.points) for one in (first, second)]
        return Cost.between(of_each[0], of_each[1])

    def workers_s(found: Run) -> float:
        used_s = sum(found.busy_s(part) for part in found.parts if part not in ("client", "scheduler"))
        return max(0.0, used_s - found.usage.useful_s)

    point = next(stored.grid.points())
    task = Task(point.key, stored.described.scenario, stored.described.base, point.overrides, "0" * 64, stored.facts)
    sent: list[object] = [task, nothing(task)]
    # Of the second point of a task only what it does not share with the first is sent.
    once, twice = (sum(len(pickle.dumps([copy(one) for _ in range(count)])) for one in sent) for count in (1, 2))
    return Overheads(
        worker=cost(workers_s),
        client=cost(lambda found: found.busy_s("client")),
        scheduler=Cost(max(found.busy_s("scheduler") / found.tasks for found in runs), 0.0),
        link=Cost((2 * once - twice) / LINK_BYTES_PER_S, (twice - once) / LINK_BYTES_PER_S),
    )


def synthetic_grid(points: int) -> Grid:
    """A grid of so many points that nobody runs."""
    values = tuple(number / points for number in range(points // SEEDS))
    column = Column("axis", ("key",), tuple((value,) for value in values), values, ("digest",) * len(values))
    return Grid("ground", (column,), SEEDS, 1)


def fill(file: Path, points: int) -> float:
    """Store so many points that are done; processor seconds a point."""
    grid = synthetic_grid(points)
    began = time.process_time()
    with Store(file, {"ground": "one"}, "", {}) as store:
        batch: list[tuple[Point, Sequence[object], PointResult]] = []
        for point in grid.points():
            batch.append((point, grid.labels(point.places), PointResult(point.key, "done", METRICS, "", 0.02)))
            if len(batch) == 10_000:
                store.add(batch)
                batch = []
        store.add(batch)
    return (time.process_time() - began) / points


def opened(file: Path, points: int) -> tuple[float, float]:
    """Seconds to open a store, and to find that nothing is left of its points."""
    began = time.perf_counter()
    with Store(file, {"ground": "one"}, "", {}) as store:
        open_s = time.perf_counter() - began
        assert len(store.keys) == points, "less work would be no speed"
        return open_s, time.perf_counter() - began


def figures(name: str, found: Run) -> dict[str, float]:
    """The rate and the shares of a run."""
    used = found.usage
    assert used.of_processes is not None, "every worker has answered"
    print(
        f"{name:22} {used.points:7,} points {used.points_per_s:9,.1f} points/s  of {used.cores} cores "
        f"{used.of_cores:6.1%}  of all processes {used.of_processes:6.1%}",
        flush=True,
    )
    return {
        f"{name}_points_per_s": used.points_per_s,
        f"{name}_of_cores": used.of_cores,
        f"{name}_of_processes": used.of_processes,
        f"{name}_point_ms": 1000 * used.useful_s / used.points,
    }


def modelled(found: Overheads, few: int) -> dict[str, float]:
    """Where these few workers would stand in a long study, and where many would, by the length of their points."""
    shown = {
        f"{part}_us_a_{what}": 1e6 * seconds
        for part, cost in vars(found).items()
        for what, seconds in (("task", cost.task_s), ("point", cost.point_s))
    }
    shown["dask_long_of_processes"] = found.useful(POINTS_S[0], points_for(POINTS_S[0], few))
    for seconds in POINTS_S:
        points = points_for(seconds, MANY)
        known = scaling(found, seconds, MANY, points)
        print(
            f"{MANY} workers, points of {1000 * seconds:5.0f} ms, {points:4} a task: {known.least:6.1%} to "
            f"{known.most:6.1%} of their time useful, at most {known.points_per_s:,.0f} points/s"
        )
        shown |= {f"workers_{MANY}_{1000 * seconds:.0f}_ms": known.most}
    return shown


def measure(
    events: int = BY_EVENTS, fast: int = FAST, workers: tuple[int, ...] = (2,), stored: int = STORED
) -> dict[str, float]:
    """All of it; points by events, by fast timing, workers of clusters, and points of a store."""
    single_threaded()
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), dict[str, float]()
        if events:
            found |= figures("local_events", local(folder, events, "events"))
        if fast:
            found |= figures("local_fast", local(folder, fast, "fast"))
        for count in workers:
            first = count == workers[0]
            runs = clustered(folder, count, CLUSTERED if first else {"events": CLUSTERED["events"]})
            for timing, ran in runs.items():
                found |= figures(f"dask_{count}_{timing}", ran)
            if first:
                found |= modelled(overheads(list(runs.values()), studied(folder, 1, "events")), count)
        file = folder / "many.sqlite"
        found["store_us_a_point"] = 1e6 * fill(file, stored)
        found["store_points"] = stored
        found["store_open_s"], found["store_keys_s"] = opened(file, stored)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", metavar="N", type=int, help="points of the local study (default: a few hundred)")
    parser.add_argument("--by", choices=("fast", "events"), default="fast", help="what times these points")
    parser.add_argument("--workers", default="2", help="numbers of Dask workers, such as 2,4,8")
    parser.add_argument("--store", metavar="N", type=int, default=STORED, help="points of the store that is opened")
    options = parser.parse_args()
    counts = tuple(int(count) for count in options.workers.split(",") if count)
    events, fast = BY_EVENTS, FAST
    if options.points:
        events, fast = (options.points, 0) if options.by == "events" else (0, options.points)
    found = measure(events, fast, counts, options.store)
    for name, value in found.items():
        print(f"{name:34} {value:16,.4f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
