"""One end of a physical link: it sends messages on command and reports those that arrive.

Standard library only. Its client uses the agents' protocol (docs/protocol.md) with other kinds:

    client  send     id, message, bytes              put a message of so many bytes on the link
    end     sent     id, message, clock_ns           the socket has taken all of it
    end     arrived  message, bytes, clock_ns        unasked: a message of the other end's is here, whole
    client  stats    id
    end     stats    id, clock_ns, sent_messages, sent_bytes, received_messages, received_bytes

On the link a message is its head of 16 bytes, with its number and its size, and zeros up to that size. At an end that
was started with `--inject` a `send` may have a key `inject`: what is done to the message (`injected_link.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hilsim.hardware.agent.connection import ClientConnection
from hilsim.hardware.agent.notes import note
from hilsim.hardware.agent.serve import HELLO_S, ClientSession, RequestRefused, Service, whole
from hilsim.hardware.distributed.injected_link import (
    CHECKED_HEAD,
    CHECKED_MAGIC,
    CHECKSUM_AT,
    COVERED_AT,
    USUAL,
    Fate,
    Outbox,
    checked_message,
    checksum_of,
)
from hilsim.hardware.wire.frames import FRAME_S, VERSION, Closed, Frame, FrameError, encoded, read_frame, receiving

HEAD = struct.Struct(">4sIQ")  # as many bytes as `cost.payload` counts for message type, request, round and count
MAGIC = b"HILM"
MOST_BYTES = 256 * 1024 * 1024
PIECE = bytes(256 * 1024)
KNOCK_S = 0.05  # between two tries to reach the other end
PATIENCE_S = 10.0  # for the other end to appear
Notify = Callable[[Frame], None]


@dataclass
class LinkCounts:
    """Messages and bytes on the link since the end was started."""

    sent_messages: int = 0
    sent_bytes: int = 0
    received_messages: int = 0
    received_bytes: int = 0


class Peer:
    """The other end. It is met by a thread of its own, and met again when it has gone.

    With an `outbox` messages may be dropped, held back, copied and changed on purpose.
    """

    def __init__(self, service: Service, outbox: Outbox | None = None):
        self.service, self.outbox = service, outbox
        self.writing = threading.Lock()  # the outbox sends by a thread of its own
        self.counts = LinkCounts()
        self.notify: Notify | None = None  # called with every message that arrives
        self.met = threading.Condition()
        self.connection: socket.socket | None = None

    def accept(self, listener: socket.socket) -> None:
        """Let the other end in, time after time; it proves itself as a client does."""
        while True:
            connection, _ = listener.accept()
            with contextlib.suppress(Closed, FrameError, TimeoutError, OSError):
                if ClientSession(ClientConnection(connection), self.service, lambda: None).greet():
                    self.receive(connection)
            connection.close()

    def knock(self, host: str, port: int) -> None:
        """Go to where the other end listens, time after time."""
        noted = ""
        while True:
            try:
                with socket.create_connection((host, port), HELLO_S) as connection:
                    introduce(connection, self.service.token)
                    self.receive(connection)
            except (Closed, FrameError, OSError) as error:
                # The first message explains why there is no link; the next ones would be the same.
                why = "it closed the connection" if isinstance(error, Closed) else error
                if (text := f"{host}:{port}: {why}") != noted:
                    note(text)
                    noted = text
            time.sleep(KNOCK_S)

    def receive(self, connection: socket.socket) -> None:
        """Report what arrives until the other end has gone."""
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.met:
            self.connection = connection
            self.met.notify_all()
        room = memoryview(bytearray(len(PIECE)))
        try:
            while True:
                fill(connection, room[: HEAD.size])
                arrived = self.read_message(connection, room)
                self.counts.received_messages += 1
                self.counts.received_bytes += arrived["bytes"]
                if (notify := self.notify) is not None:
                    notify(Frame("arrived", arrived | {"clock_ns": time.monotonic_ns()}))
        finally:
            with self.met:
                self.connection = None

    def read_message(self, connection: socket.socket, room: memoryview) -> dict[str, int | bool]:
        """The message whose head is in `room`, read to its end: number and size; whether its checksum holds, if any."""
        checked = room[:COVERED_AT] == CHECKED_MAGIC
        magic, message, nbytes, *expected = (CHECKED_HEAD if checked else HEAD).unpack(room[: HEAD.size])
        if magic not in (MAGIC, CHECKED_MAGIC) or not HEAD.size <= nbytes <= MOST_BYTES:
            raise FrameError("garbage", "bytes on the link that are no message")
        found = checksum_of(room[COVERED_AT:CHECKSUM_AT]) if checked else 0
        missing = nbytes - HEAD.size
        while missing:
            piece = min(missing, len(room))
            fill(connection, room[:piece])
            found = checksum_of(room[:piece], found) if checked else 0
            missing -= piece
        return {"message": message, "bytes": nbytes} | ({"intact": [found] == expected} if checked else {})

    def inject(self, message: int, nbytes: int, fate: Fate) -> None:
        """Do to a message what is asked for. Raises `RequestRefused` where this end must not."""
        if self.outbox is None:
            raise RequestRefused("bad_request", "inject, at an end that was not started with --inject")
        time.sleep(fate.busy_ns / 1e9)
        if fate.drop:
            return
        for _ in range(fate.copies):
            self.outbox.put(partial(self.send_late, message, nbytes, fate), fate.hold_ns, overtaken=fate.overtaken)

    def send_late(self, message: int, nbytes: int, fate: Fate) -> None:
        """Put a message that was held back on the link; one whose other end has gone is lost."""
        try:
            self.put(message, nbytes, fate)
        except RequestRefused as refused:
            note(f"message {message} is lost: {refused.message}")

    def send(self, message: int, nbytes: int) -> None:
        """Put a message on the link, behind those held back. Raises `RequestRefused` without a connected other end."""
        if self.outbox is not None and self.outbox.holds:
            self.outbox.put(partial(self.send_late, message, nbytes, USUAL), 0, overtaken=False)
        else:
            self.put(message, nbytes, USUAL)

    def put(self, message: int, nbytes: int, fate: Fate) -> None:
        """Put a message on the link now. Raises `RequestRefused` where its other end is not connected."""
        with self.met:
            if not self.met.wait_for(lambda: self.connection is not None, PATIENCE_S):
                raise RequestRefused("no_peer", "the other end of the link is not there")
            connection = self.connection
        assert connection is not None
        try:
            with self.writing:
                if fate.checked or fate.flips:
                    connection.sendall(checked_message(message, nbytes, fate.flips))
                else:
                    connection.sendall(HEAD.pack(MAGIC, message, nbytes) + PIECE[: nbytes - HEAD.size])
                    for start in range(HEAD.size + len(PIECE), nbytes, len(PIECE)):
                        connection.sendall(PIECE[: nbytes - start])
        except OSError as error:
            raise RequestRefused("no_peer", f"the other end of the link has gone: {error}") from None
        self.counts.sent_messages += 1
        self.counts.sent_bytes += nbytes


def fill(connection: socket.socket, room: memoryview) -> None:
    """Receive until there is no room left. Raises `Closed`."""
    had = 0
    while had < len(room):
        got = connection.recv_into(room[had:])
        if not got:
            raise Closed(had > 0)
        had += got


def introduce(connection: socket.socket, token: bytes | None) -> None:
    """Send hello to the other end. Raises `FrameError` where it does not take it."""
    welcome = read_frame(receiving(connection, FRAME_S), 0)
    nonce = str(welcome.fields.get("nonce"))
    proof = None if token is None else hmac.new(token, nonce.encode(), hashlib.sha256).hexdigest()
    hello = {"id": 0, "protocol": VERSION, "client": "the other end of a link", "proof": proof}
    connection.sendall(encoded(Frame("hello", hello)))
    ready = read_frame(receiving(connection, FRAME_S), 0)
    if ready.kind != "ready":
        raise FrameError("garbage", str(ready.fields.get("message", f"{ready.kind} where `ready` belongs")))


class UntimedConnection(ClientConnection):
    """A connection without time limits after the handshake: two threads write to it, and one may wait for hours."""

    steady = False

    def _receive(self, nbytes: int) -> bytes:
        if not self.steady:
            return super()._receive(nbytes)
        try:
            return self.connection.recv(nbytes)
        except OSError:
            raise Closed(inside=False) from None

    def _send(self, data: bytes) -> None:
        if not self.steady:
            return super()._send(data)
        try:
            return self.connection.sendall(data)
        except OSError:
            raise Closed(inside=False) from None


class LinkClient(ClientSession):
    """A client for which messages are sent, and which is notified of those that arrive."""

    def __init__(self, line: UntimedConnection, service: Service, let_go: Callable[[], None], peer: Peer):
        super().__init__(line, service, let_go)
        self.steady, self.peer = line, peer
        self.kinds = {"send": self.send, "ping": self.ping, "stats": self.stats}

    def greet(self) -> bool:
        """Shake hands, and begin to report what arrives."""
        if not super().greet():
            return False
        self.steady.connection.settimeout(None)
        self.steady.steady = True
        self.peer.notify = self.notify
        return True

    def notify(self, frame: Frame) -> None:
        """Send the client a frame, where it is still connected."""
        with contextlib.suppress(Closed):
            self.line.send(frame)

    def send(self, id: int, frame: Frame) -> Frame:
        """Put a message on the link."""
        message, nbytes = whole(frame, "message", 0, 2**32 - 1), whole(frame, "bytes", HEAD.size, MOST_BYTES)
        if "inject" in frame.fields:
            try:
                fate = Fate.of(frame.fields["inject"], nbytes)
            except ValueError as error:
                raise RequestRefused("bad_request", str(error)) from None
            self.peer.inject(message, nbytes, fate)
        else:
            self.peer.send(message, nbytes)
        return Frame("sent", {"id": id, "message": message, "clock_ns": time.monotonic_ns()})

    def stats(self, id: int, frame: Frame) -> Frame:
        """What has been on the link."""
        return Frame("stats", {"id": id, "clock_ns": time.monotonic_ns(), **vars(self.peer.counts)})


def served(peer: Peer, connection: socket.socket, let_go: Callable[[], None]) -> str:
    """Serve one client; why it went, or nothing."""

    def gone() -> None:
        peer.notify = None
        let_go()

    return LinkClient(UntimedConnection(connection), peer.service, gone, peer).run()
