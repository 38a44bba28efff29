"""Where many workers would stand: a closed queueing network of what one study needs of its client and its scheduler.

Workers evaluate tasks of several points, each on its own. Every task also needs the scheduler, and the one process that
owns the study and its store. Both serve one after the other, so they limit the rate however many workers there are.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Seconds that a part of a study takes: for every task, and for every point in it."""

    task_s: float
    point_s: float

    def of(self, points: int) -> float:
        """Seconds for a task of so many points."""
        return self.task_s + points * self.point_s

    @staticmethod
    def between(first: tuple[float, int, int], second: tuple[float, int, int]) -> Cost:
        """From two runs, each with its seconds, tasks and points: the line through both, neither part below 0.

        Where one part would be negative, the other one alone explains the run with more of it.
        """
        (a_s, a_tasks, a_points), (b_s, b_tasks, b_points) = first, second
        apart = a_tasks * b_points - b_tasks * a_points
        task_s = (a_s * b_points - b_s * a_points) / apart if apart else 0.0
        point_s = (a_tasks * b_s - b_tasks * a_s) / apart if apart else (a_s + b_s) / (a_points + b_points)
        if point_s < 0:
            return Cost(max(a_s / a_tasks, b_s / b_tasks), 0.0)
        return Cost(task_s, point_s) if task_s >= 0 else Cost(0.0, max(a_s / a_points, b_s / b_points))


@dataclass(frozen=True)
class Overheads:
    """What a study needs beside the evaluation of its points, measured in runs with few workers.

    `worker` is around the evaluation in a worker; `client` is the study's own process, which sends, receives, packs and
    stores; `scheduler` is Dask's; `link` is the client's, occupied by what is sent.
    """

    worker: Cost
    client: Cost
    scheduler: Cost
    link: Cost

    def demands(self, points: int) -> tuple[float, ...]:
        """Seconds that a task of so many points needs of what all workers share."""
        return tuple(part.of(points) for part in (self.client, self.scheduler, self.link))

    def useful(self, point_s: float, points: int) -> float:
        """The share of all processes' time that goes into points that take `point_s`, in tasks of so many of them."""
        useful_s = points * point_s
        return useful_s / (useful_s + sum(part.of(points) for part in (self.worker, self.client, self.scheduler)))


@dataclass(frozen=True)
class Scaling:
    """The share of workers' time in useful work: what it can be at most, and when workers never have a task waiting.

    `most` is the asymptotic bound, which holds for any distribution of times: the rate is at most what all workers
    together or the busiest part can do (Denning and Buzen, "The operational analysis of queueing network models",
    1978). Tasks that wait at the workers come near it. `least` is exact where times are exponential and a worker has
    one task at a time (mean value analysis, Reiser and Lavenberg 1980).
    """

    workers: int
    most: float
    least: float
    points_per_s: float  # at most


def scaling(overheads: Overheads, point_s: float, workers: int, points: int) -> Scaling:
    """So many workers, each with tasks of so many points that take `point_s` each."""
    useful_s = points * point_s
    thinking_s = useful_s + overheads.worker.of(points)
    demands = overheads.demands(points)
    bound = min(workers / thinking_s, 1 / max(demands))
    exact = rate(workers, thinking_s, demands)
    return Scaling(workers, bound * useful_s / workers, exact * useful_s / workers, bound * points)


def rate(customers: int, thinking_s: float, demands: tuple[float, ...]) -> float:
    """Tasks a second of a closed network: each customer thinks, then is served by every part in turn."""
    queues = [0.0] * len(demands)
    found = 0.0
    for count in range(1, customers + 1):
        times = [demand * (1 + queue) for demand, queue in zip(demands, queues, strict=True)]
        found = count / (thinking_s + sum(times))
        queues = [found * time for time in times]
    return found
