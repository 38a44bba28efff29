"""Keys and values stored in fewer bits: what that does to bytes and to time, and to nothing else."""

from __future__ import annotations

import pytest

from hilsim.commands.main import main
from hilsim.cost.memory import AS_GIVEN, ledgers
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import Roofline, timer_for
from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.places import CODE as PROJECT

SCENARIO = PROJECT / "scenarios" / "target_alone.yaml"


def in_format(cache: str | None) -> Setup:
    return load_setup(SCENARIO, [] if cache is None else [f"target.kv_cache={cache}"])


def cache_bytes(setup: Setup) -> int:
    (ledger,) = ledgers(setup, AS_GIVEN).values()
    return sum(item.bytes for item in ledger.items if "cache" in item.what)


def cache_seconds(setup: Setup) -> float:
    timer = timer_for(setup.target, setup.scenario.context_tokens)
    assert isinstance(timer, Roofline)
    return sum(cost.kv_s for cost in timer.costs(Step(Phase.DECODE, 1, 100)))


@pytest.mark.parametrize(("cache", "bits"), [("fp16", 16), ("fp8", 8), ("int8", 8), ("int4", 4.25)])
def test_a_cache_takes_its_bits_in_memory_and_in_time(cache: str, bits: float) -> None:
    given, stored = in_format("fp16"), in_format(cache)
    assert cache_bytes(stored) == pytest.approx(cache_bytes(given) * bits / 16, rel=1e-6)
    assert cache_seconds(stored) == pytest.approx(cache_seconds(given) * bits / 16)


def test_without_one_the_precision_keeps_its_own_and_weights_are_as_they_were() -> None:
    plain, stored = in_format(None).target, in_format("int4").target
    assert plain.unit.precisions[plain.precision].kv_bits.kind in ("assumed", "datasheet")
    assert stored.unit.precisions[stored.precision].weight_bits == plain.unit.precisions[plain.precision].weight_bits
    assert stored.unit.precisions[stored.precision].memory_rate == plain.unit.precisions[plain.precision].memory_rate


def test_an_unknown_format_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(SCENARIO), "--set", "target.kv_cache=fp4"]) == 2
    refused = capsys.readouterr().err
    assert "target.kv_cache" in refused
    assert "int4" in refused
