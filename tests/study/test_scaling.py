"""The model of many workers against the closed form of its simplest case, its bounds, and costs that are known."""

from __future__ import annotations

from dataclasses import replace
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilsim.show.sentences import usage_sentence
from hilsim.study.cluster import MOST_POINTS, TASK_S, points_for
from hilsim.study.scaling import Cost, Overheads, rate, scaling
from hilsim.study.usage import Usage

SECONDS = st.floats(1e-4, 1.0)


@given(st.integers(1, 12), SECONDS, SECONDS)
def test_one_shared_part_is_the_machine_repairman(workers: int, thinking_s: float, demand_s: float) -> None:
    """M/M/1//N: the part idles with p0 = 1 / sum of N!/(N-k)! (D/Z)^k, and gives (1 - p0) / D tasks a second."""
    ratio = demand_s / thinking_s
    idle = 1 / sum(factorial(workers) / factorial(workers - k) * ratio**k for k in range(workers + 1))
    assert rate(workers, thinking_s, (demand_s,)) == pytest.approx((1 - idle) / demand_s, rel=1e-9)


@given(st.integers(1, 200), SECONDS, st.tuples(SECONDS, SECONDS, SECONDS), st.integers(1, 50))
def test_the_exact_share_is_below_the_bound(
    workers: int, point_s: float, parts: tuple[float, float, float], points: int
) -> None:
    client, scheduler, worker = (Cost(one / 100, one / 1000) for one in parts)
    overheads = Overheads(worker, client, scheduler, Cost(0.0, 1e-6))
    found = scaling(overheads, point_s, workers, points)
    assert 0 < found.least <= found.most * (1 + 1e-9) <= 1
    assert found.points_per_s == pytest.approx(found.most * workers / point_s)
    alone = scaling(overheads, point_s, 1, points)
    assert found.most <= alone.most * (1 + 1e-9)
    free = scaling(Overheads(Cost(0, 0), Cost(0, 0), Cost(1e-12, 0), Cost(0, 0)), point_s, workers, points)
    assert free.most == pytest.approx(1)  # nothing but points


def test_costs_come_back_from_two_runs() -> None:
    known = Cost(3e-3, 5e-5)

    def seconds(tasks: int, points: int) -> tuple[float, int, int]:
        return tasks * known.task_s + points * known.point_s, tasks, points

    found = Cost.between(seconds(100, 200), seconds(50, 4000))
    assert (found.task_s, found.point_s) == pytest.approx((known.task_s, known.point_s))
    assert Cost.between((1.0, 100, 200), (0.1, 50, 4000)) == Cost(0.01, 0.0)  # no cost is below 0
    assert Cost.between((0.1, 100, 200), (8.0, 50, 4000)) == Cost(0.0, 2e-3)
    assert Cost.between((1.0, 10, 10), (2.0, 20, 20)) == Cost(0.0, 0.1)


def test_tasks_are_longer_where_there_are_many_workers_and_never_too_many_points() -> None:
    assert points_for(0.025, 2) * 0.025 == pytest.approx(TASK_S)
    assert points_for(0.025, 1000) * 0.025 == pytest.approx(10.0)
    assert points_for(60.0, 2) == 1
    assert points_for(0.0, 2) == points_for(1e-9, 1000) == MOST_POINTS


def test_shares_of_a_study() -> None:
    usage = Usage(points=1000, wall_s=10.0, cores=2, useful_s=18.0, cpu_s=20.0)
    assert (usage.points_per_s, usage.of_cores, usage.of_processes) == (100.0, 0.9, 0.9)
    unknown = replace(usage, cpu_s=None)
    assert unknown.of_processes is None
    assert "90 % of the processor time" in usage_sentence(usage)
    assert "is unknown, as a worker did not say" in usage_sentence(unknown)
