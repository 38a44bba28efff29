"""A plain export from end to end: what `hilsim check --module` says of copied heads and of grouped ones."""

from __future__ import annotations

import pytest

from hilsim.compiler.planner import plan_module
from hilsim.compiler.program import Subject
from hilsim.progress import silent
from tests.compiler.test_pass_time import decoder, site


def subject(*, copied: bool) -> Subject:
    """Two layers of Qwen3-0.6B over a cache of 1,152 positions."""
    program = decoder(1, 2, copied=copied)
    return Subject("qwen", program.graph_module, (), program=program)


def test_copied_heads_are_found_and_grouped_ones_are_fine() -> None:
    of = site()
    plain, _ = plan_module(subject(copied=True), of, silent, unit="sa8797p.npu", precision="w8a16")
    grouped, _ = plan_module(subject(copied=False), of, silent, unit="sa8797p.npu", precision="w8a16")
    (slow,), (quick,) = plain.graphs, grouped.graphs
    assert [found.name for found in slow.slow] == ["repeat_kv"]
    assert quick.slow == ()
    assert slow.could_s == pytest.approx(quick.pass_s, rel=1e-12)
    assert quick.pass_s == quick.could_s
    assert slow.factor > 2
    assert any("groups" in line for line in quick.fine)
    assert not any("groups" in line for line in slow.fine)
