"""One way over a link that loses, delays, corrupts or doubles messages, and the sender that insists.

sender     ▓drafts▓ ... time-out ... back-off ▓drafts again▓
link          ╳ lost                                 ▸ arrives

A sender numbers its messages and knows of each whether it has arrived: acknowledgements are the link's own and take no
part of its rate. What has not arrived `timeout` after it should have is sent again. The receiver drops second copies
and hands messages on in the order in which they were sent.
"""

from __future__ import annotations

from math import ceil, expm1, log1p, prod
from typing import NamedTuple

import simpy

from hilsim.describe.faults import (
    BitErrors,
    Duplicate,
    InjectedFault,
    Late,
    LinkDelay,
    LinkDrop,
    Loss,
    PartialOutage,
)
from hilsim.describe.link import Link
from hilsim.sampling.noise import FAULTS, JITTER, uniforms
from hilsim.sim.board import Direction
from hilsim.sim.device_slot import NO_REQUEST, Process, RequestTag, now_ns
from hilsim.sim.faults.health import Clock, Health
from hilsim.sim.faults.slot import FAULT
from hilsim.sim.faults.state import Active, FaultState
from hilsim.sim.trace import FaultRecord, Span, Trace
from hilsim.units import ns

TIMEOUT, CHECKSUM, SEQUENCE = "time-out", "checksum", "sequence number"
USUAL_TIMEOUT_MS = 20.0
SENT_AGAIN = "message sent again"


class Passage(NamedTuple):
    """What became of one copy of a message: when it arrives (-1: never), and the faults that it met.

    `read_ns` is what the sender's clock showed as its first byte was on the wire. A `damaged` one fails its checksum.
    """

    sent_ns: int
    read_ns: int
    arrives_ns: int
    records: tuple[FaultRecord, ...] = ()
    damaged: bool = False


