"""The client of the conformance checks: connections to the agent under test, whose answers are checked one by one."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hilsim.hardware.wire.frames import VERSION, Closed, Frame, FrameError, Tensor, encoded, read_frame, receiving

ANSWER_S = 10.0  # for whatever takes no computing; more where heartbeats come
GREETING_S = 3.0  # for a handshake until one has succeeded: what sends nothing by then is hardly an agent
TIE = 1e-3  # of the spread of a row: likeliest tokens closer than this may change places with the order of sums
LENGTH = 20
TOKEN = "Give the --token-file that the agent was started with."
BUSY_S = 5.0  # an agent may need a moment to see that a client has gone


class Failed(Exception):
    """An agent that violates the protocol; the text is what it did instead."""


class Unmet(Exception):
    """A handshake that failed, before any has succeeded: nothing can be asked. The text is what to do."""


class NotApplicable(Exception):
    """A check that does not apply to this agent."""


def require(met: bool, found: str) -> None:
    """Fail a check with what was found."""
    if not met:
        raise Failed(found)


@dataclass
class AgentUnderTest:
    """The agent that is tested, and the facts of the first load of its model."""

    host: str
    port: int
    token: bytes | None = field(default=None, repr=False)
    model: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    load_s: float = 0.0
    alive: int = 0
    heartbeat_s: float = 1.0
    met: bool = False  # whether a handshake has succeeded

    @property
    def patience_s(self) -> float:
        """How long an answer may take."""
        return max(ANSWER_S, 5 * self.heartbeat_s) if self.met else GREETING_S

    @contextlib.contextmanager
    def connected(self) -> Iterator[AgentConnection]:
        """A connection on which no message has been sent yet."""
        connection = socket.create_connection((self.host, self.port), ANSWER_S)
        try:
            yield AgentConnection(self, connection)
        finally:
            connection.close()

    @contextlib.contextmanager
    def admitted(self) -> Iterator[AgentConnection]:
        """A connection that has been welcomed; the client before may just be leaving."""
        by = time.monotonic() + BUSY_S
        while True:
            with self.connected() as client:
                with self.meeting("welcome"):
                    welcome = client.read()
                    if welcome.kind == "refused" and time.monotonic() < by:
                        continue
                    require(welcome.kind == "welcome", f"{describe(welcome)} where welcome was expected")
                client.welcome = welcome
                yield client
                return

    @contextlib.contextmanager
    def greeted(self) -> Iterator[AgentConnection]:
        """A connection that is ready to be asked."""
        with self.admitted() as client:
            with self.meeting("ready"):
                ready = client.ask("hello", **client.hello())
                require(ready.kind == "ready", f"{describe(ready)} where ready was expected")
            client.ready, self.met = ready, True
            yield client
            with contextlib.suppress(Closed, FrameError, OSError):  # the check may have ended it
                client.send(Frame("bye", {"id": client.next_id()}))
                client.read()

    @contextlib.contextmanager
    def meeting(self, expected: str) -> Iterator[None]:
        """A part of a handshake. Until one has succeeded, whatever goes wrong here ends the test."""
        try:
            yield
        except (Failed, FrameError, Closed, OSError, KeyError) as error:
            if self.met:
                raise
            raise Unmet(unmet(error, expected)) from None

    @contextlib.contextmanager
    def loaded(self) -> Iterator[AgentConnection]:
        """A connection on which the model is loaded."""
        with self.greeted() as client:
            self.remember(client)
            yield client

    def remember(self, client: AgentConnection) -> Frame:
        """Load the model; the first time its facts and duration are stored."""
        self.model = self.model or str(client.ready.fields["models"][0])
        start_s = time.monotonic()
        answer = client.ask("load", model=self.model)
        require(answer.kind == "loaded", f"{describe(answer)} to a load of {self.model!r}")
        if not self.facts:
            self.load_s, self.alive = time.monotonic() - start_s, client.alive
            self.facts, self.heartbeat_s = answer.fields, float(client.ready.fields["heartbeat_s"])
        return answer

    @property
    def gives_logits(self) -> bool:
        return "logits" in self.facts["gives"]


class AgentConnection:
    """One connection."""

    def __init__(self, subject: AgentUnderTest, connection: socket.socket):
        self.subject, self.connection = subject, connection
        self.welcome = self.ready = Frame("")
        self.alive = 0  # heartbeats that came
        self._last_id = 0

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def hello(self, token: bytes | None = None) -> dict[str, Any]:
        """The fields of a valid hello, but with a token of one's own where one is given."""
        token = self.subject.token if token is None else token
        nonce = str(self.welcome.fields["nonce"])
        proof = None if token is None else hmac.new(token, nonce.encode(), hashlib.sha256).hexdigest()
        return {"protocol": 1, "client": "conformance", "proof": proof}

    def send(self, message: Frame | bytes) -> None:
        """Send a frame, or bytes that may be invalid."""
        self.connection.settimeout(ANSWER_S)
        self.connection.sendall(message if isinstance(message, bytes) else encoded(message))

    def read(self, within_s: float | None = None) -> Frame:
        """The next frame."""
        return read_frame(receiving(self.connection, self.subject.patience_s if within_s is None else within_s))

    def ask(self, kind: str, tensors: Mapping[str, Tensor] | None = None, **fields: Any) -> Frame:
        """The answer to a request, its id compared; heartbeats are counted and give more time."""
        id = self.next_id()
        self.send(Frame(kind, {"id": id, **fields}, tensors or {}))
        while True:
            frame = self.read()
            found = frame.fields.get("id")
            # An error that ends everything may come before the request was understood.
            ended = frame.kind == "error" and frame.fields.get("fatal") is True and found is None
            require(found == id or ended, f"{describe(frame)} with id {found} instead of {id}")
            if frame.kind != "alive":
                return frame
            self.alive += 1

    def step(self, tokens: Sequence[int], cached: int, wanted: int = 1, want: str | None = None) -> StepAnswer:
        """A step of the model; logits are asked for where there are any."""
        want = want or ("logits" if self.subject.gives_logits else "tokens")
        phase = "verify" if cached else "prefill"
        fields = {"model": self.subject.model, "phase": phase, "cached": cached, "wanted": wanted, "want": want}
        start_ns = time.perf_counter_ns()
        answer = self.ask("step", {"tokens": whole_numbers(tokens)}, **fields)
        wall_ns = time.perf_counter_ns() - start_ns
        require(answer.kind == "done", f"{describe(answer)} to a step of {len(tokens) - cached} rows")
        for name in ("duration_ns", "prepared_rows", "prepare_ns", "clock_ns"):
            value = answer.fields.get(name)
            require(type(value) is int and value >= 0, f"{name} {value!r}; expected a whole number")
        return StepAnswer(self.subject, answer, wanted, want, wall_ns)

    def expect_error(self, answer: Frame, code: str, *, fatal: bool) -> None:
        """Check that an answer is this error; after a fatal one the connection must end."""
        right = answer.kind == "error" and answer.fields.get("code") == code and answer.fields.get("fatal") is fatal
        require(right, f"{describe(answer)}; expected an error {code}{', fatal' if fatal else ''}")
        if fatal:
            self.expect_end()

    def expect_end(self) -> None:
        """Check that the agent closes the connection."""
        try:
            frame = self.read(ANSWER_S)
        except (Closed, ConnectionError):
            return
        except TimeoutError:
            raise Failed(f"the connection was still open after {ANSWER_S:.0f} s") from None
        raise Failed(f"{describe(frame)} after a fatal error")

    def expect_life(self) -> None:
        """Check that the connection still works."""
        answer = self.ask("ping")
        require(answer.kind == "pong", f"{describe(answer)} to a ping")


