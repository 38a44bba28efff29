"""A socket that carries frames: whole ones in and out, each within its time; heartbeats while an engine works."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from hilsim.files import reason
from hilsim.hardware.wire.frames import FRAME_S, Closed, Frame, FrameError, encoded, read_frame

FAREWELL_S = 0.5
SEND_S = 30.0  # a client that does not read for so long is gone
LINGER_S, LINGER_BYTES = 0.5, 1024 * 1024
# A client that loses power does not close its connection: silence is probed after 5 s, and the connection given up
# after three probes, 2 s each.
PROBES = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}


def probe(connection: socket.socket) -> None:
    """Turn on keep-alive probes, so that a client that has vanished is noticed while the connection is idle."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PROBES.items():
        if hasattr(socket, name):  # not every system has all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class ClientConnection:
    """One client's connection."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.lock = threading.Lock()  # heartbeats come from a thread of their own
        self.lost = ""  # the system's error when the connection broke
        self._deadline: float | None = None
        self._begun = False
        with contextlib.suppress(OSError):  # a client that has gone already is noticed when it is read
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            probe(connection)

    def read(self, most_body_bytes: int, deadline: float | None = None) -> Frame:
        """The next frame. Raises `FrameError`, `Closed`, or `TimeoutError` where it does not come by the deadline."""
        self._deadline, self._begun = deadline, False
        return read_frame(self._receive, most_body_bytes)

    def _receive(self, nbytes: int) -> bytes:
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if left is not None and left <= 0:
            raise self._late()
        self.connection.settimeout(left)
        try:
            piece = self.connection.recv(nbytes)
        except TimeoutError:
            raise self._late() from None
        except OSError as error:  # reset: as good as closed
            self.lost = reason(error)
            raise Closed(self._begun) from None
        if not self._begun:
            self._begun = True
            by = time.monotonic() + FRAME_S
            self._deadline = by if self._deadline is None else min(by, self._deadline)
        return piece

    def _late(self) -> Exception:
        if self._begun:
            return FrameError("garbage", f"a frame that was not complete within {FRAME_S:.0f} s")
        return TimeoutError()

    def send(self, frame: Frame) -> None:
        """Send one frame. Raises `Closed` where the client does not read it."""
        data = encoded(frame)
        with self.lock:
            self._send(data)

    def send_at_once(self, frame: Frame) -> None:
        """Send one frame where that takes no time worth mentioning, and drop it otherwise."""
        if not self.lock.acquire(timeout=FAREWELL_S):
            return
        try:
            self.connection.settimeout(FAREWELL_S)
            self.connection.sendall(encoded(frame))
        except OSError:
            pass
        finally:
            self.lock.release()

    def _send(self, data: bytes) -> None:
        try:
            self.connection.settimeout(SEND_S)
            self.connection.sendall(data)
        except OSError as error:
            late = isinstance(error, TimeoutError)
            self.lost = f"did not read for {SEND_S:.0f} s" if late else reason(error)
            raise Closed(inside=False) from None

    def hang_up(self) -> None:
        """Close so that what was sent last still arrives: bytes left unread would make the system take it back."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            by, taken = time.monotonic() + LINGER_S, 0
            while taken < LINGER_BYTES and (left := by - time.monotonic()) > 0:
                self.connection.settimeout(left)
                piece = self.connection.recv(64 * 1024)
                if not piece:
                    break
                taken += len(piece)
        self.connection.close()


class Heartbeat:
    """Sends `alive` while the engine is at work, from a thread of its own that outlives single steps.

    It looks twice a heartbeat whether something has been at work for half of one. Waking it for every step would be
    felt in a step of two milliseconds.
    """

    def __init__(self, line: ClientConnection, heartbeat_s: float):
        self.line, self.heartbeat_s = line, heartbeat_s
        self._work: tuple[Any, int] | None = None  # id of what is asked, and since when
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    @contextlib.contextmanager
    def during(self, id: int) -> Iterator[None]:
        """Context manager that sends `alive` while its body runs, and never after it."""
        self._work = (id, time.perf_counter_ns())
        try:
            yield
        finally:
            with self.line.lock:
                self._work = None

    def _beat(self) -> None:
        half_ns = int(self.heartbeat_s * 1e9 / 2)
        while not self._stop.wait(self.heartbeat_s / 2):
            with self.line.lock:
                if self._work is None:
                    continue
                id, since_ns = self._work
                busy_ns = time.perf_counter_ns() - since_ns
                if busy_ns < half_ns:
                    continue
                try:
                    self.line._send(encoded(Frame("alive", {"id": id, "busy_ns": busy_ns})))
                except Closed:
                    return  # the client has gone, and the answer is lost too
