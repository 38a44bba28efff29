"""Figures that follow from a family and a datasheet, by hand; where they come from; and what is missing for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hilsim.describe.catalogue import load_chip
from hilsim.describe.chip import Chip, Mode, ModeUnit, Unit
from hilsim.describe.derive import MissingPeakError, derived, in_mode
from hilsim.describe.family import Family
from hilsim.describe.figure import FACTORS, Figure
from hilsim.describe.runtime import Runtime
from hilsim.describe.write import to_yaml
from hilsim.errors import InputError
from hilsim.places import CODE as PROJECT
from tests.tiny import chip, family, figure, member, precision

ASKING = PROJECT / "scenarios" / "x.yaml"


def settled(of: Family, on: Chip) -> Unit:
    """Unit `u` of a chip with all that its family says."""
    return derived(of, on, "u", on.units["u"])


def value(found: Figure | None, unit: str) -> float:
    """A figure in a unit of the reader's choice."""
    assert found is not None
    return found.si / FACTORS[unit]


FULL = family(
    number_format={
        "weights": figure(0.5, "weights/kop", "fitted"),
        "cache": figure(1.2, "B/kop", "fitted"),
        "unpack": figure(100, "weights/kcycle", "fitted"),
        "attention": figure(0.1, "share", "fitted"),
        "pass_overhead": figure(10, "Gop", "fitted"),
    },
    prompt_layer_overhead=figure(25, "Gop", "fitted"),
    overlap=figure(0.5, "share"),
    narrow_rows=figure(7, "rows"),
    tile_rows=figure(32, "rows"),
    unpack_rows=figure(64, "rows"),
    unpack_tail=figure(0.5, "share"),
    logits_passes=figure(2, "times"),
    core_operations=figure(32, "times"),
    graph_limit=figure(1, "GB"),
    context_limit=figure(4, "GB"),
)


def test_every_relative_figure_by_hand() -> None:
    """100 GB/s, 50 TOPS, 2 GHz: shares of the first two, so much per 1000 operations, cycles and operations as time."""
    found = settled(FULL, chip({"u": member()}))
    p = found.precisions["p"]
    assert value(p.memory_rate, "GB/s") == pytest.approx(0.8 * 100)
    assert value(p.operation_rates[0].rate, "TOPS") == pytest.approx(0.25 * 50)
    assert value(p.attention_rate, "TOPS") == pytest.approx(0.1 * 50)
    assert value(p.weight_rate, "Gweights/s") == pytest.approx(0.5 * 50)  # 0.5 / 1000 x 50,000 G
    assert value(p.cache_rate, "GB/s") == pytest.approx(1.2 * 50)
    # 50 TOPS are so many cycles of plain cores as 32 operations go into it; or the cores of the chip's own file do.
    assert value(p.unpack_rate, "Gweights/s") == pytest.approx(0.1 * 50_000 / 32)
    own = settled(FULL, chip({"u": member(cores=figure(1024, "cores"))})).precisions["p"]
    assert value(own.unpack_rate, "Gweights/s") == pytest.approx(0.1 * 2 * 1024)
    assert value(p.pass_overhead, "ms") == pytest.approx(10 / 50)
    assert value(found.layer_overhead, "us") == pytest.approx(0.1e6 / 2e9 * 1e6)
    assert value(found.prompt_layer_overhead, "ms") == pytest.approx(25 / 50)
    assert value(found.step_overhead, "ms") == 1  # a time stays what it is
    assert (found.overlap, found.narrow_rows, found.tile_rows) == (FULL.overlap, FULL.narrow_rows, FULL.tile_rows)
    assert (found.graph_limit, found.context_limit) == (FULL.graph_limit, FULL.context_limit)


def test_what_the_chips_own_file_gives_outweighs_the_family() -> None:
    own = member(step_overhead=figure(3, "ms"), precisions={"p": precision()})
    found = settled(FULL, chip({"u": own}))
    assert found.step_overhead == own.step_overhead
    assert found.precisions["p"] == own.precisions["p"]
    assert value(found.layer_overhead, "us") == pytest.approx(50)  # the rest still follows from the family


def test_twice_the_bandwidth_is_twice_the_rate_of_shares_and_nothing_to_an_npu() -> None:
    npu = family(number_format={"memory": figure(1.5, "B/kop", "fitted")})
    for constants, grown in ((FULL, 2.0), (npu, 1.0)):
        one, two = (
            settled(constants, chip({"u": member()}, peak_memory_rate=figure(peak, "GB/s"))).precisions["p"]
            for peak in (100, 200)
        )
        assert two.memory_rate.si == pytest.approx(grown * one.memory_rate.si)
        assert two.operation_rates == one.operation_rates
    # An NPU's rate goes with its operations instead.
    quick = settled(npu, chip({"u": member(peak_operation_rate=figure(60, "TOPS"))})).precisions["p"].memory_rate
    assert value(quick, "GB/s") == pytest.approx(1.5 * 60)


