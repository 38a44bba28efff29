"""Acceptance of heads by position, counted over rounds that are known beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from hilsim.sampling.proposals import Draft, Verdict
from hilsim.sim.lead import View
from hilsim.training.head_acceptance import HeadAcceptance, answered

END = 9


class Known:
    """Drafts the token 1 and has the given numbers of them accepted, the last round ending the turn."""

    def __init__(self, accepted: list[int]):
        self.accepted = accepted

    def draft(self, prefix: View, count: int) -> Draft:
        return Draft((1,) * (count - 1) + ((1,) if len(self.accepted) > 1 else (END,)))

    def verify(self, prefix: View, draft: Draft) -> Verdict:
        return Verdict(self.accepted.pop(0), 2, ())

    def ends(self, token: int) -> bool:
        return token == END


def test_an_answer_ends_with_its_turn_also_within_a_round() -> None:
    """The last of three drafted tokens ends the turn: what the target would say after it is not emitted."""
    source: Any = Known([2, 0, 3])
    view = View(0, 0, [5])
    assert list(answered(source, view, 3, 50)) == [(3, 2, 3), (3, 0, 1), (3, 3, 3)]
    assert view.tokens == [5, 1, 1, 2, 2, 1, 1, END]


def test_an_answer_ends_before_its_room_does() -> None:
    source: Any = Known([3] * 9)
    assert len(list(answered(source, View(0, 0, [5]), 3, 13))) == 3  # of 4 tokens each; a fourth might need a 13th


def test_acceptance_is_conditional() -> None:
    """Ten rounds: all come to the first position, the six that pass it to the second, and half of these pass that."""
    found = HeadAcceptance("eagle", 1, 1, 0.0, (10, 6), (6, 3), 10, 19)
    assert found.by_position == pytest.approx([0.6, 0.5])
    assert found.tokens_a_round == pytest.approx(1.9)
