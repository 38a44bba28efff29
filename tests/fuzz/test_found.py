"""Inputs that once broke the program are read or refused: `make fuzz` puts one there for every failure it finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.found import FOUND, kept, kind_of
from tests.fuzz.kinds import KINDS
from tests.fuzz.worker import Worker, name_of


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as opened:
        yield opened


@pytest.mark.parametrize("file", kept(), ids=lambda file: str(file.relative_to(FOUND)))
def test_what_once_broke_the_program_does_not(file: Path, worker: Worker, tmp_path: Path) -> None:
    outcome = worker.read(name_of(kind_of(file, KINDS).reader), tmp_path / file.name, file.read_bytes())
    assert outcome.fine, f"{outcome.what}: {outcome.text}"
