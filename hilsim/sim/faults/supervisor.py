"""Reacts to what does not answer: gives the round up, goes on with the target alone, and speculates again later.

draft chip   ▓draft▓                                                     ▓reads▓draft▓ ...
link                ▸╳  ... ▸╳ ... time-out        ◂probe▸      ◂text◂
target chip                               ▓decode▓▓decode▓▓decode▓                    ▓verify▓

A request is answered by the session's own process. What fails interrupts it: every process of the round ends at that
instant, nothing uncommitted is kept, and caches are cut to what is committed. Then what was lost is read again, and the
request goes on from its committed tokens. So its text is the target's, whatever fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import simpy

from hilsim.cost.payload import HEADER_BYTES, prompt_bytes, verdict_bytes
from hilsim.cost.step import Phase
from hilsim.errors import ChipLost
from hilsim.sim.context import RunContext
from hilsim.sim.device_slot import Process
from hilsim.sim.faults.direction import FaultyDirection
from hilsim.sim.faults.groups import Failure, Group, end
from hilsim.sim.faults.health import Health
from hilsim.sim.faults.source import FaultySource
from hilsim.sim.faults.state import FaultState
from hilsim.sim.request import Request
from hilsim.sim.steps import await_acknowledgement, decode, deliver, prefill_target, send_down, send_verdict, tag_of
from hilsim.sim.trace import FaultRecord, Round
from hilsim.units import ns

PROBE = "probe"  # a message's kind
ALONE = "round given up; the target goes on alone"
WAITS = "round given up; wait for it"
READ_AGAIN = "caches read again"
RESUMED = "speculation goes on"
Work = Callable[[RunContext, Request], Process]


class Answering:
    """A request under way: its processes, its open rounds, and what its caches were read under."""

    def __init__(self, request: Request, group: Group, epochs: dict[str, int], now: int):
        self.request, self.group, self.epochs = request, group, epochs
        self.opened: dict[int, Round] = {}  # committed rounds that are not closed
        self.progress_ns = now  # its last delivery
        self.struck: list[FaultRecord] = []  # faults of the target that it has not recovered from
        self.lost: dict[str, int] = {}  # by role: positions of its caches that were lost and not read again yet


class Supervisor:
    """Keeps requests going on hardware that fails.

    Where the draft's chip or the link does not answer, `suspended` holds for all requests until a probe comes back.
    """

    context: SupervisedContext

    def __init__(self, state: FaultState):
        self.state, self.env, self.reaction = state, state.env, state.reaction
        self.answering: dict[int, Answering] = {}
        self.caches: dict[tuple[int, str], int] = {}  # by conversation and role: the epoch that its cache is of
        self.suspended = False
        self.suspects: list[FaultRecord] = []  # faults that speculation is suspended for
        self.news = self.env.event()  # succeeds when it is resumed
        self.probing: simpy.Process | None = None

    @property
    def now(self) -> int:
        return self.state.now

    @property
    def target(self) -> Health:
        return self.state.healths["target"]

    def answer(self, request: Request, opening: Work, policy: Work) -> Process:
        """From reading the question to the last token, whatever fails. Raises `ChipLost` where nothing goes on."""
        group = self.env.join(request.index)
        epochs = {role: health.epoch for role, health in self.state.healths.items()}
        one = self.answering[request.index] = Answering(request, group, epochs, self.now)
        self.state.groups[request.index], self.state.answering[request.index] = group, request
        self.state.enter("", "idle", request.cause)
        self.state.leave("")
        self.compare_epochs(one)
        over, patience = False, self.env.apart(self.require_progress(one))
        while not over:
            try:
                yield from self.proceed(one, opening, policy)
                over = True
            except simpy.Interrupt as interrupt:
                if not isinstance(interrupt.cause, Failure):
                    raise
                self.give_up(one, interrupt.cause)
        end(patience)
        self.env.leave(group)
        del self.answering[request.index], self.state.groups[request.index], self.state.answering[request.index]
        self.state.drafted.pop(request.index, None)
        for role, health in self.state.healths.items():
            self.caches[request.conversation, role] = min(health.epoch, one.epochs[role])

    def compare_epochs(self, one: Answering) -> None:
        """Caches that earlier turns have left may be lost since."""
        request = one.request
        for role, health in self.state.healths.items():
            held = self.caches.get((request.conversation, role), health.epoch)
            if held != health.epoch:
                self.state.noticed(health.emptied_by, "restart")
                self.forget_cache(one, role)

    def forget_cache(self, one: Answering, role: str) -> None:
        """A role's cache of a conversation is lost; of the draft's chip also the text, unless it came from there."""
        request, health = one.request, self.state.healths[role]
        for record in health.emptied_by:
            if record.hits == 0:
                record.strike(self.now)
        self.state.noticed(health.emptied_by, "restart")
        self.state.reacted(health.emptied_by, READ_AGAIN)
        if role == "target":
            lost, request.target_cached = request.target_cached, 0
            one.struck += health.emptied_by
        else:
            lost, request.draft_cached, request.lead = request.draft_cached, 0, None
            if self.context.application != health.chip:
                request.draft_received = 0
        one.lost[role] = one.lost.get(role, 0) + lost
        one.epochs[role] = health.epoch

    def give_up(self, one: Answering, failure: Failure) -> None:
        """End all that goes on for a round. What is committed stays; caches are cut to it."""
        request, state = one.request, self.state
        self.env.end_children(one.group)
        request.acknowledged, request.watch, request.paused = None, None, False
        if request.lead is not None:
            sure = min(request.lead.cached, request.lead.confirmed, len(request.tokens) - 1)
            request.draft_cached, request.lead = max(request.draft_cached, sure), None
        dropped = state.drafted.pop(request.index, 0)
        for record in failure.records[:1]:
            record.dropped_tokens += dropped
        alone = self.reaction.fallback == "target" and not (failure.what == "link" and self.context.elsewhere)
        if failure.what == "target":
            one.struck += failure.records
            state.reacted(failure.records, WAITS)
            return
        state.reacted(failure.records, ALONE if alone else WAITS)
        self.suspects += [record for record in failure.records if record not in self.suspects]
        self.suspended = self.context.board.draft is not None or self.suspended
        if self.suspended and self.reaction.resume and self.probing is None:
            self.probing = self.env.apart(self.probe())

    def proceed(self, one: Answering, opening: Work, policy: Work) -> Process:
        """Go on with a request from its committed tokens."""
        context, request = self.context, one.request
        if self.suspended and self.reaction.resume and self.probing is None:
            self.probing = self.env.apart(self.probe())
        yield from self.restore(one)
        if not request.rounds:
            begun = one.group.attempt or self.suspended
            yield from (self.open_again(one) if begun else opening(context, request))
            self.target_restored(one)
        while request.speculates:
            if not self.suspended:
                yield from self.restore_draft(one)
                yield from policy(context, request)
            elif self.reaction.fallback == "none":
                yield self.news
            else:
                yield from decode(context, request)
        yield from await_acknowledgement(request)

    def restore(self, one: Answering) -> Process:
        """Wait for the target, have it read again what it has lost, and deliver what is committed."""
        context, request, target = self.context, one.request, self.target
        if target.down is not None:
            yield from target.wait()
        if one.epochs["target"] != target.epoch:
            self.forget_cache(one, "target")
        if request.rounds:
            missing = len(request.tokens) - 1 - request.target_cached
            if one.lost.get("target") and missing > 0:
                step = context.board.target.step(Phase.PREFILL, missing, request.target_cached)
                yield from context.board.target.work(step, request.cause)
                self.count_recomputed(one, "target", missing)
                request.target_cached += missing
            self.target_restored(one)
        for number in sorted(one.opened):
            yield from self.close_round(one, one.opened[number])

    def target_restored(self, one: Answering) -> None:
        """The target has all that it had."""
        if "target" in one.lost:
            self.count_recomputed(one, "target", one.lost["target"])
        self.state.recovered(one.struck)
        one.struck.clear()

    def count_recomputed(self, one: Answering, role: str, rows: int) -> None:
        """Positions that were read again are counted with the fault by which they were lost."""
        lost = one.lost.pop(role, 0)
        for record in self.state.healths[role].emptied_by[:1]:
            record.recomputed_tokens += min(lost, rows) if lost else rows

    def close_round(self, one: Answering, opened: Round) -> Process:
        """A round that was committed and whose end was given up: deliver it, where it is not delivered."""
        context, request = self.context, one.request
        delivered_ns = opened.delivered_ns
        if context.elsewhere:
            yield from context.down.send("verdict", verdict_bytes(), tag_of(opened))
            request.draft_received = len(request.tokens)
            delivered_ns = self.now
        elif context.messages.draft_decides(opened.drafted, opened.accepted):
            delivered_ns = self.now
        context.close(request, opened, delivered_ns=delivered_ns)

    def open_again(self, one: Answering) -> Process:
        """Read the question on the target alone; where it had been read, its last row is there."""
        context, request = self.context, one.request
        start = self.now
        token, margin = context.source.next_token(request)
        if request.target_cached < len(request.tokens):
            yield from prefill_target(context, request)
        if context.elsewhere:
            yield from send_verdict(context, request)
        deliver(context, request, start, (token,), (margin,))
        if context.elsewhere:
            request.draft_received = len(request.tokens)

    def restore_draft(self, one: Answering) -> Process:
        """The draft's chip receives and reads again what it has lost; then speculation goes on."""
        context, request = self.context, one.request
        health = self.state.healths.get("draft")
        if health is None:
            return
        if one.epochs["draft"] != health.epoch:
            self.forget_cache(one, "draft")
        if "draft" in one.lost and context.head != "medusa":
            rows = len(request.tokens) - 1
            unknown = len(request.tokens) - request.draft_received
            if unknown or context.messages.hidden(rows):
                yield from send_down(context, "prompt", prompt_bytes(unknown), request.cause, rows)
            request.draft_received = len(request.tokens)
            step = context.draft.step(Phase.DRAFT_PREFILL, rows, 0)
            yield from context.draft.work(step, request.cause)
            request.draft_cached = rows
        if "draft" in one.lost:
            self.count_recomputed(one, "draft", one.lost["draft"])
            self.state.recovered(health.emptied_by)
        suspects, self.suspects = self.suspects, []
        for record in suspects:
            self.state.reacted((record,), RESUMED)
        self.state.recovered(suspects)

    def probe(self) -> Process:
        """Ask the draft's chip from time to time whether it is there, as long as anything is asked of the target."""
        while self.suspended and self.answering:
            yield self.env.timeout(ns(self.reaction.probe_ms / 1000))
            if not self.answering:
                break
            if (yield from self.is_there()):
                self.suspended = False
                news, self.news = self.news, self.env.event()
                news.succeed()
        self.probing = None

    def stop(self) -> None:
        """The run is over."""
        if self.probing is not None:
            end(self.probing)

    def is_there(self) -> Process:
        """Whether a message to the draft's chip is answered. A hung one is reset by its watchdog meanwhile."""
        health = self.state.healths["draft"]
        down, up = self.context.board.down, self.context.board.up
        if isinstance(down, FaultyDirection) and not (yield from down.reaches(PROBE, HEADER_BYTES)):
            return False
        if health.hung is not None:
            records = (health.hung,)
            for record in records:
                record.strike(self.now)
            self.state.noticed(records, PROBE)
            self.state.reacted(records, "chip reset")
            if self.state.on_reset is not None:
                self.state.on_reset(health, records[0])
        if not health.answers:
            return False
        return not isinstance(up, FaultyDirection) or (yield from up.reaches(PROBE, HEADER_BYTES))

    def require_progress(self, one: Answering) -> Process:
        """Watch a request, and end the run where nothing of its answer is delivered for too long. Raises `ChipLost`."""
        patience_ns = ns(self.reaction.give_up_ms / 1000)
        while (left := one.progress_ns + patience_ns - self.now) > 0 or not self.state.trace.faults:
            timer = self.env.timeout(left if left > 0 else patience_ns)  # what is slow by itself is waited for
            self.env.injected.add(timer)  # no run is kept up by it
            yield timer
        records = self.to_blame(one)
        for record in records:
            record.survived = False
        what = records[0] if records else None
        raise ChipLost(
            self.context.board.target.track if what is None else what.where,
            "not survived" if what is None else what.kind,
            f"no token for {self.reaction.give_up_ms:g} ms",
            "See the faults of the run; faults.reaction.give_up_ms says how long to wait.",
        )

    def to_blame(self, one: Answering) -> list[FaultRecord]:
        """The faults that a request waits for: those it has given rounds up for; else all that last or are noticed."""
        if waiting := [*one.struck, *self.suspects, *self.target.causes]:
            return waiting
        return [
            record
            for record in self.state.trace.faults
            if record.hits and (record.ended_ns < 0 or record.detected_ns >= 0 > record.recovered_ns)
        ]

    def note_committed(self, request: Request, opened: Round, position: int, answered: int) -> None:
        """Tokens have become part of the answer; their round is open until they are delivered."""
        self.answering[request.index].opened[opened.number] = opened
        self.state.drafted.pop(request.index, None)
        if isinstance(self.context.source, FaultySource):
            self.context.source.committed(request.index, request.conversation, position, answered, opened.tokens)

    def note_delivered(self, request: Request, ended: Round) -> None:
        """Tokens have reached the application: what was noticed before has been lived through that far."""
        one = self.answering.get(request.index)
        if one is not None:
            one.opened.pop(ended.number, None)
            one.progress_ns = self.now
        waiting, self.state.unserved = self.state.unserved, []
        for record in waiting:
            if record.detected_ns <= ended.delivered_ns:
                record.served_ns = ended.delivered_ns
            else:
                self.state.unserved.append(record)


@dataclass
class SupervisedContext(RunContext):
    """What a policy works with on hardware that may fail: committed rounds are known to the supervisor."""

    supervisor: Supervisor | None = None

    def commit(
        self,
        request: Request,
        start_ns: int,
        tokens: tuple[int, ...],
        margins: tuple[float, ...],
        *,
        drafted: int = 0,
        accepted: int = 0,
        depth: int = 0,
        single_ns: int = 0,
        distances: tuple[float, ...] = (),
        delivered_ns: int | None = None,
    ) -> Round:
        position, answered = len(request.tokens), len(request.answer)
        opened = super().commit(
            request,
            start_ns,
            tokens,
            margins,
            drafted=drafted,
            accepted=accepted,
            depth=depth,
            single_ns=single_ns,
            distances=distances,
            delivered_ns=delivered_ns,
        )
        assert self.supervisor is not None, "a supervised run has a supervisor"
        self.supervisor.note_committed(request, opened, position, answered)
        return opened

    def close(self, request: Request, opened: Round, *, delivered_ns: int) -> Round:
        ended = super().close(request, opened, delivered_ns=delivered_ns)
        assert self.supervisor is not None, "a supervised run has a supervisor"
        self.supervisor.note_delivered(request, ended)
        return ended