class StepAnswer:
    """A `done` that has the shape it must have."""

    def __init__(self, subject: AgentUnderTest, answer: Frame, wanted: int, want: str, wall_ns: int):
        self.fields, self.wall_ns = answer.fields, wall_ns
        vocabulary = int(subject.facts["vocabulary"])
        shapes = {"logits": ("f4", (wanted, vocabulary)), "tokens": ("i4", (wanted,))}
        expected = {} if want == "nothing" else {"logits" if want == "logits" else "ids": shapes[want]}
        found = {name: (tensor.dtype, tensor.shape) for name, tensor in answer.tensors.items()}
        require(found == expected, f"tensors {found or 'none'} to want {want!r}; expected {expected or 'none'}")
        self.rows: list[tuple[float, ...]] | None = None
        self.ids: list[int] = []
        if want == "logits":
            values = struct.unpack(f"<{wanted * vocabulary}f", answer.tensors["logits"].data)
            self.rows = [values[row * vocabulary : (row + 1) * vocabulary] for row in range(wanted)]
            self.ids = [row.index(max(row)) for row in self.rows]
        elif want == "tokens":
            self.ids = list(struct.unpack(f"<{wanted}i", answer.tensors["ids"].data))
            require(all(0 <= id < vocabulary for id in self.ids), f"ids {self.ids} of a vocabulary of {vocabulary}")


