"""A space of placements, timed and ranked: every configuration screened, and where it is worth it also by events."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing

from hilsim.progress import progressing
from hilsim.study.answer import Answer
from hilsim.study.placements import NOWHERE, Found, Job, Ready, Screen
from hilsim.study.workers import Workers, workers_for

BEST = 6  # pairs of places whose policies are also run by events, each over its best link


def timed(ready: Ready, rank: Callable[[Found], Answer], count: int | None) -> Answer:
    """Every configuration, target by target, on `count` processes (default: one a core); then the best by events.

    Policies that cannot be screened (`async`, `pipelined`; `pearl` on one unit) are tried where a draft and a target
    are best placed by all others: for each of the `BEST` best pairs of places, at its best link, rule and widths.
    `left_out` counts those that were not tried.
    """
    screen = Screen(ready)
    targets = [Job(rule, target) for rule in range(len(ready.scenarios)) for target in range(len(ready.sites[rule]))]
    with closing(workers_for(screen.of, min(count or os.cpu_count() or 1, len(targets)), screen.lost)) as workers:
        answer = rank(Found.joined(done(workers, targets, "targets screened")))
        if not (jobs := untried(ready, answer)):
            return answer
        return rank(Found.joined([answer.found, *done(workers, jobs, "policies run by events")]))


def done(workers: Workers[Job, tuple[Job, Found]], jobs: Sequence[Job], what: str) -> list[Found]:
    """What comes of jobs, in their order."""
    found = {}
    with progressing(len(jobs), what) as count:
        for job, part in workers.run(jobs):
            found[job] = part
            count.ended("done")
    return [found[job] for job in jobs]


def untried(ready: Ready, answer: Answer) -> list[Job]:
    """What could not be screened of the best placements with a draft."""
    found = []
    known = {tuple(row) for row in answer.found.places.tolist()}
    for place in answer.finalists(BEST):
        at = tuple(answer.found.places[place].tolist())[:4]
        target, draft, link, rule = at
        if draft != NOWHERE:
            policies = [policy for policy in range(len(ready.policies)) if (*at, policy) not in known]
            found += [Job(rule, target, draft, link, policy) for policy in policies]
    return found