@given(st.floats(0.01, 20), st.sampled_from(["share", "B/kop"]), st.floats(1, 500), st.floats(1, 500))
def test_nothing_streams_faster_than_the_memory(constant: float, unit: str, bandwidth: float, tops: float) -> None:
    relative = figure(constant, unit, "fitted", range=(constant / 2, constant * 2))
    on = chip({"u": member(peak_operation_rate=figure(tops, "TOPS"))}, peak_memory_rate=figure(bandwidth, "GB/s"))
    found = settled(family(number_format={"memory": relative, "cache": relative}), on).precisions["p"]
    wanted = constant * (bandwidth if unit == "share" else tops)
    for rate in (found.memory_rate, found.cache_rate):
        assert rate is not None
        assert value(rate, "GB/s") == pytest.approx(min(wanted, bandwidth))
        # The peak has no range, so a rate whose both ends are the peak has none either, instead of one of no width.
        assert (rate.range is None) == (wanted / 2 >= bandwidth)
        if rate.range is not None:
            assert rate.range[0] <= rate.value <= rate.range[1] <= bandwidth * (1 + 1e-12)
        assert ("clipped to the memory's peak" in rate.source) == (2 * wanted > bandwidth)


@pytest.mark.parametrize(
    ("constant", "datasheet", "measured", "kind"),
    [
        ("fitted", "datasheet", True, "fitted"),
        ("fitted", "datasheet", False, "assumed"),  # fitted elsewhere
        ("fitted", "assumed", True, "assumed"),
        ("assumed", "datasheet", True, "assumed"),
        ("measured", "datasheet", False, "measured"),
        ("datasheet", "datasheet", False, "datasheet"),
    ],
)
def test_a_derived_figure_is_as_sure_as_its_less_sure_factor(
    constant: str, datasheet: str, measured: bool, kind: str
) -> None:
    of = family(("tiny-chip",) if measured else ("another",), {"memory": figure(0.8, "share", constant)})
    on = chip({"u": member()}, peak_memory_rate=figure(100, "GB/s", datasheet))
    found = settled(of, on).precisions["p"].memory_rate
    assert found.kind == kind
    assert ("not measured on this chip" in found.source) == (not measured)
    assert "0.8 share of 100 GB/s" in found.source
    assert "silicon" in found.source


def test_a_power_mode_is_a_machine_that_was_not_measured() -> None:
    of, on = family(("tiny-chip",)), chip({"u": member()})
    halved = Mode(peak_memory_rate=figure(60, "GB/s"), units={"u": ModeUnit(clock=figure(1, "GHz"))})
    slow = in_mode(on, "slow", halved)
    assert slow.name == "tiny-chip@slow"
    before, after = settled(of, on), settled(of, slow)
    assert value(after.precisions["p"].memory_rate, "GB/s") == pytest.approx(0.8 * 60)
    assert value(after.layer_overhead, "us") == pytest.approx(100)  # twice 50: half the clock
    rates = [found.precisions["p"].operation_rates[0].rate for found in (before, after)]
    assert rates[0].si == rates[1].si  # the mode says nothing of the operations
    assert [rate.kind for rate in rates] == ["fitted", "assumed"]


def test_ranges_multiply_and_durations_divide_by_them() -> None:
    of = family(
        number_format={"memory": figure(0.8, "share", "fitted", range=(0.7, 0.9))},
        layer_overhead=figure(0.1, "Mcycles", "fitted", range=(0.05, 0.2)),
    )
    ranged = member(clock=figure(2, "GHz", range=(1, 4)), peak_operation_rate=figure(50, "TOPS", range=(40, 70)))
    on = chip({"u": ranged}, peak_memory_rate=figure(100, "GB/s", range=(90, 110)))
    found = settled(of, on)
    assert found.precisions["p"].memory_rate.range == pytest.approx((0.7 * 90, 0.9 * 110))
    # A constant without a range has that of its peak.
    assert found.precisions["p"].operation_rates[0].rate.range == pytest.approx((0.25 * 40, 0.25 * 70))
    assert found.layer_overhead is not None
    assert found.layer_overhead.range == pytest.approx((0.05e6 / 4e9 * 1e3, 0.2e6 / 1e9 * 1e3))  # ms
    # Fitted on this very chip the datasheet cancels out: only the fit's own doubt stays.
    here = settled(of.model_copy(update={"measured_on": ("tiny-chip",)}), on)
    assert here.precisions["p"].memory_rate.range == pytest.approx((0.7 * 100, 0.9 * 100))
    assert here.precisions["p"].operation_rates[0].rate.range is None


