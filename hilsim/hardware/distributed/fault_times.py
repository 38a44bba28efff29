"""Faults that were predicted and the same ones as they really happened: the order of what came of them, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hilsim.sim.trace import FaultRecord

# What comes of a fault, in this order. Times are from the instant at which it hits something.
EVENTS = ("began", "hit", "detected", "reacted", "recovered")
TIMED = EVENTS[2:]


def instants(record: FaultRecord) -> dict[str, int]:
    """Nanoseconds at which what came of a fault happened; what did not happen is left out."""
    found = {event: getattr(record, f"{event}_ns") for event in EVENTS}
    return {event: at_ns for event, at_ns in found.items() if at_ns >= 0}


def order_of(records: Sequence[FaultRecord]) -> list[tuple[int, str]]:
    """All that came of all faults, as numbers of faults and events, in the order in which it happened."""
    listed = [
        (at_ns, place, EVENTS.index(event))
        for place, record in enumerate(records)
        for event, at_ns in instants(record).items()
    ]
    return [(records[place].number, EVENTS[event]) for _, place, event in sorted(listed)]


@dataclass(frozen=True)
class FaultPair:
    """One fault, predicted and measured."""

    predicted: FaultRecord
    measured: FaultRecord

    @property
    def times_ns(self) -> dict[str, tuple[int, int]]:
        """Nanoseconds from its first hit to each event that both runs have, predicted and measured."""
        ours, theirs = instants(self.predicted), instants(self.measured)
        return {
            event: (ours[event] - ours["hit"], theirs[event] - theirs["hit"])
            for event in TIMED
            if event in ours and event in theirs
        }

    @property
    def differences(self) -> dict[str, float]:
        """How much more was measured than predicted, as shares of what was predicted, by event."""
        return {event: theirs / ours - 1 for event, (ours, theirs) in self.times_ns.items() if ours}

    @property
    def same_course(self) -> bool:
        """Whether it hit the same phase and the same events followed by the same means."""
        ours, theirs = self.predicted, self.measured
        return (
            order_of([ours]) == order_of([theirs])
            and (ours.phase, ours.by, ours.reactions) == (theirs.phase, theirs.by, theirs.reactions)
            and (ours.survived, ours.caught) == (theirs.survived, theirs.caught)
        )


def pairs_of(predicted: Sequence[FaultRecord], measured: Sequence[FaultRecord]) -> list[FaultPair]:
    """The n-th fault of each entry of `inject`, predicted beside measured; those of one run alone are left out."""
    left: dict[tuple[int, str], list[FaultRecord]] = {}
    for record in measured:
        left.setdefault((record.number, record.where), []).append(record)
    found = []
    for record in predicted:
        if others := left.get((record.number, record.where)):
            found.append(FaultPair(record, others.pop(0)))
    return found
