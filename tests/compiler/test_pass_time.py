"""Times of nodes: bytes over rates, views for nothing, sums of parts, and the published rows of a slow export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from hilsim.compiler.choose import CompileSite
from hilsim.compiler.nodes import constants_of, operator_of
from hilsim.compiler.pass_time import PassTime
from hilsim.compiler.program import Subject, exported
from hilsim.describe.catalogue import load_chip
from hilsim.describe.profile import load_profile
from hilsim.describe.scenario import Compile

HERE = Path("test")


def site(chip: str = "sa8797p", precision: str = "w8a16", unit: str = "npu") -> CompileSite:
    found = load_chip(chip, HERE).units[unit]
    return CompileSite(found, found.precisions[precision], load_profile(found.profiles[0], HERE), Compile())


class Moves(nn.Module):
    """A view, a repeat of heads, a permutation, a product."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Linear(64, 32, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (2, 8, 16, 64)."""
        repeated = x.unsqueeze(2).expand(2, 8, 3, 16, 64).reshape(2, 24, 16, 64)
        made: Tensor = self.weight(repeated.permute(0, 2, 1, 3).contiguous())
        return made


def nodes_of(*, of: CompileSite) -> tuple[PassTime, dict[str, list[fx.Node]]]:
    program = exported(Subject("moves", Moves(), (torch.randn(2, 8, 16, 64),)))
    found: dict[str, list[fx.Node]] = {}
    for node in program.graph.nodes:
        found.setdefault(operator_of(node), []).append(node)
    return PassTime(of, constants_of(program)), found


def test_a_view_costs_nothing() -> None:
    clock, nodes = nodes_of(of=site())
    free = [*nodes["aten.unsqueeze.default"], *nodes["aten.view.default"], *nodes["aten.clone.default"]]
    assert clock.seconds(free) == 0


def test_a_repeat_is_its_numbers_over_the_units_rate() -> None:
    clock, nodes = nodes_of(of=site())
    (expand,) = nodes["aten.expand.default"]
    assert clock.node_seconds(expand) == pytest.approx(2 * 24 * 16 * 64 / 1.066e9)
    span = clock.range([expand])
    assert (span.low, span.high) == pytest.approx((2 * 24 * 16 * 64 / 1.21e9, 2 * 24 * 16 * 64 / 1.0e9))


def test_times_add_up() -> None:
    clock, nodes = nodes_of(of=site())
    every = [node for same in nodes.values() for node in same]
    assert clock.seconds(every) == pytest.approx(sum(map(clock.node_seconds, every)))
    assert clock.seconds(every) == pytest.approx(clock.seconds(every[:4]) + clock.seconds(every[4:]))


def test_tensorrt_fuses_a_repeat() -> None:
    clock, nodes = nodes_of(of=site("agx-orin-64gb", "fp16", "gpu"))
    assert clock.seconds(nodes["aten.expand.default"]) == 0


def test_another_hexagon_has_an_assumed_rate_with_a_range() -> None:
    clock, nodes = nodes_of(of=site("sa8295p", "w4"))
    span = clock.range(nodes["aten.expand.default"])
    assert span.low < span.value < span.high
    assert clock.multiply is not None
    assert clock.multiply.kind == "assumed"