class FaultyDirection(Direction):
    """A direction with faults. `ends` are the states of the units at both ends, `clock` is the sender's."""

    def __init__(
        self, state: FaultState, way: str, link: Link, seed: int, trace: Trace, clock: Clock, ends: tuple[Health, ...]
    ):
        super().__init__(state.env, f"{link.name}.{way}", link, seed, trace)
        self.state, self.way, self.clock, self.ends, self.grouping = state, way, clock, ends, state.env
        self.active: list[Active] = []
        self.bad: dict[int, bool] = {}  # by number of a fault: whether its bursts are in the bad state
        self.drawn: dict[int, int] = {}  # by number of a fault: random numbers taken
        self.missing: list[simpy.Event] = []  # messages that later ones must wait for
        self.held_up: list[tuple[int, FaultRecord]] = []  # arrivals of messages that later ones may overtake

    def timeout_ns(self, nbytes: int) -> int:
        """From the first byte on the wire until the sender gives a message up for lost."""
        reaction, expected = self.state.reaction, self.transfer_ns(nbytes) + self.jitter_ns
        if reaction.timeout_factor is not None:
            return ceil(reaction.timeout_factor * expected)
        return expected + ns((USUAL_TIMEOUT_MS if reaction.timeout_ms is None else reaction.timeout_ms) / 1000)

    def backoff_ns(self, tries: int) -> int:
        """What the sender waits before it sends a message again."""
        reaction = self.state.reaction
        return ns(reaction.backoff_ms * reaction.backoff_factor**tries / 1000)

    def begin(self, fault: InjectedFault, record: FaultRecord) -> None:
        """A fault of this way begins; its record says when it ends."""
        self.active.append(Active(fault, record))

    def send(self, kind: str, nbytes: int, cause: RequestTag, left: simpy.Event | None = None) -> Process:
        """Queue for the wire and send, again and again where that is needed; returns the instant of arrival in ns.

        `left` succeeds when the first copy has left the wire. Where all copies are lost that is reported, and this
        never returns.
        """
        passage: Passage = yield from self.transmit(kind, nbytes, cause, left)
        behind, timeout_ns = tuple(self.missing), self.timeout_ns(nbytes)
        if passage.arrives_ns - passage.sent_ns > timeout_ns or passage.arrives_ns < 0 or passage.damaged:
            yield from self.insist(kind, nbytes, cause, passage)
        else:
            yield self.env.timeout(passage.arrives_ns - now_ns(self.env))
            if self.clock.reads_ns - passage.read_ns > timeout_ns:
                self.send_for_nothing(kind, nbytes, cause, self.clock.jumped_since(passage.sent_ns))
        for message in behind:
            if not message.triggered:
                yield message
        return now_ns(self.env)

    def transmit(
        self, kind: str, nbytes: int, cause: RequestTag, left: simpy.Event | None = None, *, again: bool = False
    ) -> Process:
        """One copy of a message over the wire; returns its `Passage` as its last byte has left, or it is taken off.

        One that is sent `again` does not wait for copies of itself.
        """
        asked = start = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait(owner=cause.request)
            start = now_ns(self.env)
        read_ns, whole = self.clock.reads_ns, False
        if cause.request != NO_REQUEST:
            self.state.enter(self.track, "prefill" if kind == "prompt" or not cause.round else self.way, cause)
        held_ns, slowed = self.held_ns(nbytes, start)
        try:
            whole = yield from self.hold(held_ns, start, read_ns + self.timeout_ns(nbytes) if slowed else None)
        finally:
            self.state.leave(self.track)
            if not whole:
                self.occupied_in_vain(start, asked, nbytes, cause)
            self.turn.leave()
        end = now_ns(self.env)
        if left is not None:
            left.succeed()
        if not whole:
            return Passage(start, read_ns, -1, slowed)
        delay = self.propagation_ns
        if self.jitter_ns:
            request = (self.messages << 1) | self.track.endswith("down")
            delay += int(uniforms(self.seed, JITTER, request, 0).spare * (self.jitter_ns + 1))
        self.messages += 1
        if lost := self.lost_by(start, end):
            self.occupied_in_vain(start, asked, nbytes, cause)
            return Passage(start, read_ns, -1, lost)
        delayed, further_ns = self.delayed_by(start, end + delay)
        delay += further_ns
        # A link delivers in order: a delayed message delays those after it; `insist` holds them back where it is late.
        if not again:
            delay = max(delay, self.arrived_ns - end)
            if end + delay - start <= self.timeout_ns(nbytes):
                self.arrived_ns = end + delay
        damaged = self.damaged_by(kind, nbytes, cause, start)
        self.trace.add_span(
            Span(self.track, kind, start, end, cause.request, cause.round, asked, end + delay, 0, 0, nbytes)
        )
        self.double(kind, nbytes, cause, start)
        return Passage(start, read_ns, end + delay, (*slowed, *delayed, *damaged), bool(damaged))

    def held_ns(self, nbytes: int, start: int) -> tuple[int, tuple[FaultRecord, ...]]:
        """How long a message holds the wire that it enters now, and the faults by which that is longer."""
        shares, found = {}, []  # shares by fault: one that begins again before it ends takes no more
        for fault, record in self.at(start):
            if isinstance(fault, PartialOutage):
                record.strike(start)
                shares[record.number] = fault.share
                found.append(record)
        held = self.wire_ns(nbytes)
        return (ceil(held / prod(shares.values())) if shares else held), tuple(found)

    def hold(self, held_ns: int, start: int, due_reads_ns: int | None) -> Process:
        """Hold the wire for so long; returns whether all of a message has left it.

        One on a slow wire is taken off as its time-out is over, when the sender's clock shows `due_reads_ns`: what is
        sent again would wait for it.
        """
        if due_reads_ns is not None and (yield from self.clock.until(due_reads_ns, start + held_ns)):
            return False
        yield self.env.timeout(start + held_ns - now_ns(self.env))
        return True

    def at(self, start: int) -> list[Active]:
        """The faults that last as a message enters the wire; those that are over are forgotten."""
        self.active = [one for one in self.active if one.record.ended_ns < 0 or one.record.ended_ns > start]
        return [one for one in self.active if one.record.began_ns <= start]

    def lost_by(self, start: int, end: int) -> tuple[FaultRecord, ...]:
        """The faults by which a message that was on the wire for so long is lost."""
        found = [cause for health in self.ends if health.down is not None for cause in (health.down,)]
        found += [record for fault, record in self.active if isinstance(fault, LinkDrop) and record.began_ns <= end]
        found += [record for fault, record in self.at(start) if isinstance(fault, Loss) and self.loses(fault, record)]
        for record in found:
            record.strike(max(start, record.began_ns))
        return tuple(found)

    def loses(self, fault: Loss, record: FaultRecord) -> bool:
        """Whether a message is lost by chance; bursts go on from the message before."""
        number, chance = record.number, self.draw(record)
        if fault.burst == 1:
            return chance < fault.rate
        entering = fault.rate / (fault.burst * (1 - fault.rate))
        was_bad = self.bad.get(number)
        staying_bad = fault.rate if was_bad is None else 1 - 1 / fault.burst if was_bad else entering
        self.bad[number] = chance < staying_bad
        return self.bad[number]

    def draw(self, record: FaultRecord) -> float:
        """The next random number of a fault on this way."""
        drawn = self.drawn[record.number] = self.drawn.get(record.number, -1) + 1
        return uniforms(self.seed, FAULTS, record.number + 1, drawn, 1 + (self.way == "down")).spare

    def delayed_by(self, start: int, arrives_ns: int) -> tuple[tuple[FaultRecord, ...], int]:
        """The faults that delay a message, and by how many nanoseconds; one that overtakes another shows that."""
        self.held_up = [(until, record) for until, record in self.held_up if until > arrives_ns]
        for until, record in self.held_up:
            self.state.noticed((record,), SEQUENCE, arrives_ns)
            self.state.reacted((record,), "messages put back in order", max(arrives_ns, record.detected_ns))
            self.state.recovered((record,), until)
        found, further_ns = [], 0
        for fault, record in self.at(start):
            if isinstance(fault, LinkDelay | Late):
                record.strike(start)
                found.append(record)
                further_ns += ns(fault.delay_ms / 1000)
            if isinstance(fault, Late):
                record.ended_ns = now_ns(self.env)
                self.held_up.append((arrives_ns + further_ns, record))
        return tuple(found), further_ns

    def damaged_by(self, kind: str, nbytes: int, cause: RequestTag, start: int) -> tuple[FaultRecord, ...]:
        """The faults that damage a message, where its checksum shows that; else its tokens are others from now on."""
        found = []
        for fault, record in self.at(start):
            if isinstance(fault, BitErrors) and self.draw(record) < -expm1(8 * nbytes * log1p(-fault.rate)):
                record.strike(start)
                if self.state.reaction.checksum:
                    found.append(record)
                else:
                    self.state.corrupt(kind, cause, record)
        return tuple(found)

    def double(self, kind: str, nbytes: int, cause: RequestTag, start: int) -> None:
        """Send a second copy behind the first, where a fault has it so."""
        for fault, record in self.at(start):
            if isinstance(fault, Duplicate):
                record.strike(start)
                if fault.for_ms is None and "for_ms" not in fault.model_fields_set:
                    record.ended_ns = now_ns(self.env)
                self.grouping.apart(self.copy(nbytes, cause, (record,), SEQUENCE, "second copy dropped"))

    def send_for_nothing(self, kind: str, nbytes: int, cause: RequestTag, jumps: tuple[FaultRecord, ...]) -> None:
        """The sender's clock has jumped: it sends a message again that has arrived in time."""
        for record in jumps:
            record.strike(record.began_ns)
            record.resent_messages += 1
            record.resent_bytes += nbytes
        self.grouping.apart(self.copy(nbytes, cause, jumps, TIMEOUT, SENT_AGAIN))

    def copy(self, nbytes: int, cause: RequestTag, records: tuple[FaultRecord, ...], by: str, words: str) -> Process:
        """A copy of a message that nobody needs: it occupies the wire, and is dropped as it arrives."""
        if by == TIMEOUT:
            self.state.noticed(records, by)
            self.state.reacted(records, words)
        asked = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
        start = now_ns(self.env)
        try:
            yield self.env.timeout(self.wire_ns(nbytes))
        finally:
            self.occupied_in_vain(start, asked, nbytes, cause)
            self.turn.leave()
        yield self.env.timeout(self.propagation_ns)
        self.state.noticed(records, by)
        self.state.reacted(records, words)
        self.state.recovered(records)

    def occupied_in_vain(self, start: int, asked: int, nbytes: int, cause: RequestTag) -> None:
        """The span of a copy that is of no use: lost, given up, or the second one."""
        now = now_ns(self.env)
        self.trace.add_span(Span(self.track, FAULT, start, now, cause.request, cause.round, asked, now, 0, 0, nbytes))

    def insist(self, kind: str, nbytes: int, cause: RequestTag, passage: Passage) -> Process:
        """Send a message again until a copy has arrived, or report that none does."""
        message = self.env.event()
        self.missing.append(message)
        try:
            by, records = yield from self.try_again(kind, nbytes, cause, passage)
        finally:
            self.missing.remove(message)
            message.succeed()
        if by:
            yield from self.state.fail(cause, "link", by, records)
        self.state.recovered(records)

    def try_again(self, kind: str, nbytes: int, cause: RequestTag, passage: Passage) -> Process:
        """The tries after the first. Returns what noticed that none has arrived ("" where one has), and the faults."""
        state, timeout_ns, tries, arrives_ns = self.state, self.timeout_ns(nbytes), 0, -1
        records: tuple[FaultRecord, ...] = ()
        while True:
            records = tuple({id(record): record for record in (*records, *passage.records)}.values())
            if passage.damaged:
                yield self.env.timeout(passage.arrives_ns - now_ns(self.env))
                state.noticed(records, CHECKSUM)
                by, wait = CHECKSUM, self.propagation_ns  # until the sender knows
            else:
                if passage.arrives_ns >= 0:
                    arrives_ns = passage.arrives_ns if arrives_ns < 0 else min(arrives_ns, passage.arrives_ns)
                at_most = None if arrives_ns < 0 else arrives_ns
                if not (yield from self.clock.until(passage.read_ns + timeout_ns, at_most)):
                    return "", records
                state.noticed(records, TIMEOUT)
                by, wait = TIMEOUT, self.backoff_ns(tries)
            if tries >= state.reaction.retries:
                if arrives_ns < 0:
                    return by, records
                wait = arrives_ns - now_ns(self.env)
            if 0 <= arrives_ns <= now_ns(self.env) + wait:
                yield self.env.timeout(max(0, arrives_ns - now_ns(self.env)))
                return "", records
            yield self.env.timeout(wait)
            tries += 1
            passage = yield from self.transmit(kind, nbytes, cause, again=True)
            state.reacted(records, SENT_AGAIN, passage.sent_ns)
            for record in records:
                record.resent_messages += 1
                record.resent_bytes += nbytes

    def reaches(self, kind: str, nbytes: int) -> Process:
        """Send one copy that nothing waits for but this; returns whether it arrives."""
        passage: Passage = yield from self.transmit(kind, nbytes, RequestTag(NO_REQUEST, 0))
        if passage.arrives_ns < 0 or passage.damaged:
            yield self.env.timeout(self.timeout_ns(nbytes))
            return False
        yield self.env.timeout(passage.arrives_ns - now_ns(self.env))
        return True
