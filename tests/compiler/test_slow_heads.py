"""Repeated key and value heads: found in every spelling, mended to the same numbers in groups; groups are left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from hilsim.compiler.nodes import operator_of
from hilsim.compiler.program import Subject, copied, exported
from hilsim.compiler.rewrite.proof import prove_programs
from hilsim.compiler.slow.facts import Facts
from hilsim.compiler.slow.heads import copied_of, put_product
from hilsim.compiler.slow.registry import mend, slow_places
from tests.compiler.slow_forms import ATTENTIONS, GROUPED, REPEATED, Form, Product, inputs, scores


def program_of(form: Form, batch: int = 1, *, dynamic: bool = False) -> ExportedProgram:
    shapes = ({}, {2: Dim.DYNAMIC}) if dynamic else None
    return exported(Subject("product", Product(form), inputs(batch), shapes))


def names_of(program: ExportedProgram) -> list[str]:
    return [place.pattern.name for place in slow_places(program)]


def most_numbers(program: ExportedProgram, operators: Sequence[str]) -> list[int]:
    """The numbers of the second operand of products."""
    found: list[Any] = [node for node in program.graph.nodes if operator_of(node) in operators]
    return [node.args[1].meta["val"].numel() for node in found]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", REPEATED)
def test_repeated_heads_become_groups_of_exactly_the_same_numbers(name: str, batch: int) -> None:
    program = program_of(REPEATED[name], batch)
    assert names_of(program).count("repeat_kv") == 1
    mended = copied(program)
    assert mend(mended) == {"repeat_kv": 1}
    assert "repeat_kv" not in names_of(mended)
    assert torch.equal(program.module()(*inputs(batch)), mended.module()(*inputs(batch)))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_over_repeated_heads_is_mended(name: str) -> None:
    program = program_of(ATTENTIONS[name], 2)
    mended = copied(program)
    assert set(names_of(program)) == {"repeat_kv"}
    assert mend(mended)
    assert names_of(mended) == []
    proof = prove_programs(program, mended, inputs(2), cases=30)
    assert proof.passed, proof.detail


@pytest.mark.parametrize("name", ["repeat_kv", "tile", "stacked heads", "einsum", "repeated before rotation"])
def test_a_length_known_at_run_time_is_mended_for_every_length(name: str) -> None:
    program = program_of(REPEATED[name], dynamic=True)
    mended = copied(program)
    assert mend(mended) == {"repeat_kv": 1}
    q, k = inputs()
    for length in (2, 5, 9):
        keys = torch.cat((k, k), 2)[:, :, :length].contiguous()
        assert torch.equal(program.module()(q, keys), mended.module()(q, keys))


@pytest.mark.parametrize("name", GROUPED)
def test_what_repeats_nothing_is_left_alone(name: str) -> None:
    assert names_of(program_of(GROUPED[name], 2)) == []


def test_the_product_reads_each_key_once() -> None:
    program = program_of(REPEATED["repeat_kv"])
    assert most_numbers(program, ["aten.bmm.default"]) == [4 * 5 * 8]
    mend(program)
    assert most_numbers(program, ["aten.bmm.default"]) == [2 * 5 * 8]


def test_groups_in_a_wrong_order_are_found_out() -> None:
    """The negative control: heads that are repeated in turn, grouped as if all were repeated over again."""
    program = program_of(REPEATED["repeat_kv"])
    wrong = copied(program)
    facts = Facts(wrong)
    (node,) = (node for node in facts.nodes if operator_of(node) == "aten.bmm.default")
    operands: Any = node.args
    known = copied_of(facts.copies, operands[1])
    assert known is not None
    put_product(node, replace(known, axes=(known.axes[0][::-1], *known.axes[1:])), 1, wrong)
    assert not torch.equal(program.module()(*inputs()), wrong.module()(*inputs()))
    assert not prove_programs(program, wrong, inputs(), cases=20).passed


def test_heads_in_no_regular_order_are_left() -> None:
    """A head more for the first group than for the second: no groups of equal size."""
    assert names_of(program_of(scores(lambda self, k: k[:, [0, 0, 0, 1]]))) == []


def test_weights_that_are_expanded_are_folded_and_no_finding() -> None:
    class Weights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(1, 8, 5))

        def forward(self, q: Tensor) -> Tensor:
            return q.flatten(0, 1) @ self.w.expand(4, 8, 5)

    assert names_of(exported(Subject("weights", Weights(), (inputs()[0],)))) == []
