"""The agent's side of one client's session: welcome, its facts, and an answer to every request.

docs/protocol.md is the contract. Nothing that a client sends can load code or open a file: it chooses among the models
that the agent was started with.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hilsim._version import __version__
from hilsim.hardware.agent.connection import ClientConnection, Heartbeat
from hilsim.hardware.agent.machine import clock_facts, resident_bytes
from hilsim.hardware.agent.output import EngineFault, tokens_of
from hilsim.hardware.agent.runner import RequestedStep, Runner
from hilsim.hardware.agent.sensors import Sensors
from hilsim.hardware.wire.frames import MOST_BODY_BYTES, VERSION, Closed, Frame, FrameError

AGENT = f"hilsim {__version__}"
HELLO_S = 10.0  # a client that has not sent hello by then is dropped
WANTS = ("logits", "tokens", "nothing")
MOST_ID = 2**63 - 1
MOST_QUOTED = 200  # characters of a client's or engine's text that are quoted to it


@dataclass
class Service:
    """State that outlives a client: the models, the settings, and what was counted since the start."""

    runners: Mapping[str, Runner]
    device: Mapping[str, Any]
    token: bytes | None = field(repr=False)
    heartbeat_s: float
    most_body_bytes: int
    sensors: Sensors = field(default_factory=Sensors)
    started_ns: int = field(default_factory=time.perf_counter_ns)
    steps: int = 0
    frames_refused: int = 0
    conversation: ClientSession | None = None  # the last one

    def farewell(self) -> None:
        """Notify the connected client that the agent ends."""
        if self.conversation is not None:
            self.conversation.send_farewell()


class RequestRefused(Exception):
    """A request that is answered with `error`; a fatal one ends the connection."""

    def __init__(self, code: str, message: str, *, fatal: bool = False):
        super().__init__(code, message)
        self.code, self.message, self.fatal = code, message, fatal


class ClientSession:
    """One client, from welcome to goodbye. `let_go` is called when the next may come; a second call does nothing."""

    def __init__(self, line: ClientConnection, service: Service, let_go: Callable[[], None]):
        self.line, self.service, self.let_go = line, service, let_go
        self.why = ""  # it was not let in
        self.due = "hello"  # the message that the client owes
        self.asked: int | None = None  # the id of what is being answered
        self.sent_farewell = False
        self.heart = Heartbeat(line, service.heartbeat_s)
        self.kinds: dict[str, Callable[[int, Frame], Frame]] = {
            "load": self.load,
            "step": self.step,
            "reset": self.reset,
            "ping": self.ping,
            "stats": self.stats,
        }

    def run(self) -> str:
        """Serve until the client goes, one way or another. Why it went; nothing where it sent `bye`."""
        try:
            self.heart.start()
            if self.greet():
                while self.answer_next():
                    pass
            return self.why
        except FrameError as fault:
            self.service.frames_refused += 1
            self.send_error(None, RequestRefused(fault.code, str(fault), fatal=True))
            return f"{fault.code}: {fault}"
        except Closed as closed:
            where = "in the middle of a frame" if closed.inside else f"without a {self.due}"
            return self.line.lost or f"hung up {where}"
        except TimeoutError:
            return f"no hello within {HELLO_S:.0f} s"
        except Exception:
            raise
        except BaseException:  # asked to end, by Ctrl-C or SIGTERM
            self.send_farewell()
            raise
        finally:
            self.heart.stop()
            self.let_go()
            self.line.hang_up()

    def greet(self) -> bool:
        """Welcome, hello, ready. Whether the client may go on."""
        nonce = secrets.token_hex(16)
        token = self.service.token
        deadline = time.monotonic() + HELLO_S
        self.line.send(
            Frame("welcome", {"protocol": [VERSION], "nonce": nonce, "token": token is not None, "agent": AGENT})
        )
        frame = self.line.read(0, deadline)  # the client is not known yet, so no body is allowed
        id = id_of(frame)
        try:
            if frame.kind != "hello":
                raise RequestRefused("denied", "a client begins with hello", fatal=True)
            if type(frame.fields.get("protocol")) is not int or frame.fields["protocol"] != VERSION:
                raise RequestRefused("version", f"this agent uses protocol {VERSION}", fatal=True)
            if token is not None and not proven(frame.fields.get("proof"), nonce, token):
                raise RequestRefused("denied", "the proof is not of this agent's token", fatal=True)
            if id is None:
                raise RequestRefused("bad_request", f"id is no whole number from 0 to {MOST_ID}", fatal=True)
        except RequestRefused as refused:
            self.why = f"{refused.code}: {refused.message}"
            self.send_error(id, refused)
            return False
        self.line.send(self.ready(id))
        self.due = "bye"
        return True

    def ready(self, id: int) -> Frame:
        """The `ready` message: facts of the agent and its limits."""
        return Frame(
            "ready",
            {
                "id": id,
                "protocol": VERSION,
                "device": dict(self.service.device),
                "clock": clock_facts(),
                "models": list(self.service.runners),
                "heartbeat_s": self.service.heartbeat_s,
                "most_body_bytes": self.service.most_body_bytes,
            },
        )

    def answer_next(self) -> bool:
        """Answer one request. Whether another may come."""
        frame = self.line.read(self.service.most_body_bytes)
        id = self.asked = id_of(frame)
        try:
            if id is None:
                raise RequestRefused("bad_request", f"id is no whole number from 0 to {MOST_ID}")
            if frame.kind == "bye":
                self.let_go()  # before the answer, so that a client that connects again at once is let in
                self.line.send(Frame("bye", {"id": id}))
                return False
            if frame.kind not in self.kinds:
                raise RequestRefused(
                    "unknown_kind", f"no kind {quoted(frame.kind)}; this agent knows {', '.join(self.kinds)}"
                )
            answer = self.kinds[frame.kind](id, frame)
        except RequestRefused as refused:
            self.asked = None
            self.send_error(id, refused)
            return not refused.fatal
        except EngineFault as fault:
            self.asked = None
            self.send_error(id, RequestRefused("engine", str(fault)))
            return True
        self.asked = None
        self.line.send(answer)
        return True

    def send_error(self, id: int | None, refused: RequestRefused) -> None:
        message = refused.message if len(refused.message) <= 2000 else refused.message[:2000] + "..."
        fields = {"id": id, "code": refused.code, "message": message, "fatal": refused.fatal}
        try:
            self.line.send(Frame("error", fields))
        except Closed:
            if not refused.fatal:
                raise

    def send_farewell(self) -> None:
        """Notify the client that the agent ends, once, if that can be done at once; from any thread."""
        if self.sent_farewell:
            return
        self.sent_farewell = True
        fields = {"id": self.asked, "code": "stopping", "message": "the agent was asked to end", "fatal": True}
        self.line.send_at_once(Frame("error", fields))

    def load(self, id: int, frame: Frame) -> Frame:
        """Load a model and return its facts."""
        runner = self.runner_of(frame)
        start_ns = time.perf_counter_ns()
        with self.heart.during(id):
            facts = runner.load()
        fields = {
            "id": id,
            "model": runner.name,
            "vocabulary": facts.vocabulary,
            "context": facts.context,
            "widths": None if facts.widths is None else list(facts.widths),
            "gives": ["logits", "tokens"] if facts.logits else ["tokens"],
            "tokenizer": facts.tokenizer,
            "digest": facts.digest,
            "load_ns": time.perf_counter_ns() - start_ns,
        }
        return Frame("loaded", fields)

    def step(self, id: int, frame: Frame) -> Frame:
        """Run one step and return its duration and output."""
        runner = self.runner_of(frame)
        step = step_of(frame, runner)
        with self.heart.during(id):
            done = runner.step(step, self.service.sensors)
        self.service.steps += 1
        fields = {
            "id": id,
            "duration_ns": done.duration_ns,
            "prepared_rows": done.prepared_rows,
            "prepare_ns": done.prepare_ns,
            "energy_mj": done.energy_mj,
            "temperature_c": self.service.sensors.temperature_c(),
            "clock_ns": time.perf_counter_ns(),
        }
        return Frame("done", fields, done.tensors)

    def reset(self, id: int, frame: Frame) -> Frame:
        """Empty a model's cache."""
        runner = self.runner_of(frame)
        if runner.facts is not None:
            with self.heart.during(id):
                runner.reset()
        return Frame("done", {"id": id, "clock_ns": time.perf_counter_ns()})

    def ping(self, id: int, frame: Frame) -> Frame:
        """Answer with the agent's clock."""
        return Frame("pong", {"id": id, "clock_ns": time.perf_counter_ns()})

    def stats(self, id: int, frame: Frame) -> Frame:
        """Answer with the agent's counters, memory and temperature."""
        service, now_ns = self.service, time.perf_counter_ns()
        fields = {
            "id": id,
            "clock_ns": now_ns,
            "uptime_ns": now_ns - service.started_ns,
            "steps": service.steps,
            "memory_bytes": resident_bytes(),
            "temperature_c": service.sensors.temperature_c(),
            "frames_refused": service.frames_refused,
        }
        return Frame("stats", fields)

    def runner_of(self, frame: Frame) -> Runner:
        """The model that a request names."""
        name = frame.fields.get("model")
        runner = self.service.runners.get(name) if isinstance(name, str) else None
        if runner is None:
            known = ", ".join(self.service.runners)
            raise RequestRefused("unknown_model", f"no model {quoted(name)}; this agent has {known[:MOST_QUOTED]}")
        return runner


