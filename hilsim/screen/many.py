"""Many runs of two roles at their places at once: rounds known from a tape, times added up over links and payloads.

Where units take nothing between passes and one conversation runs at a time, nothing ever waits for the link but the
verdict on the first token, so a request's time is a sum: what reading the question takes, then of every round

    sync, adaptive    drafting + draft sent + verify + verdict sent
    pearl             the longer of (verdict sent + drafting + draft sent) and verify

Each of these terms depends on one choice alone: the target's place, the draft's place, or link and payload. They are
added up once a choice, and here joined. Equal to `lockstep.py` and `slots.py` to the nanosecond; `summable` says where.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hilsim.cost.between import FAR
from hilsim.screen.compiled import compiled
from hilsim.screen.costs import ALWAYS, NEVER, REJECTED, StepCosts
from hilsim.screen.request import (
    ACCEPTED,
    DOWN_BUSY,
    DOWN_BYTES,
    DRAFT_BUSY,
    DRAFTED,
    DRAFTS,
    FIELDS,
    ROUNDS,
    TARGET_BUSY,
    UP_BUSY,
    UP_BYTES,
)
from hilsim.screen.tape import Rounds
from hilsim.screen.tokens import Answers

Ints = npt.NDArray[np.int64]
CLAUSE, END = 0, 1  # up to where a request's rounds are added up


class RoleTimes(NamedTuple):
    """Nanoseconds of a role under one policy: `reading` each question (requests,), its steps in each round (rounds,),
    `sums` (requests, 2) of these up to the end of the first clause and of the answer, and `total` over everything.
    """

    reading: Ints
    steps: Ints
    sums: Ints
    total: int


class LinkTimes(NamedTuple):
    """What crosses a link under one policy and payload, a row for each of several links and payloads (links).

    `verdict` ns (links,) of a verdict alone, `propagation` ns (links,), `prompt` and `asked` ns (links, requests) of
    questions to the target's chip and to the draft's. Of policies that take turns `sums` (links, requests, 2) as in
    `RoleTimes`. Of pearl: `before` (links, rounds), ns of a slot before and after drafting; `settling` (links, rounds),
    ns until the target knows the last result; `sums` then is what follows the last slot. `totals` (links, FIELDS): the
    bytes and occupied ns of all rounds, and the bytes of questions.
    """

    verdict: Ints
    propagation: Ints
    prompt: Ints
    asked: Ints
    before: Ints
    settling: Ints
    sums: Ints
    totals: Ints


class ManyRuns(NamedTuple):
    """Runs of one workload: (runs, requests) of ns since a request arrived, and (runs, FIELDS) over all requests."""

    first: Ints
    clause: Ints
    finished: Ints
    totals: Ints


def summable(costs: StepCosts) -> bool:
    """Whether runs are sums: no unit takes time between passes, no head drafts, and the result of a round that the
    draft's chip decides has left before the next draft can follow it.
    """
    quiet = not costs.target_between.costs and not costs.draft_between.costs
    kept = costs.draft_decides == NEVER or int(costs.draft_step[1:].min()) >= costs.verdict_ns
    return quiet and kept and not costs.head


def added_up(values: Ints, rounds: Rounds) -> Ints:
    """Values of rounds (..., rounds) up to the end of the first clause and of the answer: (..., requests, 2)."""
    sums = np.zeros((*values.shape[:-1], values.shape[-1] + 1), np.int64)
    np.cumsum(values, axis=-1, out=sums[..., 1:])
    begun = sums[..., rounds.first]
    ends = (sums[..., rounds.first + rounds.to_clause], sums[..., rounds.first + rounds.to_end])
    return np.stack([end - begun for end in ends], axis=-1)


def looked_up(table: Ints, rows: Ints, cached: Ints) -> Ints:
    """Nanoseconds of steps, from a table that may not depend on what is cached."""
    found: Ints = table[rows, cached if table.shape[1] > 1 else 0]
    return found


def target_times(rounds: Rounds, costs: StepCosts) -> RoleTimes:
    """The target's part of every round."""
    reading = costs.target_read[np.arange(len(rounds.first)), rounds.target_lag]
    steps = looked_up(costs.target_step, rounds.rows, rounds.cached)
    return RoleTimes(reading, steps, added_up(steps, rounds), int(reading.sum() + steps.sum()))


