"""Heat in whole runs of scenarios: a cool chip has the numbers without heat, a hot one follows its governor."""

from __future__ import annotations

from pathlib import Path

import pytest

from hilsim.cost.governed import level_timers, speeds
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.setup import Setup
from hilsim.errors import ScenarioError
from hilsim.measure.metrics import timing
from hilsim.measure.trip import energies
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from tests.scenes import both, shipped, synthetic, table_setup

SHORT = ("logits={source: synthetic, acceptance: 0.7}", "workload={requests: 6, prompt_tokens: 100, output_tokens: 60}")


def car(*overrides: str) -> Setup:
    """A cockpit chip with a draft on the driving chip."""
    return shipped("orin_8295_greedy", *SHORT, *overrides)


def test_a_cool_chip_gives_the_numbers_without_heat_to_the_nanosecond() -> None:
    plain, cool = both(car()), both(car("climate={ambient_c: 15}"))
    for without, warm in zip(plain, cool, strict=True):
        assert warm.spans == without.spans
        assert warm.rounds == without.rounds
        assert warm.requests == without.requests
        assert all(tally.throttled_ns == 0 for tally in warm.heat.values())
        assert not without.heat


def test_a_hot_chip_is_slower_and_says_the_same() -> None:
    """The negative control of the last test: only the ambient temperature differs."""
    cool, hot = both(car("climate={ambient_c: 15}"))[1], both(car("climate={ambient_c: 95}"))[1]
    assert hot.end_ns > cool.end_ns * 1.05
    assert [one.tokens for one in hot.rounds] == [one.tokens for one in cool.rounds]
    assert hot.heat["sa8295p"].throttled_ns > 0


@pytest.mark.parametrize("ambient_c", [15, 95])
def test_the_account_of_a_run_is_that_of_its_spans(ambient_c: int) -> None:
    """Idle power times the run, active power times busy spans by level; and energy in = stored + to the air."""
    trace: Trace = both(car(f"climate={{ambient_c: {ambient_c}}}"))[1]
    chip = car().chips["sa8295p"]
    tally = trace.heat["sa8295p"]
    assert tally.joules["", "idle"] == pytest.approx(chip.idle_power.si * trace.end_ns / 1e9, rel=1e-9)
    busy_s = sum(span.end_ns - span.start_ns for span in trace.spans if span.track == "sa8295p.npu") / 1e9
    most = chip.units["npu"].active_power.si * busy_s
    if ambient_c == 15:
        assert tally.joules["npu", "target"] == pytest.approx(most, rel=1e-9)
    else:
        assert most * 0.26 < tally.joules["npu", "target"] < most
    for one in trace.heat.values():
        assert one.stored_j + one.to_ambient_j == pytest.approx(one.drawn_j, rel=1e-6)
        assert sum(one.level_ns) == trace.end_ns
    account = energies(trace)["sa8295p"]
    assert account["per_answer_j"] == pytest.approx(tally.drawn_j / 6)
    assert account["caused_per_answer_j"] == pytest.approx((tally.drawn_j - tally.joules["", "idle"]) / 6)


def test_times_at_a_level_are_the_cost_models_for_the_figures_there() -> None:
    """An NPU tier divides all of a step's time; a GPU clock leaves what streams, so a decode step hardly changes."""
    setup = car("climate={ambient_c: 15}")
    assert setup.draft is not None
    decode, prompt = Step(Phase.DECODE, 1, 100), Step(Phase.PREFILL, 512, 0)
    npu, gpu = (level_timers(setup, one, timer_for(one, 1024), timer_for) for one in (setup.target, setup.draft))
    shares = speeds(setup, "sa8295p")["npu"]
    assert len(npu) == len(shares) == 4
    for timer, share in zip(npu, shares, strict=True):
        assert timer.duration_ns(decode) * share == pytest.approx(npu[0].duration_ns(decode), rel=1e-6)
    slowest = gpu[-1], speeds(setup, "drive-orin-x")["gpu"][-1]
    assert slowest[0].duration_ns(prompt) > 1.5 * gpu[0].duration_ns(prompt)
    assert slowest[0].duration_ns(decode) < 1.5 * gpu[0].duration_ns(decode)


