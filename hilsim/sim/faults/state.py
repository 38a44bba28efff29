"""The faults of a run under way: which have begun, what they hit, what became of them, and whom a failure concerns.

Units and links ask here what is wrong with them, and report here what does not answer; the supervisor reacts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import simpy

from hilsim.describe.faults import InjectedFault, Reaction
from hilsim.sim.device_slot import Process, RequestTag, now_ns
from hilsim.sim.faults.groups import Failing, Failure, GivenUp, Group, Grouping
from hilsim.sim.faults.health import WATCHDOG, Clock, Health
from hilsim.sim.request import Request
from hilsim.sim.trace import FaultRecord, Trace
from hilsim.units import ns

PHASE_OF_STEP = {
    "prefill": "prefill", "draft prefill": "prefill", "draft": "draft", "verify": "verify", "decode": "verify",
}  # fmt: skip


class Occupied(NamedTuple):
    """What a unit or a way of the link is doing."""

    phase: str
    cause: RequestTag


class Active(NamedTuple):
    """A fault of the link that has begun."""

    fault: InjectedFault
    record: FaultRecord


class FaultState:
    """What is wrong with the hardware of a run, and the requests that are under way on it.

    Others say what they do: `on_phase` is called as a phase begins, `on_reset` has a chip load its models again, and
    `on_corrupted` is called for a message whose tokens have changed unnoticed.
    """

    def __init__(self, env: Grouping, reaction: Reaction, trace: Trace, seed: int):
        self.env, self.reaction, self.trace, self.seed = env, reaction, trace, seed
        self.healths: dict[str, Health] = {}  # by role
        self.clocks: dict[str, Clock] = {}  # by chip
        self.doing: dict[str, Occupied] = {}  # by track
        self.groups: dict[int, Group] = {}  # by request
        self.answering: dict[int, Request] = {}  # requests under way
        self.unserved: list[FaultRecord] = []  # noticed, and no token delivered since
        self.drafted: dict[int, int] = {}  # by request: tokens drafted since the last were committed
        self.on_phase: Callable[[str, RequestTag], None] | None = None
        self.on_reset: Callable[[Health, FaultRecord], None] | None = None
        self.on_corrupted: Callable[[str, RequestTag, FaultRecord], None] | None = None

    @property
    def now(self) -> int:
        return now_ns(self.env)

    def clock(self, chip: str) -> Clock:
        """The one clock of a chip."""
        monotonic = self.reaction.clock == "monotonic"
        return self.clocks.setdefault(chip, Clock(self.env, monotonic=monotonic))

    def health(self, role: str, chip: str) -> Health:
        """The state of a role's unit."""
        made = Health(self.env, role, chip, self.clock(chip), ns(self.reaction.watchdog_ms / 1000))
        return self.healths.setdefault(role, made)

    def enter(self, track: str, phase: str, cause: RequestTag) -> None:
        """A unit or a way begins something: faults that wait for it begin now."""
        self.doing[track] = Occupied(phase, cause)
        if self.on_phase is not None:
            self.on_phase(phase, cause)

    def leave(self, track: str) -> None:
        """That is over."""
        self.doing.pop(track, None)

    def noticed(self, records: Iterable[FaultRecord], by: str, at_ns: int | None = None) -> None:
        """Something has noticed that anything is wrong."""
        at = self.now if at_ns is None else at_ns
        for record in records:
            if record.hits == 0:
                record.strike(at)
            if record.detected_ns < 0:
                record.detected_ns, record.by = at, by
                self.unserved.append(record)

    def reacted(self, records: Iterable[FaultRecord], words: str, at_ns: int | None = None) -> None:
        """A reaction begins."""
        for record in records:
            if record.reacted_ns < 0:
                record.reacted_ns = self.now if at_ns is None else at_ns
            if words not in record.reactions:
                record.reactions.append(words)

    def recovered(self, records: Iterable[FaultRecord], at_ns: int | None = None) -> None:
        """All is as before, as far as these go."""
        at = self.now if at_ns is None else at_ns
        for record in records:
            if record.reacted_ns >= 0:
                record.recovered_ns = max(record.recovered_ns, at)

    def fail(self, cause: RequestTag, what: Failing, by: str, records: tuple[FaultRecord, ...]) -> Process:
        """Report that something does not answer, and wait to be ended.

        The request's own process is interrupted. One whose request is over waits in vain.
        """
        self.noticed(records, by)
        group = self.groups.get(cause.request)
        if group is not None and group.open:
            failure = Failure(what, by, records, group.attempt)
            if self.env.active_process is group.main:
                raise simpy.Interrupt(failure)
            GivenUp(group, failure)
        yield self.env.event()

    def lose_step(self, health: Health, by: str, records: tuple[FaultRecord, ...], cause: RequestTag) -> Process:
        """A step came to nothing: wait until that is noticed, have a hung chip reset, and report it."""
        if not by:
            for record in records:
                record.strike(self.now)
            by = yield from health.noticed()
        self.noticed(records, by)
        if health.down is None and by == WATCHDOG:
            self.reacted(records, "chip reset")
            if self.on_reset is not None:
                self.on_reset(health, records[0])
        yield from self.fail(cause, "target" if health.role == "target" else "draft", by, records)

    def corrupt(self, kind: str, cause: RequestTag, record: FaultRecord) -> None:
        """A message's tokens have changed, and nothing shows it."""
        if self.on_corrupted is not None:
            self.on_corrupted(kind, cause, record)