def whole_numbers(values: Sequence[int]) -> Tensor:
    """A tensor i4 of one dimension."""
    return Tensor("i4", (len(values),), struct.pack(f"<{len(values)}i", *values))


def describe(frame: Frame) -> str:
    """A frame as a short text."""
    if frame.kind == "error":
        return f"error {frame.fields.get('code')} ({frame.fields.get('message')!s:.120})"
    if frame.kind == "refused":
        return f"refused, {frame.fields.get('code')} ({frame.fields.get('message')!s:.120})"
    return repr(frame.kind)


def unmet(error: Exception, expected: str) -> str:
    """What came instead of a part of the handshake, and what to do about it."""
    match error:
        case Failed():
            found = str(error)
        case TimeoutError():
            found = f"nothing within {GREETING_S:.0f} s where {expected} was expected"
        case Closed():
            found = f"the end of the connection where {expected} was expected"
        case FrameError():
            found = f"no frame where {expected} was expected ({error})"
        case KeyError():
            found = f"a welcome without {error}"
        case _:
            found = f"{getattr(error, 'strerror', None) or error} where {expected} was expected".lower()
    if "error denied" in found:
        return f"{found}. {TOKEN}"
    if found.startswith("refused, busy"):
        return f"{found}. Try again when that client has gone."
    if "error version" in found or (isinstance(error, FrameError) and error.code == "version"):
        return f"{found}. These are the checks of protocol {VERSION}."
    return f"{found}. Is it an agent at all? An agent sends welcome as soon as a client connects (docs/protocol.md)."


def conversation(subject: AgentUnderTest, number: int) -> list[int]:
    """Some tokens, other ones for each number."""
    vocabulary, length = int(subject.facts["vocabulary"]), min(LENGTH, int(subject.facts["context"]))
    return [(7919 * (number + 1) + 104_729 * at + 31 * at * at) % vocabulary for at in range(length)]


def reset(client: AgentConnection) -> None:
    """Empty the cache."""
    answer = client.ask("reset", model=client.subject.model)
    require(answer.kind == "done", f"{describe(answer)} to a reset")


def same(step: StepAnswer, ids: Sequence[int], what: str) -> None:
    """Fail where two rows name different tokens, but for a tie that logits can show."""
    for row, (ours, theirs) in enumerate(zip(step.ids, ids, strict=True)):
        if ours == theirs:
            continue
        if step.rows is not None:
            values = step.rows[row]
            if values[ours] - values[theirs] <= TIE * (max(values) - min(values)):
                continue
        raise Failed(f"tokens {step.ids} and {list(ids)} from {what}")
