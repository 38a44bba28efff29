"""The simulator's end of the line to an agent: one connection, one request at a time, each with a time limit.

Whatever an agent does, an `Agent` answers or raises `AgentFault`. The contents of frames are checked by `replies`.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hilsim._version import __version__
from hilsim.describe.address import Address
from hilsim.files import reason
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, StepRequest, StepResult
from hilsim.hardware.wire.frames import (
    FRAME_S,
    MOST_BODY_BYTES,
    VERSION,
    Closed,
    Frame,
    FrameError,
    Tensor,
    encoded,
    read_frame,
)
from hilsim.hardware.wire.replies import (
    AgentFacts,
    Declined,
    agent_facts,
    answer_of,
    fault_of,
    garbage,
    message_of,
    model_facts,
    proof_of,
    shown,
)

LEAST_SILENCE_S = 3.0
HEARTBEATS = 3  # missed in a row before an agent counts as silent
GOODBYE_S = 1.0
BUSY_PAUSE_S = 0.1
SPARE_BYTES = 64 * 1024  # of a body beyond what was asked for
SLOWEST = 64 * 1024  # bytes a second that a line has; what takes longer than its bytes at this rate is no message


@dataclass(frozen=True)
class Timeouts:
    """Time limits of a connection, in seconds.

    `connect_s` is for connecting and the handshake. `silence_s` is how long nothing at all may come, not even a sign of
    life: three heartbeats where None, at least 3 s. Whole answers have limits of their own, heartbeats or not.
    """

    connect_s: float = 5.0
    silence_s: float | None = None
    step_s: float = 60.0
    load_s: float = 600.0

    def silence(self, heartbeat_s: float) -> float:
        """Seconds of silence that an agent with this heartbeat is granted."""
        return max(LEAST_SILENCE_S, HEARTBEATS * heartbeat_s) if self.silence_s is None else self.silence_s


PATIENCE = Timeouts()


@dataclass(frozen=True)
class Reply:
    """A reply, how long it took to come, and when it had come."""

    frame: Frame
    wall_ns: int
    at_ns: int


class Busy(AgentFault):
    """Another client is connected, or our own earlier connection is not closed yet."""


@dataclass
class TimedConnection:
    """An open connection, with the limits of what is being waited for (on the monotonic clock)."""

    socket: socket.socket
    silence_s: float
    until: float
    message_s: float = FRAME_S  # that the message being read may take in all, once it has begun
    message_until: float = math.inf
    most_body_bytes: int = 0  # that the agent takes
    loaded: dict[str, ModelFacts] = field(default_factory=dict)

    @classmethod
    def to(cls, address: Address, within_s: float) -> TimedConnection:
        """Connect."""
        until = time.monotonic() + within_s
        try:
            made = socket.create_connection((address.host, address.port), within_s)
            # A port without a listener may be given to the very connection that looks for it.
            if made.getsockname() == made.getpeername():
                made.close()
                raise ConnectionRefusedError(None, "connection refused")
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except TimeoutError:
            raise AgentFault("unreachable", f"no connection within {within_s:.2g} s") from None
        except (OSError, UnicodeError) as error:
            raise AgentFault("unreachable", reason(error)) from None
        return cls(made, within_s, until)

    def send(self, data: bytes) -> None:
        """Send all bytes within the limits."""
        self.socket.settimeout(self.left())
        self.socket.sendall(data)

    def receive(self, nbytes: int) -> bytes:
        """What comes next. Bytes count as a heartbeat: a large answer over a slow line is no silence."""
        self.socket.settimeout(self.left())
        piece = self.socket.recv(nbytes)
        if self.message_until == math.inf:
            self.message_until = time.monotonic() + self.message_s
        return piece

    def read(self, body_bytes: int) -> Frame:
        """The next frame, with a body of up to so many bytes; dripping does not make it last."""
        self.message_s, self.message_until = FRAME_S + body_bytes / SLOWEST, math.inf
        return read_frame(self.receive, body_bytes)

    def left(self) -> float:
        """Seconds that the next piece may take."""
        left = min(self.silence_s, min(self.until, self.message_until) - time.monotonic())
        if left <= 0:
            raise TimeoutError
        return left

    def exchange(self, sent: bytes, reply_bytes: int) -> Reply:
        """Send bytes, wait for the frame that answers them, past heartbeats; its body has about `reply_bytes`."""
        began = time.monotonic_ns()
        self.message_until = math.inf  # of the message before
        self.send(sent)
        while (frame := self.read(min(reply_bytes + SPARE_BYTES, MOST_BODY_BYTES))).kind == "alive":
            pass
        at = time.monotonic_ns()
        return Reply(frame, at - began, at)


class Agent:
    """A chip behind an agent. It connects when it is first asked something, and again after a fault.

    Models are loaded again by themselves after that. For one thread; an agent takes one client at a time, so whatever
    runs on one address shares one `Agent`.
    """

    def __init__(self, address: Address, token: str | None = None, patience: Timeouts = PATIENCE):
        self.address, self.token, self.patience = address, token, patience
        self.line: TimedConnection | None = None
        self.asked = 0
        self.known_facts: AgentFacts | None = None
        self.known: dict[str, ModelFacts] = {}

    @property
    def facts(self) -> AgentFacts:
        """What the agent reported about itself at the last connection."""
        if self.known_facts is None:
            with self.careful():
                self.connected()
        assert self.known_facts is not None
        return self.known_facts

    def load(self, model: str) -> ModelFacts:
        """Make a model ready; a model that has changed since it was first loaded is refused."""
        with self.careful():
            return self.ready(model)

    def execute(self, ask: StepRequest) -> StepResult:
        """Compute one step."""
        with self.careful():
            facts = self.ready(ask.model)
            tokens = Tensor("i4", (len(ask.tokens),), np.array(ask.tokens, "<i4").tobytes())
            fields = {name: getattr(ask, name) for name in ("model", "phase", "cached", "wanted", "want")}
            reply_bytes = 4 * ask.wanted * (facts.vocabulary if ask.want == "logits" else 1)
            reply = self.ask("step", "done", self.patience.step_s, fields, {"tokens": tokens}, reply_bytes)
            return answer_of(reply.frame, ask, facts.vocabulary, reply.wall_ns, reply.at_ns)

    def close(self) -> None:
        """Send `bye`, where the connection is open."""
        try:
            if self.line is not None:
                with suppress(AgentFault):
                    self.ask("bye", "bye", min(GOODBYE_S, self.patience.step_s))
        finally:
            self.drop()

    def drop(self) -> None:
        """Close the connection as it is, so that no late answer can be taken for another's."""
        line, self.line = self.line, None
        if line is not None:
            line.socket.close()

    @contextmanager
    def careful(self) -> Iterator[None]:
        """Drop the connection whatever goes wrong, Ctrl-C included, but for what an agent has properly declined."""
        try:
            yield
        except Declined:
            raise
        except BaseException:
            self.drop()
            raise

    def ready(self, model: str) -> ModelFacts:
        """A model's facts, once it is loaded on the present connection."""
        line = self.connected()
        if model not in line.loaded:
            try:
                reply = self.ask("load", "loaded", self.patience.load_s, {"model": model})
            except AgentFault as fault:
                if fault.kind == "engine":
                    fault = type(fault)("engine", f"model {model!r} could not be loaded: {fault.found}")
                raise fault from None
            facts = model_facts(reply.frame, model)
            before = self.known.setdefault(model, facts)
            if facts != before:
                raise AgentFault("refused", f"model {model!r} came back as another: {facts}, where it was {before}")
            line.loaded[model] = facts
        return line.loaded[model]

    def connected(self) -> TimedConnection:
        """The present connection, or a new one."""
        if self.line is None:
            until = time.monotonic() + self.patience.connect_s
            while not self.greeted(until):
                time.sleep(BUSY_PAUSE_S)
        assert self.line is not None
        return self.line

    def greeted(self, until: float) -> bool:
        """Connect and shake hands; False where it is worth another try.

        An agent may still be at what a connection before asked of it, so one that we know may be busy for a while.
        """
        self.line = TimedConnection.to(self.address, max(BUSY_PAUSE_S, until - time.monotonic()))
        try:
            self.known_facts = self.shake_hands(self.line)
        except Busy as fault:
            self.drop()
            if self.known_facts is None:
                raise
            if time.monotonic() + BUSY_PAUSE_S < until:
                return False
            raise AgentFault("unreachable", fault.found) from None
        return True

    def shake_hands(self, line: TimedConnection) -> AgentFacts:
        """The handshake: welcome, hello, ready."""
        with translated(line):
            welcome = line.read(SPARE_BYTES)
        if welcome.kind == "refused" and welcome.fields.get("code") == "busy":
            raise Busy("refused", message_of(welcome))
        proof = proof_of(welcome, self.token)
        hello = {"protocol": VERSION, "client": f"hilsim {__version__}", "proof": proof}
        ready = self.ask("hello", "ready", line.until - time.monotonic(), hello).frame
        facts = agent_facts(welcome, ready)
        line.silence_s, line.most_body_bytes = self.patience.silence(facts.heartbeat_s), facts.most_body_bytes
        return facts

    def ask(
        self,
        kind: str,
        expected: str,
        within_s: float,
        fields: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        reply_bytes: int = 0,
    ) -> Reply:
        """One question and the reply of the expected kind to it; an `error` is raised as its fault."""
        line = self.connected()
        if (nbytes := sum(len(tensor.data) for tensor in (tensors or {}).values())) > line.most_body_bytes:
            raise Declined("refused", f"`{kind}` of {nbytes} bytes, of which it takes {line.most_body_bytes}")
        self.asked += 1
        line.until = time.monotonic() + within_s
        with translated(line):
            sent = encoded(Frame(kind, {"id": self.asked, **(fields or {})}, tensors or {}))
            reply = line.exchange(sent, reply_bytes)
        frame, number = reply.frame, reply.frame.fields.get("id")
        # Before it has read a question's number an agent can only complain without one.
        if (type(number) is not int or number != self.asked) and not (frame.kind == "error" and number is None):
            raise garbage(f"`{shown(frame.kind)}` to question {shown(number)}, where {self.asked} was asked")
        if frame.kind == "error":
            raise fault_of(frame)
        if frame.kind != expected:
            raise garbage(f"`{shown(frame.kind)}` where `{expected}` belongs")
        return reply


@contextmanager
def translated(line: TimedConnection) -> Iterator[None]:
    """What sockets and frames raise, as an agent's faults."""
    within_s = line.until - time.monotonic()
    try:
        yield
    except TimeoutError:
        if time.monotonic() >= line.until:
            raise AgentFault("stalled", f"no whole answer within {within_s:.2g} s") from None
        if time.monotonic() >= line.message_until:
            raise AgentFault("stalled", f"a message that was not whole {line.message_s:.3g} s after it began") from None
        raise AgentFault("stalled", f"nothing at all for {line.silence_s:.3g} s") from None
    except Closed as closed:
        where = "in the middle of an answer" if closed.inside else "instead of answering"
        raise AgentFault("died", f"it closed the connection {where}") from None
    except FrameError as error:
        raise AgentFault("version" if error.code == "version" else "garbage", error.found) from None
    except OSError as error:
        raise AgentFault("died", reason(error)) from None
