"""What became of the runs of a campaign: by fault, by policy, by both; which phases were hit; and a verdict.

Runs that the fault hit, which is that it changed something, are counted; those in which it never began, began and
changed nothing, or that were refused, are listed with the reason (`misses`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hilsim.describe.campaign_load import FAULT, INSTANT, POLICY
from hilsim.describe.faults import PHASES, Faults
from hilsim.describe.load import load_setup
from hilsim.describe.study_load import Described
from hilsim.describe.tagged import KIND
from hilsim.errors import Fault, InputError
from hilsim.measure.metrics import summary
from hilsim.study.execution import Row
from hilsim.study.points import Grid, label_text

ALONE = "target_only"  # the policy that does not speculate


@dataclass(frozen=True)
class Group:
    """Runs of a campaign that are looked at together: those of a fault, of a policy, or of both."""

    fault: str  # "" of all of them
    policy: str
    rows: tuple[Row, ...]

    @cached_property
    def began(self) -> tuple[Row, ...]:
        """The runs in which the fault began, whether or not it changed anything."""
        return tuple(row for row in self.rows if row.outcome.metrics.get("began"))

    @cached_property
    def hit(self) -> tuple[Row, ...]:
        """The runs in which the fault changed something."""
        return tuple(row for row in self.rows if row.outcome.metrics.get("hit"))

    @cached_property
    def done(self) -> tuple[Row, ...]:
        """The runs that were made; the others were refused or failed."""
        return tuple(row for row in self.rows if row.outcome.state == "done")

    def values(self, measure: str) -> list[float]:
        """A measure of the runs that were hit, where they have it."""
        found = (row.outcome.metrics.get(measure) for row in self.hit)
        return [value for value in found if value is not None]

    def count(self, measure: str) -> int:
        """In how many of the runs that were hit a share is 1."""
        return round(sum(self.values(measure)))

    def median(self, measure: str) -> float | None:
        """The median over the runs that were hit."""
        return self.percentile(measure, "p50")

    def percentile(self, measure: str, which: str) -> float | None:
        """A percentile over the runs that were hit, linear between ranks: p50, p90, p99; or the mean."""
        return statistic(self.values(measure), which)

    def mean(self, measure: str) -> float | None:
        """The mean over the runs that were hit."""
        return self.percentile(measure, "mean")

    def most(self, measure: str) -> float | None:
        """The largest value over the runs that were hit."""
        return max(self.values(measure), default=None)

    def share(self, measure: str) -> float | None:
        """In which share of the runs that were hit, and have the measure, it is 1."""
        found = self.values(measure)
        return sum(found) / len(found) if found else None

    @property
    def lost(self) -> int:
        """Runs that were hit and not survived."""
        return len(self.hit) - self.count("survived")

    def over_all(self, measure: str, which: str) -> float | None:
        """A statistic over all runs that are done: where a fault hit nothing, the run is the one without it."""
        done = [row.outcome.metrics.get(measure) for row in self.done]
        return statistic([value for value in done if value is not None], which)

    @property
    def good(self) -> int:
        """Runs that were hit, survived, and delivered the target's own text."""
        return sum(1 for row in self.hit if row.outcome.metrics["survived"] and row.outcome.metrics["exact"])

    @property
    def wrong(self) -> int:
        """Runs that were hit and delivered a token that is not the target's."""
        return len(self.hit) - self.count("exact")

    @property
    def late(self) -> int:
        """Runs that were hit and not detected and reacted to in time, where that was needed."""
        return self.values("in_time").count(0.0)

    @property
    def bad_shares(self) -> tuple[float, float, float] | None:
        """Shares of all runs that are done: not survived, wrong, and late; None where none is done."""
        runs = len(self.done)
        return (self.lost / runs, self.wrong / runs, self.late / runs) if runs else None

    def badness(self, which: str) -> tuple[float, ...]:
        """What groups are ranked by, the best first: shares not survived, wrong and late, then the added latency.

        Shares are of all runs that are done; `which` is a statistic of the added latency over them. A group of which
        no run is done shows nothing.
        """
        shares = self.bad_shares
        return () if shares is None else (*shares, self.over_all("added_ms", which) or 0.0)


def began_in(row: Row) -> str:
    """The phase in which a run's fault began; "" where it never did."""
    return next((phase for phase in PHASES if row.outcome.metrics.get(f"began.{phase}")), "")


def policy_name(policy: Any) -> str:
    """What kind of policy a choice of the axis is."""
    return str(policy.get(KIND, policy.get("name", ""))) if isinstance(policy, dict) else str(policy)


def statistic(values: list[float], which: str) -> float | None:
    """The mean, or a percentile linear between ranks; None of no values."""
    found = summary(np.array(values))
    return None if found is None else found[which]


