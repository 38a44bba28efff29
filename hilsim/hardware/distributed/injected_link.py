"""What may be done to a message on purpose at the end of a link that was started with `--inject`.

Standard library only. The run decides which message is hit and how (`Fate`); the sending end does it to the bytes.
A message with a checksum has another head, of the same 16 bytes: magic "HILC", number, size (4 bytes), and the CRC-32
of number, size and body.
"""

from __future__ import annotations

import heapq
import struct
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import count

CHECKED_HEAD = struct.Struct(">4sIII")
CHECKED_MAGIC = b"HILC"
COVERED_AT = 4  # number and size stand behind the magic
CHECKSUM_AT = 12
MOST_HOLD_NS = 60 * 10**9
MOST_COPIES, MOST_FLIPS = 16, 256


@dataclass(frozen=True)
class Fate:
    """What becomes of one message; by default it is sent as any other.

    `busy_ns` passes before the end has sent it, and occupies the sender. `hold_ns` passes behind that, before the
    message is put on the link: those behind it wait as well, unless it `overtaken`, when they go first. `drop`: it
    never gets there. `copies` are put on the link in all. `flips` are numbers of bits that are inverted, of the
    checksum and then of the body; so a message with flips has a checksum, as one that is `checked` has.
    """

    drop: bool = False
    busy_ns: int = 0
    hold_ns: int = 0
    overtaken: bool = False
    copies: int = 1
    flips: tuple[int, ...] = ()
    checked: bool = False

    def fields(self) -> dict[str, object]:
        """What of it is not as usual, as the fields of a frame."""
        return {name: value for name, value in asdict(self).items() if value != getattr(USUAL, name)}

    @classmethod
    def of(cls, fields: object, nbytes: int) -> Fate:
        """The fate that a frame's fields ask for, of a message of so many bytes. Raises `ValueError`."""
        if not isinstance(fields, Mapping) or not fields.keys() <= asdict(USUAL).keys():
            raise ValueError(f"inject that is no object of {', '.join(asdict(USUAL))}")
        limits = {"busy_ns": (0, MOST_HOLD_NS), "hold_ns": (0, MOST_HOLD_NS), "copies": (1, MOST_COPIES)}
        flips, bits = fields.get("flips", ()), flippable_bits(nbytes)
        for name, value in fields.items():
            if name in limits:
                least, most = limits[name]
                if type(value) is not int or not least <= value <= most:
                    raise ValueError(f"{name} that is no whole number from {least} to {most}")
            elif name != "flips" and type(value) is not bool:
                raise ValueError(f"{name} that is neither true nor false")
        if not isinstance(flips, list | tuple) or len(flips) > MOST_FLIPS:
            raise ValueError(f"flips that are no list of at most {MOST_FLIPS} bits")
        if any(type(bit) is not int or not 0 <= bit < bits for bit in flips):
            raise ValueError(f"flips beyond the {bits} bits of checksum and body")
        return cls(**{**fields, "flips": tuple(flips)})


USUAL = Fate()


def flippable_bits(nbytes: int) -> int:
    """Bits of a message of so many bytes that may be inverted: its checksum's and its body's."""
    return 8 * (nbytes - CHECKSUM_AT)


def checksum_of(covered: bytes | memoryview, known: int = 0) -> int:
    """CRC-32 of what is covered; of a body in pieces each is given what is known of those before it."""
    return zlib.crc32(covered, known)


def checked_message(message: int, nbytes: int, flips: tuple[int, ...]) -> bytes:
    """A message of zeros with its checksum, and with these bits inverted after that was computed."""
    head = CHECKED_HEAD.pack(CHECKED_MAGIC, message, nbytes, 0)
    body = bytes(nbytes - CHECKED_HEAD.size)
    checksum = checksum_of(body, checksum_of(head[COVERED_AT:CHECKSUM_AT]))
    sent = bytearray(CHECKED_HEAD.pack(CHECKED_MAGIC, message, nbytes, checksum) + body)
    for bit in flips:
        sent[CHECKSUM_AT + bit // 8] ^= 1 << bit % 8
    return bytes(sent)


class Outbox:
    """Messages that are held back, put on the link by a thread of its own when they are due."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.held: list[
            tuple[int, int, bool, Callable[[], None]]
        ] = []  # due when, place in the order, whether it keeps it
        self.order = count()
        self.last_ns = 0  # before then nothing that keeps the order may be sent
        self.in_order = 0  # messages that those behind them wait for
        threading.Thread(target=self._send, name="outbox", daemon=True).start()

    @property
    def holds(self) -> bool:
        """Whether a message that comes now has to wait behind another."""
        with self.changed:
            return self.in_order > 0

    def put(self, send: Callable[[], None], hold_ns: int, *, overtaken: bool) -> None:
        """Have a message sent so many nanoseconds from now, or behind those that keep the order."""
        with self.changed:
            due_ns = time.monotonic_ns() + hold_ns
            if not overtaken:
                due_ns = self.last_ns = max(due_ns, self.last_ns)
                self.in_order += 1
            heapq.heappush(self.held, (due_ns, next(self.order), not overtaken, send))
            self.changed.notify()

    def _send(self) -> None:
        while True:
            with self.changed:
                while not self.held or (left_ns := self.held[0][0] - time.monotonic_ns()) > 0:
                    self.changed.wait(left_ns / 1e9 if self.held else None)
                _, _, keeps, send = heapq.heappop(self.held)
            send()
            with self.changed:
                self.in_order -= keeps
