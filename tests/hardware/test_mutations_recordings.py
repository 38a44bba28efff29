"""Broken recordings by the hundred, their chains made anew as a stranger would, and the tensors beside them."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hilsim.describe.backend import Backend
from hilsim.describe.catalogue import load_named
from hilsim.describe.model import Model
from hilsim.errors import ChipLost, HilsimError, InputError
from hilsim.hardware.measured.calibrate import recorded_steps
from hilsim.hardware.measured.unit import MeasuredUnit
from hilsim.hardware.recordings.recorded import RecordedChip
from hilsim.hardware.recordings.recording import entries_of, linked, read_recording, tensors_of, with_chain
from hilsim.hardware.wire.exchange import AgentFault, StepRequest
from hilsim.places import CODE as PROJECT
from tests.hardware.test_recording import ASKS, TALK, forged, record
from tests.hardware_fakes import FACTS, Toy
from tests.mutations import changed_bytes, changed_tree, json_bytes, survive

pytestmark = pytest.mark.slow  # hundreds of broken files, each read with limits

SEED = 20_261_129
INPUTS = 110
# What is likely to be believed: numbers of every field's own kind that no recorder writes.
WRONG = (-1, 0, 1, 7, 2**31, 2**63, 10**9, 10**19, 1e300, math.nan, math.inf, "x", "", None, [], {}, True)


@cache
def document() -> dict[str, Any]:
    """A recording as a tree: its lines without their chain, and the bytes beside them."""
    folder = Path(tempfile.mkdtemp())
    try:
        record(folder / "board.jsonl", [*ASKS, StepRequest("toy", "decode", TALK, 7, 1, "nothing")])
        record(folder / "board.jsonl")
        lines = [json.loads(line) for line in (folder / "board.jsonl").read_bytes().splitlines()]
        for line in lines:
            del line["chain"]
        return {"lines": lines, "tensors": base64.b64encode(tensors_of(folder / "board.jsonl").read_bytes()).decode()}
    finally:
        shutil.rmtree(folder)


def read(path: Path) -> None:
    """Write what an input describes as a recording with a right chain, and use it as every command does."""
    described = json.loads(path.read_bytes())
    tensors = base64.b64decode(described["tensors"])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "board.jsonl"
        chain, written = "", b""
        for line in described["lines"]:
            stored = line.get("tensor") if isinstance(line, dict) else None
            if described.get("digests anew") and isinstance(stored, dict):
                data = tensors[stored["at"] : stored["at"] + stored["bytes"]]
                line["tensor"] = stored | {"sha256": hashlib.sha256(data).hexdigest()}
            body = json.dumps(line, separators=(",", ":")).encode("utf-8", "surrogatepass")
            chain = linked(chain, body)
            written += with_chain(body, chain)
        file.write_bytes(written)
        tensors_of(file).write_bytes(tensors)
        use(file)


def read_raw(path: Path) -> None:
    """Use the bytes as they are; tensors beside them are those of the recording."""
    tensors_of(path).write_bytes(base64.b64decode(document()["tensors"]))
    use(path)


def use(file: Path) -> None:
    """Replay a recording, once by its entries and once through a unit as its settings say, and fit to its steps."""
    recording = read_recording(file)
    if not recording.sessions:
        return
    chip = RecordedChip(recording, unseen="interpolate")
    json.dumps([session.header.device for session in recording.sessions], allow_nan=False)
    backend = Backend(backend=f"recording://{file}").model_copy(update=chip.settings)
    facts = next(iter(recording.models().values()), FACTS)
    unit = MeasuredUnit("chip.unit", "unit", backend, chip, {"target": facts}, lambda *_: None, lambda: None)
    for ask in (StepRequest(facts.name, one.phase, one.tokens, one.cached, one.wanted, one.want) for one in ASKS):
        try:
            chip.execute(ask)
            unit.execute("target", ask, "said")
        except (AgentFault, ChipLost, HilsimError):
            pass
    described = load_named("model", Model, "llama-3.2-1b", PROJECT / "scenarios" / "x.yaml")
    recorded_steps(recording, dict.fromkeys(recording.models(), described))
    for entry in entries_of(recording):
        array = recording.array(entry)
        assert array is None or np.isfinite(array).all()


def changed_field(chance: random.Random) -> dict[str, Any]:
    """A line or two with one field of another value."""
    made = json.loads(json.dumps(document()))
    for _ in range(chance.choice((1, 1, 2))):
        node: Any = chance.choice(made["lines"])
        while isinstance(node, dict) and node:
            key = chance.choice(sorted(node))
            if not isinstance(node[key], dict) or not node[key] or chance.random() < 0.3:
                node[key] = chance.choice(WRONG)
                break
            node = node[key]
    return made


def changed_settings(chance: random.Random) -> dict[str, Any]:
    """Settings that a unit would obey."""
    made = json.loads(json.dumps(document()))
    names = ("warm_up", "repeats", "retries", "timeout_ms", "on_fault", "record", "token_file", "backend", "words")
    settings = made["lines"][0]["settings"]
    for _ in range(chance.choice((1, 2))):
        settings[chance.choice(names)] = chance.choice((*WRONG, "/tmp/elsewhere", "simulated", "recording://x", 3))
    made["lines"][-len(ASKS) - 1]["settings"] = settings
    return made


def changed_tensors(chance: random.Random) -> dict[str, Any]:
    """Other bytes beside the lines, whose digests were made anew or not."""
    data = bytearray(base64.b64decode(document()["tensors"]))
    if chance.random() < 0.6:
        value = chance.choice((math.nan, math.inf, -math.inf, 1e30))
        at = 4 * chance.randrange(len(data) // 4)
        data[at : at + 4] = np.array(value, "<f4").tobytes()
    else:
        data = bytearray(changed_bytes(bytes(data), chance))
    tensors = base64.b64encode(data).decode()
    return document() | {"tensors": tensors, "digests anew": chance.random() < 0.8}


@pytest.mark.parametrize("kind", ["fields", "settings", "trees"])
def test_no_broken_recording_breaks_the_program(kind: str, tmp_path: Path) -> None:
    chance = random.Random(f"{SEED} {kind}")
    made: dict[str, Callable[[], Any]] = {
        "fields": lambda: changed_field(chance),
        "settings": lambda: changed_settings(chance),
        "trees": lambda: document() | {"lines": as_lines(changed_tree(document()["lines"], chance))},
    }
    inputs = [(f"{number}.json", json_bytes(made[kind]())) for number in range(INPUTS)]
    inputs.append(("whole.json", json_bytes(document())))
    survive(read, inputs, tmp_path, accepted=range(1, 70))


def as_lines(lines: Any) -> list[Any]:
    """A changed tree as lines, whatever is left of it."""
    return lines if isinstance(lines, list) else [lines]


def test_no_broken_bytes_of_a_recording_break_the_program(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    record(tmp_path / "good.jsonl", [*ASKS, StepRequest("toy", "decode", TALK, 7, 1, "nothing")])
    good = (tmp_path / "good.jsonl").read_bytes()
    inputs = [(f"{number}.jsonl", changed_bytes(good, chance)) for number in range(INPUTS)]
    survive(read_raw, inputs, tmp_path)


def test_no_broken_tensors_beside_a_recording_break_the_program(tmp_path: Path) -> None:
    chance = random.Random(SEED + 1)
    inputs = [(f"{number}.json", json_bytes(changed_tensors(chance))) for number in range(3 * INPUTS)]
    inputs.append(("whole.json", json_bytes(document() | {"digests anew": True})))
    survive(read, inputs, tmp_path, accepted=range(1, 250))


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
