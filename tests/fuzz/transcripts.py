"""Transcripts: archives of columns with other bytes, columns, headers and claims of their own."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hilsim.describe.load import load_setup
from hilsim.describe.setup import Setup
from hilsim.errors import TooShallow
from hilsim.places import CODE as PROJECT
from hilsim.sampling.proposals import Draft
from hilsim.screen.tokens import recorded_answers
from hilsim.sources.recorded_with import require_same
from hilsim.sources.transcript import TranscriptSource, load
from hilsim.text.tokenizer import ChatTokenizer, load_tokenizer
from tests.fuzz.kind import Input, Kind
from tests.fuzz.mutate import changed_bytes, changed_tree

SHIPPED = PROJECT / "scenarios" / "transcripts" / "commands-draft-0.2m-greedy.npz"
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


def broken_transcript(chance: random.Random) -> Input:
    """The shipped one with other bytes, columns, header, or claims about its sizes."""
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: changed_bytes(SHIPPED.read_bytes(), chance),
        lambda: other_columns(chance),
        lambda: written(with_header(lambda header: changed_tree(header, chance))),
        lambda: lying_sizes(chance),
    )
    return "transcript.npz", chance.choice(makers)()


KINDS = [Kind("transcript", broken_transcript, read, 300)]
