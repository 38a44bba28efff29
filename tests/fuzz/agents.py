"""Hostile agents: their answers as trees and as bytes; each is a fault of the board, soon, and takes no memory."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from hilsim.describe.backend import Backend
from hilsim.errors import ChipLost, SimulationError
from hilsim.hardware.measured.profile import ProfileGrid, asks
from hilsim.hardware.measured.unit import MeasuredUnit
from hilsim.hardware.wire.client import Agent, Timeouts
from hilsim.hardware.wire.exchange import AgentFault, StepRequest
from hilsim.hardware.wire.frames import MAGIC, PREAMBLE, Tensor
from tests.fuzz.kind import Input, Kind
from tests.fuzz.mutate import changed_bytes, changed_tree, json_bytes
from tests.hardware_fakes import DONE, LOADED, READY, WELCOME, Scripted, Wire, tensors_of

SOON = Timeouts(connect_s=2.0, silence_s=0.5, step_s=1.0, load_s=1.0)
TALK = (3, 1, 4, 1, 5)
REPLIES: dict[str, dict[str, Any]] = {
    "welcome": {"kind": "welcome", **WELCOME},
    "hello": {"kind": "ready", "id": "ID", **READY},
    "load": {"kind": "loaded", "id": "ID", **LOADED},
    "step": {"kind": "done", "id": "ID", "tensors": "RIGHT", **DONE},
    "bye": {"kind": "bye", "id": "ID"},
}


class Refusal(SimulationError):
    """An agent's fault, where the harness looks for the errors of the program."""


def read(path: Path) -> None:
    """Let an agent answer as a file says, to everything that a profile and a run ask of it."""
    described = json.loads(path.read_bytes())
    with Scripted(*[lambda wire: play(wire, described)] * 8) as server:
        agent = Agent(server.address, patience=SOON)
        try:
            facts = agent.load("toy")
            assert sum(len(ask.tokens) for ask in asks([facts], ProfileGrid())) < 10**8
            for want in ("logits", "tokens", "nothing"):
                answer = agent.execute(StepRequest("toy", "verify", TALK, 2, 3, want))  # type: ignore[arg-type]
                assert answer.rows is None or np.isfinite(answer.rows).all()
            unit = MeasuredUnit("t", "u", Backend(words="tokens", warm_up=0), agent, {"target": facts}, lambda *_: None,
                                lambda: None)  # fmt: skip
            unit.rows("target", TALK, 0, 2)
        except (AgentFault, ChipLost) as fault:
            raise Refusal(str(fault)) from None
        finally:
            agent.close()


def play(wire: Wire, described: Any) -> None:
    """Greet, and answer question after question."""
    answer(wire, described, "welcome", {}, {})
    while True:
        asked = wire.read()
        right = tensors_of(asked) if asked.kind == "step" else {}
        answer(wire, described, asked.kind, dict(asked.fields), right)


def answer(wire: Wire, described: Any, kind: str, asked: dict[str, Any], right: dict[str, Tensor]) -> None:
    """One frame as a file describes it, which need be none; `ID` and `RIGHT` stand for what would be right."""
    header = described.get(kind, "") if isinstance(described, dict) else described
    body = b""
    if isinstance(header, dict):
        header = {key: asked.get("id") if value == "ID" else value for key, value in header.items()}
        if header.get("tensors") == "RIGHT":
            body = b"".join(bytes(tensor.data) for tensor in right.values())
            header["tensors"] = [
                {"name": name, "dtype": one.dtype, "shape": list(one.shape)} for name, one in right.items()
            ]
            if isinstance(described, dict) and described.get("body"):
                body = bytes.fromhex(described["body"])[: len(body)].ljust(len(body), b"\0")
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    wire.connection.sendall(PREAMBLE.pack(MAGIC, 1, 0, len(text), len(body)) + text + body)


def read_raw(path: Path) -> None:
    """Let an agent send the bytes of a file whatever it is asked."""
    with Scripted(*[lambda wire: wire.connection.sendall(path.read_bytes())] * 8) as server:
        agent = Agent(server.address, patience=SOON)
        try:
            agent.load("toy")
        except AgentFault as fault:
            raise Refusal(str(fault)) from None
        finally:
            agent.close()


def hostile(chance: random.Random) -> dict[str, Any]:
    """Answers with some of their fields changed; now and then the body of a step as well."""
    made: Any = changed_tree(REPLIES, chance)
    if isinstance(made, dict) and chance.random() < 0.3:
        made["body"] = np.array([chance.choice((np.nan, np.inf, 1.0, 3e38))] * 33, "<f4").tobytes().hex()
    return made


def hostile_answers(chance: random.Random) -> Input:
    return "answers.json", json_bytes(hostile(chance))


def hostile_bytes(chance: random.Random) -> Input:
    text = json.dumps(REPLIES["welcome"]).encode()
    return "answers.bin", changed_bytes(PREAMBLE.pack(MAGIC, 1, 0, len(text), 0) + text, chance)


KINDS = [
    Kind("answers of an agent", hostile_answers, read, 150),
    Kind("bytes of an agent", hostile_bytes, read_raw, 40, (0.0, 0.9)),
]