def draft_times(rounds: Rounds, costs: StepCosts) -> RoleTimes:
    """The draft's part of every round."""
    reading = costs.draft_read[np.arange(len(rounds.first)), rounds.draft_lag]
    each = looked_up(costs.draft_step, rounds.draft_rows, rounds.draft_cached)
    sums = np.concatenate(([0], np.cumsum(each)))
    steps = np.diff(sums[rounds.drafts_from])
    return RoleTimes(reading, steps, added_up(steps, rounds), int(steps.sum()))


def link_times(rounds: Rounds, answers: Answers, costs: StepCosts, *, at_once: bool) -> LinkTimes:
    """What crosses one link; `at_once`: both chips work at the same time (pearl). Links are then stacked."""
    verdict, propagation = costs.verdict_ns, costs.propagation_ns
    judged = rounds.whole >= 0
    always = at_once or costs.elsewhere  # a verdict goes down even where nothing was drafted
    whole = np.maximum(rounds.whole, 0)
    down = np.where(judged, costs.down_ns[rounds.judged, whole], verdict * always)
    down_bytes = np.where(judged, costs.down_bytes[rounds.judged, whole], costs.verdict_bytes * always)
    arriving = down + propagation * (judged | always)
    decided = judged & (costs.draft_decides == ALWAYS)
    if costs.draft_decides == REJECTED:
        decided = judged & (rounds.whole == 0)
    sent = rounds.sent > 0
    up = np.where(sent, costs.up_ns[rounds.sent] + propagation, 0)
    inform = np.where(rounds.informed > 0, costs.prompt_ns[rounds.informed] + propagation, 0)
    concluding = np.where(decided, verdict + propagation, 0)

    opening = np.zeros(len(down), dtype=bool)
    opening[rounds.first[rounds.to_end > 0]] = True

    def of_last(values: Ints) -> Ints:
        """Of every round the value of the round before, 0 for the first of a request."""
        return np.where(opening, 0, np.concatenate(([0], values[:-1])))

    ends = np.stack((rounds.to_clause, rounds.to_end), axis=1)
    at = np.where(ends > 0, rounds.first[:, None] + ends - 1, 0)
    if at_once:
        back = of_last(arriving)
        before = back + up
        settling = np.where(of_last(decided.astype(np.int64)) > 0, back + verdict + propagation, 0)
        tail = arriving if costs.elsewhere else np.where(decided, arriving + concluding, 0)
        sums = np.where(ends > 0, tail[at], 0) if len(down) else 0 * ends
    else:
        before, settling = down[:0], down[:0]
        waiting = np.where(judged, 0, of_last(concluding))
        tail = 0 * down if costs.elsewhere else np.where(decided, concluding, np.where(judged, -arriving, 0))
        sums = added_up(inform + up + arriving + waiting, rounds)
        sums += np.where(ends > 0, tail[at], 0) if len(down) else 0
    last = at[rounds.to_end > 0, END]
    totals = np.zeros(FIELDS, np.int64)
    totals[UP_BUSY] = up.sum() - propagation * sent.sum() + verdict * decided.sum()
    totals[UP_BUSY] -= verdict * decided[last].sum() if costs.elsewhere else 0
    informing = rounds.informed > 0
    totals[DOWN_BUSY] = down.sum() + costs.prompt_ns[rounds.informed[informing]].sum()
    totals[DOWN_BUSY] -= 0 if costs.elsewhere else down[last][~decided[last]].sum()
    totals[UP_BYTES] = costs.up_bytes[rounds.sent[sent]].sum() + costs.verdict_bytes * decided.sum()
    totals[UP_BYTES] += costs.prompt_bytes[answers.prompt].sum() if costs.elsewhere else 0
    totals[DOWN_BYTES] = down_bytes.sum() + costs.prompt_bytes[rounds.informed[informing]].sum()
    totals[DOWN_BYTES] += costs.prompt_bytes[rounds.asked].sum() if costs.draft_far else 0
    totals[DOWN_BYTES] += costs.verdict_bytes * answers.requests
    totals[[ROUNDS, DRAFTS, DRAFTED, ACCEPTED]] = rounds.counts
    return LinkTimes(
        np.array(verdict), np.array(propagation), costs.prompt_ns[answers.prompt], costs.prompt_ns[rounds.asked],
        before, settling, sums, totals,
    )  # fmt: skip


def stacked(parts: list[LinkTimes]) -> LinkTimes:
    """The times over several links, a row each."""
    return LinkTimes(*(np.ascontiguousarray(np.stack(column)) for column in zip(*parts, strict=True)))


