"""A space of placements, timed and ranked: every configuration screened, and where it is worth it also by events."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

from hilsim.progress import progressing
from hilsim.screen.compiled import are_compiled
from hilsim.study.answer import Answer
from hilsim.study.placements import Ready, TimedConfigurations, TimingJob
from hilsim.study.screen_space import Screen
from hilsim.study.space import NOWHERE
from hilsim.study.workers import Workers, workers_for

BEST = 6  # pairs of places (target, draft), each over its best link, with the best rule
MOST = 16  # placements; about 16 runs of half a second each
COMPILING = " (after their loops are compiled, once on this machine)"
INTERRUPTED = "not reached before the interruption"


def time_space(
    ready: Ready,
    rank: Callable[[TimedConfigurations], Answer],
    count: int | None,
    most: int = MOST,
    *,
    keep_partial: bool = False,
) -> Answer:
    """Every configuration, target by target, on `count` processes (default: one a core); then the best by events.

    Policies that cannot be screened (`async`, `pipelined`; `pearl` on one unit) are run by events where the others do
    best: at the `BEST` best pairs of places and the placements of the Pareto set, `most` in all. What is not tried is
    counted in `left_out`. With `keep_partial` an interruption ends this early, with what there is by then (`found` says
    so); it is raised where that is nothing.
    """
    screen = Screen(ready)
    targets = [
        TimingJob(rule, target)
        for rule in range(len(ready.scenarios))
        if ready.alike(rule)[0] == rule
        for target in range(len(ready.sites[rule]))
    ]
    with closing(workers_for(screen.of, min(count or os.cpu_count() or 1, len(targets)), screen.lost)) as workers:
        run = partial(run_jobs, workers, size=screen.size, keep_partial=keep_partial)
        found = run(targets, "configurations screened" + ("" if are_compiled() else COMPILING))
        found.left_out = +found.left_out  # without reasons that hold for nothing
        answer = rank(found)
        if found.interrupted or not (jobs := jobs_by_events(ready, answer, most)):
            return answer
        try:
            further = run(jobs, "policies run by events")
        except KeyboardInterrupt:  # before the first of them: what was screened is an answer
            if not keep_partial:
                raise
            found.interrupted = True
            return answer
        del further.left_out[INTERRUPTED]  # screening has counted them
        whole = TimedConfigurations.joined([found, further])
        whole.left_out = +whole.left_out
        return rank(whole)


def run_jobs(
    workers: Workers[TimingJob, tuple[TimingJob, TimedConfigurations]],
    jobs: Sequence[TimingJob],
    what: str,
    *,
    size: Callable[[TimingJob], int],
    keep_partial: bool,
) -> TimedConfigurations:
    """Run jobs of so many configurations; what comes of them, in their order."""
    found: dict[TimingJob, TimedConfigurations] = {}
    sizes = {job: size(job) for job in jobs}
    interrupted = False
    try:
        with progressing(sum(sizes.values()), what) as count:
            for job, part in workers.run(jobs):
                found[job] = part
                count.ended("done", sizes[job])
    except KeyboardInterrupt:
        if not keep_partial or not any(map(len, found.values())):
            raise
        interrupted = True
    whole = TimedConfigurations.joined([found.pop(job) for job in jobs if job in found])
    if interrupted:
        whole.interrupted = True
        whole.left_out[INTERRUPTED] = sum(sizes.values()) - len(whole) - whole.left_out.total()
    return whole


def jobs_by_events(ready: Ready, answer: Answer, most: int) -> list[TimingJob]:
    """What could not be screened at the placements, with a draft, that are worth running by events."""
    best = answer.found.places[[*answer.finalists(BEST), *answer.pareto.tolist()]].tolist()
    placements = [
        *dict.fromkeys((rule, target, draft, link) for target, draft, link, rule, _ in best if draft != NOWHERE)
    ][:most]
    known: set[tuple[int, ...]] = set()
    for rule, target, draft, link in placements:
        here = (answer.found.places[:, :4] == (target, draft, link, rule)).all(axis=1)
        known.update(map(tuple, answer.found.places[here].tolist()))
    return [
        TimingJob(rule, target, draft, link, policy)
        for rule, target, draft, link in placements
        for policy in range(len(ready.policies))
        if (target, draft, link, rule, policy) not in known
    ]
