"""Recordings of boards: lines with other fields, chains made anew as a stranger would, the tensors beside them."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hilsim.describe.backend import Backend
from hilsim.describe.catalogue import load_named
from hilsim.describe.model import Model
from hilsim.errors import ChipLost, HilsimError
from hilsim.hardware.measured.calibrate import recorded_steps
from hilsim.hardware.measured.unit import MeasuredUnit
from hilsim.hardware.recordings.recorded import RecordedChip
from hilsim.hardware.recordings.recording import entries_of, linked, read_recording, tensors_of, with_chain
from hilsim.hardware.wire.exchange import AgentFault, StepRequest
from hilsim.places import CODE as PROJECT
from tests.fuzz.kind import Input, Kind
from tests.fuzz.mutate import changed_bytes, changed_tree, json_bytes
from tests.hardware.test_recording import ASKS, TALK, record
from tests.hardware_fakes import FACTS

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


def as_lines(lines: Any) -> list[Any]:
    """A changed tree as lines, whatever is left of it."""
    return lines if isinstance(lines, list) else [lines]


def described(chance: random.Random) -> Input:
    """A recording as a tree, with fields, settings, lines or tensors changed."""
    match chance.randrange(5):
        case 0:
            made = changed_field(chance)
        case 1:
            made = changed_settings(chance)
        case 2:
            made = document() | {"lines": as_lines(changed_tree(document()["lines"], chance))}
        case _:
            made = changed_tensors(chance)
    return "recording.json", json_bytes(made)


@cache
def good() -> bytes:
    """The lines of a recording."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "board.jsonl"
        record(file, [*ASKS, StepRequest("toy", "decode", TALK, 7, 1, "nothing")])
        return file.read_bytes()


def broken_bytes(chance: random.Random) -> Input:
    return "board.jsonl", changed_bytes(good(), chance)


KINDS = [
    Kind("recording", described, read, 500),
    Kind("recording as bytes", broken_bytes, read_raw, 100, (0.0, 0.9)),
]