def test_a_constant_without_its_peak_is_an_error_that_names_it() -> None:
    clockless, peakless = member(clock=None), member(peak_operation_rate=None)
    with pytest.raises(MissingPeakError, match="no clock; family silicon"):
        settled(FULL, chip({"u": clockless}))
    with pytest.raises(MissingPeakError, match="no peak_operation_rate; family silicon"):
        settled(FULL, chip({"u": peakless}))
    timed = family(layer_overhead=figure(1, "ms"))
    assert settled(timed, chip({"u": clockless})).layer_overhead == timed.layer_overhead  # nothing relative to it


def written(folder: Path, units: dict[str, Unit]) -> Path:
    file = folder / "tiny-chip.yaml"
    file.write_text(to_yaml(chip(units)), encoding="utf-8")
    return file


def faults(name: str, asking: Path = ASKING) -> list[tuple[str, str, str, str]]:
    with pytest.raises(InputError) as caught:
        load_chip(name, asking)
    return [(fault.file, fault.place, fault.found, fault.expected) for fault in caught.value.faults]


def test_missing_peaks_and_unknown_families_are_reported_together_with_file_and_place(tmp_path: Path) -> None:
    units = {
        "whole": member(family="orin-gpu"),
        "clockless": member(family="orin-gpu", clock=None),
        "peakless": member(family="orin-gpu", peak_operation_rate=None),
        "stray": member(family="orin-cpu"),
    }
    file = written(tmp_path, units)
    found = faults(str(file))
    assert [(where, place) for where, place, *_ in found] == [
        (str(file), f"units.{name}.family") for name in ("clockless", "peakless", "stray")
    ]
    assert [what.split(";")[0] for _, _, what, _ in found] == ["no clock", "no peak_operation_rate", "'orin-cpu'"]
    assert "orin-gpu" in found[2][3]
    fine = written(tmp_path, {"whole": units["whole"]})
    assert load_chip(str(fine), ASKING).units["whole"].layer_overhead is not None


def test_an_unknown_mode_is_reported_with_the_known_ones() -> None:
    ((_, place, found, expected),) = faults("agx-orin-64gb@99W")
    assert (place, found) == ("chip", "'agx-orin-64gb@99W'")
    for mode in ("agx-orin-64gb@50W", "agx-orin-64gb@30W", "agx-orin-64gb@15W"):
        assert mode in expected
    ((_, _, _, expected),) = faults("paper-target@50W")
    assert expected.endswith("none")


def test_a_shipped_mode_is_slower_in_proportion_to_its_clock_and_peak() -> None:
    """AGX Orin at 50 W: 54.5 of 85.5 TOPS and 0.816 of 1.3 GHz by its file; the bandwidth stays."""
    full, slow = (load_chip(name, ASKING).units["gpu"] for name in ("agx-orin-64gb", "agx-orin-64gb@50W"))
    rates = [unit.precisions["w4"].operation_rates[0].rate.si for unit in (full, slow)]
    assert rates[1] / rates[0] == pytest.approx(54.5 / 85.5)
    assert full.layer_overhead is not None
    assert slow.layer_overhead is not None
    assert slow.layer_overhead.si / full.layer_overhead.si == pytest.approx(1.3 / 0.816)
    assert slow.precisions["w4"].memory_rate.si == full.precisions["w4"].memory_rate.si


def test_a_runtime_stores_and_streams_in_its_own_way() -> None:
    """4.5 bits instead of 4, half the memory's rate, matrix-vector kernels up to 16 rows; all else is the unit's."""
    runtime = Runtime(
        name="ours", title="Ours", weight_bits=figure(4.5, "bits"), memory_share=figure(0.5, "share"),
        narrow_rows=figure(16, "rows"),
    )  # fmt: skip
    unit = settled(FULL, chip({"u": member()}))
    on, p = runtime.on(unit, unit.precisions["p"])
    assert on == unit.model_copy(update={"narrow_rows": runtime.narrow_rows})
    assert value(p.memory_rate, "GB/s") == pytest.approx(0.5 * 80)
    assert p.weight_bits.value == 4.5
    own = {"weight_bits": unit.precisions["p"].weight_bits, "memory_rate": unit.precisions["p"].memory_rate}
    assert p.model_copy(update=own) == unit.precisions["p"]
    assert Runtime(name="plain", title="Plain").on(unit, unit.precisions["p"]) == (unit, unit.precisions["p"])
