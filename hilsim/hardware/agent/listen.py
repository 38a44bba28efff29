"""The agent's listening socket: one client at a time; a second one is refused and gets the address of the first.

Clients are served in the thread that calls `serve`, all of them, as some runtimes may be used from one thread only. The
door is watched by another.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable

from hilsim.describe.address import in_url
from hilsim.errors import Fault, InputError
from hilsim.files import reason
from hilsim.hardware.agent.connection import ClientConnection
from hilsim.hardware.agent.notes import note, note_exception
from hilsim.hardware.wire.frames import Closed, Frame

# One client from greeting to goodbye: its connection, and what lets the next one in. Returns why it went, or nothing.
Converse = Callable[[socket.socket, Callable[[], None]], str]
GRACE_S = 0.25  # a client that connects while another is leaving waits so long
BACKLOG = 16


def listening(host: str, port: int, option: str = "--listen") -> socket.socket:
    """A socket that listens where an option says. Raises `InputError` where the address cannot be used."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        remedy = "Choose another port, or 0 for any that is free; is an agent running already?"
        raise InputError(
            [Fault(option, address_text((host, port)), reason(error), "an address to listen on", remedy)]
        ) from None
    return listener


def address_text(address: tuple[object, ...]) -> str:
    """HOST:PORT, an IPv6 host in brackets."""
    return f"{in_url(str(address[0]))}:{address[1]}"


class ClientLock:
    """The lock on the agent: which client holds it, and which comes next."""

    def __init__(self, listener: socket.socket):
        self.listener = listener
        self._inside: tuple[str, float] | None = None
        self._changed = threading.Condition()
        self._next: queue.Queue[tuple[socket.socket, str]] = queue.Queue()

    def watch(self) -> None:
        """Let one in at a time, until the listener is closed."""
        while True:
            try:
                connection, address = self.listener.accept()
            except OSError:
                if self.listener.fileno() < 0:
                    return
                time.sleep(0.1)  # such as no more descriptors
                continue
            peer = address_text(address)
            with self._changed:
                if self._changed.wait_for(lambda: self._inside is None, GRACE_S):
                    self._inside = (peer, time.monotonic())
                    self._next.put((connection, peer))
                    continue
                assert self._inside is not None
                holder, since_s = self._inside
            refuse(connection, f"{holder} has been connected for {time.monotonic() - since_s:.0f} s")

    def next(self) -> tuple[socket.socket, str]:
        """The next client and its address."""
        return self._next.get()

    def free(self) -> None:
        """Release the agent: its client has gone, or is about to."""
        with self._changed:
            self._inside = None
            self._changed.notify()


def refuse(connection: socket.socket, message: str) -> None:
    """Refuse a second client, and close its connection."""
    line = ClientConnection(connection)
    with contextlib.suppress(Closed):
        line.send(Frame("refused", {"code": "busy", "message": message}))
    line.hang_up()


def serve(listener: socket.socket, converse: Converse) -> None:
    """Serve clients one after another, for ever."""
    door = ClientLock(listener)
    threading.Thread(target=door.watch, name="door", daemon=True).start()
    while True:
        connection, peer = door.next()
        note(f"{peer} connected")
        left = threading.Event()

        def let_go(left: threading.Event = left) -> None:
            if not left.is_set():
                left.set()
                door.free()

        try:
            why = converse(connection, let_go)
        except Exception:  # an error of ours must not block the next client
            note_exception()
            why = "a mistake of our own"
        note(f"{peer} gone: {why}" if why else f"{peer} gone")
