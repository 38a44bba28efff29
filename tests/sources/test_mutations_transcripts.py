"""Broken transcripts by the hundred: each is refused by name or replays, and takes no more memory than it has bytes."""

from __future__ import annotations

import io
import json
import math
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.errors import InputError, TooShallow
from hilsim.places import CODE as PROJECT
from hilsim.sampling.proposals import Draft
from hilsim.screen.tokens import recorded_answers
from hilsim.sources.columns import INTEGERS, Transcript, from_planes, planes
from hilsim.sources.recorded_with import require_same
from hilsim.sources.transcript import TranscriptSource, load
from hilsim.text.tokenizer import ChatTokenizer, load_tokenizer
from tests.mutations import changed_bytes, changed_tree, survive

pytestmark = pytest.mark.slow  # hundreds of broken files, each read with limits

SHIPPED = PROJECT / "scenarios" / "transcripts" / "commands-draft-0.2m-greedy.npz"
SEED = 20_261_129
Members = dict[str, np.ndarray]


@dataclass
class Prefix:
    """What a replay asks about."""

    index: int
    conversation: int
    tokens: list[int]


@cache
def scene() -> tuple[Setup, ChatTokenizer]:
    setup = load_setup(PROJECT / "scenarios/commands.yaml", ["draft.stand_in=models/draft-0.2m"])
    assert setup.target.stand_in is not None
    return setup, load_tokenizer(setup.target.stand_in)


def read(path: Path) -> None:
    """Load a transcript, hold it against its scenario, and ask it everything that a run or a study may ask."""
    transcript = load(path)
    setup, tokenizer = scene()
    require_same(transcript, setup, path)
    source = TranscriptSource(transcript, tokenizer)
    recorded_answers(setup, source)
    for number, known in source.requests.items():
        for position in range(known.asked, known.answered):
            prefix = Prefix(number, 0, list(known.tokens[:position]))
            source.next_token(prefix)
            try:
                draft = source.draft(prefix, 4)
            except TooShallow:
                draft = Draft(())
            source.verify(prefix, draft)
        source.text(known.tokens)


@cache
def shipped() -> Members:
    with np.load(SHIPPED) as columns:
        return dict(columns)


def written(members: dict[str, Any], *, kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of arrays, or of bytes as they are."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", kind) as archive:
        for name, array in members.items():
            data = io.BytesIO()
            if isinstance(array, bytes):
                data.write(array)
            else:
                np.lib.format.write_array(data, np.asarray(array), allow_pickle=True)
            archive.writestr(f"{name}.npy", data.getvalue())
    return made.getvalue()


def with_header(change: Callable[[dict[str, Any]], Any]) -> Members:
    header = change(json.loads(bytes(shipped()["header"])))
    return shipped() | {"header": np.frombuffer(json.dumps(header).encode("utf-8", "replace"), np.uint8)}


def other_columns(chance: random.Random) -> bytes:
    """One or two columns of another dtype, shape or content; or gone, doubled, swapped, strange."""
    members: dict[str, Any] = dict(shipped())
    for _ in range(chance.choice((1, 1, 2))):
        name = chance.choice(sorted(shipped()))
        array = members.get(name, np.zeros(3))
        if isinstance(array, bytes):
            continue
        flat = np.array(array).reshape(-1)
        values = (0, 1, 2, 100, 127, 255) if flat.dtype == np.uint8 else (-1, 0, 1, 2, 100, 127)
        match chance.randrange(12):
            case 0:
                del members[name]
                members.setdefault("more", np.zeros(2))
            case 1:
                members.pop(name, None)
            case 2:
                members[name] = array.astype(chance.choice(["f8", "c16", "O", "U4", "M8[s]", "i8", "u2", ">i2", "b1"]))
            case 3:
                members[name] = array[: chance.randrange(len(array))] if array.ndim else array
            case 4:
                members[name] = array.reshape(*array.shape, 1) if chance.random() < 0.5 else flat
            case 5:
                members[name] = np.concatenate((array, array)) if array.ndim else array
            case 6 if flat.size:
                flat[chance.randrange(flat.size)] = chance.choice(values)
                members[name] = flat.reshape(array.shape)
            case 7 if flat.size:
                members[name] = np.full_like(array, chance.choice(values))
            case 8:
                members[name] = np.asfortranarray(array)
            case 9:
                members[name] = members[chance.choice(sorted(shipped()))] if len(members) > 15 else array
            case 10:
                members[name] = header_bytes((10**12,), "|u1" if array.dtype == np.uint8 else "<i4")
            case _:
                members[name] = array[::-1]
    return written(members, kind=chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)))


def header_bytes(shape: tuple[int, ...], dtype: str) -> bytes:
    """An array's header alone, with claims of its own."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def lying_sizes(chance: random.Random) -> bytes:
    """A whole archive whose directory claims other sizes, methods or flags."""
    data = bytearray(SHIPPED.read_bytes())
    places = [at for at in range(len(data)) if data[at : at + 4] in (b"PK\x01\x02", b"PK\x03\x04")]
    at = chance.choice(places)
    central = data[at + 2] == 1
    field, size = chance.choice([(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (42, 4)] if central else
                                [(6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2)])  # fmt: skip
    value = chance.choice((0, 1, 2**16 - 1, 2**31, 2**32 - 1)) % 2 ** (8 * size)
    data[at + field : at + field + size] = value.to_bytes(size, "little")
    return bytes(data)


@pytest.mark.parametrize("kind", ["bytes", "columns", "header", "sizes"])
def test_no_broken_transcript_breaks_the_program(kind: str, tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} {kind}")
    made: dict[str, Callable[[], bytes]] = {
        "bytes": lambda: changed_bytes(SHIPPED.read_bytes(), chance),
        "columns": lambda: other_columns(chance),
        "header": lambda: written(with_header(lambda header: changed_tree(header, chance))),
        "sizes": lambda: lying_sizes(chance),
    }
    inputs = [(f"{number}.npz", made[kind]()) for number in range(100)]
    inputs.append(("whole.npz", SHIPPED.read_bytes()))  # the control: what nothing was done to is read
    survive(read, inputs, tmp_path, accepted=range(1, 80))


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
