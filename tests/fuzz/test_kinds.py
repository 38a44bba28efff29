"""Ten thousand broken inputs of every kind that hilsim reads: each is read or refused, and nothing else happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hilsim.describe.faults import KINDS as FAULT_KINDS
from hilsim.describe.load import load_setup
from hilsim.places import CODE as PROJECT
from hilsim.runs.replay import both
from tests.fidelity.test_importers import EXAMPLES, IMPORTS
from tests.fuzz import descriptions, tables, transcripts
from tests.fuzz.kinds import KINDS
from tests.fuzz.worker import Worker, survive

SEED = 20_261_130
LEAST = 10_000
FEW = 400  # of the many, one is in the quick suite; none of kinds whose every input takes long


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """One process for all kinds, so that libraries are loaded once."""
    with Worker() as opened:
        yield opened


def test_ten_thousand_inputs_have_fixed_seeds() -> None:
    assert sum(kind.count for kind in KINDS.values()) >= LEAST
    for kind in KINDS.values():
        assert kind.inputs(SEED, 2) == kind.inputs(SEED, 2)
        assert kind.inputs(SEED, 1) != kind.inputs(SEED + 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_no_broken_input_breaks_the_program(name: str, worker: Worker, tmp_path: Path) -> None:
    kind = KINDS[name]
    least, most = kind.accepted
    accepted = range(int(least * kind.count), int(most * kind.count) + 1)
    survive(kind.reader, kind.inputs(SEED, kind.count), tmp_path, accepted=accepted, worker=worker)


def test_a_few_of_every_kind(worker: Worker, tmp_path: Path) -> None:
    for place, kind in enumerate(KINDS.values()):
        few = kind.count // FEW + (kind.count > 10)
        survive(kind.reader, kind.inputs(SEED, few), tmp_path / str(place), worker=worker)


def test_what_is_not_broken_is_read(tmp_path: Path) -> None:
    """The control: readers take what is right."""
    tables.measure(PROJECT / "chips/measurements/example.csv")
    tables.replay_log(PROJECT / "chips/measurements/traces/amusd_humaneval.json")
    for name in EXAMPLES:
        tables.import_log(IMPORTS / name)
    transcripts.read(transcripts.SHIPPED)
    descriptions.read_chip(PROJECT / "chips/sa8295p.yaml")
    described = tmp_path / "described.yaml"
    described.write_text(descriptions.CAMPAIGN)
    descriptions.read_campaign(described)


def test_each_fault_to_be_changed_begins_in_the_scenario(tmp_path: Path) -> None:
    """Else the engine of faults would never be met by what is made of them."""
    kinds = []
    for given in descriptions.INJECTED:
        file = tmp_path / "faults.yaml"
        file.write_text(f"{descriptions.SCENARIO}{descriptions.FAULTS}    - {given}\n")
        kinds += sorted({record.kind for record in both(load_setup(file))[1].faults})
    assert kinds == list(FAULT_KINDS)
