"""Recordings that no recorder writes: each is refused by line and key."""

from __future__ import annotations

import base64
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilsim.errors import InputError
from hilsim.hardware.recordings.recording import read_recording, tensors_of
from tests.fuzz.mutate import json_bytes
from tests.fuzz.recordings import document, read
from tests.hardware.test_recording import forged, record
from tests.hardware_fakes import FACTS, Toy

pytestmark = pytest.mark.slow  # recordings are made and read dozens of times


def test_one_nan_in_the_tensors_is_named_with_line_token_and_position(tmp_path: Path) -> None:
    made = document() | {"digests anew": True}
    (tmp_path / "control.json").write_bytes(json_bytes(made))
    read(tmp_path / "control.json")
    entry = made["lines"][2]  # three rows of eleven logits, the last after seven tokens
    data = bytearray(base64.b64decode(made["tensors"]))
    at = entry["tensor"]["at"] + 4 * (FACTS.vocabulary + 4)
    data[at : at + 4] = np.array(math.nan, "<f4").tobytes()
    (tmp_path / "bad.json").write_bytes(json_bytes(made | {"tensors": base64.b64encode(data).decode()}))
    with pytest.raises(InputError, match="line 3: found logits that are not finite: nan of token 4 at position 6"):
        read(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("line", "changes", "words"),
    [(1, {"settings": {"warm_up": 10**9}}, "warm_up 1000000000; expected at most 1000"),
     (1, {"settings": {"record": "/tmp/elsewhere"}}, "record; expected settings among warm_up"),
     (1, {"settings": {"on_fault": "wait"}}, "on_fault 'wait'"),
     (1, {"settings": "x"}, "settings"), (1, {"models": "x"}, "models"),
     (1, {"models": {"toy": {"name": "toy", "vocabulary": 2**27, "context": 64, "widths": None, "gives": ["tokens"]}}},
      "a vocabulary of 134217728; expected 1 to 4194304"),
     (1, {"device": {"name": math.nan}}, "device"),
     (2, {"cached": 2147483648}, "cached"), (2, {"entry": 2**63}, "entry"), (2, {"wall_ns": 2**70}, "wall_ns"),
     (2, {"cached": 100}, "4 rows after 100 cached; expected at most 64, the context of toy"),
     (2, {"model": "other"}, "model 'other'; expected one of its session: toy"),
     (2, {"tokens": [3, 1, 4, 11]}, "tokens from 1 to 11; expected ids from 0 to 10"),
     (2, {"phase": "dream"}, "phase"), (2, {"temperature_c": math.inf}, "temperature_c")],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_no_recorder_writes_is_reported_by_line_and_key(
    line: int, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    file = tmp_path / "board.jsonl"
    forged(file, {}, line)
    read_recording(file)  # the control: made anew, but unchanged
    forged(tmp_path / "bad.jsonl", changes, line)
    with pytest.raises(InputError) as error:
        read_recording(tmp_path / "bad.jsonl")
    found = str(error.value)
    assert f"line {line}: found" in found
    for part in words.split("; expected "):
        assert part in found, found


def test_a_pipe_is_no_recording(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(InputError, match="a pipe, which can be read only once"):
        read_recording(tmp_path / "pipe.jsonl")
    record(tmp_path / "board.jsonl", chip=Toy())
    tensors_of(tmp_path / "board.jsonl").unlink()
    os.mkfifo(tensors_of(tmp_path / "board.jsonl"))
    with pytest.raises(InputError, match="a pipe, which can be read only once"):
        read_recording(tmp_path / "board.jsonl")