def test_times_that_are_typed_in_are_stretched_by_the_share_of_the_speed() -> None:
    timer = 'target.timer={prefill: {"128": 100}, decode: 50, verify: {"8": 60}, source: a test}'
    setup = car("climate={ambient_c: 15}", timer)
    timers = level_timers(setup, setup.target, timer_for(setup.target, 1024), timer_for)
    found = [one.duration_ns(Step(Phase.DECODE, 1, 10)) for one in timers]
    assert found == pytest.approx([50e6, 50e6 / 0.85, 50e6 / 0.72, 50e6 / 0.51], abs=1)


def test_a_chip_of_which_no_heat_is_described_is_a_fault_with_a_remedy() -> None:
    other = ("draft.chip=agx-thor", "draft.precision=nvfp4")
    with pytest.raises(ScenarioError) as caught:
        car("climate={ambient_c: 15}", *other)
    assert "agx-thor, of which no heat is described" in str(caught.value)
    with pytest.raises(ScenarioError, match=r"ambient_c 112, at which sa8295p shuts down"):
        car("climate={ambient_c: 112}")


def test_a_power_mode_of_the_chip_is_where_its_governor_begins() -> None:
    """AGX Orin in its 30 W mode: the share of the active power that the mode has, and one step left, 15 W."""
    own = (
        "target.chip=agx-orin-64gb@30W",
        "target.unit=gpu",
        "target.precision=w4",
        "networks=[]",
        "compile.profile=null",
    )
    setup = shipped("orin_8295_greedy", *SHORT, "climate={ambient_c: 15}", *own)
    assert [len(levels) for levels in setup.levels.values()] == [5, 2]
    trace = simulate(setup, synthetic(setup))
    busy_s = sum(s.end_ns - s.start_ns for s in trace.spans if s.track == "agx-orin-64gb@30W.gpu") / 1e9
    assert trace.heat["agx-orin-64gb@30W"].joules["gpu", "target"] == pytest.approx(40.4 * 0.188 * busy_s, rel=1e-6)


def test_the_digest_knows_the_climate_and_what_it_rests_on() -> None:
    assert car().digest == shipped("orin_8295_greedy", *SHORT).digest
    assert car().digest != car("climate={ambient_c: 15}").digest
    assert car("climate={ambient_c: 15}").digest != car("climate={ambient_c: 16}").digest


def test_without_a_climate_nothing_of_it_is_in_the_metrics() -> None:
    setup = car()
    trace = simulate(setup, synthetic(setup))
    assert energies(trace) == {}
    assert timing(trace, setup.chips, setup.link)["energy_j"] > 0


# ggml-org/llama.cpp PR 27785, experiment E5: five runs of 256 tokens one after another on a OnePlus 15.
E5 = (6.70612, 6.69056, 6.64737, 6.00266, 5.47082)


def test_a_scenario_on_a_phone_slows_down_as_measured(tmp_path: Path) -> None:
    """Five answers in a row with the first run's step time typed in: each within 5 % of what was measured.

    What is fitted is in the chip's file (tests/sim/test_heat.py holds the temperatures); prompts take no time here.
    """
    timer = f'{{prefill: {{"64": 0.001}}, decode: {1000 / E5[0]}, verify: {{"8": 200}}, source: first run of E5}}'
    phone = (
        "target.chip=snapdragon-8-elite-gen-5", "target.unit=npu", "target.precision=w4", f"target.timer={timer}",
        "draft=null", "link=null", "policy={name: target_only}", "climate={ambient_c: 25, start_c: 46.9}",
        "workload={requests: 5, prompt_tokens: 10, output_tokens: 257, pause_ms: 0}",
    )  # fmt: skip
    setup = table_setup(tmp_path, *phone)
    trace = simulate(setup, synthetic(setup))
    assert len(trace.requests) == 5
    for record, measured in zip(trace.requests, E5, strict=True):
        rate = 256e9 / (record.finished_ns - record.arrived_ns)
        assert rate == pytest.approx(measured, rel=0.05)
    assert trace.heat["snapdragon-8-elite-gen-5"].hottest_c["soc"] == pytest.approx(93.8, abs=1.5)


def test_the_account_is_the_same_where_nothing_is_kept() -> None:
    setup = car("climate={ambient_c: 95}")
    kept, unkept = (simulate(setup, synthetic(setup), keep=keep) for keep in (True, False))
    assert unkept.heat == kept.heat
    assert not unkept.samples
    assert kept.samples
