"""A plain export from end to end: what `hilsim check --module` says of copied heads and of grouped ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from hilsim.compiler.planner import plan_module
from hilsim.compiler.program import Subject, exported
from hilsim.errors import InputError
from hilsim.progress import silent
from hilsim.show.compile_lists import lists_as_json
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


class TwoLengths(nn.Module):
    """Two inputs whose lengths vary on their own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, ids: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        return self.one(ids), self.other(past)


def test_lengths_that_vary_are_named_and_timed_at_their_example() -> None:
    lengths = ({1: Dim("t", min=2, max=64)}, {1: Dim("p", min=2, max=64)})
    of, inputs = site(), (torch.ones(1, 16, 8), torch.ones(1, 32, 8))
    varying, _ = plan_module(Subject("two", TwoLengths(), inputs, lengths), of, silent, unit="u", precision="w8a16")
    fixed, _ = plan_module(Subject("two", TwoLengths(), inputs), of, silent, unit="u", precision="w8a16")
    assert varying.outcome == "refused"
    shown = lists_as_json([varying])
    (refused,) = shown["refused"]
    ids, past = refused["details"]
    assert ids.startswith("axis 1 of input ids varies (")
    assert ids.endswith(", 16 in the example)")
    assert past.startswith("axis 1 of input past varies (")
    assert past.endswith(", 32 in the example)")
    (made,), (known,) = shown["passes"], lists_as_json([fixed])["passes"]
    assert (made["compiles"], known["compiles"]) == (False, True)
    assert made["as_it_is_ms"] == pytest.approx(known["as_it_is_ms"])


class Guarded(nn.Module):
    """A length that is asked for while the graph is made."""

    def forward(self, past: Tensor) -> Tensor:
        return past + 1 if past.shape[1] < 64 else past * 2


def test_a_guard_that_breaks_an_export_is_named() -> None:
    lengths = ({1: Dim("past", min=8, max=4096)},)
    with pytest.raises(InputError, match=r"Constraints violated.*generated guard.*<= 63"):
        exported(Subject("guarded", Guarded(), (torch.ones(1, 16, 8),), lengths))
