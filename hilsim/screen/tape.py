"""The rounds of a policy without their times: what every round reads, drafts, sends and verifies, from a run's tape.

Of all shipped policies that can be screened but `adaptive` under the rule `expected`, which rounds there are does not
depend on what steps and messages cost. So one tape serves every chip, width and link.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hilsim.describe.policy import Adaptive, Policy
from hilsim.screen.request import (
    ACCEPTED,
    ASKED,
    DELIVERED,
    DRAFT_STEP,
    DRAFTED,
    DRAFTS,
    INFORMED,
    LAGGED,
    ROUNDS,
    SENT,
    TARGET_STEP,
    VERDICT,
)
from hilsim.screen.screening import Screened

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
PLAIN = -1  # the verdict of a round in which nothing was drafted
COUNTS = (ROUNDS, DRAFTS, DRAFTED, ACCEPTED)


class Rounds(NamedTuple):
    """The rounds of one policy over the answers of a workload, after those that read a question.

    Of requests: `target_lag`, `draft_lag` and `asked` tokens when it is opened; `first` of its rounds, the number of
    rounds up to the end of the first clause (`to_clause`) and of the answer (`to_end`). Of rounds: `rows` and `cached`
    of the target's step; `informed`, `sent` tokens (0: none); `judged` rows of the verdict (0: a plain step, which has
    none) and `whole`: whether all drafts were accepted, or PLAIN. Of steps of the draft, in order: its `draft_rows` and
    `draft_cached`, those of a round from `drafts_from` on (rounds + 1).

    `counts` are rounds, drafts, drafted and accepted tokens, of the whole run.
    """

    target_lag: Ints
    draft_lag: Ints
    asked: Ints
    first: Ints
    to_clause: Ints
    to_end: Ints
    rows: Ints
    cached: Ints
    informed: Ints
    sent: Ints
    judged: Ints
    whole: Ints
    draft_rows: Ints
    draft_cached: Ints
    drafts_from: Ints
    counts: Ints


def alike_everywhere(policy: Policy) -> bool:
    """Whether a policy that can be screened has the same rounds on all chips and links."""
    return not (isinstance(policy, Adaptive) and policy.rule == "expected")


def rounds_of(run: Screened, tape: Ints) -> Rounds:
    """The rounds of a run that was taped."""
    kind, one, other = np.ascontiguousarray(tape.T)
    opened = np.flatnonzero(kind == LAGGED)
    ends = np.flatnonzero(kind == DELIVERED)
    request = np.searchsorted(opened, ends, side="right") - 1
    count = np.bincount(request, minlength=len(opened))  # rounds of each request, with the one that reads the question
    begins = np.cumsum(count) - count
    later = np.ones(len(ends), dtype=bool)
    later[begins] = False
    first = np.cumsum(count - 1) - (count - 1)
    stops = ends[later]  # entries that end a round

    def of_rounds(wanted: int) -> tuple[Ints, Ints, Ints]:
        """The entries of a kind, at most one a round: round, and both numbers."""
        found = np.flatnonzero(kind == wanted)
        return np.searchsorted(stops, found), one[found], other[found]

    def spread(wanted: int) -> Ints:
        values = np.zeros(len(stops), np.int64)
        place, value, _ = of_rounds(wanted)
        values[place] = value
        return values

    def reached(what: Ints) -> Ints:
        """Rounds of each request up to the one that reaches something; 0 where reading the question does."""
        found = np.zeros(len(opened), np.int64)
        hit = np.flatnonzero(what[ends] == 1)
        found[request[hit]] = hit - begins[request[hit]]
        return found

    place, rows, cached = of_rounds(TARGET_STEP)
    assert (place == np.arange(len(stops))).all(), "one step of the target in every round"
    whole = np.full(len(stops), PLAIN, np.int64)
    judging, _, found = of_rounds(VERDICT)
    whole[judging] = found
    drafting, draft_rows, draft_cached = of_rounds(DRAFT_STEP)
    total = run.requests.sum(axis=0)
    return Rounds(
        one[opened], other[opened], one[kind == ASKED], first, reached(one), reached(other), rows, cached,
        spread(INFORMED), spread(SENT), spread(VERDICT), whole, draft_rows, draft_cached,
        np.searchsorted(drafting, np.arange(len(stops) + 1)), total[[*COUNTS]],
    )  # fmt: skip
