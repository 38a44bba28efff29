"""What passengers wait for after ignition, by hand; and a unit at another speed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hilsim.cost.memory import embedding_bytes, weight_bytes
from hilsim.cost.start_up import Seconds, StartUp, start_up, start_ups
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.catalogue import load_chip, load_named
from hilsim.describe.derive import at_speed
from hilsim.describe.figure import Figure
from hilsim.describe.model import Model
from hilsim.describe.placement import Placement
from hilsim.describe.setup import Placed
from hilsim.places import DATA
from hilsim.show.document import assumptions
from hilsim.study.uncertainty import in_use
from tests.scenes import shipped

HERE = DATA / "chips" / "_.yaml"
FLASH = Figure(value=2, unit="GB/s", kind="assumed", range=(1, 4), source="a round number")


def seconds(value: float, ends: tuple[float, float] | None = None) -> Figure:
    return Figure(value=value, unit="s", kind="assumed", range=ends, source="a round number")


def placed(chip: str = "sa8797p", precision: str = "w8a16", **figures: Figure | None) -> Placed:
    described, model = load_chip(chip, HERE), load_named("model", Model, "qwen3-0.6b", HERE)
    described = described.model_copy(update={"flash_rate": figures.pop("flash_rate", described.flash_rate)})
    unit = described.units["npu"].model_copy(update=figures)
    placement = Placement(model=model.name, chip=chip, unit="npu", precision=precision)
    return Placed("target", placement, model, described, unit, None)


def started(**figures: Figure | None) -> StartUp | None:
    model = placed(**figures)
    return start_up(model.chip, [model])


def test_a_cold_start_reads_the_models_one_after_another_and_a_warm_one_does_not() -> None:
    """Graphs that share their weights: one copy of them in flash. Half a second a model, and a slower first pass."""
    model = placed(flash_rate=FLASH, start_up=seconds(0.5, (0.4, 0.7)), first_pass=seconds(0.25))
    nbytes = weight_bytes(model) + embedding_bytes(model)
    for count in (1, 2):
        found = start_up(model.chip, [model] * count)
        assert found is not None
        assert found.nbytes == count * nbytes
        assert found.warm_s == Seconds(0.75 * count, pytest.approx(0.65 * count), pytest.approx(0.95 * count))
        assert found.cold_s.value == pytest.approx(count * (0.75 + nbytes / 2e9))
        assert found.cold_s.least == pytest.approx(count * (0.65 + nbytes / 4e9))
        assert found.cold_s.most == pytest.approx(count * (0.95 + nbytes / 1e9))
        assert found.missing == ()


def test_what_is_not_described_is_named_or_the_chip_is_silent() -> None:
    found = started(flash_rate=None, first_pass=None)
    assert found is not None
    assert found.missing == ("flash_rate", "npu.first_pass")
    assert found.cold_s == found.warm_s
    assert started(flash_rate=None, start_up=None, first_pass=None) is None
    assert start_ups(shipped("paper_table")) == []


def test_networks_of_stages_are_read_as_well_and_those_of_a_swap_and_of_tasks_are_not() -> None:
    model = "model: {shape: {gmacs: 1, parameters_m: 100}, precision: fp16}"
    hearing = f"recognition: {{chip: drive-orin-x, unit: gpu, {model}}}"
    work = "work: {shape: {gmacs: 1, parameters_m: 5}}"
    task = f"background=[{{name: monitor, chip: drive-orin-x, unit: gpu, period_ms: 33, {work}}}]"
    plain, heard, watched = (
        {one.chip: one for one in start_ups(shipped("orin_8295_greedy", *more))}
        for more in ([], [f"speech={{{hearing}}}"], [task])
    )
    assert heard["drive-orin-x"].nbytes == plain["drive-orin-x"].nbytes + 200_000_000
    assert heard["drive-orin-x"].cold_s.value == pytest.approx(plain["drive-orin-x"].cold_s.value + 0.2 / 0.8)
    assert (heard["sa8295p"], watched) == (plain["sa8295p"], plain)
    link = "links=[{link: 1000base-t1, between: [sa8295p, drive-orin-x]}]"
    alone = {one.chip: one for one in start_ups(shipped("target_alone", f"speech={{{hearing}}}", link))}
    assert alone["drive-orin-x"].nbytes == 200_000_000
    assert alone["drive-orin-x"].warm_s == Seconds()


def test_the_start_of_the_one_model_that_was_measured() -> None:
    """SA8797P, Qwen3-0.6B in w8a16: 1.8 to 2.0 s cold, 0.79 to 0.82 warm, then a first step that takes 163 ms more."""
    found = started(first_pass=None)
    assert found is not None
    assert found.cold_s.least <= 1.8
    assert found.cold_s.most >= 2.0
    assert 0.786 <= found.warm_s.value <= 0.82


@pytest.mark.parametrize(
    ("mode", "speed"), [("tier-2", 0.85), ("tier-3", 0.72), ("tier-4", 0.51), ("two-processes", 0.51)]
)
@pytest.mark.parametrize("precision", ["w8a16", "w4a16"])  # figures of the chip's own, and of its family
def test_a_mode_at_another_speed_has_every_pass_take_so_much_longer(mode: str, speed: float, precision: str) -> None:
    full, slow = placed(precision=precision), placed(f"sa8797p@{mode}", precision)
    for step in (Step(Phase.DECODE, 1, 100), Step(Phase.VERIFY, 8, 100), Step(Phase.PREFILL, 300, 0)):
        expected = timer_for(full, 1152).duration_ns(step) / speed
        # Each pass is rounded up to whole nanoseconds.
        assert timer_for(slow, 1152).duration_ns(step) == pytest.approx(expected, abs=8)
    figure = slow.unit.graph_overhead
    assert figure is not None
    assert "0.22 ms" in figure.source
    assert slow.unit.graph_switch == full.unit.graph_switch


def test_another_speed_reaches_every_rate_and_overhead_of_a_pass() -> None:
    """Whatever a file may say of a number format is faster, whatever of a pass's fixed costs is shorter."""
    rate = Figure(value=1, unit="Gweights/s", kind="assumed", source="a round number")
    model = placed()
    own = model.unit.precisions["w8a16"]
    own = own.model_copy(update={"unpack_rate": rate, "weight_rate": rate, "pass_overhead": seconds(1)})
    unit = model.unit.model_copy(update={"wide_layer_overhead": seconds(1), "precisions": {"p": own}})
    half = at_speed(unit, Figure(value=0.5, unit="times", kind="measured", source="a round number"))
    slow = half.precisions["p"]
    for name in ("memory_rate", "unpack_rate", "weight_rate"):
        assert getattr(slow, name).si == getattr(own, name).si / 2
    assert [point.rate.si for point in slow.operation_rates] == [point.rate.si / 2 for point in own.operation_rates]
    assert slow.pass_overhead is not None
    assert half.wide_layer_overhead is not None
    assert (slow.pass_overhead.si, half.wide_layer_overhead.si) == (2, 2)
    assert half.start_up == unit.start_up


def test_the_assumed_gain_of_four_npus_is_a_range_and_no_gain() -> None:
    """A guest sees one; what several would give is not published."""
    one, four = placed(), placed("sa8797p@four-npus")
    rates = [place.unit.precisions["w8a16"].memory_rate for place in (one, four)]
    assert rates[0].si == rates[1].si
    assert rates[1].ends == (rates[0].ends[0], 4 * rates[0].ends[1])
    assert rates[1].kind == "assumed"


def test_figures_of_the_start_move_no_run() -> None:
    setup = shipped("orin_8295_greedy")
    unit = setup.target.unit.model_copy(update={"start_up": seconds(1, (0, 2)), "first_pass": seconds(1, (0, 2))})
    chip = setup.target.chip.model_copy(update={"flash_rate": FLASH, "units": {**setup.target.chip.units, "npu": unit}})
    changed = replace(setup, target=replace(setup.target, chip=chip, unit=unit))
    assert in_use(changed) == in_use(setup)
    assert assumptions(changed) == assumptions(setup)