def served(service: Service, connection: socket.socket, let_go: Callable[[], None]) -> str:
    """Serve one client; why it went, or nothing."""
    service.conversation = ClientSession(ClientConnection(connection), service, let_go)
    return service.conversation.run()


def proven(proof: object, nonce: str, token: bytes) -> bool:
    """Whether a client knows the token, compared in constant time."""
    expected = hmac.new(token, nonce.encode(), hashlib.sha256).hexdigest()
    return isinstance(proof, str) and hmac.compare_digest(proof.encode("utf-8", "replace"), expected.encode())


def id_of(frame: Frame) -> int | None:
    """The number that answers repeat, or None where there is none that could be repeated."""
    id = frame.fields.get("id")
    return id if type(id) is int and 0 <= id <= MOST_ID else None


def step_of(frame: Frame, runner: Runner) -> RequestedStep:
    """A step that can be run. Raises `RequestRefused` with what is wrong."""
    facts = runner.facts
    if facts is None:
        raise RequestRefused("bad_request", f"{runner.name} is not loaded")
    tensor = frame.tensors.get("tokens")
    if tensor is None or tensor.dtype != "i4" or len(tensor.shape) != 1:
        raise RequestRefused("bad_request", "a step has a tensor `tokens` of i4 in one dimension")
    tokens = tokens_of(tensor)
    phase, want = frame.fields.get("phase"), frame.fields.get("want")
    if not isinstance(phase, str) or want not in WANTS:
        raise RequestRefused(
            "bad_request", f"phase {quoted(phase)}, want {quoted(want)}; want is one of {', '.join(WANTS)}"
        )
    if want == "logits" and not facts.logits:
        raise RequestRefused("bad_request", f"{runner.name} gives tokens, no logits")
    if not 1 <= len(tokens) <= facts.context:
        raise RequestRefused("bad_request", f"{len(tokens)} tokens; expected 1 to {facts.context}, the context")
    cached = whole(frame, "cached", 0, len(tokens) - 1)
    wanted = whole(frame, "wanted", 1, len(tokens) - cached)
    if min(tokens) < 0 or max(tokens) >= facts.vocabulary:
        raise RequestRefused(
            "bad_request", f"tokens {min(tokens)} to {max(tokens)} of a vocabulary of {facts.vocabulary}"
        )
    if want == "logits" and 4 * wanted * facts.vocabulary > MOST_BODY_BYTES:
        raise RequestRefused("bad_request", f"{wanted} rows of logits, more than one frame holds")
    return RequestedStep(phase, tokens, cached, wanted, str(want))


def whole(frame: Frame, name: str, least: int, most: int) -> int:
    """A whole number among the fields."""
    value = frame.fields.get(name)
    if type(value) is not int or not least <= value <= most:
        raise RequestRefused("bad_request", f"{name} {quoted(value)}; expected a whole number from {least} to {most}")
    return value


def quoted(value: object) -> str:
    """A client's text, short enough to be sent back."""
    text = repr(value)
    return text if len(text) <= MOST_QUOTED else text[:MOST_QUOTED] + "..."