@dataclass(frozen=True)
class Miss:
    """Runs that a fault was aimed at and did not hit, for one reason."""

    reason: str
    runs: int
    policies: tuple[str, ...]
    aims: tuple[str, ...]  # phases, or instants of the run
    faults: tuple[str, ...]


@dataclass(frozen=True)
class CampaignResult:
    """The runs of a campaign and its grid."""

    grid: Grid
    rows: Sequence[Row]

    @property
    def whole(self) -> Group:
        """All runs."""
        return Group("", "", tuple(self.rows))

    @cached_property
    def cells(self) -> list[Group]:
        """The runs by fault and policy, in the order of the file."""
        return [self.group(fault, policy) for fault in self.names(FAULT) for policy in self.names(POLICY)]

    @cached_property
    def faults(self) -> list[Group]:
        """The runs by fault, the worst first, by p99 of the added latency."""
        groups = [self.group(fault, "") for fault in self.names(FAULT)]
        return sorted(groups, key=lambda group: group.badness("p99"), reverse=True)

    @cached_property
    def policies(self) -> list[Group]:
        """The runs by policy, the one that stands the faults best first; at the end those of which no run is done."""
        groups = [self.group("", policy) for policy in self.names(POLICY)]
        return sorted(groups, key=lambda group: (not group.done, group.badness("mean")))

    @cached_property
    def speculating(self) -> frozenset[str]:
        """The policies that speculate: all but the target alone, which most faults of the link and the draft miss."""
        column = self.grid.columns[POLICY]
        named = zip(column.labels, column.rows, strict=True)
        return frozenset(label_text(label) for label, (policy,) in named if policy_name(policy) != ALONE)

    def names(self, axis: int) -> list[str]:
        """What the choices of an axis are called."""
        return [label_text(label) for label in self.grid.columns[axis].labels]

    def group(self, fault: str, policy: str) -> Group:
        """The runs of a fault and a policy, "" for all of them."""
        rows = [
            row
            for row in self.rows
            if fault in ("", label_text(row.labels[FAULT])) and policy in ("", label_text(row.labels[POLICY]))
        ]
        return Group(fault, policy, tuple(rows))

    def aim(self, row: Row) -> str:
        """The phase that a run's fault was to hit; "" where it was to come at an instant of the run."""
        on = self.grid.columns[INSTANT].rows[row.point.places[INSTANT]][0]
        return "" if on is None else str(on["phase"])

    @cached_property
    def coverage(self) -> dict[str, dict[str, tuple[int, int]]]:
        """By fault and phase: runs in which it began in that phase and changed something, and runs that were to.

        Runs with an instant of their own count where they hit.
        """
        found: dict[str, dict[str, tuple[int, int]]] = {}
        for fault in self.names(FAULT):
            group = self.group(fault, "")
            hits = Counter(map(began_in, group.hit))
            aimed = Counter(self.aim(row) for row in group.rows)
            aimed += Counter(began_in(row) for row in group.hit if not self.aim(row))
            found[fault] = {phase: (hits[phase], aimed[phase]) for phase in PHASES}
        return found

    @cached_property
    def misses(self) -> list[Miss]:
        """Why faults did not hit what they were aimed at, the most common reasons first."""
        missed: dict[str, list[tuple[str, str, str]]] = {}
        for row in self.rows:
            aim, began = self.aim(row), began_in(row)
            if not began:
                reason = row.outcome.reason
            elif aim and began != aim:
                reason = f"it began at {began}"
            elif not row.outcome.metrics.get("hit"):
                reason = "it began and changed nothing"
            else:
                continue
            policy, fault, instant = map(label_text, row.labels)
            missed.setdefault(reason, []).append((policy, aim or instant, fault))
        found = []
        for reason, runs in missed.items():
            policies, aims, faults = (tuple(dict.fromkeys(names)) for names in zip(*runs, strict=True))
            found.append(Miss(reason, len(runs), policies, aims, faults))
        return sorted(found, key=lambda one: -one.runs)

    def count(self, holds: Callable[[Row], object]) -> int:
        """How many runs a condition holds for."""
        return sum(bool(holds(row)) for row in self.rows)


def require_runs(found: CampaignResult, file: Path) -> None:
    """Raises `InputError` with every reason where all runs of the campaign in `file` were refused."""
    if all(row.outcome.state == "refused" for row in found.rows):
        expected = "a run that a fault can come to"
        raise InputError(
            [
                Fault(str(file), "", f"{miss.runs} of {len(found.rows)} points refused: {miss.reason}", expected)
                for miss in found.misses
            ]
        )


def tolerance_ms(described: Described) -> float:
    """The fault-tolerant time interval that the runs of a campaign are held against."""
    faults = load_setup(described.scenario, described.base).scenario.faults
    return (Faults() if faults is None else faults).tolerance_ms
