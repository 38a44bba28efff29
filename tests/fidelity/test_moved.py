"""What calibrate says of constants that moved: rows made of the described chip, slowed in known ways."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hilsim.describe.catalogue import written_chip
from hilsim.describe.figure import Figure
from hilsim.fidelity.calibrate import calibrate_chip
from hilsim.fidelity.cases import Case, resolve
from hilsim.fidelity.from_file import families
from hilsim.fidelity.measurements import read_measurements
from hilsim.fidelity.moved import Moved, rms, shared
from tests.tiny import csv_file

CHIP = "orin-nx-16gb"
STEPS = [("llm_decode", "latency_ms", "64"), ("llm_decode", "latency_ms", "4096"),
         ("llm_prefill", "ttft_ms", "512"), ("llm_prefill", "ttft_ms", "2048")]  # fmt: skip


def rows(folder: Path, slower: dict[str, float], noise: float = 0.0, kind: str = "llm_") -> list[Case]:
    """Rows of three models as the described chip would take them, times a factor by kind; fixed seed."""
    chance, known = np.random.default_rng(11), families()
    changes = [
        {"device": CHIP, "model": model, "kind": of, "metric": metric, "context_len": context, "value": "10"}
        for model in ("llama-3.2-1b", "llama-3.2-3b", "llama-3.1-8b")
        for of, metric, context in STEPS
        if of.startswith(kind)
    ]
    cases, left, faults = resolve(read_measurements(csv_file(folder, *changes)))
    assert (left, faults) == ([], [])
    found = []
    for case in cases:
        seconds = case.seconds(case.unit(known)) * slower.get(case.kind, 1.0) * float(np.exp(noise * chance.normal()))
        found.append(replace(case, measurement=replace(case.measurement, value=1000 * seconds)))
    return found


def account(cases: list[Case]) -> str:
    return "\n".join(calibrate_chip(written_chip(CHIP, Path("--chip")), cases, families(), "x.csv").account)


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_runtime_that_slows_everything_alike_is_told_from_a_chip_that_is_wrong(noise: float, tmp_path: Path) -> None:
    """15 to 30 % slower in decode and prompts: one factor of 1 / 1.2 = 0.83."""
    told = account(rows(tmp_path, {"decode": 1.2, "prefill": 1.2}, noise))
    assert "A runtime's share explains the rows as well: one factor of 0.83" in told
    assert "not described" in told


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_memory_that_is_slower_than_described_is_no_runtime_s_share(noise: float, tmp_path: Path) -> None:
    told = account(rows(tmp_path, {"decode": 1.25}, noise))
    assert "A runtime's share does not explain the rows" in told
    found = re.search(r"decode runs at (\S+) of the described speed, prompts run at (\S+) of", told)
    assert found is not None
    # Six rows of each kind: three standard errors of their mean, and rounding.
    assert [float(share) for share in found.groups()] == pytest.approx([0.8, 1.0], abs=0.005 + 3 * noise / 6**0.5)
    assert "what reads the weights moved alone" in told


def test_operations_that_are_slower_than_described_are_no_runtime_s_share(tmp_path: Path) -> None:
    assert "what multiplies moved alone" in account(rows(tmp_path, {"prefill": 1.25}))
    assert "by different factors" in account(rows(tmp_path, {"decode": 1.2, "prefill": 1.6}))


def test_the_chip_as_described_is_said_to_meet_its_own_rows(tmp_path: Path) -> None:
    """The control: nothing moved, and every constant lies inside its range."""
    told = account(rows(tmp_path, {}))
    assert "The chip as described meets the rows" in told
    assert "outside" not in told
    assert told.count("is 1.00 of what is described") == 2


def test_rows_of_decode_alone_cannot_tell(tmp_path: Path) -> None:
    told = account(rows(tmp_path, {"decode": 1.2}, kind="llm_decode"))
    assert "Only decode was measured (decode runs at 0.83 of the described speed)" in told
    assert "Add rows of prompts" in told


def test_rows_that_cannot_tell_are_said_not_to() -> None:
    """Two rows a kind of 20 % scatter, 28 % with two degrees of freedom: x sqrt(1/2 + 1/2) x 2.5 is 70.7 %."""
    told = shared({"decode": [-0.14, -0.14], "prefill": [0.0, 0.0]}, 0.2)
    assert "which is 14.0% apart, give or take 70.7%. Add rows." in told
    assert "does not explain" in shared({"decode": [-0.14, -0.14], "prefill": [0.0, 0.0]}, 0.03)


def test_rows_that_scatter_widely_are_explained_by_nothing() -> None:
    assert "no constant and no runtime explains them" in shared({"decode": [0.5, -0.5], "prefill": [0.4]}, 0.4)


def test_a_constant_is_held_against_its_described_range_in_one_unit() -> None:
    before = Figure(value=80, unit="GB/s", kind="assumed", source="a test's own", range=(70, 90))
    slow, near = (Figure(value=v, unit="MB/s", kind="fitted", source="a test's own") for v in (60_000, 72_000))
    assert str(Moved("memory_rate", before, slow)) == (
        "memory_rate is 0.75 of what is described: 6e+04 MB/s, not 8e+04; outside its range, 7e+04 to 9e+04."
    )
    assert "is 0.90 of what is described: 7.2e+04 MB/s, not 8e+04; inside its range" in str(
        Moved("memory_rate", before, near)
    )
    assert "which has no range" in str(Moved("m", before.model_copy(update={"range": None}), near))


def test_root_mean_square() -> None:
    assert rms([3, -4]) == pytest.approx(12.5**0.5)