def joined(
    rounds: Rounds, target: RoleTimes, draft: RoleTimes, links: LinkTimes, costs: StepCosts, *, at_once: bool
) -> ManyRuns:
    """The runs of one policy over several links; `costs` of any of them, for what does not depend on the link."""
    shape = (len(links.verdict), len(rounds.first))
    first, clause, finished = (np.empty(shape, np.int64) for _ in range(3))
    totals = links.totals.copy()
    totals[:, TARGET_BUSY] = target.total
    totals[:, DRAFT_BUSY] = draft.total
    place = Place(costs.networks_ns, costs.elsewhere, costs.draft_far, costs.same_unit)
    if at_once:
        longer_of(rounds, target, draft, links, place, first, clause, finished, totals)
    else:
        added(rounds, target, draft, links, place, first, clause, finished, totals)
    return ManyRuns(first, clause, finished, totals)


class Place(NamedTuple):
    """What of `StepCosts` opening a request depends on beside the times."""

    networks_ns: int
    elsewhere: bool
    draft_far: bool
    same_unit: bool


@compiled
def began(
    rounds: Rounds, target: RoleTimes, draft: RoleTimes, links: LinkTimes, place: Place, link: int, request: int,
    totals: Ints,
) -> tuple[int, int]:  # fmt: skip
    """When a request's first token is delivered, and when its rounds begin: `request.opened` without a queue."""
    begin = place.networks_ns
    verdict, propagation = links.verdict[link], links.propagation[link]
    read = begin + target.reading[request]
    if place.elsewhere:
        read += links.prompt[link, request] + propagation
        totals[UP_BUSY] += links.prompt[link, request]
    asked, drafting = begin, begin
    if place.draft_far:
        asked = begin + links.asked[link, request]
        drafting = asked + propagation
    if place.same_unit:
        drafting = max(drafting, read)
    known = drafting + draft.reading[request]
    sent = max(read, asked)
    informed = sent + verdict + propagation
    first = informed if place.elsewhere else read
    final = first if rounds.to_end[request] == 0 else FAR
    totals[DOWN_BUSY] += max(0, min(sent + verdict, final) - sent)
    if place.draft_far:
        totals[DOWN_BUSY] += max(0, min(asked, final) - begin)
    totals[DRAFT_BUSY] += max(0, min(known, final) - drafting)
    return first, max(informed, known)


@compiled
def added(
    rounds: Rounds, target: RoleTimes, draft: RoleTimes, links: LinkTimes, place: Place,
    first: Ints, clause: Ints, finished: Ints, totals: Ints,
) -> None:  # fmt: skip
    """Rounds in which one chip works at a time."""
    for link in range(first.shape[0]):
        for request in range(first.shape[1]):
            delivered, now = began(rounds, target, draft, links, place, link, request, totals[link])
            first[link, request] = clause[link, request] = finished[link, request] = delivered
            if rounds.to_clause[request] > 0:
                worked = target.sums[request, CLAUSE] + draft.sums[request, CLAUSE]
                clause[link, request] = now + worked + links.sums[link, request, CLAUSE]
            if rounds.to_end[request] > 0:
                worked = target.sums[request, END] + draft.sums[request, END]
                finished[link, request] = now + worked + links.sums[link, request, END]


@compiled
def longer_of(
    rounds: Rounds, target: RoleTimes, draft: RoleTimes, links: LinkTimes, place: Place,
    first: Ints, clause: Ints, finished: Ints, totals: Ints,
) -> None:  # fmt: skip
    """Slots of drafting and verifying at once."""
    for link in range(first.shape[0]):
        for request in range(first.shape[1]):
            delivered, now = began(rounds, target, draft, links, place, link, request, totals[link])
            first[link, request] = clause[link, request] = finished[link, request] = delivered
            start = rounds.first[request]
            for at in (CLAUSE, END):
                stop = rounds.first[request] + (rounds.to_clause[request] if at == CLAUSE else rounds.to_end[request])
                if stop == rounds.first[request]:
                    continue
                for slot in range(start, stop):
                    drafted = links.before[link, slot] + draft.steps[slot]
                    now += max(drafted, links.settling[link, slot] + target.steps[slot])
                start = stop
                if at == CLAUSE:
                    clause[link, request] = now + links.sums[link, request, CLAUSE]
                else:
                    finished[link, request] = now + links.sums[link, request, END]
