"""Transcripts with numbers that cannot be: each is refused by name; one takes no more memory than it has bytes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from hilsim.errors import InputError
from hilsim.sources.columns import INTEGERS, Transcript, from_planes, planes
from hilsim.sources.transcript import load
from tests.fuzz.transcripts import SHIPPED, read, shipped, written
from tests.fuzz.worker import survive

pytestmark = pytest.mark.slow  # the refusals of numbers take seconds


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """A megabyte that deflates to a gigabyte, and one that claims what no deflated byte can hold."""
    bomb = written(shipped() | {"margin": np.zeros((8, 2**27), np.uint8)})
    assert len(bomb) < 2**21
    (refusal,) = survive(read, [("bomb.npz", bomb)], tmp_path)
    assert "at most 268435456 in all" in refusal


def planted(name: str, place: tuple[int, ...], value: float, file: Path) -> Path:
    """The shipped transcript with one number changed."""
    columns = dict(shipped())
    array = from_planes(columns[name]).copy() if name not in INTEGERS else columns[name].astype(np.int32)
    array[place] = value
    columns[name] = array if name in INTEGERS else planes(array)
    file.write_bytes(written(columns))
    return file


def test_one_number_that_cannot_be_is_named_with_its_place(tmp_path: Path) -> None:
    read(planted("margin", (5,), 0.25, tmp_path / "control.npz"))
    for name, place, value, words in (
        ("margin", (5,), math.nan, "margin nan at [5]"),
        ("confidence", (7,), 1.5, "confidence 1.5 at"),
        ("entropy", (7,), math.inf, "entropy inf at"),
        ("entropy", (7,), -1.0, "entropy -1.0 at"),
        ("answer", (3,), -7, "answer with a token -7"),
        ("answer", (3,), 2048, "answer: found token 2048; expected ids below 2048"),
        ("after", (2, 0), -1, "after with a gap"),
        ("turn", (4,), 3, "request 4: turn 3 of conversation 4"),
        ("index", (4,), 9, "request 5: number 5 after 9"),
        ("index", (14,), 99, "index: found 1 answers in conversation 14, numbered [99]"),
        ("prompt_end", (0,), 9000, "prompt_end that goes back"),
    ):
        with pytest.raises(InputError) as error:
            read(planted(name, place, value, tmp_path / "planted.npz"))
        assert words in str(error.value), (name, str(error.value))
        assert "hilsim record" in str(error.value)


def test_an_answer_that_breaks_off_is_named(tmp_path: Path) -> None:
    known: Transcript = load(SHIPPED)
    last = int(known.answer_end[3]) - 1
    (tmp_path / "bad.npz").write_bytes(b"")
    with pytest.raises(InputError, match="request 3: an answer that breaks off"):
        read(planted("answer", (last,), 5, tmp_path / "bad.npz"))
    with pytest.raises(InputError, match="request 3: an answer that goes on after its end token"):
        read(planted("answer", (last - 1,), 2, tmp_path / "bad.npz"))


def test_a_pipe_and_a_folder_are_no_transcripts(tmp_path: Path) -> None:
    for file in (Path("/dev/zero"), tmp_path):
        with pytest.raises(InputError, match=r"a device, which has no end|a folder"):
            load(file)
