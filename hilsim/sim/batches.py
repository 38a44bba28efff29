"""A role's place on a unit whose runtime computes steps of several sessions as one: continuous batching.

When the unit becomes free, the session that goes first takes along all that wait for the same role with a step of the
same phase: they are computed together, and each goes on as soon as that is done. So sessions join and leave from step
to step. The step begins behind everything that happens at its instant, so that sessions that become ready together join
together.

A batch is priced as one step of so many sequences (`Step.sequences`), with the mean of their rows and of their filled
positions, rounded up. That is exact where all are alike; else it is where products and attention are sums over rows and
positions, which sliding windows and the attention of long prompts are not. Prompts and answers are not mixed in a step.
Units of fixed graphs compute sessions together whose rows go into the same graphs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from hilsim.cost.step import Step
from hilsim.cost.timer import Roofline
from hilsim.sim.company_slot import CompanySlot
from hilsim.sim.device_slot import Process, RequestTag, TimedStep, behind_all, now_ns
from hilsim.sim.lock import USUAL_PRIORITY, Claim
from hilsim.sim.shared_chip import Job
from hilsim.sim.trace import Fellow

CARRIED = "carried"  # a claim's value where another session's batch has done its step


class BatchClaim(Claim):
    """A session's step in the queue for the unit, which the batch of another session may take along."""

    def __init__(self, slot: BatchSlot, step: TimedStep, cause: RequestTag, position: int):
        super().__init__(slot.env, slot.company.priorities.get(cause.request, USUAL_PRIORITY), cause.request)
        self.slot, self.step, self.cause, self.position = slot, step, cause, position
        self.asked_ns = now_ns(slot.env)
        self.batch: list[BatchClaim] = []  # those that are computed with it, itself among them

    @property
    def fellow(self) -> Fellow:
        """What the span of the batch says of it."""
        step, (request, number) = self.step, self.cause
        return Fellow(request, number, self.asked_ns, step.rows, step.width, step.cached, self.position)


class BatchSlot(CompanySlot):
    """A role's place on a unit that computes steps of up to `most` sessions as one; a lone one is a step as it is."""

    @cached_property
    def batches(self) -> dict[Step, TimedStep]:
        """Steps of several sessions that were computed before."""
        return {}

    def work(self, step: TimedStep, cause: RequestTag, position: int = -1) -> Process:
        """Wait for the unit, or to be taken along; the session that gets the unit does the step for all it takes along.

        A session that is interrupted leaves its batch, which goes on. Of a cancelled request nothing is done; the step
        of a batch ends early where all its requests are cancelled.
        """
        if cause.request in self.company.cancelled:
            return
        claim, turn = BatchClaim(self, step, cause, position), self.turn
        if not turn.take():
            turn.enter(claim)
            try:
                got = yield claim
            except BaseException:
                self.give_up(claim)
                raise
            if got is not True:  # its step is done already, or was cancelled
                return
            self.waited(cause.request, claim.asked_ns)
        try:
            yield behind_all(self.env)  # sessions that become ready together go together
        except BaseException:
            turn.leave()
            raise
        yield from self.lead(claim)

    def give_up(self, claim: BatchClaim) -> None:
        """An interrupted session leaves the queue, passes on a unit just handed to it, or leaves its batch."""
        if not claim.triggered:
            (claim.batch or self.turn.waiting).remove(claim)
        elif claim.value is True:
            self.turn.leave()

    def lead(self, claim: BatchClaim) -> Process:
        """With the unit held: the step of this session and of those it takes along."""
        batch = [claim, *self.taken_along(claim)]
        for one in batch:
            one.batch = batch
        job = self.job_of(self.batched([one.step for one in batch]), claim.cause)
        if len(batch) > 1:
            job.priority, job.owner = min(one.priority for one in batch), tuple(one.owner for one in batch)
        try:
            yield from self.compute(job, batch, held=True)
        except BaseException:
            batch.remove(claim)
            if batch:
                self.env.process(self.finish(job, batch))
            raise
        for one in batch:
            if one is not claim:
                one.succeed(CARRIED)

    def finish(self, job: Job, batch: list[BatchClaim]) -> Process:
        """The rest of a step whose first session was interrupted, for the others."""
        yield from self.compute(job, batch, held=False)
        for one in batch:
            one.succeed(CARRIED)

    def compute(self, job: Job, batch: list[BatchClaim], *, held: bool) -> Process:
        """The step of a batch, with what others do on the unit between its graphs."""
        asked = batch[0].asked_ns
        while held or (job.done < 1 and batch and not self.cancelled(job)):
            if not held:
                asked = now_ns(self.env)
                if not self.turn.take():
                    if not (yield from self.turn.wait(job.priority, job.owner)):
                        return
                    for one in batch:
                        self.waited(one.cause.request, asked)
                    if not batch:  # all were interrupted meanwhile
                        self.turn.leave(job.priority)
                        return
            first, *others = batch
            job.cause, held = first.cause, False
            yield from self.occupy(job, first.step, asked, first.position, tuple(one.fellow for one in others))
        if held:  # all were cancelled at the instant at which they got the unit
            self.turn.leave(job.priority)

    def taken_along(self, claim: BatchClaim) -> list[BatchClaim]:
        """Those who wait for the same role with a step that goes with this one, in order, up to the largest batch."""
        waiting = self.turn.waiting
        found: list[BatchClaim] = []
        for one in tuple(waiting):
            if (
                len(found) + 1 < self.most
                and isinstance(one, BatchClaim)
                and one.slot is self
                and self.alike(one, claim)
            ):
                waiting.remove(one)
                self.waited(one.cause.request, one.asked_ns)
                found.append(one)
        return found

    def alike(self, one: BatchClaim, other: BatchClaim) -> bool:
        """Whether two steps are computed as one: of one phase, masked alike, and in fixed graphs of the same widths."""
        mine, its = one.step.step, other.step.step
        assert mine is not None
        assert its is not None
        fixed = isinstance(self.timer, Roofline) and self.timer.widths is not None
        same = (mine.phase, mine.tree) == (its.phase, its.tree)
        return same and (not fixed or one.step.width == other.step.width)

    def batched(self, steps: Sequence[TimedStep]) -> TimedStep:
        """Steps of several sessions as one, with the mean of their rows and positions; a single one as it is."""
        if len(steps) == 1:
            return steps[0]
        known = [one.step for one in steps if one.step is not None]
        logits = [one.logits for one in known if one.logits is not None]
        step = Step(
            known[0].phase,
            mean_up([one.rows for one in known]),
            mean_up([one.cached for one in known]),
            len(known),
            known[0].tree,
            mean_up(logits) if logits else None,
        )
        timed = self.batches.get(step)
        if timed is None:
            timed = self.with_bytes(steps[0]._replace(ns=self.timer.duration_ns(step)), step)
            self.batches[step] = timed
        return timed

    def cancelled(self, job: Job) -> bool:
        if isinstance(job.owner, tuple):
            return self.company.cancelled.issuperset(job.owner)
        return super().cancelled(job)

    def goes_before(self, claim: Claim, job: Job) -> bool:
        if isinstance(job.owner, tuple) and claim.owner in job.owner and claim.priority == job.priority:
            return False
        return super().goes_before(claim, job)


def mean_up(counts: Sequence[int]) -> int:
    """The mean of some counts, rounded up."""
    return -(-sum(counts) // len(counts))
