"""One way over a physical link on which the faults of a scenario really happen, and the sender that insists.

The scenario's faults decide what becomes of a message, as in the simulation; the sending end does it to the bytes, and
time-outs, checksums and sequence numbers of the sender and receiver notice it on the wall clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import simpy

from hilsim.describe.faults import Duplicate
from hilsim.describe.link import Link
from hilsim.hardware.distributed.injected_link import Fate, flippable_bits
from hilsim.hardware.distributed.link_wires import LinkWire
from hilsim.hardware.distributed.wall import WallGrouping
from hilsim.sampling.noise import FAULTS, uniforms
from hilsim.sim.device_slot import NO_REQUEST, Process, RequestTag, now_ns
from hilsim.sim.faults.direction import CHECKSUM, SENT_AGAIN, SEQUENCE, TIMEOUT, FaultyDirection
from hilsim.sim.faults.health import Clock, Health
from hilsim.sim.faults.state import FaultState
from hilsim.sim.trace import FaultRecord, Span, Trace

SECOND_COPY = "second copy dropped"
BITS = 3  # the third of the random numbers of a fault and message


@dataclass
class Copy:
    """One copy of a message under way: its number, whether it will arrive, the faults that it met, and its instants.

    `late` are those of the faults by which later messages overtake it. Which of its end and its arrival is known first
    is chance, as two connections report them.
    """

    number: int
    asked_ns: int
    start_ns: int
    arrived: simpy.Event
    coming: bool
    records: tuple[FaultRecord, ...]
    late: tuple[FaultRecord, ...]
    end_ns: int = -1
    arrived_ns: int = -1

    @property
    def here(self) -> bool:
        """Whether it has arrived."""
        return self.arrived.triggered


class FaultyRealDirection(FaultyDirection):
    """A way over a physical link, with faults."""

    env: WallGrouping

    def __init__(
        self,
        state: FaultState,
        way: str,
        link: Link,
        seed: int,
        trace: Trace,
        clock: Clock,
        ends: tuple[Health, ...],
        wire: LinkWire,
    ):
        super().__init__(state, way, link, seed, trace, clock, ends)
        self.wire = wire
        self.under_way: dict[simpy.Event, Copy] = {}  # by message: the copy that was sent first

    def send(self, kind: str, nbytes: int, cause: RequestTag, left: simpy.Event | None = None) -> Process:
        """Send a message, again and again where needed; returns the instant at which it and those before are there."""
        first: Copy = yield from self.put(kind, nbytes, cause, left)
        behind, message, copies = dict(self.under_way), self.env.event(), [first]
        self.under_way[message] = first
        try:
            by, records = yield from self.insist_really(kind, nbytes, cause, copies)
        finally:
            del self.under_way[message]
            message.succeed()
            for copy in copies:
                self.give_up(copy)
        if by:
            yield from self.state.fail(cause, "link", by, records)
        for earlier, other in behind.items():
            if not earlier.triggered:
                self.state.noticed(other.late, SEQUENCE)
                self.state.reacted(other.late, "messages put back in order")
                yield earlier
                self.state.recovered(other.late)
        return now_ns(self.env)

    def put(self, kind: str, nbytes: int, cause: RequestTag, left: simpy.Event | None = None) -> Process:
        """Have a copy of a message sent, with what becomes of it; returns it as the end's socket has taken it."""
        asked = start = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait(owner=cause.request)
            start = now_ns(self.env)
        if cause.request != NO_REQUEST:
            self.state.enter(self.track, "prefill" if kind == "prompt" or not cause.round else self.way, cause)
        number, whole = None, False
        try:
            held_ns, slowed = self.held_ns(nbytes, start)
            busy_ns = held_ns - self.wire_ns(nbytes)
            lost = self.lost_by(start, start + busy_ns + self.wire_ns(nbytes))
            delayed, hold_ns = ((), 0) if lost else self.delayed_by(start, start + busy_ns + self.transfer_ns(nbytes))
            damaged = () if lost else self.damaged_by(kind, nbytes, cause, start)
            doubled = () if lost else self.doubled_by(start)
            late = tuple(record for record in delayed if record.kind == "late")
            flips = tuple(self.wrong_bit(record, nbytes) for record in damaged)
            fate = Fate(bool(lost), busy_ns, hold_ns, bool(late), 1 + len(doubled), flips)
            records = lost or (*slowed, *delayed, *damaged)
            number, sent, arrived = self.wire.inject(self.env, nbytes, fate)
            for record in doubled:
                self.await_second(number, record)
            copy = Copy(number, asked, start, arrived, not lost, records, late)
            assert arrived.callbacks is not None, "an arrival before the message was sent"
            arrived.callbacks.append(lambda _: self.note_arrival(kind, copy, nbytes, cause))
            yield sent
            whole = True
        finally:
            if number is not None and not whole:
                self.wire.receiver.give_up(number)
            self.state.leave(self.track)
            self.turn.leave()
        copy.end_ns = now_ns(self.env)
        if left is not None:
            left.succeed()
        if lost:
            self.occupied_in_vain(start, asked, nbytes, cause)
        self.note_crossed(kind, copy, nbytes, cause)
        return copy

    def note_arrival(self, kind: str, copy: Copy, nbytes: int, cause: RequestTag) -> None:
        """A copy has arrived."""
        copy.arrived_ns = now_ns(self.env)
        self.note_crossed(kind, copy, nbytes, cause)

    def note_crossed(self, kind: str, copy: Copy, nbytes: int, cause: RequestTag) -> None:
        """The span of a copy, once both its ends are known."""
        if copy.end_ns >= 0 and copy.arrived_ns >= 0:
            asked, start, end, done = copy.asked_ns, copy.start_ns, copy.end_ns, copy.arrived_ns
            self.trace.add_span(Span(self.track, kind, start, end, *cause, asked, max(end, done), 0, 0, nbytes))

    def give_up(self, copy: Copy) -> None:
        """Wait no more for a copy."""
        if not copy.here:
            self.wire.receiver.give_up(copy.number)

    def doubled_by(self, start: int) -> tuple[FaultRecord, ...]:
        """The faults by which a message crosses the link twice."""
        found = []
        for fault, record in self.at(start):
            if isinstance(fault, Duplicate):
                record.strike(start)
                found.append(record)
                if fault.for_ms is None and "for_ms" not in fault.model_fields_set:
                    record.ended_ns = now_ns(self.env)
        return tuple(found)

    def await_second(self, number: int, record: FaultRecord) -> None:
        """Have the receiver know the second copy of a message by its number."""
        again = self.env.task()

        def drop(_: simpy.Event) -> None:
            self.state.noticed((record,), SEQUENCE)
            self.state.reacted((record,), SECOND_COPY)
            self.state.recovered((record,))

        assert again.callbacks is not None, "a new task is not over"
        again.callbacks.append(drop)
        self.wire.receiver.expect_again(number, (self.env, again))

    def wrong_bit(self, record: FaultRecord, nbytes: int) -> int:
        """The bit that a fault inverts in a message: one, the likeliest number where any is."""
        place = uniforms(self.seed, FAULTS, record.number + 1, record.hits, BITS + (self.way == "down")).spare
        return int(place * flippable_bits(nbytes))

    def insist_really(self, kind: str, nbytes: int, cause: RequestTag, copies: list[Copy]) -> Process:
        """Wait until a copy has arrived intact, and send more of them where none does.

        Returns what noticed that none has arrived ("" where one has), and the faults. All copies are added to `copies`.
        """
        state, tries, timeout_ns = self.state, 0, self.timeout_ns(nbytes)
        records: tuple[FaultRecord, ...] = ()
        awaited, due_ns, noticed = list(copies), copies[0].start_ns + timeout_ns, False
        while True:
            records = tuple({id(record): record for record in (*records, *copies[-1].records)}.values())
            here = yield from self.first_of(awaited, due_ns)
            if here is not None and here.arrived.value:
                break
            noticed = True
            if here is not None:
                awaited.remove(here)
                state.noticed(records, CHECKSUM)
                by, wait_ns = CHECKSUM, self.propagation_ns  # until the sender knows
            else:
                state.noticed(records, TIMEOUT)
                by, wait_ns = TIMEOUT, self.backoff_ns(tries)
            if tries >= state.reaction.retries:
                if not any(copy.coming for copy in awaited):
                    return by, records
                due_ns = now_ns(self.env) + ceil(state.reaction.give_up_ms * 1e6)
                continue
            here = yield from self.first_of(awaited, now_ns(self.env) + wait_ns)
            if here is not None and here.arrived.value:
                break
            tries += 1
            copy: Copy = yield from self.put(kind, nbytes, cause)
            copies.append(copy)
            awaited.append(copy)
            due_ns = copy.start_ns + timeout_ns
            state.reacted(records, SENT_AGAIN, copy.start_ns)
            for record in records:
                record.resent_messages += 1
                record.resent_bytes += nbytes
        if noticed:
            state.recovered(records)
        return "", records

    def first_of(self, copies: Sequence[Copy], until_ns: int) -> Process:
        """Wait for the first of these copies, at most until an instant; None where none has arrived by then."""
        timer = self.env.timeout(max(0, until_ns - now_ns(self.env)))
        try:
            yield self.env.any_of([timer, *(copy.arrived for copy in copies)])
        finally:
            if timer.callbacks is not None:
                self.env.vain.add(timer)
        return next((copy for copy in copies if copy.here), None)

    def reaches(self, kind: str, nbytes: int) -> Process:
        """Send one copy that nothing waits for but this; returns whether it arrives."""
        tag = RequestTag(NO_REQUEST, 0)
        copy: Copy = yield from self.put(kind, nbytes, tag)
        try:
            here = yield from self.first_of([copy], copy.start_ns + self.timeout_ns(nbytes))
        finally:
            self.give_up(copy)
        return here is not None and bool(here.arrived.value)
