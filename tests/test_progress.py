"""Lines of progress where there is no terminal: how much time they say is left."""

from __future__ import annotations

import pytest

from hilsim import progress
from hilsim.progress import PACE_S, SELDOM_S, Count, lines


def test_what_the_first_part_took_is_not_expected_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first part of 40 s, then one a second: 40 parts later 59 s are left, not 98."""
    now, shown = [0.0], list[str]()
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    count = Count(100, lines("parts", shown.append))
    now[0] = 40.0
    count.ended("done")
    assert shown == ["1 of 100 parts"], "no pace is known yet"
    for _ in range(40):
        now[0] += 1
        count.ended("done")
    assert shown[1:] == [f"{1 + SELDOM_S} of 100 parts, about {99 - SELDOM_S} s left"]


def test_no_pace_is_taken_from_parts_that_ended_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now, shown = [0.0], list[str]()
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    count = Count(9, lines("points", shown.append))
    now[0] = SELDOM_S - 0.5
    count.ended("done")
    now[0] += 1
    count.ended("refused")
    assert shown == ["2 of 9 points, 1 refused"]
    now[0] += PACE_S + SELDOM_S
    count.ended("done")
    assert shown[1].endswith("about 123 s left")
