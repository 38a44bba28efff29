"""Predicted and measured faults beside each other: what is the same course, what is another, and by how much."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hilsim.hardware.distributed.fault_times import FaultPair, instants, order_of, pairs_of
from hilsim.sim.trace import FaultRecord

DROP = FaultRecord(
    0, "link_drop", "up", 90, 400, "up", hit_ns=100, detected_ns=200, by="time-out", reacted_ns=210, recovered_ns=500,
    reactions=["sent again"],
)  # fmt: skip
HANG = FaultRecord(1, "hang", "draft", 300, phase="draft", hit_ns=310, detected_ns=450, by="watchdog", reacted_ns=460)


def later(record: FaultRecord, by_ns: int) -> FaultRecord:
    """The same, all of it so much later."""
    moved: dict[str, Any] = {f"{event}_ns": at_ns + by_ns for event, at_ns in instants(record).items()}
    return replace(record, **moved)


def test_events_are_listed_as_they_happened_and_those_that_did_not_are_left_out() -> None:
    assert order_of([DROP, HANG]) == [
        (0, "began"), (0, "hit"), (0, "detected"), (0, "reacted"),
        (1, "began"), (1, "hit"), (1, "detected"), (1, "reacted"), (0, "recovered"),
    ]  # fmt: skip
    at_once = replace(DROP, began_ns=100, detected_ns=100, reacted_ns=100, recovered_ns=100)
    assert [event for _, event in order_of([at_once])] == ["began", "hit", "detected", "reacted", "recovered"]


def test_a_fault_that_is_only_late_has_the_same_course() -> None:
    pair = FaultPair(DROP, later(DROP, 77))
    assert pair.same_course
    assert pair.differences == {"detected": 0, "reacted": 0, "recovered": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"recovered_ns": -1},
        {"by": "checksum"},
        {"reactions": ["fallback"]},
        {"phase": "down"},
        {"survived": False},
        {"detected_ns": 550, "reacted_ns": 560},
    ],
)
def test_another_course_is_found(changes: dict[str, Any]) -> None:
    assert not FaultPair(DROP, replace(DROP, **changes)).same_course


def test_times_are_from_the_fault_s_first_hit() -> None:
    measured = replace(later(DROP, 1000), detected_ns=1210)
    pair = FaultPair(DROP, measured)
    assert pair.times_ns == {"detected": (100, 110), "reacted": (110, 110), "recovered": (400, 400)}
    assert pair.differences["detected"] == pytest.approx(0.1)


def test_faults_are_paired_by_what_injected_them_and_where() -> None:
    again = later(DROP, 1000)
    assert [pair.measured for pair in pairs_of([DROP, HANG, again], [HANG, later(DROP, 5), later(again, 5)])] == [
        later(DROP, 5),
        HANG,
        later(again, 5),
    ]
    assert pairs_of([DROP], [HANG, replace(DROP, where="down")]) == []
