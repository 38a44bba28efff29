"""Lines of progress where there is no terminal: how much time they say is left."""

from __future__ import annotations

from contextlib import ExitStack

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


@pytest.mark.parametrize("at_once", [True, False])
def test_a_status_line_of_work_that_is_found_done_is_never_opened(
    monkeypatch: pytest.MonkeyPatch, *, at_once: bool
) -> None:
    opened, texts = list[str](), list[str]()

    def status_of(doing: str, _: ExitStack) -> progress.Notify:
        opened.append(doing)
        return texts.append

    monkeypatch.setattr(progress, "status_of", status_of)
    with progress.status_line("compiling", at_once=at_once):
        pass
    assert opened == ["compiling"] * at_once
    opened.clear()
    with progress.status_line("compiling", at_once=at_once) as notify:
        notify("a graph")
        notify("another")
    assert opened == ["compiling"]
    assert texts == ["compiling a graph", "compiling another"]
