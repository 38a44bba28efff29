"""The worker that reads mutated inputs: it must see a reader that raises, hangs, dies or grows."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from hilsim.errors import Fault, InputError
from tests.fuzz import worker
from tests.fuzz.mutate import changed_bytes, changed_tree, json_bytes
from tests.fuzz.worker import survive

WORDS = {"ok": None, "bad": InputError([Fault("f", "", "x", "y")]), "oops": KeyError("oops")}


def read(path: Path) -> None:
    """A reader that does what its file says."""
    order = path.read_text()
    if order == "loop":
        while True:
            pass
    if order == "grow":
        bytearray(64 * 2**30)
    if order == "die":
        os.kill(os.getpid(), 9)
    if order == "print":
        print("accepted, or so it says")
    error = WORDS.get(order)
    if error is not None:
        raise error


def tried(orders: list[str], folder: Path) -> list[str]:
    return survive(read, [(f"{n}.txt", order.encode()) for n, order in enumerate(orders)], folder)


def test_reading_and_refusing_are_right(tmp_path: Path) -> None:
    assert tried(["ok", "bad", "print", "ok"], tmp_path) == ["f: found x; expected y."]


@pytest.mark.parametrize(
    ("order", "words"),
    [("oops", "raised: KeyError"), ("die", "killed"), ("grow", "raised: MemoryError")],
)
def test_whatever_else_is_found_and_the_next_file_is_read(order: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=rf"1 of 3 inputs:\n.*1\.txt: {words}"):
        tried(["ok", order, "bad"], tmp_path)


def test_a_reader_that_hangs_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "WALL_S", 1)
    with pytest.raises(AssertionError, match=r"0\.txt: hang"):
        tried(["loop"], tmp_path)


def test_a_reader_that_refuses_all_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="0 of 2 were read"):
        survive(read, [("1", b"bad"), ("2", b"bad")], tmp_path, accepted=range(1, 3))


def test_mutations_are_the_seeds_own() -> None:
    document = {"a": [1, {"b": "text"}], "c": 2.5}

    def drawn(seed: int) -> list[bytes]:
        chance = random.Random(seed)
        return [
            changed_bytes(b"some bytes of a file", chance) + json_bytes(changed_tree(document, chance))
            for _ in range(200)
        ]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert len(set(drawn(1))) > 150
    assert document == {"a": [1, {"b": "text"}], "c": 2.5}
