"""Thermal descriptions: what is refused, what the governor does, and what chips are at its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hilsim.describe.catalogue import load_chip
from hilsim.describe.chip import Chip
from hilsim.describe.levels import at_step, levels_of
from hilsim.describe.thermal import Governor, Thermal
from hilsim.places import CODE as PROJECT
from tests.cost.test_thermal_network import figure, node, thermal

HERE = Path("scenarios/_.yaml")
WITH_HEAT = (
    "sa8295p", "sa8255p", "sa8775p", "iq-9075", "drive-orin-x", "drive-thor", "agx-orin-64gb", "orin-nano-8gb",
    "orin-nano-super-8gb", "snapdragon-8-elite-gen-5",
)  # fmt: skip


def step(above_c: float, hysteresis_k: float = 2, **effect: Any) -> dict[str, Any]:
    """A step of a governor; half the speed where nothing is given."""
    effect = effect or {"speed": figure(0.5, "share")}
    return {
        "above": figure(above_c, "C"),
        "hysteresis": figure(hysteresis_k, "K"),
        "power": figure(0.5, "share"),
        **effect,
    }


def soc(*steps: dict[str, Any], **changed: Any) -> Thermal:
    """One node, and a governor with these steps."""
    whole = thermal(steps, soc=node(20, 3, "ambient", "npu", "memory", "idle"))
    return Thermal.model_validate(whole.model_dump() | changed)


def test_a_hotter_step_is_no_faster_and_an_empty_list_of_steps_is_refused() -> None:
    slow, fast = (step(70 + 10 * n, 5, speed=figure(share, "share")) for n, share in enumerate((0.5, 0.8)))
    with pytest.raises(ValidationError, match=r"speed 0.8 above 80 C, after 0.5; a hotter step that is no faster"):
        soc(slow, fast)
    with pytest.raises(ValidationError, match="an empty list"):
        Governor.model_validate({"watches": "soc", "poll": figure(1, "s"), "steps": []})


@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        ({"a": node(1, 1, "b", "npu"), "b": node(1, 1, "a", "idle")}, "in a circle: a -> b -> a"),
        ({"a": node(1, 1, "roof", "npu")}, "nodes.a.to 'roof'"),
        ({"a": node(-1, 1, "ambient", "npu")}, "greater than or equal to 0"),
        ({"a": node(0, 1, "ambient", "npu")}, "a heat capacity of 0"),
        ({"a": node(1, 0, "ambient", "npu")}, "a thermal resistance of 0"),
        ({"ambient": node(1, 1, "ambient", "npu")}, "a node called ambient"),
    ],
)
def test_networks_that_make_no_sense_are_refused(nodes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        thermal(**nodes)


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        ([step(90), step(80)], "a step above 80 C after one above 90 C"),
        ([step(90, 1), step(91, 5)], "left in the same order"),
        ([step(130)], "one below critical, 120 C"),
        (
            [step(90, speed=figure(0.5, "share"), clock=figure(0.5, "share"))],
            "none or several of mode, clock and speed",
        ),
        ([step(90, memory_rate=figure(0.5, "share"))], "none or several of mode, clock and speed"),
        ([step(90, speed=figure(1.5, "share"))], "a share above 0, at most 1"),
    ],
)
def test_steps_that_make_no_sense_are_refused(steps: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        soc(*steps)


def test_every_unit_the_memory_and_idle_heat_one_node_each() -> None:
    found = soc()
    assert found.faults_on(("npu",), ()) is None
    assert "each of npu, gpu, memory, idle in one node" in str(found.faults_on(("npu", "gpu"), ()))
    assert "'30W'" in str(soc(step(90, mode="30W")).faults_on(("npu",), ("50W",)))


@given(
    st.lists(st.floats(20, 130), min_size=1, max_size=200),
    st.lists(st.tuples(st.floats(0.5, 8), st.floats(0.01, 10)), min_size=1, max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_a_level_moves_by_one_and_only_across_its_hysteresis(
    course: list[float], ladder: list[tuple[float, float]]
) -> None:
    """So between going down and up again across a step the watched node has to cool by the hysteresis at least."""
    above, steps, left = 60.0, [], 0.0
    for gap, hysteresis in ladder:
        above += gap
        left = max(left, above - hysteresis)
        steps.append(step(above, above - left))
    governor = Governor.model_validate({"watches": "soc", "poll": figure(1, "s"), "steps": steps})
    level, entered = 0, {}
    for celsius in course:
        now = governor.moved(level, celsius)
        assert abs(now - level) <= 1
        if now > level:
            assert celsius >= governor.steps[level].above.si
            entered[now] = celsius
        if now < level:
            assert entered[level] - celsius > governor.steps[level - 1].hysteresis.si - 1e-9
        level = now


def test_without_hysteresis_a_level_may_change_at_every_look() -> None:
    """The negative control: a temperature that sways by 1 K around the step."""
    changes = {}
    for hysteresis in (0, 2):
        governor, level, found = soc(step(90, hysteresis)).governor, 0, 0
        for look in range(100):
            now = governor.moved(level, 90.5 - look % 2)
            found += now != level
            level = now
        changes[hysteresis] = found
    assert changes == {0: 100, 2: 1}


@pytest.mark.parametrize("name", WITH_HEAT)
def test_steps_of_shipped_chips_are_slower_and_cooler_one_by_one(name: str) -> None:
    full, *slower = levels_of(name, HERE)
    assert full == load_chip(name, HERE)
    assert slower, "a governor with steps"
    before = full
    for chip in slower:
        for unit, now in chip.units.items():
            for key, precision in now.precisions.items():
                was = before.units[unit].precisions[key]
                assert precision.memory_rate.si <= was.memory_rate.si * (1 + 1e-9)
                assert precision.operation_rates[0].rate.si <= was.operation_rates[0].rate.si * (1 + 1e-9)
        before = chip
    assert full.thermal is not None
    powers = [one.power.si for one in full.thermal.governor.steps]
    assert powers == sorted(powers, reverse=True)


def test_a_clock_slows_what_computes_and_leaves_the_memory() -> None:
    full, slow, *_ = levels_of("drive-orin-x", HERE)
    for key, precision in full.units["gpu"].precisions.items():
        throttled = slow.units["gpu"].precisions[key]
        ratio = throttled.operation_rates[0].rate.si / precision.operation_rates[0].rate.si
        assert ratio == pytest.approx(0.85)
        assert throttled.memory_rate.si == precision.memory_rate.si


def test_a_chip_in_a_power_mode_has_the_steps_beyond_it() -> None:
    chip = load_chip("agx-orin-64gb@30W", HERE)
    assert chip.thermal is not None
    assert chip.thermal.power is not None
    assert [one.mode for one in chip.thermal.governor.steps] == ["15W"]
    assert chip.thermal.power.si == pytest.approx(7.6 / 40.4, rel=0.01)


def test_a_memory_rate_clips_what_streams_faster() -> None:
    chip = load_chip("sa8295p", HERE)
    assert chip.thermal is not None
    slow = {"speed": figure(1, "share"), "memory_rate": figure(0.5, "share")}
    governor = chip.thermal.governor.model_dump() | {"steps": [step(90, **slow)]}
    changed = Thermal.model_validate(chip.thermal.model_dump() | {"governor": governor})
    at = at_first_step(chip, changed)
    assert at.peak_memory_rate.si == pytest.approx(33.5e9)
    assert at.units["cpu"].precisions["fp16"].memory_rate.si == pytest.approx(30e9)
    assert at.units["gpu"].precisions["fp16"].memory_rate.si == pytest.approx(33.5e9)


def at_first_step(chip: Chip, changed: Thermal) -> Chip:
    """A chip, whose file leaves heat out of it, at the first step of another governor."""
    return at_step(chip, changed.governor.steps[0], PROJECT / "chips" / f"{chip.name}.yaml")


def test_steps_that_are_shares_hold_in_every_mode_and_unknown_modes_have_no_heat() -> None:
    assert load_chip("sa8255p@15TOPS", HERE).thermal == load_chip("sa8255p", HERE).thermal
    assert soc(step(90, mode="30W")).in_mode("50W") is None
