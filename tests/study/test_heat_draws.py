"""Error bars with a climate: what heats and cools chips is drawn as well, and hot chips move with cool ones."""

from __future__ import annotations

import pytest

from hilsim.cost.governed import level_timers
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.sim.run import simulate
from hilsim.study.uncertainty import in_use, with_values
from tests.scenes import shipped, synthetic

SHORT = (
    "logits={source: synthetic, acceptance: 0.7}", "workload={requests: 4, prompt_tokens: 100, output_tokens: 60}",
    "climate={ambient_c: 60}",
)  # fmt: skip
DECODE = Step(Phase.DECODE, 1, 100)


def test_constants_of_heat_are_drawn_with_a_climate_alone() -> None:
    warm, plain = in_use(shipped("orin_8295_greedy", *SHORT)), in_use(shipped("orin_8295_greedy", *SHORT[:2]))
    added = set(warm) - set(plain)
    assert "sa8295p/thermal.nodes.housing.resistance" in added
    assert "drive-orin-x/thermal.governor.steps[3].above" in added
    assert "sa8295p/units.cpu.active_power" in added
    assert not [path for path in plain if "thermal" in path]
    assert not [path for path in added if path.endswith((".speed", ".critical"))]


def test_a_slower_chip_is_slower_at_every_level() -> None:
    setup = shipped("orin_8295_greedy", *SHORT)
    path = "sa8295p/units.npu.precisions.w4.weight_rate"
    figure = in_use(setup)[path]
    slow = with_values(setup, {path: (figure, figure.value / 2)})
    before, after = (level_timers(one, one.target, timer_for(one.target, 1024), timer_for) for one in (setup, slow))
    assert len(before) == len(after) == 4
    ratios = [b.duration_ns(DECODE) / a.duration_ns(DECODE) for a, b in zip(before, after, strict=True)]
    assert min(ratios) > 1.5
    assert ratios == pytest.approx([ratios[0]] * 4, rel=1e-6)


def test_a_housing_that_cools_worse_gets_hotter() -> None:
    setup = shipped("orin_8295_greedy", *SHORT)
    path = "sa8295p/thermal.nodes.housing.capacity"
    figure = in_use(setup)[path]
    hotter = with_values(setup, {path: (figure, figure.value / 3)})
    warm, hot = (simulate(one, synthetic(one)).heat["sa8295p"].hottest_c["housing"] for one in (setup, hotter))
    assert hot > warm + 1
