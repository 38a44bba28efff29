"""What injected faults do to a chip: how fast its unit is, whether it answers, what its caches hold, its clock.

unit        ▓▓▓verify▓▓╳ hangs           ▓▓▓load▓▓▓▓▓read again▓
watchdog               |--- watchdog_ms ---|reset
"""

from __future__ import annotations

from math import ceil, floor, prod
from typing import NamedTuple

from hilsim.sim.device_slot import Process, now_ns
from hilsim.sim.faults.groups import Grouping, Sleepers
from hilsim.sim.trace import FaultRecord

WATCHDOG, RESTART = "watchdog", "restart"


class Clock:
    """A chip's clock, which time-outs and watchdogs are measured by; a monotonic one takes part in no jump."""

    def __init__(self, env: Grouping, *, monotonic: bool):
        self.env, self.monotonic = env, monotonic
        self.ahead_ns = 0
        self.jumps: list[FaultRecord] = []
        self.sleepers = Sleepers(env)
        self.listeners = [self.sleepers]

    @property
    def reads_ns(self) -> int:
        """What it shows."""
        return now_ns(self.env) + self.ahead_ns

    def jump(self, by_ns: int, record: FaultRecord) -> None:
        """Show another time from now on."""
        if self.monotonic:
            return
        self.ahead_ns += by_ns
        self.jumps.append(record)
        for sleepers in self.listeners:
            sleepers.wake()

    def jumped_since(self, at_ns: int) -> tuple[FaultRecord, ...]:
        """The jumps after an instant."""
        return tuple(record for record in self.jumps if record.began_ns >= at_ns)

    def until(self, reads_ns: int, at_most_ns: int | None = None) -> Process:
        """Wait until it shows so much, or until an instant that is reached first; returns whether it shows that."""
        while self.reads_ns < reads_ns:
            now, wait = now_ns(self.env), reads_ns - self.reads_ns
            if at_most_ns is not None:
                if now >= at_most_ns:
                    return False
                wait = min(wait, at_most_ns - now)
            yield from self.sleepers.sleep(wait)
        return True


class Broken(NamedTuple):
    """Why a step came to nothing: what noticed it ("" as long as nothing has), and the faults."""

    by: str
    records: tuple[FaultRecord, ...]


class Health:
    """The state of one role's unit. `epoch` counts how often its caches were lost."""

    def __init__(self, env: Grouping, role: str, chip: str, clock: Clock, watchdog_ns: int):
        self.env, self.role, self.chip, self.clock, self.watchdog_ns = env, role, chip, clock, watchdog_ns
        self.epoch = 0
        self.slow: list[tuple[FaultRecord, float]] = []
        self.hung: FaultRecord | None = None
        self.down: FaultRecord | None = None  # it loads its models, or is gone
        self.gone = False  # for good
        self.emptied_by: tuple[FaultRecord, ...] = ()  # why its caches were lost last
        self.sleepers = Sleepers(env)
        clock.listeners.append(self.sleepers)

    @property
    def answers(self) -> bool:
        """Whether it does anything."""
        return self.down is None and self.hung is None

    @property
    def causes(self) -> tuple[FaultRecord, ...]:
        """Why it does nothing."""
        return tuple(record for record in (self.down, self.hung) if record is not None)

    @property
    def factor(self) -> float:
        """How many times as long its steps take; a fault that begins again before it ends is no slower for that."""
        return prod({record.number: times for record, times in self.slow}.values())

    def hang(self, record: FaultRecord) -> None:
        """Stop in the middle of everything."""
        if self.answers:
            self.hung = record
            self.sleepers.wake()

    def go_on(self, record: FaultRecord) -> None:
        """A hang ends by itself."""
        if self.hung is record:
            self.hung = None
            self.sleepers.wake()

    def go_down(self, record: FaultRecord, *, for_good: bool = False) -> None:
        """Lose everything: the step under way and the caches. What waits for it already waits longer from now on."""
        if self.gone:
            return
        if self.down is not None and self.down.hits:
            record.strike(now_ns(self.env))
        self.gone = for_good
        self.hung, self.down, self.emptied_by = None, record, (record,)
        self.epoch += 1
        self.sleepers.wake()

    def come_back(self) -> None:
        """Models are loaded."""
        self.down = None
        self.sleepers.wake()

    def slow_down(self, record: FaultRecord, factor: float) -> None:
        """Take so many times as long from now on."""
        self.slow.append((record, factor))
        self.sleepers.wake()

    def speed_up(self, record: FaultRecord) -> None:
        """The end of slowness."""
        self.slow = [one for one in self.slow if one[0] is not record]
        self.sleepers.wake()

    def run(self, step_ns: int) -> Process:
        """Let a step pass that takes so long at full speed; returns None, or why it is `Broken`.

        The watchdog looks for progress: it barks where there is none for its time, or seems to be none as its clock
        has jumped.
        """
        clock, epoch, ahead_ns, left, due = self.clock, self.epoch, self.clock.ahead_ns, step_ns, -1
        asked = now_ns(self.env)
        while True:
            begun, factor = now_ns(self.env), self.factor
            if self.epoch != epoch or self.down is not None:
                return Broken("", self.emptied_by)
            if self.hung is not None:
                if due < 0:
                    self.hung.strike(begun)
                    due = clock.reads_ns + self.watchdog_ns
                if clock.reads_ns >= due:
                    return Broken(WATCHDOG, (self.hung,))
                yield from self.sleepers.sleep(due - clock.reads_ns)
                continue
            due = -1
            if clock.ahead_ns - ahead_ns > self.watchdog_ns:
                return Broken(WATCHDOG, clock.jumped_since(asked))
            for record, _ in self.slow:
                record.strike(begun)
            whole = ceil(left * factor)
            yield from self.sleepers.sleep(whole)
            passed = now_ns(self.env) - begun
            if passed >= whole and self.epoch == epoch:
                return None
            left -= floor(passed / factor)

    def noticed(self) -> Process:
        """Wait until it is noticed that a step that begins or breaks now is lost: by the watchdog, or by the restart.

        Returns which of them it was.
        """
        due = self.clock.reads_ns + self.watchdog_ns
        while self.down is not None and self.clock.reads_ns < due:
            yield from self.sleepers.sleep(due - self.clock.reads_ns)
        return RESTART if self.down is None else WATCHDOG

    def wait(self) -> Process:
        """Wait until its models are loaded, for ever where it is gone."""
        while self.down is not None:
            yield from self.sleepers.until_woken()
