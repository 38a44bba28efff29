"""Chips and agents that are none: a board in ten lines, and a server that says what its script says."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np

from hilsim.describe.address import Address
from hilsim.hardware.wire.exchange import ModelFacts, Rows, StepRequest, StepResult
from hilsim.hardware.wire.frames import Closed, Frame, FrameError, Tensor, encoded, read_frame
from hilsim.hardware.wire.replies import AgentFacts

VOCABULARY = 11
FACTS = ModelFacts("toy", VOCABULARY, 64, None, ("logits", "tokens"), tokenizer="t", digest="d")
BOARD = AgentFacts("toy 1", {"name": "rig"}, {"source": "fake"}, ("toy",), 1.0, 2**20)


def row(tokens: tuple[int, ...]) -> Rows:
    """Logits after a conversation: any function of all its tokens."""
    seed = hashlib.sha256(bytes(token % 256 for token in tokens)).digest()
    return np.frombuffer(seed, np.uint8)[:VOCABULARY].astype(np.float32) / 8


def rows(ask: StepRequest) -> Rows:
    """The wanted rows of a step."""
    ends = range(len(ask.tokens) - ask.wanted + 1, len(ask.tokens) + 1)
    return np.stack([row(ask.tokens[:end]) for end in ends])


@dataclass
class Toy:
    """A `Chip` whose n-th step takes 1000 ns a row, 10 a cached position, and n."""

    asked: list[StepRequest] = field(default_factory=list)

    def load(self, model: str) -> ModelFacts:
        return FACTS

    def execute(self, ask: StepRequest) -> StepResult:
        self.asked.append(ask)
        took = 1000 * ask.rows + 10 * ask.cached + len(self.asked)
        found = rows(ask)
        return StepResult(
            took,
            rows=found if ask.want == "logits" else None,
            ids=tuple(map(int, found.argmax(axis=1))) if ask.want == "tokens" else None,
            wall_ns=2 * took,
            temperature_c=40.5,
            clock_ns=10**6 * len(self.asked),
            at_ns=10**6 * len(self.asked) + 5,
        )

    def close(self) -> None:
        pass


WELCOME: dict[str, Any] = {"protocol": [1], "nonce": "00" * 16, "token": False, "agent": "toy 1"}
READY: dict[str, Any] = {
    "protocol": 1, "device": {"name": "rig", "cores": 2}, "clock": {"source": "fake"}, "models": ["toy"],
    "heartbeat_s": 0.05, "most_body_bytes": 2**20,
}  # fmt: skip
LOADED: dict[str, Any] = {
    "model": "toy", "vocabulary": VOCABULARY, "context": 64, "widths": None, "gives": ["logits", "tokens"],
    "tokenizer": "t", "digest": "d", "load_ns": 5,
}  # fmt: skip
DONE: dict[str, Any] = {
    "duration_ns": 1000, "prepared_rows": 0, "prepare_ns": 0, "energy_mj": None, "temperature_c": None, "clock_ns": 7,
}  # fmt: skip


class Wire:
    """The agent's end of one connection."""

    def __init__(self, connection: socket.socket):
        self.connection = connection

    def read(self) -> Frame:
        return read_frame(self.connection.recv)

    def send(self, kind: str, fields: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
        self.connection.sendall(encoded(Frame(kind, fields, tensors or {})))

    def greet(self, welcome: Mapping[str, Any] = WELCOME, ready: Mapping[str, Any] = READY) -> Frame:
        """The handshake; returns the client's hello."""
        self.send("welcome", welcome)
        hello = self.read()
        self.send("ready", {"id": hello.fields["id"], **ready})
        return hello

    def until_step(self, loaded: Mapping[str, Any] = LOADED) -> Frame:
        """Greet and load; returns the step that is asked for."""
        self.greet()
        self.send("loaded", {"id": self.read().fields["id"], **loaded})
        return self.read()

    def done(self, step: Frame, **changes: Any) -> None:
        """StepResult a step as `Toy` would, but for some fields."""
        self.send("done", {"id": step.fields["id"], **DONE, **changes}, tensors_of(step))


def ask_of(step: Frame) -> StepRequest:
    """What a frame asks."""
    tokens = tuple(np.frombuffer(step.tensors["tokens"].data, "<i4").tolist())
    names = ("model", "phase", "cached", "wanted", "want")
    fields = {name: step.fields[name] for name in names}
    return StepRequest(tokens=tokens, **fields)


def tensors_of(step: Frame) -> dict[str, Tensor]:
    """The right answer to a step."""
    found = rows(ask_of(step))
    if step.fields["want"] == "logits":
        return {"logits": Tensor("f4", found.shape, found.tobytes())}
    if step.fields["want"] == "tokens":
        return {"ids": Tensor("i4", found.shape[:1], found.argmax(axis=1).astype("<i4").tobytes())}
    return {}


Script = Callable[[Wire], object]


class Scripted:
    """A server on any port that takes one connection a script, one after the other, and closes each at its end."""

    def __init__(self, *scripts: Script):
        self.scripts = scripts
        self.faults: list[BaseException] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address(*self.listener.getsockname())
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def serve(self) -> None:
        for script in self.scripts:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                try:
                    script(Wire(connection))
                except (Closed, FrameError, OSError):
                    pass  # the client has gone, as it may
                except BaseException as fault:  # an assertion in a script fails the test, not the thread
                    self.faults.append(fault)

    def __enter__(self) -> Scripted:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)  # so that a thread which waits for a client wakes up
        self.listener.close()
        self.thread.join(5)
        assert not self.faults, self.faults
