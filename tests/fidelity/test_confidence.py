"""How sure a prediction is: intervals from the errors of shipped rows, and whether they hold rows of other groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from hilsim.fidelity import confidence
from hilsim.fidelity.cases import resolve
from hilsim.fidelity.confidence import LEVELS, coverage, interval, interval_of, level_of, quantiles, stretch
from hilsim.fidelity.from_file import families, fitting
from hilsim.fidelity.kept_errors import KeptErrors, kept_errors
from hilsim.fidelity.measurements import SHIPPED, read_measurements
from hilsim.fidelity.validate import compared, fitted_without, measured_of, predicted_by


def rows(errors: list[float], device: str = "d", model: str = "m", unit: str = "gpu") -> dict[str, KeptErrors]:
    """Rows of one device whose three errors are alike."""
    return {
        f"{device} {model} {n}": KeptErrors(unit, "decode", device, model, (error, error, error))
        for n, error in enumerate(errors)
    }


def kept(monkeypatch: pytest.MonkeyPatch, found: dict[str, KeptErrors]) -> None:
    monkeypatch.setattr(confidence, "kept_errors", lambda: found)
    forget()


def forget() -> None:
    """What other errors gave."""
    for cached in (confidence.interval, confidence.strays):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield
    forget()


def test_the_ends_are_the_first_and_ninth_of_nine_values() -> None:
    """The k-th of n stands for k / (n + 1): of nine the first for 10 %, the fifth for half, the last for 90 %."""
    assert quantiles([0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0]) == pytest.approx((0.5, 1.0, 2.0))


def test_an_interval_is_of_measured_over_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predicted a quarter too short every time: measured is 4 / 3 of it."""
    kept(monkeypatch, rows([-0.25] * 19))
    found = interval("gpu", "decode", "seen")
    assert found is not None
    assert (found.low, found.high, found.rows) == (pytest.approx(4 / 3), pytest.approx(4 / 3), 19)
    assert interval("npu", "decode", "seen") is None  # no row of this class


def test_what_is_known_of_a_row_decides_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    kept(monkeypatch, rows([0.1] * 9))
    assert level_of("gpu", "decode", "d", "m") == level_of("gpu", "decode", "d@30W", "m") == "seen"
    assert level_of("gpu", "decode", "d", "other") == "unseen model"
    assert level_of("gpu", "decode", "other", "m") == "unseen device"


@pytest.mark.parametrize("level", LEVELS)
def test_an_interval_holds_eight_of_ten_rows_of_groups_that_it_leaves_out(
    level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty devices of ten lognormal rows: alike, and then each off by a factor of its own that scatters as much."""
    chance = np.random.default_rng(4)
    for offset in (0.0, 0.1):
        found: dict[str, KeptErrors] = {}
        for device in range(40):
            own = offset * chance.standard_normal()
            found |= rows(list(np.expm1(own + 0.1 * chance.standard_normal(10))), f"d{device}", f"m{device}")
        kept(monkeypatch, found)
        of = interval("gpu", "decode", level)
        assert of is not None
        assert coverage("gpu", "decode", level) == pytest.approx(0.8, abs=0.02)
        fresh = [np.exp(-offset * chance.standard_normal() + 0.1 * chance.standard_normal(100)) for _ in range(400)]
        # Of 400 new devices. The scatter of 40 factors is known to 11 %, and with it coverage to some 5 %.
        assert np.mean([(of.low <= one) & (one <= of.high) for one in fresh]) == pytest.approx(0.8, abs=0.1)


def test_a_device_that_is_off_stretches_the_interval_of_unseen_ones_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three devices within 10 % and one that takes twice as long as its rows without it predicted."""
    chance = np.random.default_rng(5)
    found: dict[str, KeptErrors] = {}
    for device, own in enumerate((0.0, 0.0, 0.0, -0.7)):
        for name, row in rows(list(np.expm1(0.05 * chance.standard_normal(20))), f"d{device}").items():
            seen, _, unseen = row.errors
            found[name] = replace(row, errors=(seen, seen, (1 + unseen) * np.exp(own) - 1))
    kept(monkeypatch, found)
    factors = [stretch("gpu", "decode", level) for level in LEVELS if level != "unseen model"]
    assert factors[0] == pytest.approx(1, abs=0.3)
    assert factors[1] is not None
    assert factors[1] > 3


def test_every_shipped_row_that_is_compared_has_its_errors_kept_and_they_are_those_of_the_shipped_constants() -> None:
    """In-sample; what the other columns hold takes minutes (`validate --leave-out --errors FILE`)."""
    cases, _, _ = resolve(read_measurements(SHIPPED))
    known, found = families(), kept_errors()
    measured = {case.measurement.case_id: of for case in cases if (of := measured_of(case)) is not None}
    assert set(found) == set(measured)
    for case in cases:
        if (row := found.get(case.measurement.case_id)) is not None:
            predicted = predicted_by(case, known)
            assert predicted is not None
            assert predicted / measured[case.measurement.case_id] - 1 == pytest.approx(row.errors[0], abs=0.002)
            assert (row.unit, row.kind, row.device) == (case.unit_kind, case.kind, case.device)


@pytest.mark.slow
def test_the_kept_errors_without_a_device_are_those_of_new_fits() -> None:
    cases, _, _ = resolve(read_measurements(SHIPPED))
    mine = [case for case in cases if case.device == "orin-nano-8gb"]
    rows = compared(mine, families(), fitted_without(mine, families(), fitting(cases)))
    for row in rows:
        kept_row = kept_errors()[row.case.measurement.case_id]
        assert row.errors[1:] == pytest.approx(kept_row.errors[1:], abs=0.02)


@pytest.mark.parametrize(
    ("unit", "kind"), [("gpu", "decode"), ("gpu", "prefill"), ("npu", "decode"), ("npu", "prefill")]
)
def test_a_stranger_is_less_sure_than_a_known_device(unit: str, kind: str) -> None:
    seen, strange = (interval(unit, kind, level) for level in ("seen", "unseen device"))
    assert seen is not None
    assert strange is not None
    assert seen.low < 1 < seen.high
    assert strange.high / strange.low > 0.9 * seen.high / seen.low
    found = interval_of(unit, kind, "no such chip", "no such model")
    assert found == strange
